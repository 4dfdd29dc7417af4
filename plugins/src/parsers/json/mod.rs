//! JSON documents, each flattened into one metric (or one for each element of an array).

mod config;
mod query;
mod scan;
mod shape;
mod text;

use std::sync::Arc;

use bstr::ByteSlice;
use heliograph_core::model::{SeriesBuilder, SeriesRef, Value};
use heliograph_core::number::write_plain_f64;
use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::plugin::ParserSpec;
use heliograph_core::timestamp::TimeValue;

use config::{Config, Options};
use scan::{Document, Entry, Fault, Scalar, Scanner, Scratch};

pub(super) static SPEC: ParserSpec = ParserSpec {
    name: "json",
    sample: include_str!("sample.conf"),
    build: |section, metric_name| {
        let config =
            Config::new(section.take_struct::<Options>()?, metric_name).map(Arc::new).map_err(|e| e.to_string());
        Ok(Box::new(move || match &config {
            Ok(config) => Ok(Box::new(Json::new(Arc::clone(config)))),
            Err(error) => Err(error.clone().into()),
        }))
    },
};

struct Json {
    config: Arc<Config>,
    scratch: Scratch,
    builder: SeriesBuilder,
    text: Vec<u8>,
    queried: Vec<u8>,
    /// The series of metrics without tags and name of their own.
    default_series: Option<SeriesRef>,
}

/// Why a payload, or an element of it, gives no metric.
enum Failure {
    Syntax(Fault),
    Time(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Syntax(fault)
    }
}

impl Parser for Json {
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
        let before = out.batch.len();
        let mut queried = std::mem::take(&mut self.queried);
        let document = match &self.config.query {
            None => Some(payload),
            Some(query) => query.run(payload, &mut queried).then_some(&*queried),
        };
        if let Some(document) = document
            && let Err(failure) = self.document(trim(document), out)
        {
            // A document is lost as a whole.
            out.batch.truncate(before);
            match failure {
                Failure::Syntax(Fault { at, kind }) => {
                    out.problem(kind.reason(), format_args!("cannot parse JSON: {kind} at byte {at}"));
                }
                Failure::Time(message) => out.problem("time", message),
            }
        }
        self.queried = queried;
        self.scratch.shape.trim();
    }
}

/// The document without outer blanks and byte order mark.
#[inline]
fn trim(payload: &[u8]) -> &[u8] {
    if let [b'{', .., b'}'] = payload {
        return payload;
    }
    let payload = payload.trim();
    payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload)
}

