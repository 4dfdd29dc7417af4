//! Graphite plaintext: a line for every number, with the path of its series.

mod naming;
mod sanitize;
mod template;

use std::borrow::Cow;

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::error::BoxError;
use heliograph_core::model::{Field, Key, MetricRef, Series, Value, WriteBatch};
use heliograph_core::number::{write_i64, write_plain_f64, write_u64};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use serde::Deserialize;

use self::naming::NamingRules;
pub use self::naming::{Naming, RefusedPath};
use self::sanitize::Sanitizer;
pub use self::template::TemplateError;
use self::template::{Templates, with_field};
use crate::common::part_memo::{PartMemo, PartSource, keys_of};

pub(super) static SPEC: SerializerSpec = SerializerSpec {
    name: "graphite",
    sample: include_str!("sample.conf"),
    build: |section| Ok(Box::new(GraphiteSerializer::take(section)?)),
};

/// The options of the format; `outputs.graphite` has the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphiteOptions {
    /// Stands in front of every path; an API key where the receiver asks for one.
    pub prefix: String,
    /// The parts of a path, where none of `templates` fits.
    pub template: String,
    /// Templates for some measurements, each `"filter template"`.
    pub templates: Vec<String>,
    /// Regular expression of what becomes `_`; empty for the default.
    pub graphite_strict_sanitize_regex: String,
    /// Whether tags are sent as Graphite's own tags.
    pub graphite_tag_support: bool,
    /// `compatible` keeps in tags what Graphite allows there; anything else is as strict as for paths.
    pub graphite_tag_sanitize_mode: String,
    /// Joins prefix, measurement and field if tags are sent.
    pub graphite_separator: String,
    /// Whose rules paths follow beyond all that.
    pub graphite_naming: Naming,
    /// Most bytes of a path with its tags; zero for no limit.
    pub graphite_max_path_length: usize,
}

impl Default for GraphiteOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            template: String::new(),
            templates: Vec::new(),
            graphite_strict_sanitize_regex: String::new(),
            graphite_tag_support: false,
            graphite_tag_sanitize_mode: "strict".to_owned(),
            graphite_separator: ".".to_owned(),
            graphite_naming: Naming::Telegraf,
            graphite_max_path_length: 0,
        }
    }
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GraphiteError {
    /// One of `templates` is malformed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The regular expression does not compile.
    #[error("option `graphite_strict_sanitize_regex`: cannot compile {pattern:?}")]
    Regex {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
}

/// Writes metrics as lines `path value seconds`.
#[derive(Debug)]
pub struct GraphiteSerializer {
    paths: Paths,
    memo: PartMemo,
    end: LineEnd,
}

impl GraphiteSerializer {
    /// A serializer with these options; fails on a malformed template or regular expression.
    pub fn new(options: GraphiteOptions) -> Result<Self, GraphiteError> {
        Ok(Self { paths: Paths::new(options)?, memo: PartMemo::default(), end: LineEnd::default() })
    }

    /// Takes the options out of a section.
    pub fn take(section: &mut Section) -> Result<Self, ConfigError> {
        let options = section.take_struct()?;
        Self::new(options).map_err(|error| {
            let key = match &error {
                GraphiteError::Template(_) => "templates",
                GraphiteError::Regex { .. } => "graphite_strict_sanitize_regex",
            };
            section.error_at(key, heliograph_core::error::Chain(&error).to_string())
        })
    }

    /// Appends the lines of a metric; it has none if it holds no number. Fails if a path is longer than the receiver
    /// allows; the lines of the other fields are there all the same.
    #[inline]
    pub fn write(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), RefusedPath> {
        let Self { paths, memo, end } = self;
        let fingerprint = metric.series.fingerprint();
        let end = end.of(metric.time);
        let start = out.len();
        let mut refused = None;
        let mut parts = memo.get(fingerprint);
        for field in metric.fields.iter().filter(|field| is_number(field)) {
            let Some(path) = parts.as_mut().and_then(|parts| parts.get(&field.key)) else {
                out.truncate(start);
                refused = None;
                let mut source = SeriesPaths { paths, series: metric.series, bucket: None };
                let mut parts = memo.learn(fingerprint, keys_of(metric.fields, is_number), &mut source);
                for field in metric.fields.iter().filter(|field| is_number(field)) {
                    let path = parts.get(&field.key).unwrap_or_default();
                    refused = write_line(path, &field.value, end, out).err().or(refused);
                }
                break;
            };
            refused = write_line(path, &field.value, end, out).err().or(refused);
        }
        refused.map_or(Ok(()), |path| paths.naming.check(path))
    }
}

impl Serializer for GraphiteSerializer {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        self.write(metric, out).map_err(|refused| {
            out.truncate(start);
            refused.into()
        })
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        for metric in batch.iter() {
            if let Err(refused) = self.write(metric, out) {
                tracing::debug!(error = %refused, series = %metric.series, "cannot serialize a field");
            }
        }
        Ok(())
    }
}

