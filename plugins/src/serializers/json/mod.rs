//! JSON objects: one a metric, or one a batch, as Go writes them or as an expression makes them.

mod node;
mod text;
mod transform;

use heliograph_core::config::{ConfigError, Duration, Section};
use heliograph_core::error::BoxError;
use heliograph_core::glob::{GlobError, IncludeExclude};
use heliograph_core::model::{Key, MetricRef, Series, Value, WriteBatch};
use heliograph_core::number::{write_i64, write_json_f64, write_u64};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use heliograph_core::timestamp::{GoLayout, Zone};
use serde::Deserialize;

use self::node::Node;
use self::text::write_string;
use self::transform::{ExactNumbers, Transformation};
use super::field_order::FieldOrder;
use crate::common::part_memo::{PartMemo, PartSource};

pub(super) static SPEC: SerializerSpec = SerializerSpec {
    name: "json",
    sample: include_str!("sample.conf"),
    build: |section| Ok(Box::new(JsonSerializer::take(section)?)),
};

/// The options of the format.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonOptions {
    /// Unit of the timestamp; cut to a power of ten of nanoseconds.
    pub json_timestamp_units: Duration,
    /// Layout of the timestamp, in Go's manner; empty for a number.
    pub json_timestamp_format: String,
    /// JSONata expression over the object.
    pub json_transformation: String,
    /// Text fields that are written as JSON if they are; empty for all, if others are excluded.
    pub json_nested_fields_include: Vec<String>,
    /// Text fields that stay texts.
    pub json_nested_fields_exclude: Vec<String>,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self {
            json_timestamp_units: Duration::from_secs(1),
            json_timestamp_format: String::new(),
            json_transformation: String::new(),
            json_nested_fields_include: Vec::new(),
            json_nested_fields_exclude: Vec::new(),
        }
    }
}

/// Writes metrics as JSON objects.
#[derive(Debug)]
pub struct JsonSerializer {
    writer: ObjectWriter,
    transformation: Option<Transformation>,
    // Only with a transformation.
    exact: ExactNumbers,
    document: Vec<u8>,
}

impl JsonSerializer {
    /// A serializer with these options; fails on a malformed pattern. A malformed expression is reported when it is used.
    pub fn new(options: &JsonOptions) -> Result<Self, GlobError> {
        let (include, exclude) = (&options.json_nested_fields_include, &options.json_nested_fields_exclude);
        let has_nested = !include.is_empty() || !exclude.is_empty();
        let nested = if has_nested { Some(IncludeExclude::new(include, exclude)?) } else { None };
        let layout = &options.json_timestamp_format;
        let timestamp = match layout.as_str() {
            "" => Timestamp::Number { unit: power_of_ten(options.json_timestamp_units) },
            _ => Timestamp::Text { layout: GoLayout::new(layout), text: Vec::new() },
        };
        let expression = &options.json_transformation;
        Ok(Self {
            writer: ObjectWriter { nested, timestamp, order: FieldOrder::default(), memo: PartMemo::default() },
            transformation: (!expression.is_empty()).then(|| Transformation::new(expression)),
            exact: ExactNumbers::default(),
            document: Vec::new(),
        })
    }

    /// Takes the options out of a section.
    fn take(section: &mut Section) -> Result<Self, ConfigError> {
        let options = section.take_struct()?;
        Self::new(&options).map_err(|error| section.error_at("json_nested_fields_include", error.to_string()))
    }

    /// Appends a document of these metrics, as the expression changes it, and a line end.
    fn write<'a>(
        &mut self,
        metrics: impl Iterator<Item = MetricRef<'a>>,
        is_batch: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BoxError> {
        let Self { writer, transformation, exact, document } = self;
        let Some(transformation) = transformation else {
            writer.write_document(metrics, is_batch, out, |_, _| ());
            out.push(b'\n');
            return Ok(());
        };
        document.clear();
        exact.clear();
        writer.write_document(metrics, is_batch, document, |metric, timestamp| exact.note(metric, timestamp));
        let start = out.len();
        if let Err(error) = transformation.apply(document, exact, is_batch, out) {
            out.truncate(start);
            return Err(error);
        }
        out.push(b'\n');
        Ok(())
    }
}

