//! Carbon's plaintext protocol, with templates and the tags of Graphite 1.1.

use std::sync::Arc;

use bstr::ByteSlice;
use heliograph_core::model::{Key, SeriesBuilder, SeriesRef, Value};
use heliograph_core::number::parse_float;
use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::plugin::ParserSpec;
use memchr::memchr;
use serde::Deserialize;

use super::known::Known;
use super::quote::Quoted;
use super::words::first_words;
use crate::common::graphite_template::{TemplateError, Templates};

pub(super) static SPEC: ParserSpec = ParserSpec {
    name: "graphite",
    sample: include_str!("sample.conf"),
    build: |section, _| {
        let templates = section.take_struct::<Options>()?.templates().map(Arc::new);
        Ok(Box::new(move || match &templates {
            Ok(templates) => Ok(Box::new(Graphite::new(Arc::clone(templates)))),
            Err(error) => Err(format!("option \"templates\": {error}").into()),
        }))
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    separator: String,
    templates: Vec<String>,
}

impl Options {
    fn templates(&self) -> Result<Templates, TemplateError> {
        Templates::new(&self.templates, if self.separator.is_empty() { "." } else { &self.separator })
    }
}

struct Graphite {
    templates: Arc<Templates>,
    /// Series and field by the first word of the line.
    known: Known<(SeriesRef, Key)>,
    builder: SeriesBuilder,
}

/// Why a line is no metric.
struct Fault {
    reason: &'static str,
    message: String,
}

impl Graphite {
    fn new(templates: Arc<Templates>) -> Self {
        Self { templates, known: Known::default(), builder: SeriesBuilder::new() }
    }

    fn line(&mut self, line: &[u8], out: &mut ParseOutput<'_>) -> Result<(), Fault> {
        let ([name, value, time], count) = first_words(line);
        let time = match count {
            0 => return Ok(()),
            2 => None,
            3 => Some(time),
            _ => {
                return Err(fault(
                    "syntax",
                    format!("line {} must be \"name value [timestamp]\"", Quoted(line.trim())),
                ));
            }
        };
        let wrong = |what, text, error| {
            fault(what, format!("cannot read {what} {} of {}: {error}", Quoted(text), Quoted(name)))
        };
        let (series, key) = match self.known.get(name) {
            Some(known) => known.clone(),
            None => self.resolve(name, out)?,
        };
        let value = parse_float(value).map_err(|error| wrong("value", value, error.to_string()))?;
        let time = match time {
            None => out.now,
            Some(text) => timestamp(text, out.now).map_err(|error| wrong("time", text, error))?,
        };
        out.start(series, time);
        out.batch.push_field(key, Value::Float(value));
        Ok(())
    }

    /// Takes apart a name that is new, with its tags.
    fn resolve(&mut self, word: &[u8], out: &mut ParseOutput<'_>) -> Result<(SeriesRef, Key), Fault> {
        let mut parts = word.split_str(b";");
        let name = parts.next().unwrap_or_default();
        let applied = self.templates.apply(name).map_err(|error| fault("template", error.to_string()))?;
        self.builder.start(if applied.measurement.is_empty() { name } else { &applied.measurement });
        for (key, value) in &applied.tags {
            self.builder.set_tag(key, value);
        }
        for (key, value) in parts.filter_map(tag) {
            self.builder.set_tag(key, value);
        }
        let key = if applied.field.is_empty() { Key::fixed("value") } else { Key::intern(&applied.field) };
        let known = (out.interner.intern(&mut self.builder), key);
        self.known.insert(word, known.clone());
        Ok(known)
    }
}

impl Parser for Graphite {
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
        let mut rest = payload;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            if let Err(fault) = self.line(&rest[..end], out) {
                out.problem(fault.reason, fault.message);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
}

fn fault(reason: &'static str, message: String) -> Fault {
    Fault { reason, message }
}

/// A tag as Graphite allows it; others are passed over.
fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, value) = text.split_once_str(b"=")?;
    let good = !key.is_empty()
        && !value.is_empty()
        && !value.contains(&b'=')
        && key.find_byteset(b"!^").is_none()
        && !value.starts_with(b"~");
    good.then_some((key, value))
}

/// 1901-12-13 and 2038-01-19, in nanoseconds.
const FIRST: i64 = -2_147_558_400_000_000_000;
const LAST: i64 = 2_147_472_000_000_000_000;