/// Whether Graphite can hold the value of a field.
#[inline]
fn is_number(field: &Field) -> bool {
    match field.value {
        Value::Float(value) => value.is_finite(),
        Value::Int(_) | Value::Uint(_) | Value::Bool(_) => true,
        Value::Text(_) => false,
    }
}

/// Appends a line, or none where nothing is left of the path. `Err` has a path that is refused.
#[inline]
fn write_line<'a>(path: &'a [u8], value: &Value, end: &[u8], out: &mut Vec<u8>) -> Result<(), &'a [u8]> {
    match path.last() {
        Some(b' ') => {}
        Some(_) => return Err(&path[..path.len() - 1]),
        None => return Ok(()),
    }
    out.extend_from_slice(path);
    match value {
        Value::Float(value) => write_plain_f64(out, *value),
        Value::Int(value) => write_i64(out, *value),
        Value::Uint(value) => write_u64(out, *value),
        Value::Bool(value) => out.push(if *value { b'1' } else { b'0' }),
        Value::Text(_) => unreachable!("is_number has been asked"),
    }
    out.extend_from_slice(end);
    Ok(())
}

/// Stands behind a path that is refused, in place of the blank.
const REFUSED: u8 = b'\n';

/// The end of a line, blank and seconds, kept since metrics of one second mostly come together.
#[derive(Debug, Default)]
struct LineEnd {
    seconds: i64,
    text: Vec<u8>,
}

impl LineEnd {
    /// The end of the lines of this time, in nanoseconds.
    #[inline]
    fn of(&mut self, time: i64) -> &[u8] {
        // Towards zero also before 1970, as Telegraf has it.
        let seconds = time / 1_000_000_000;
        if seconds != self.seconds || self.text.is_empty() {
            self.seconds = seconds;
            self.text.clear();
            self.text.push(b' ');
            write_i64(&mut self.text, seconds);
            self.text.push(b'\n');
        }
        &self.text
    }
}

/// How series and field keys become paths.
#[derive(Debug)]
struct Paths {
    prefix: Vec<u8>,
    sanitizer: Sanitizer,
    naming: NamingRules,
    templates: Templates,
    /// Only with `graphite_tag_support`.
    tags: Option<TagStyle>,
}

#[derive(Debug)]
struct TagStyle {
    separator: Vec<u8>,
    is_compatible: bool,
}

impl Paths {
    fn new(options: GraphiteOptions) -> Result<Self, GraphiteError> {
        let pattern = options.graphite_strict_sanitize_regex;
        let sanitizer =
            Sanitizer::new(&pattern).map_err(|source| GraphiteError::Regex { pattern, source: Box::new(source) })?;
        let tags = options.graphite_tag_support.then(|| TagStyle {
            separator: options.graphite_separator.into_bytes(),
            is_compatible: options.graphite_tag_sanitize_mode == "compatible",
        });
        let templates = Templates::new(&options.template, &options.templates)?;
        let naming = NamingRules::new(options.graphite_naming, options.graphite_max_path_length);
        Ok(Self { prefix: options.prefix.into_bytes(), sanitizer, naming, templates, tags })
    }