impl Serializer for JsonSerializer {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.write(std::iter::once(metric), false, out)
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.write(batch.iter(), true, out)
    }
}

/// Writes the objects before any transformation.
#[derive(Debug)]
struct ObjectWriter {
    /// Which text fields may be JSON themselves.
    nested: Option<IncludeExclude>,
    timestamp: Timestamp,
    order: FieldOrder,
    memo: PartMemo,
}

#[derive(Debug)]
enum Timestamp {
    /// A number of units, each of so many nanoseconds.
    Number { unit: i64 },
    /// A text in UTC.
    Text { layout: GoLayout, text: Vec<u8> },
}

impl ObjectWriter {
    fn write_document<'a>(
        &mut self,
        metrics: impl Iterator<Item = MetricRef<'a>>,
        is_batch: bool,
        out: &mut Vec<u8>,
        mut note: impl FnMut(MetricRef<'a>, Option<i64>),
    ) {
        if is_batch {
            out.extend_from_slice(br#"{"metrics":["#);
        }
        let start = out.len();
        for metric in metrics {
            if out.len() > start {
                out.push(b',');
            }
            self.write_metric(metric, out);
            let timestamp = match &self.timestamp {
                Timestamp::Number { unit } => Some(metric.time / unit),
                Timestamp::Text { .. } => None,
            };
            note(metric, timestamp);
        }
        if is_batch {
            out.extend_from_slice(b"]}");
        }
    }

    fn write_metric(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) {
        let Self { nested, timestamp, order, memo } = self;
        let fingerprint = metric.series.fingerprint();
        let mut parts = match memo.get(fingerprint) {
            Some(parts) if parts.knows_all(metric.fields) => parts,
            _ => {
                let keys = metric.fields.iter().map(|field| field.key.clone());
                memo.learn(fingerprint, keys, &mut Encoded(metric.series))
            }
        };
        out.extend_from_slice(br#"{"fields":{"#);
        let start = out.len();
        for field in order.sorted(metric.fields) {
            if matches!(field.value, Value::Float(value) if !value.is_finite()) {
                continue;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(parts.get(&field.key).unwrap_or_default());
            match &field.value {
                Value::Float(value) => write_json_f64(out, *value),
                Value::Int(value) => write_i64(out, *value),
                Value::Uint(value) => write_u64(out, *value),
                Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
                Value::Text(text) => {
                    let may_nest = nested.as_ref().is_some_and(|nested| nested.passes(field.key.as_bytes()));
                    match may_nest.then(|| Node::read(text)).flatten() {
                        Some(node) => node.write_plain(out),
                        None => write_string(text, out),
                    }
                }
            }
        }
        out.extend_from_slice(parts.head);
        timestamp.write(metric.time, out);
        out.push(b'}');
    }
}

impl Timestamp {
    fn write(&mut self, time: i64, out: &mut Vec<u8>) {
        match self {
            // Towards zero also before 1970, as Telegraf has it.
            Self::Number { unit } => write_i64(out, time / *unit),
            Self::Text { layout, text } => {
                text.clear();
                layout.format(time, &Zone::UTC, text);
                write_string(text, out);
            }
        }
    }
}

/// The largest power of ten, in nanoseconds, that is not above `units`; a second for nothing and less.
fn power_of_ten(units: Duration) -> i64 {
    match units.as_nanos() {
        nanos if nanos > 0 => 10i64.pow(nanos.ilog10()),
        _ => 1_000_000_000,
    }
}

/// Encodes what stands once for a series: all that follows the fields up to the timestamp, and each field key.
struct Encoded<'a>(&'a Series);

impl PartSource for Encoded<'_> {
    fn head(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"},"name":"#);
        write_string(self.0.name(), out);
        out.extend_from_slice(br#","tags":{"#);
        for (i, (key, value)) in self.0.tags().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(key, out);
            out.push(b':');
            write_string(value, out);
        }
        out.extend_from_slice(br#"},"timestamp":"#);
    }

    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        write_string(key.as_bytes(), out);
        out.push(b':');
    }
}

#[cfg(test)]
mod tests;
