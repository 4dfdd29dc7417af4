//! Changes types of fields, and moves values between tags, fields, measurement and time.

mod config;
mod convert;

use std::ops::Range;

use bstr::BStr;
use heliograph_core::memo::SeriesMemo;
use heliograph_core::model::{Interner, Key, MetricMut, SeriesRef, Value};
use heliograph_core::plugin::{ProcessContext, Processor, ProcessorSpec, Verdict};
use heliograph_core::throttle::Throttle;
use heliograph_core::timestamp::{TimeValue, TimestampFormat};

use config::{Options, Table, Target};

pub(super) static SPEC: ProcessorSpec = ProcessorSpec {
    name: "converter",
    sample: include_str!("sample.conf"),
    build: |section, _| {
        let position = section.position();
        let converter = Converter::new(&section.finish()?).map_err(|problem| position.error(problem))?;
        Ok(Box::new(converter))
    },
};

struct Converter {
    tags: Option<Table>,
    fields: Option<Table>,
    series: SeriesMemo<Converted>,
    moved: Moved,
    throttle: Throttle,
}

/// What comes of the tags of a series.
struct Converted {
    series: SeriesRef,
    fields: Vec<(Key, Value)>,
    time: Option<i64>,
}

/// What fields leave for the rest of the metric; the memory is used again and again.
#[derive(Default)]
struct Moved {
    texts: Vec<u8>,
    measurement: Option<Range<usize>>,
    tags: Vec<(Key, Range<usize>)>,
}

impl Converter {
    fn new(options: &Options) -> Result<Self, String> {
        if options.tags.is_none() && options.fields.is_none() {
            return Err("nothing to convert; give a table [processors.converter.tags] or \
                        [processors.converter.fields]"
                .into());
        }
        Ok(Self {
            tags: options.tags.as_ref().map(|tags| tags.compile()).transpose()?,
            fields: options.fields.as_ref().map(|fields| fields.compile()).transpose()?,
            series: SeriesMemo::default(),
            moved: Moved::default(),
            throttle: Throttle::new(),
        })
    }
}

impl Processor for Converter {
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
        let Self { tags, fields, series, moved, throttle } = self;
        let mut problems = Problems { throttle, plugin: context.plugin };
        if let Some(table) = tags {
            let converted = series.get(metric.series().fingerprint(), || {
                convert_tags(table, metric.series(), context.interner, &mut problems)
            });
            metric.set_series(converted.series.clone());
            converted.fields.iter().for_each(|(key, value)| metric.set_field(key.clone(), value.clone()));
            if let Some(time) = converted.time {
                metric.set_time(time);
            }
        }
        if let Some(table) = fields {
            convert_fields(table, metric, moved, &mut problems);
            moved.apply(metric, context.interner);
        }
        Verdict::Keep
    }
}

fn convert_tags(table: &Table, series: &SeriesRef, interner: &mut Interner, problems: &mut Problems<'_>) -> Converted {
    let (mut fields, mut time, mut measurement, mut removed) = (Vec::new(), None, None, Vec::new());
    for (key, text) in series.tags() {
        let Some(target) = table.target(key) else { continue };
        let value = Value::from(text);
        match target {
            Target::Measurement => measurement = Some(text),
            Target::Timestamp => match read_time(table.format.as_ref(), &value) {
                Ok(read) => time = Some(read),
                Err(problem) => {
                    problems.report("tag", key, &value, target, &problem);
                    continue;
                }
            },
            _ => match convert(target, &value) {
                Some(converted) => fields.push((Key::intern(key), converted)),
                None => problems.report("tag", key, &value, target, "the tag was removed"),
            },
        }
        removed.push(key);
    }
    let series = interner.edit(series, |builder| {
        builder.retain_tags(|key, _| !removed.contains(&key));
        if let Some(measurement) = measurement {
            builder.set_name(measurement);
        }
    });
    Converted { series, fields, time }
}