/// Seconds since the epoch as nanoseconds; −1 is now.
fn timestamp(text: &[u8], now: i64) -> Result<i64, String> {
    let seconds = parse_float(text).map_err(|error| error.to_string())?;
    if seconds == -1.0 {
        return Ok(now);
    }
    // The part toward zero and the part above the floor, as the original adds them: -5.5 is -4.5 seconds.
    let time = if seconds.abs() < 4e9 {
        Some(seconds.trunc() as i64 * 1_000_000_000 + ((seconds - seconds.floor()) * 1e9) as i64)
    } else {
        None
    };
    time.filter(|time| (FIRST..=LAST).contains(time)).ok_or_else(|| "out of range, 1901-12-13 to 2038-01-19".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parsers::testing::run;

    fn parser(separator: &str, templates: &[&str]) -> Graphite {
        let templates = templates.iter().map(|&t| t.to_owned()).collect();
        Graphite::new(Arc::new(Options { separator: separator.into(), templates }.templates().unwrap()))
    }

    #[track_caller]
    fn check(templates: &[&str], payload: &str, want: &str) {
        let mut parser = parser("", templates);
        assert_eq!(run(&mut parser, payload.as_bytes()), want);
        assert_eq!(run(&mut parser, payload.as_bytes()), want, "the second time, with everything known");
    }

    #[test]
    fn lines_are_read() {
        check(&[], "a.b.c 1.5\n\n  x\t-3e-2  7 \r\n", "a.b.c value=1.5 now; x value=-0.03 7000000000");
        check(&["measurement.host.field*"], "cpu.web01.user.total 1 5", "cpu,host=web01 user.total=1 5000000000");
        check(&["measurement.host.x"], "cpu NaN 5", "cpu value=NaN 5000000000");
        check(&["..measurement"], "a.b +Inf -1", "a.b value=+Inf now");
    }

    #[test]
    fn tags_of_the_line_win_and_bad_ones_are_passed_over() {
        check(&[], "a;k=v;x=;z=1=2;w=~q;=y;a!b=c;c^d=e;f 2 1700000000.25", "a,k=v value=2 1700000000250000000");
        check(
            &["measurement.host region=us,dc=1"],
            "cpu.web;region=eu 1 5",
            "cpu,dc=1,host=web,region=eu value=1 5000000000",
        );
    }

    #[test]
    fn times_go_through_a_float() {
        check(&[], "a 1 1700000000.1", "a value=1 1700000000099999904");
        check(&[], "a 1 -5.5", "a value=1 -4500000000");
        check(&[], "a 1 1.7e9", "a value=1 1700000000000000000");
        check(&[], "a 1 2147472000\na 1 -2147558400", "a value=1 2147472000000000000; a value=1 -2147558400000000000");
        for bad in ["2147472001", "-2147558401", "NaN", "Inf", "1e300"] {
            let want = format!("! cannot read time \"{bad}\" of \"a\": out of range, 1901-12-13 to 2038-01-19");
            check(&[], &format!("a 1 {bad}"), &want);
        }
    }

    #[test]
    fn a_bad_line_costs_only_itself() {
        check(
            &[],
            "a 1 5\nlonely\nb 21,5 5\nc 1 tomorrow\ntoo many words 1 2\nd 2 6",
            "a value=1 5000000000; d value=2 6000000000; ! line \"lonely\" must be \"name value [timestamp]\"; \
             ! cannot read value \"21,5\" of \"b\": invalid number syntax; \
             ! cannot read time \"tomorrow\" of \"c\": invalid number syntax; \
             ! line \"too many words 1 2\" must be \"name value [timestamp]\"",
        );
        check(
            &["measurement*.field*"],
            "a.b 1 5",
            "! template \"measurement*.field*\" has both `measurement*` and `field*`; use one of them",
        );
    }

    #[test]
    fn the_separator_joins() {
        assert_eq!(run(&mut parser("_", &[]), b"a.b 1 5"), "a_b value=1 5000000000");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lines in prop::collection::vec(("[a-zé_-]{1,5}", any::<i32>(), 0..2_000_000_000i64), 0..6)) {
            let payload: String = lines.iter().map(|(name, value, time)| format!("{name} {value} {time}\n")).collect();
            let want: Vec<String> =
                lines.iter().map(|(name, value, time)| format!("{name} value={value} {}", time * 1_000_000_000)).collect();
            prop_assert_eq!(run(&mut parser("", &[]), payload.as_bytes()), want.join("; "));
        }

        #[test]
        fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..40), text in "[a.;=1 \n~e+-]{0,30}") {
            let mut parser = parser("", &["a.* measurement.host.field*", "measurement*"]);
            run(&mut parser, &payload);
            run(&mut parser, text.as_bytes());
        }
    }
}