impl Json {
    fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            scratch: Scratch::new(),
            builder: SeriesBuilder::new(),
            text: Vec::new(),
            queried: Vec::new(),
            default_series: None,
        }
    }

    fn document(&mut self, text: &[u8], out: &mut ParseOutput<'_>) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let mut scanner = Scanner::new(text);
        match scanner.open()? {
            Document::Null => {}
            Document::Object => {
                scanner.object(&mut self.scratch, &self.config.selection)?;
                self.metric(text, out)?;
            }
            Document::Array => {
                let mut first = true;
                while scanner.next_object(first)? {
                    first = false;
                    scanner.object(&mut self.scratch, &self.config.selection)?;
                    match self.metric(text, out) {
                        Err(Failure::Time(_)) if !self.config.strict => {}
                        other => other?,
                    }
                }
            }
        }
        Ok(scanner.end()?)
    }

    /// Turns the values of the object read last into a metric.
    #[inline]
    fn metric(&mut self, text: &[u8], out: &mut ParseOutput<'_>) -> Result<(), Failure> {
        let (series, time) = if self.config.selection.is_plain() {
            (self.default_series(out), out.now)
        } else {
            let time = self.time(text, out.now)?;
            (self.series(text, out), time)
        };
        out.start(series, time);
        for &Entry { node, value } in &self.scratch.entries {
            let Some((key, role, shared)) = self.scratch.shape.name(node) else { continue };
            if role.time || role.tag {
                continue;
            }
            let value = match value {
                Scalar::Number(number) => Value::Float(number),
                Scalar::Bool(value) if role.kept => Value::Bool(value),
                Scalar::Text(start, end) if role.kept => Value::Text(meaning(&text[start..end], &mut self.text).into()),
                Scalar::Bool(_) | Scalar::Text(..) | Scalar::Gone => continue,
            };
            if shared {
                out.batch.set_field(key.clone(), value);
            } else {
                out.batch.push_field(key.clone(), value);
            }
        }
        Ok(())
    }

    fn default_series(&mut self, out: &mut ParseOutput<'_>) -> SeriesRef {
        let measurement = &self.config.measurement;
        let series = self.default_series.get_or_insert_with(|| {
            out.interner.build(|builder| {
                builder.start(measurement.as_bytes());
            })
        });
        SeriesRef::clone(series)
    }

    /// The time that `json_time_key` names.
    fn time(&mut self, text: &[u8], now: i64) -> Result<i64, Failure> {
        let Config { selection, time_format, .. } = &*self.config;
        if selection.time.is_empty() {
            return Ok(now);
        }
        let key = &selection.time;
        let Some(format) = time_format else {
            return Err(Failure::Time(format!("cannot read the time in {key:?}: json_time_format is not set")));
        };
        let shape = &self.scratch.shape;
        let is_time = |entry: &&Entry| {
            !matches!(entry.value, Scalar::Gone) && shape.name(entry.node).is_some_and(|(_, role, _)| role.time)
        };
        let value = match self.scratch.entries.iter().rfind(is_time).map(|entry| entry.value) {
            Some(Scalar::Number(number)) => TimeValue::Float(number),
            Some(Scalar::Text(start, end)) => TimeValue::Text(meaning(&text[start..end], &mut self.text)),
            Some(Scalar::Bool(_)) => TimeValue::Other("bool"),
            Some(Scalar::Gone) | None => {
                return Err(Failure::Time(format!("cannot find the time: no value of the name {key:?}")));
            }
        };
        format
            .parse_in_current_year(value, now)
            .map_err(|error| Failure::Time(format!("cannot read the time in {key:?}: {error}")))
    }

    /// The series with the tags and the name that the values give.
    fn series(&mut self, text: &[u8], out: &mut ParseOutput<'_>) -> SeriesRef {
        let Self { config, scratch, builder, .. } = self;
        let decoded = &mut self.text;
        builder.start(config.measurement.as_bytes());
        for &Entry { node, value } in &scratch.entries {
            let Some((key, role, _)) = scratch.shape.name(node) else { continue };
            if role.measurement
                && let Scalar::Text(start, end) = value
            {
                builder.set_name(meaning(&text[start..end], &mut *decoded));
            }
            if !role.tag || role.time {
                continue;
            }
            let value = match value {
                Scalar::Text(start, end) => meaning(&text[start..end], &mut *decoded),
                Scalar::Bool(true) => b"true",
                Scalar::Bool(false) => b"false",
                Scalar::Number(number) => {
                    decoded.clear();
                    write_plain_f64(decoded, number);
                    decoded.as_slice()
                }
                Scalar::Gone => continue,
            };
            builder.set_tag(key.as_bytes(), value);
        }
        out.interner.intern(builder)
    }
}