fn convert_fields(table: &mut Table, metric: &mut MetricMut<'_>, moved: &mut Moved, problems: &mut Problems<'_>) {
    let mut time = None;
    moved.clear();
    metric.retain_fields(|field| {
        let Some(target) = table.remembered_target(&field.key) else { return true };
        match target {
            Target::Measurement => {
                moved.measurement = Some(moved.store(&field.value));
                false
            }
            Target::Tag => {
                let text = moved.store(&field.value);
                moved.tags.push((field.key.clone(), text));
                false
            }
            Target::Timestamp => match read_time(table.format.as_ref(), &field.value) {
                Ok(read) => {
                    time = Some(read);
                    false
                }
                Err(problem) => {
                    problems.report("field", field.key.as_bytes(), &field.value, target, &problem);
                    true
                }
            },
            _ => match convert(target, &field.value) {
                Some(converted) => {
                    field.value = converted;
                    true
                }
                None => {
                    problems.report("field", field.key.as_bytes(), &field.value, target, "the field was removed");
                    false
                }
            },
        }
    });
    if let Some(time) = time {
        metric.set_time(time);
    }
}

impl Moved {
    fn clear(&mut self) {
        self.texts.clear();
        self.measurement = None;
        self.tags.clear();
    }

    fn store(&mut self, value: &Value) -> Range<usize> {
        let start = self.texts.len();
        convert::write_text(value, &mut self.texts);
        start..self.texts.len()
    }

    fn apply(&self, metric: &mut MetricMut<'_>, interner: &mut Interner) {
        if self.measurement.is_none() && self.tags.is_empty() {
            return;
        }
        let series = interner.edit(metric.series(), |builder| {
            if let Some(measurement) = &self.measurement {
                builder.set_name(&self.texts[measurement.clone()]);
            }
            for (key, text) in &self.tags {
                builder.set_tag(key.as_bytes(), &self.texts[text.clone()]);
            }
        });
        metric.set_series(series);
    }
}

/// To one of the types of fields; `None` where that is not possible.
fn convert(target: Target, value: &Value) -> Option<Value> {
    match target {
        Target::Integer => convert::to_integer(value).map(Value::Int),
        Target::Unsigned => convert::to_unsigned(value).map(Value::Uint),
        Target::Boolean => convert::to_boolean(value).map(Value::Bool),
        Target::Float => convert::to_float(value).map(Value::Float),
        Target::Base64Float32 => convert::from_base64_float32(value).map(Value::Float),
        Target::Text | Target::Measurement | Target::Tag | Target::Timestamp => match value {
            Value::Text(text) => Some(Value::Text(text.clone())),
            other => {
                let mut text = Vec::new();
                convert::write_text(other, &mut text);
                Some(Value::Text(text.into()))
            }
        },
    }
}

fn read_time(format: Option<&TimestampFormat>, value: &Value) -> Result<i64, String> {
    let format = format.ok_or("set `timestamp_format`")?;
    let value = match value {
        Value::Int(v) => TimeValue::Int(*v),
        Value::Uint(v) => TimeValue::Uint(*v),
        Value::Float(v) => TimeValue::Float(*v),
        Value::Text(text) => TimeValue::Text(text),
        Value::Bool(_) => TimeValue::Other("bool"),
    };
    format.parse(value).map_err(|error| error.to_string())
}

/// Reports what cannot be converted, at most once a minute.
struct Problems<'a> {
    throttle: &'a mut Throttle,
    plugin: &'a str,
}

/// Longest value shown in a message, in bytes.
const SHOWN: usize = 64;