    /// The tags of a series as they follow a path: `;a=1;b=2`.
    fn tag_text(&self, series: &Series, style: &TagStyle) -> Vec<u8> {
        let mut tags: Vec<Vec<u8>> = series.tags().filter_map(|(key, value)| self.tag(key, value, style)).collect();
        tags.sort_unstable();
        tags.iter().flat_map(|tag| [b";", tag.as_slice()]).flatten().copied().collect()
    }

    /// One tag; `None` where carbon would refuse it, and the whole line with it: a value must not be empty.
    fn tag(&self, key: &[u8], value: &[u8], style: &TagStyle) -> Option<Vec<u8>> {
        let key = if key == b"name" { b"_name" } else { key };
        if value.is_empty() {
            return None;
        }
        let mut tag = if style.is_compatible {
            let value = self.sanitizer.compatible_value(value);
            if value.is_empty() {
                return None;
            }
            [&self.sanitizer.compatible_key(key), b"=".as_slice(), &value].concat()
        } else {
            self.sanitizer.strict(&[key, b"=", value].concat())
        };
        if let Cow::Owned(clean) = self.naming.clean(&tag) {
            tag = clean;
        }
        // Carbon splits its lines at blanks; a custom expression may let them through.
        tag.iter_mut().filter(|byte| byte.is_ascii_whitespace()).for_each(|byte| *byte = b'_');
        let has_value = tag.iter().position(|&byte| byte == b'=').is_none_or(|at| at + 1 < tag.len());
        has_value.then_some(tag)
    }
}

/// Works out the paths of one series, each with the blank that follows it, or with [`REFUSED`].
struct SeriesPaths<'a> {
    paths: &'a Paths,
    series: &'a Series,
    /// What all fields have in common: the filled template, or the tags.
    bucket: Option<Vec<u8>>,
}