/// What the content of a string means; `decoded` is memory for it.
fn meaning<'a>(raw: &'a [u8], decoded: &'a mut Vec<u8>) -> &'a [u8] {
    if text::is_literal(raw) {
        return raw;
    }
    decoded.clear();
    text::decode(raw, decoded);
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parsers::testing::{Run, run};

    fn json(set: impl FnOnce(&mut Options)) -> Json {
        let mut options = Options::default();
        set(&mut options);
        Json::new(Arc::new(Config::new(options, "mq").unwrap()))
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    #[track_caller]
    fn plain(text: &str, want: &str) {
        assert_eq!(run(&mut json(|_| {}), text.as_bytes()), want);
    }

    #[test]
    fn objects_are_flattened() {
        plain(r#"{"a":5,"b":{"c":6,"s":"x"},"l":[1,{"k":2}],"t":true,"n":null}"#, "mq a=5,b_c=6,l_0=1,l_1_k=2 now");
        plain(r#"{"":{"x":1,"":2},"a":{"":3},"e":{},"f":[],"g":[[],[{}, [4]]]}"#, "mq x=1,=2,a_=3,g_1_1_0=4 now");
        plain(" \u{feff}{ }\n", "mq  now");
        plain("", "");
        plain(" \n", "");
        plain("null", "");
        plain("[]", "");
    }

    #[test]
    fn a_later_member_replaces_an_earlier_one_whole() {
        plain(r#"{"a":1,"b":2,"a":3}"#, "mq b=2,a=3 now");
        plain(r#"{"a":{"x":1,"y":{"z":2}},"b":5,"a":{"y":3},"a":{"w":4}}"#, "mq b=5,a_w=4 now");
        plain(r#"{"a":{"x":1},"\u0061":null,"b":{"c":1,"c":2}}"#, "mq b_c=2 now");
        plain(r#"[{"a":1},{"a":2}]"#, "mq a=1 now; mq a=2 now");
    }

    #[test]
    fn of_two_paths_to_one_name_one_survives() {
        plain(r#"{"a_b":1,"a":{"b":2}}"#, "mq a_b=2 now");
        let mut parser = json(|o| o.tag_keys = strings(&["a_b"]));
        assert_eq!(run(&mut parser, br#"{"a":{"b":1},"a_b":2,"v":3}"#), "mq,a_b=2 v=3 now");
    }

    #[test]
    fn tags_and_kept_strings_go_by_their_flattened_name() {
        let mut parser = json(|o| {
            o.tag_keys = strings(&["id", "b_*"]);
            o.json_string_fields = strings(&["s*", "ok"]);
        });
        let text = br#"{"id":1234567,"b":{"c":true,"d":1e21},"s1":"up","ok":false,"z":"drop","v":1}"#;
        let want = "mq,b_c=true,b_d=1000000000000000000000,id=1234567 s1=\"up\",ok=false,v=1 now";
        assert_eq!(run(&mut parser, text), want);
        assert_eq!(run(&mut parser, text), want, "the second time, with everything known");
        assert_eq!(
            run(&mut parser, b"{\"id\":\"\xff\\n\",\"s\":\"\xc3\",\"v\":2}"),
            "mq,id=\u{fffd}\n s=\"\u{fffd}\",v=2 now"
        );
    }

    #[test]
    fn the_name_comes_from_text_alone() {
        let mut parser = json(|o| o.json_name_key = "n".into());
        assert_eq!(run(&mut parser, br#"{"n":7,"v":1}"#), "mq n=7,v=1 now");
        assert_eq!(run(&mut parser, br#"{"n":"pump","v":1}"#), "pump v=1 now");
        assert_eq!(run(&mut parser, br#"{"n":"","v":1}"#), " v=1 now");
    }

    #[test]
    fn times_are_read_and_taken_out() {
        let mut parser = json(|o| {
            o.json_time_key = "t".into();
            o.json_time_format = "unix".into();
        });
        assert_eq!(run(&mut parser, br#"{"v":1,"t":1700000000.25}"#), "mq v=1 1700000000250000000");
        assert_eq!(run(&mut parser, br#"{"v":1,"t":"5"}"#), "mq v=1 5000000000");
        assert_eq!(run(&mut parser, br#"{"v":1,"t":null}"#), "! cannot find the time: no value of the name \"t\"");
        assert_eq!(
            run(&mut parser, br#"[{"v":1,"t":5},{"v":2}]"#),
            "! cannot find the time: no value of the name \"t\""
        );
        assert_eq!(
            run(&mut parser, br#"{"v":1,"t":true}"#),
            "! cannot read the time in \"t\": unsupported type bool for time format \"unix\""
        );
        let mut without_format = json(|o| o.json_time_key = "t".into());
        assert_eq!(
            run(&mut without_format, br#"{"v":1,"t":5}"#),
            "! cannot read the time in \"t\": json_time_format is not set"
        );
    }

    #[test]
    fn elements_without_time_are_skipped_if_not_strict() {
        let mut parser = json(|o| {
            o.json_time_key = "t".into();
            o.json_time_format = "unix".into();
            o.json_strict = false;
        });
        let text = br#"[{"v":1,"t":5},{"v":2},{"v":3,"t":"x"},{"v":4,"t":7}]"#;
        assert_eq!(run(&mut parser, text), "mq v=1 5000000000; mq v=4 7000000000");
        assert_eq!(
            run(&mut parser, br#"[{"v":1,"t":5},2]"#),
            "! cannot parse JSON: must be an object or an array of objects at byte 15"
        );
        assert!(run(&mut parser, br#"{"v":1}"#).starts_with("! "), "a lone object is never skipped in silence");
    }

    #[test]
    fn broken_documents_are_lost_whole() {
        let bad = [
            "{",
            "}",
            "[",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "[{\"a\":1},]",
            "[{\"a\":1}",
            "{,}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":NaN}",
            "{\"a\":tru}",
            "{\"a\":truex}",
            "{\"a\":'x'}",
            "{a:1}",
            "{\"a\":1}{\"a\":2}",
            "{\"a\":1}\n{\"a\":2}",
            "{\"a\":1e400}",
            "{\"a\":\"\u{1}\"}",
            "// c\n{}",
            "5",
            "\"x\"",
            "true",
            "nul",
            "[1]",
            "[null]",
            "[[]]",
        ];
        for text in bad {
            let shown = run(&mut json(|_| {}), text.as_bytes());
            assert!(shown.starts_with("! cannot parse JSON: ") && !shown.contains("; mq"), "{text} gives {shown}");
        }
        plain("{\"a\":tru", "! cannot parse JSON: unexpected end at byte 8");
        plain(
            "{\"v\":1}\n{\"v\":2}",
            "! cannot parse JSON: unexpected '{', expected the end of the document at byte 8",
        );
    }

    #[test]
    fn depth_and_names_are_bounded() {
        let deep = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(run(&mut json(|_| {}), deep(9_000).as_bytes()).starts_with("mq a_0_0"));
        assert!(run(&mut json(|_| {}), deep(100_000).as_bytes()).contains("more than 10000 containers"));
        let long: Vec<String> = (0..1000).map(|i| format!("\"{i}\":1")).collect();
        let long = format!("{{\"{}\":{{{}}}}}", "k".repeat(100_000), long.join(","));
        let mut parser = json(|_| {});
        assert!(run(&mut parser, long.as_bytes()).contains("flattened names of more than"));
        assert_eq!(run(&mut parser, br#"{"v":1}"#), "mq v=1 now", "the parser goes on");
    }

    #[test]
    fn a_query_selects_what_is_parsed() {
        let query = |path: &str, text: &str| {
            let mut parser = json(|o| o.json_query = path.into());
            run(&mut parser, text.as_bytes())
        };
        let list = r#"{"a":[{"x":1,"v":5},{"x":2,"v":6},{"x":1,"v":7}]}"#;
        assert_eq!(query("a.#(x==1)#", list), "mq x=1,v=5 now; mq x=1,v=7 now");
        assert_eq!(query("a.1", list), "mq x=2,v=6 now");
        assert_eq!(query("b", list), "");
        assert_eq!(query("a.0.v", list), "! cannot parse JSON: must be an object or an array of objects at byte 0");
        assert_eq!(query("a", r#"{"a":{"v":1},"#), "mq v=1 now", "what comes behind is not looked at");
        assert_eq!(query("a", "no json"), "");
        assert_eq!(query("..#(v)#", "{\"v\":1}\n{\"w\":2}\n{\"v\":3}\n"), "mq v=1 now; mq v=3 now");
    }

    /// Name and number of each field, sorted, for each metric.
    type Flat = Vec<Vec<(String, f64)>>;

    fn shape(flat: &Option<Flat>) -> Option<Vec<Vec<&str>>> {
        flat.as_ref()
            .map(|flat| flat.iter().map(|metric| metric.iter().map(|(name, _)| name.as_str()).collect()).collect())
    }

    /// The same by the book: a tree first, then flattened.
    fn model(text: &str) -> Option<Flat> {
        fn flatten(name: &str, value: &serde_json::Value, out: &mut Vec<(String, f64)>) {
            let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}_{key}") };
            match value {
                serde_json::Value::Number(number) => out.push((name.to_owned(), number.as_f64().unwrap())),
                serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&below(key), value, out)),
                serde_json::Value::Array(list) => {
                    list.iter().enumerate().for_each(|(i, value)| flatten(&below(&i.to_string()), value, out));
                }
                _ => {}
            }
        }
        let flat = |value: &serde_json::Value| {
            let mut out = Vec::new();
            flatten("", value, &mut out);
            out.sort_by(|a, b| a.0.cmp(&b.0));
            out
        };
        match serde_json::from_str(text).ok()? {
            serde_json::Value::Null => Some(Vec::new()),
            value @ serde_json::Value::Object(_) => Some(vec![flat(&value)]),
            serde_json::Value::Array(list) if list.iter().all(serde_json::Value::is_object) => {
                Some(list.iter().map(flat).collect())
            }
            _ => None,
        }
    }

    fn ours(parser: &mut Json, text: &str) -> Option<Flat> {
        let run = Run::new(parser, text.as_bytes());
        let field = |field: &heliograph_core::model::Field| (field.key.to_string(), field.value.as_number().unwrap());
        let metric = |metric: heliograph_core::model::MetricRef<'_>| {
            let mut fields: Vec<_> = metric.fields.iter().map(field).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            fields
        };
        run.problems.is_empty().then(|| run.batch.iter().map(metric).collect())
    }

    /// Almost JSON: its tokens in an order that is often right. Keys do not repeat joined names of others.
    fn document() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| f.to_string()),
            any::<i32>().prop_map(|i| i.to_string()),
            "-?[0-9]{1,22}(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?",
        ];
        let leaf = prop_oneof![
            4 => number,
            1 => Just("true".to_owned()),
            1 => Just("null".to_owned()),
            1 => "\"[a-z é\\\\nu0-9]{0,6}\"",
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            let member =
                ("[abc]", " ?", inner.clone()).prop_map(|(key, blank, value)| format!("\"{key}\"{blank}:{value}"));
            prop_oneof![
                prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
                prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(" , "))),
            ]
        });
        let broken =
            (value.clone(), any::<prop::sample::Index>(), "[\\[\\]{},:\"0-9a-z \\\\-]").prop_map(|(text, at, byte)| {
                let at = at.index(text.len() + 1);
                match text.is_char_boundary(at) {
                    true => format!("{}{byte}{}", &text[..at], &text[at..]),
                    false => text,
                }
            });
        prop_oneof![3 => value, 1 => broken]
    }

    proptest! {
        #[test]
        fn accepts_and_reads_what_serde_json_does(texts in prop::collection::vec(document(), 1..4)) {
            let mut parser = json(|_| {});
            for text in &texts {
                let (ours, model) = (ours(&mut parser, text), model(text));
                prop_assert_eq!(shape(&ours), shape(&model), "{}", text);
                for (ours, model) in ours.iter().flatten().flatten().zip(model.iter().flatten().flatten()) {
                    // The other's quick reading of numbers is not always rounded right.
                    prop_assert!((ours.1 - model.1).abs() <= model.1.abs() * 1e-15, "{}: {} {}", text, ours.1, model.1);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            run(&mut json(|_| {}), &payload);
            let mut wrapped = b"{\"a\":\"".to_vec();
            wrapped.extend_from_slice(&payload);
            wrapped.extend_from_slice(b"\",\"b\":1}");
            run(&mut json(|o| o.tag_keys = strings(&["*"])), &wrapped);
        }
    }
}