impl Problems<'_> {
    fn report(&mut self, kind: &str, key: &[u8], value: &Value, target: Target, consequence: &str) {
        let Some(suppressed) = self.throttle.admit() else { return };
        let mut text = Vec::new();
        convert::write_text(value, &mut text);
        text.truncate(SHOWN);
        tracing::error!(
            plugin = self.plugin,
            suppressed,
            "cannot convert {kind} {:?} with value {:?} to {}: {consequence}",
            BStr::new(key),
            BStr::new(&text),
            target.option()
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::config::{FieldOptions, TagOptions};
    use super::*;
    use crate::common::testing::process;

    fn list(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|pattern| pattern.to_string()).collect()
    }

    #[track_caller]
    fn check(tags: Option<TagOptions>, fields: Option<FieldOptions>, lines: &str, expected: Expect) {
        let shown = match Converter::new(&Options { tags, fields }) {
            Ok(mut converter) => process(&mut converter, lines),
            Err(problem) => format!("error: {problem}"),
        };
        expected.assert_eq(&shown);
    }

    fn fields(options: FieldOptions) -> (Option<TagOptions>, Option<FieldOptions>) {
        (None, Some(options))
    }

    #[test]
    fn tags_become_fields() {
        let tags = TagOptions { integer: list(&["*"]), ..Default::default() };
        check(
            Some(tags),
            None,
            "m,t=42,h=0x1F,fl=2.5,big=1e30,b=true v=1i 1",
            expect!["m v=1i,big=9223372036854775807i,fl=3i,h=31i,t=42i 1"],
        );
    }

    #[test]
    fn a_tag_overwrites_an_equal_field_if_it_can() {
        let tags = TagOptions { integer: list(&["code"]), ..Default::default() };
        check(
            Some(tags),
            None,
            "m,code=5 code=\"old\" 1\nm,code=bad code=\"old\" 1",
            expect![[r#"
            m code=5i 1
            m code="old" 1"#]],
        );
    }

    #[test]
    fn fields_see_what_tags_became() {
        let tags = TagOptions { string: list(&["t"]), tag: list(&["*"]), ..Default::default() };
        let options = FieldOptions { float: list(&["t"]), ..Default::default() };
        check(Some(tags), Some(options), "m,t=2,u=3 v=1i 1", expect!["m,u=3 v=1i,t=2 1"]);
    }

    #[test]
    fn fields_change_type_in_place() {
        let (tags, options) = fields(FieldOptions { integer: list(&["*"]), ..Default::default() });
        let line = "m nf=-2.5,s=\"12.7\",bad=\"abc\",hx=\"0xff\",bo=true 1";
        check(tags, options, line, expect!["m nf=-3i,s=13i,hx=255i,bo=1i 1"]);
    }

    #[test]
    fn fields_become_tags_and_measurement() {
        let (tags, options) =
            fields(FieldOptions { tag: list(&["id", "h"]), measurement: list(&["kind"]), ..Default::default() });
        let line = "m,h=a id=7i,kind=\"temp\",h=true,v=1i 1\nm,h=a v=1i 2";
        check(
            tags,
            options,
            line,
            expect![[r#"
            temp,h=true,id=7 v=1i 1
            m,h=a v=1i 2"#]],
        );
    }

    #[test]
    fn a_tag_becomes_the_measurement() {
        let tags = TagOptions { measurement: list(&["s*"]), ..Default::default() };
        check(Some(tags), None, "m,sensor=out,h=a v=1i 1", expect!["out,h=a v=1i 1"]);
    }

    #[test]
    fn times() {
        let tags =
            || Some(TagOptions { timestamp: list(&["t"]), timestamp_format: "unix".into(), ..Default::default() });
        check(
            tags(),
            None,
            "m,t=1700000000.5 v=1i 1\nm,t=x v=1i 1",
            expect![[r#"
            m v=1i 1700000000500000000
            m,t=x v=1i 1"#]],
        );
        let (none, options) = fields(FieldOptions {
            timestamp: list(&["t"]),
            timestamp_format: "2006-01-02".into(),
            ..Default::default()
        });
        check(
            none,
            options,
            "m t=\"2023-11-14\",v=1i 1\nm t=5i,v=1i 1",
            expect![[r#"
            m v=1i 1699920000000000000
            m t=5i,v=1i 1"#]],
        );
        let (none, options) = fields(FieldOptions { timestamp: list(&["t"]), ..Default::default() });
        check(none, options, "m t=5i,v=1i 1", expect!["m t=5i,v=1i 1"]);
    }

    #[test]
    fn the_first_group_wins() {
        let (tags, options) = fields(FieldOptions {
            string: list(&["*"]),
            float: list(&["f*"]),
            tag: list(&["t"]),
            ..Default::default()
        });
        check(tags, options, "m f1=1i,t=2i,x=1e21 1", expect![[r#"m,t=2 f1=1,x="1000000000000000000000" 1"#]]);
    }

    #[test]
    fn mistakes() {
        check(
            None,
            None,
            "",
            expect![
                "error: nothing to convert; give a table [processors.converter.tags] or [processors.converter.fields]"
            ],
        );
        let (tags, options) = fields(FieldOptions { float: list(&["["]), ..Default::default() });
        check(
            tags,
            options,
            "",
            expect![[r#"error: cannot use `float` of [fields]: invalid glob "[": `[` is not closed at byte 0"#]],
        );
    }
}
