//! InfluxDB line protocol, in the two grammars that configurations can ask for.

mod internal;
mod line;
mod upstream;

use heliograph_core::config::{ConfigError, Duration, Section};
use heliograph_core::parse::{ParseOutput, Parser, ParserBuilder};
use heliograph_core::plugin::ParserSpec;
use serde::Deserialize;

use line::{Cursor, Fault, LineCount, Lines, Report};

pub(super) static SPEC: ParserSpec =
    ParserSpec { name: "influx", sample: include_str!("sample.conf"), build: |section, _| builder(section, INTERNAL) };

pub(super) static SPEC_UPSTREAM: ParserSpec = ParserSpec {
    name: "influx_upstream",
    sample: include_str!("sample.conf"),
    build: |section, _| builder(section, UPSTREAM),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    influx_timestamp_precision: Duration,
    /// Chooses the format, where it says "upstream"; any text is allowed.
    influx_parser_type: String,
}

fn builder(section: &mut Section, grammar: Grammar) -> Result<ParserBuilder, ConfigError> {
    let options: Options = section.take_struct()?;
    let precision = options.influx_timestamp_precision;
    let written = section.get::<String>("data_format")?.is_some_and(|format| format == "influx");
    let whole = written && options.influx_parser_type == "internal";
    let parser = move |unit| Box::new(Influx { whole, ..Influx::new(grammar, unit) });
    Ok(Box::new(move || match precision.as_nanos() {
        0 => Ok(parser(1)),
        unit @ (1 | 1_000 | 1_000_000 | 1_000_000_000) => Ok(parser(unit)),
        _ => Err(format!(
            "invalid time precision: option \"influx_timestamp_precision\" is {precision}, but must be one of \
             \"1ns\", \"1us\", \"1ms\", \"1s\""
        )
        .into()),
    }))
}