impl PartSource for SeriesPaths<'_> {
    fn head(&mut self, _out: &mut Vec<u8>) {
        self.bucket = match &self.paths.tags {
            Some(style) => Some(self.paths.tag_text(self.series, style)),
            None => self.paths.templates.bucket(self.series, &self.paths.prefix),
        };
    }

    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        let (Some(bucket), key) = (&self.bucket, key.as_bytes()) else { return };
        let Paths { prefix, sanitizer, naming, tags, .. } = self.paths;
        let (path, tag_text): (_, &[u8]) = match tags {
            Some(TagStyle { separator, .. }) => {
                let mut path = Vec::new();
                if !prefix.is_empty() {
                    path.extend([prefix.as_slice(), separator].concat());
                }
                path.extend_from_slice(self.series.name());
                if key != b"value" {
                    path.extend([separator.as_slice(), key].concat());
                }
                (sanitizer.strict(&path), bucket)
            }
            None => (sanitizer.strict(&with_field(bucket, key)), b""),
        };
        let path = naming.clean_path(path);
        // A path of which nothing is left, such as a lone `\`, would make a line that no receiver can read.
        if path.is_empty() {
            return;
        }
        let start = out.len();
        out.extend([&path, tag_text].concat());
        let end = if naming.check(&out[start..]).is_ok() { b' ' } else { REFUSED };
        out.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializers::testing::{batch, metric, options};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    const CPU: &str = r#"cpu,host=web-1.example.com,cpu=cpu0,dc=eu usage_idle=98.5,n=3i,u=18446744073709551615u,b=true,s="x",nan=NaN 1700000000999999999"#;

    fn check(toml: &str, metrics: &[&str], want: Expect) {
        let mut serializer = GraphiteSerializer::new(options(toml)).unwrap();
        let mut lines = String::new();
        // The second time all series are known.
        for _ in 0..2 {
            let mut out = Vec::new();
            serializer.serialize_batch(&batch(metrics), &mut out).unwrap();
            assert!(lines.is_empty() || lines.as_bytes() == out);
            lines = String::from_utf8_lossy(&out).into_owned();
        }
        want.assert_eq(&lines);
    }

    #[test]
    fn defaults() {
        check(
            "",
            &[CPU, "mem used=-0.5 -1500000000"],
            expect![[r#"
            web-1_example_com.cpu0.eu.cpu.usage_idle 98.5 1700000000
            web-1_example_com.cpu0.eu.cpu.n 3 1700000000
            web-1_example_com.cpu0.eu.cpu.u 18446744073709551615 1700000000
            web-1_example_com.cpu0.eu.cpu.b 1 1700000000
            .mem.used -0.5 -1
        "#]],
        );
    }

    #[test]
    fn prefix_and_value() {
        check(
            r#"{"prefix": "my.pre fix"}"#,
            &["temp,host=a value=21,x=1e21 0"],
            expect![[r#"
            my.pre_fix.a.temp 21 0
            my.pre_fix.a.temp.x 1000000000000000000000 0
        "#]],
        );
        check(
            r#"{"template": "field"}"#,
            &["m value=1 0", "m x=1 0"],
            expect![[r#"
            FIELDNAME 1 0
            x 1 0
        "#]],
        );
    }

    #[test]
    fn awkward_names() {
        check(
            "",
            &[r"disk\ io,host=h,path=/var/log@x*,q=a\b..c rd\ bytes%=1 0"],
            expect![[r#"
            h.-var-log-x-.ab__c.disk_io.rd_bytes_ 1 0
        "#]],
        );
        let mut serializer = GraphiteSerializer::new(options(r#"{"template": "measurement"}"#)).unwrap();
        let mut out = Vec::new();
        serializer.serialize_batch(&metric(b"\\", &[], &[(b"a", 1i64.into())], 0), &mut out).unwrap();
        assert_eq!(out, b"", "a path of which nothing is left");
    }

    const TAGS: &str = r"cpu,host=web\ 1,name=n,zone=~~eu;x,Path=/a\ b,e= usage=1.5,value=2 0";

    #[test]
    fn tags() {
        check(
            r#"{"graphite_tag_support": true, "prefix": "p q", "template": "field.host"}"#,
            &[TAGS],
            expect![[r#"
            p_q.cpu.usage;Path=-a_b;_name=n;host=web_1;zone=__eu_x 1.5 0
            p_q.cpu;Path=-a_b;_name=n;host=web_1;zone=__eu_x 2 0
        "#]],
        );
        let compatible = r#"{"graphite_tag_support": true, "graphite_tag_sanitize_mode": "compatible",
            "graphite_separator": "/"}"#;
        check(
            compatible,
            &[TAGS],
            expect![[r#"
            cpu-usage;Path=/a_b;_name=n;host=web_1;zone=eu_x 1.5 0
            cpu;Path=/a_b;_name=n;host=web_1;zone=eu_x 2 0
        "#]],
        );
    }

    #[test]
    fn names_that_the_receiver_allows() {
        let metric = r"disk\ io,host=h:1,path=/var/löcal rd\ bytes%=1,x=2 0";
        let naming = |naming: &str| format!(r#"{{"graphite_naming": "{naming}", "prefix": "k-1"}}"#);
        check(
            &naming("telegraf"),
            &[metric, "mem a=1 0"],
            expect![[r#"
            k-1.h:1.-var-löcal.disk_io.rd_bytes_ 1 0
            k-1.h:1.-var-löcal.disk_io.x 2 0
            k-1.mem.a 1 0
        "#]],
        );
        check(
            &naming("hosted_graphite"),
            &[metric, "mem a=1 0"],
            expect![[r#"
            k-1.h_1.-var-l_cal.disk_io.rd_bytes_ 1 0
            k-1.h_1.-var-l_cal.disk_io.x 2 0
            k-1.mem.a 1 0
        "#]],
        );
        check(r#"{"graphite_naming": "carbon"}"#, &["mem a=1 0"], expect![["mem.a 1 0\n"]]);
        let tags = r#"{"graphite_naming": "hosted_graphite", "graphite_tag_support": true,
            "graphite_tag_sanitize_mode": "compatible"}"#;
        check(tags, &[r"m,a=x:y;z,b=ü value=1 0"], expect![["m;a=x_y_z;b=_ 1 0\n"]]);
    }

    #[test]
    fn a_path_that_is_too_long_costs_no_other() {
        let json = r#"{"graphite_max_path_length": 7}"#;
        let metrics = ["m,h=a b=1,long=2,c=3 0", "m,h=abcdef b=1 0", "m b=1 0"];
        check(
            json,
            &metrics,
            expect![[r#"
            a.m.b 1 0
            a.m.c 3 0
            .m.b 1 0
        "#]],
        );
        let mut serializer = GraphiteSerializer::new(options(json)).unwrap();
        // The second time it is known.
        for _ in 0..2 {
            let (batch, mut out) = (batch(&metrics), b"x".to_vec());
            let errors: Vec<String> = batch
                .iter()
                .map(|metric| {
                    serializer.serialize(metric, &mut out).map_or_else(|error| error.to_string(), |()| "-".into())
                })
                .collect();
            expect![[r#"
                cannot send path "a.m.long": its 8 bytes are more than the 7 of `graphite_max_path_length`
                cannot send path "abcdef.m.b": its 10 bytes are more than the 7 of `graphite_max_path_length`
                -"#]]
            .assert_eq(&errors.join("\n"));
            assert_eq!(out, b"x.m.b 1 0\n");
        }
    }

    #[test]
    fn refusals_say_what_and_why() {
        let error = |json| {
            let error = GraphiteSerializer::new(options(json)).unwrap_err();
            heliograph_core::error::Chain(&error).to_string()
        };
        assert!(
            error(r#"{"graphite_strict_sanitize_regex": "[z-a]"}"#)
                .starts_with("option `graphite_strict_sanitize_regex`: cannot compile \"[z-a]\": regex parse error")
        );
        assert!(error(r#"{"templates": [" "]}"#).starts_with("missing template at position: 0"));
    }

    #[test]
    fn ten_thousand_devices_fit_into_two_megabytes() {
        let mut serializer = GraphiteSerializer::new(GraphiteOptions::default()).unwrap();
        for device in 0..10_000 {
            let line =
                format!("mqtt,device=sensor-{device},site=plant-7 temperature=21.5,humidity=40,battery=3.7,s=\"x\" 0");
            serializer.serialize_batch(&batch(&[&line]), &mut Vec::new()).unwrap();
        }
        let bytes = serializer.memo.footprint();
        assert!(bytes < 2_200_000, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn any_names_make_lines_of_three_words(
            name in prop::collection::vec(any::<u8>(), 0..8),
            tags in prop::collection::vec(("[a-c=; ]{1,3}", prop::collection::vec(any::<u8>(), 0..8)), 0..4),
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..4),
            mode in prop::sample::select(vec!["", r#"{"graphite_tag_support": true}"#,
                r#"{"graphite_tag_support": true, "graphite_tag_sanitize_mode": "compatible"}"#]),
        ) {
            let tags: Vec<_> = tags.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())).collect();
            let fields: Vec<_> = keys.iter().map(|key| (key.as_slice(), Value::Float(0.5))).collect();
            let batch = metric(&name, &tags, &fields, 7);
            let mut serializer = GraphiteSerializer::new(options(mode)).unwrap();
            let mut out = Vec::new();
            serializer.serialize_batch(&batch, &mut out).unwrap();
            let ends = out.split_inclusive(|&byte| byte == b'\n').all(|line| {
                line.ends_with(b" 0.5 0\n") && line.iter().filter(|byte| byte.is_ascii_whitespace()).count() == 3
            });
            prop_assert!(ends, "{}", String::from_utf8_lossy(&out));
        }
    }
}