/// How lines are read.
#[derive(Clone, Copy)]
struct Grammar {
    /// Goes to the next metric; `false` if there is none.
    skip: fn(&mut Cursor<'_>) -> bool,
    /// Reads a metric.
    line: fn(&mut Cursor<'_>, &mut Lines, &mut ParseOutput<'_>) -> Result<(), Fault>,
}

const INTERNAL: Grammar = Grammar { skip: internal::skip, line: internal::line };
const UPSTREAM: Grammar = Grammar { skip: upstream::skip, line: upstream::line };

struct Influx {
    grammar: Grammar,
    lines: Lines,
    /// One bad line costs the payload. Who writes `influx_parser_type = "internal"` gets that parser as Telegraf has it,
    /// errors included.
    whole: bool,
}

impl Influx {
    fn new(grammar: Grammar, precision: i64) -> Self {
        Self { grammar, lines: Lines::new(precision), whole: false }
    }
}

impl Parser for Influx {
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
        let mut cursor = Cursor { text: payload, at: 0 };
        let mut count = LineCount::new();
        let before = out.batch.len();
        while (self.grammar.skip)(&mut cursor) {
            let start = cursor.at;
            if let Err(fault) = (self.grammar.line)(&mut cursor, &mut self.lines, out) {
                let (line, line_start) = count.of(payload, fault.at);
                out.problem("syntax", Report { text: payload, fault: &fault, line, start: line_start });
                if self.whole {
                    return out.batch.truncate(before);
                }
                // A bad line costs only itself. A string that was never closed has swallowed the lines behind its own.
                cursor.at = if fault.unterminated { start } else { fault.at.max(start).min(payload.len()) };
                cursor.skip_line();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parsers::testing::{Run, run};

    #[track_caller]
    fn internal(payload: &str, want: &str) {
        assert_eq!(run(&mut Influx::new(INTERNAL, 1), payload.as_bytes()), want, "{payload:?}");
    }

    #[track_caller]
    fn upstream(payload: &str, want: &str) {
        assert_eq!(run(&mut Influx::new(UPSTREAM, 1), payload.as_bytes()), want, "{payload:?}");
    }

    #[track_caller]
    fn both(payload: &str, want: &str) {
        internal(payload, want);
        upstream(payload, want);
    }

    /// The reason and place of the one problem.
    #[track_caller]
    fn fault(grammar: Grammar, payload: &str, want: &str) {
        let shown = run(&mut Influx::new(grammar, 1), payload.as_bytes());
        let place = shown.strip_prefix("! metric parse error: ").and_then(|s| s.split_once(": \"")).map(|(s, _)| s);
        assert_eq!(place, Some(want), "{payload:?} gives {shown}");
    }

    #[test]
    fn lines_are_read() {
        both("m,t=a\\ b v=1 5", "m,t=a b v=1 5");
        both("m v=1i,u=2u,f=-.5e1,s=\"x y\",b=T,c=false\n", "m v=1i,u=2u,f=-5,s=\"x y\",b=true,c=false now");
        both("m v=1i,v=2i 5\r\n\r\n # c\nn,b=1,a=2,b=3 v=5.   -7  \r", "m v=2i 5; n,a=2,b=3 v=5 -7");
        both("m\\=x,a\\,b=c\\=d f\\ g=1i 5", "m\\=x,a,b=c=d f g=1i 5");
        both("m s=\"a\nb\" 5\n\\#x v=t", "m s=\"a\nb\" 5; \\#x v=true now");
        both("", "");
        both("  \n# comment", "");
    }

    #[test]
    fn tabs_and_other_blanks_are_for_the_default_grammar() {
        internal("\tm\tv=1i\x0b5\x0c\n \t\n", "m v=1i 5");
        fault(UPSTREAM, "m\tv=1i 5", "expected tag key or field but found '\\t' instead at 1:2");
        fault(UPSTREAM, "# a\tb\n", "invalid character found in comment line at 1:1");
    }

    #[test]
    fn escapes_differ() {
        fault(INTERNAL, "m,t=a\\\\ v=1 5", "expected tag at 1:10");
        fault(UPSTREAM, "m,t=a\\\\ v=1 5", "empty tag key at 1:10");
        internal("m\\\\,t=x v=1i", "m\\\\,t=x v=1i now");
        upstream("m\\\\,t=x v=1i", "m\\,t=x v=1i now");
        internal("m,t=a\\\\\\ b v=1i", "m,t=a\\\\ b v=1i now");
        internal("m,t=b\\\"x,u=b\\\"\\ x v=1i", "m,t=b\\\"x,u=b\" x v=1i now");
        upstream("m,t=b\\\"\\ x v=1i", "m,t=b\\\" x v=1i now");
        internal("m\\ \\= v=1i", "m \\= v=1i now");
        fault(INTERNAL, "m s=\"a\\nb\" 5", "expected field at 1:8");
        upstream("m s=\"a\\nb\\d\\\\\\\"\" 5", "m s=\"a\nb\\d\\\"\" 5");
        internal("m s=\"a\\\\\\\"\" 5", "m s=\"a\\\"\" 5");
    }

    #[test]
    fn numbers_differ() {
        fault(INTERNAL, "m v=007i 5", "expected field at 1:8");
        upstream("m v=007i,w=1_000 5", "m v=7i,w=1000 5");
        internal("m v=0i,w=007 5", "m v=0i,w=7 5");
        for bad in
            ["+1i", "-1u", "1e", "1e+", ".", "-", "NaN", "inf", "0x10", "1_000", "1.5i", "truex", "tr", "\"x\"y", ""]
        {
            assert!(run(&mut Influx::new(INTERNAL, 1), format!("m v={bad}").as_bytes()).starts_with('!'), "{bad}");
        }
        for bad in ["+1i", "-1u", "1e", "-inf", "nan", "truex", "tr", "\"x\"y", "", "1i5"] {
            assert!(run(&mut Influx::new(UPSTREAM, 1), format!("m v={bad}").as_bytes()).starts_with('!'), "{bad}");
        }
    }

    #[test]
    fn faults_have_their_place() {
        fault(INTERNAL, "bad", "expected tag at 1:4");
        fault(INTERNAL, "\n\nbad\n", "expected tag at 3:4");
        fault(INTERNAL, "name value", "expected field at 1:11");
        fault(INTERNAL, "m ", "expected field at 1:3");
        fault(INTERNAL, ",t=x v=1", "expected measurement name at 1:1");
        fault(INTERNAL, "m,,t=x v=1", "expected tag at 1:3");
        fault(INTERNAL, "m,t= v=1", "expected tag at 1:5");
        fault(INTERNAL, "m,=x v=1", "expected tag at 1:3");
        fault(INTERNAL, "m v=1i,", "expected field at 1:8");
        fault(INTERNAL, "m v=1i, w=2i", "expected field at 1:8");
        fault(INTERNAL, "m v=1i 1.5", "expected timestamp at 1:9");
        fault(INTERNAL, "m v=1i x", "expected timestamp at 1:8");
        fault(INTERNAL, "m v=1i -", "expected timestamp at 1:9");
        fault(INTERNAL, "m v=1i 12345678901234567890", "expected timestamp at 1:27");
        fault(INTERNAL, "m v=1i 9999999999999999999", "value out of range at 1:27");
        fault(INTERNAL, "m v=9223372036854775808i 5", "value out of range at 1:25");
        fault(INTERNAL, "m v=1e999", "value out of range at 1:10");
        fault(INTERNAL, "m v=1i 5 6", "parse error at 1:10");
        fault(INTERNAL, "m v=1i\rx", "parse error at 1:8");
        fault(INTERNAL, "\\", "parse error at 1:2");
        fault(INTERNAL, "m s=\"a\r\nb\rc\"", "expected field at 2:3");
        fault(UPSTREAM, "m v=1i 1.5", "invalid timestamp (\"1.5\") at 1:8");
    }

    #[test]
    fn a_bad_line_costs_only_itself() {
        let shown = run(&mut Influx::new(INTERNAL, 1), b"a v=1i 1\nbad\nb s=\"open 2\nc v=2i 3\n");
        assert_eq!(
            shown,
            "a v=1i 1; c v=2i 3; ! metric parse error: expected tag at 2:4: \"bad\"; \
             ! metric parse error: expected field at 5:1: \"\""
        );
        let shown = run(&mut Influx::new(UPSTREAM, 1), b"a v=1i 1\nbad\nb s=\"open 2\nc v=2i 3\n");
        assert!(shown.starts_with("a v=1i 1; c v=2i 3; ! "), "{shown}");
    }

    #[test]
    fn a_bad_line_costs_the_payload_where_that_is_asked_for() {
        let mut parser = Influx { whole: true, ..Influx::new(INTERNAL, 1) };
        let want = "! metric parse error: expected tag at 2:4: \"bad\"";
        assert_eq!(run(&mut parser, b"a v=1i 1\nbad\nworse\nc v=2i 3\n"), want);
        assert_eq!(run(&mut parser, b"a v=1i 1"), "a v=1i 1");
    }

    #[test]
    fn times_have_a_unit() {
        let seconds = |grammar, payload: &str| run(&mut Influx::new(grammar, 1_000_000_000), payload.as_bytes());
        assert_eq!(seconds(INTERNAL, "m v=1i 5\nm v=2i"), "m v=1i 5000000000; m v=2i 1600000000000000000");
        assert_eq!(seconds(INTERNAL, "m v=1i 17000000000000"), "m v=1i -7898035960206589952");
        assert!(seconds(UPSTREAM, "m v=1i 17000000000000").contains("line-protocol value out of range"));
    }

    #[test]
    fn invalid_utf8_passes_in_the_default_grammar_alone() {
        let payload = b"m\xff,t=\xfe f\xfd=\"\xfc\" 5";
        let run = Run::new(&mut Influx::new(INTERNAL, 1), payload);
        assert_eq!(run.batch.get(0).series.name(), b"m\xff");
        assert_eq!(run.batch.get(0).fields[0].key.as_bytes(), b"f\xfd");
        assert!(!Run::new(&mut Influx::new(UPSTREAM, 1), payload).problems.is_empty());
    }

    #[test]
    fn a_known_head_is_the_same_series() {
        for grammar in [INTERNAL, UPSTREAM] {
            let mut parser = Influx::new(grammar, 1);
            for _ in 0..2 {
                assert_eq!(
                    run(&mut parser, b"m,t=a v=1i 1\nm,t=a v=2i,w=3i 2\nm,t=a\\ b v=4i 3"),
                    "m,t=a v=1i 1; m,t=a v=2i,w=3i 2; m,t=a b v=4i 3"
                );
            }
            assert_eq!(run(&mut parser, b"m,t=a v=1i 1"), "m,t=a v=1i 1");
        }
    }

    /// A metric in line protocol, and what it is to become.
    fn line() -> impl Strategy<Value = (String, String)> {
        let token = "[a-zA-Zé,= ]{1,6}";
        let value = prop_oneof![
            any::<i64>().prop_map(|v| (format!("{v}i"), format!("{v}i"))),
            any::<u64>().prop_map(|v| (format!("{v}u"), format!("{v}u"))),
            any::<bool>().prop_map(|v| (v.to_string(), v.to_string())),
            any::<i32>().prop_map(|v| f64::from(v) / 1024.0).prop_map(|v| (v.to_string(), v.to_string())),
            "[a-z\"\\\\ ,=\n]{0,6}".prop_map(|v| {
                (format!("\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")), format!("\"{v}\""))
            }),
        ];
        let tags = prop::collection::btree_map(token, token, 0..4);
        let fields = prop::collection::btree_map(token, value, 1..5);
        ("[a-zé, ]{1,6}", tags, fields, any::<i64>()).prop_map(|(name, tags, fields, time)| {
            let escape = |s: &str| s.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
            let mut line = escape(&name);
            let mut want = name;
            for (key, value) in tags {
                line += &format!(",{}={}", escape(&key), escape(&value));
                want += &format!(",{key}={value}");
            }
            let pairs = |pairs: Vec<String>| pairs.join(",");
            let written = pairs(fields.iter().map(|(key, (text, _))| format!("{}={text}", escape(key))).collect());
            let meant = pairs(fields.iter().map(|(key, (_, shown))| format!("{key}={shown}")).collect());
            (format!("{line} {written} {time}\n"), format!("{want} {meant} {time}"))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lines in prop::collection::vec(line(), 1..5)) {
            let payload: String = lines.iter().map(|(line, _)| line.as_str()).collect();
            let want: Vec<&str> = lines.iter().map(|(_, want)| want.as_str()).collect();
            for grammar in [INTERNAL, UPSTREAM] {
                let mut parser = Influx::new(grammar, 1);
                for _ in 0..2 {
                    prop_assert_eq!(run(&mut parser, payload.as_bytes()), want.join("; "), "{}", payload);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(payload in "([mt,= \\\\\"1i.e\\-\r\n\t#]|\\PC){0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for grammar in [INTERNAL, UPSTREAM] {
                run(&mut Influx::new(grammar, 1), payload.as_bytes());
                run(&mut Influx::new(grammar, 1), &bytes);
            }
        }
    }
}
