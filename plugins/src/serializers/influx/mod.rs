//! InfluxDB line protocol: a line for every metric, or several where lines may not be long.

use heliograph_core::error::BoxError;
use heliograph_core::model::{Field, Key, MetricRef, Series, Value, WriteBatch};
use heliograph_core::number::{write_i64, write_plain_f64, write_u64};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use serde::Deserialize;

use super::field_order::FieldOrder;
use crate::common::part_memo::{PartMemo, PartSource, Parts};

pub(super) static SPEC: SerializerSpec = SerializerSpec {
    name: "influx",
    sample: include_str!("sample.conf"),
    build: |section| Ok(Box::new(InfluxSerializer::new(section.take_struct()?))),
};

/// The options of the format.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfluxOptions {
    /// Longest line with its end, in bytes; a longer metric is spread over several. 0 or less for no limit.
    pub influx_max_line_bytes: i64,
    /// Whether fields are sorted by key.
    pub influx_sort_fields: bool,
    /// Whether unsigned integers are written as such, which InfluxDB 1 cannot read.
    pub influx_uint_support: bool,
    /// Whether lines have no timestamp.
    pub influx_omit_timestamp: bool,
}

/// Why a metric has no line.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The measurement is empty.
    #[error("invalid name: a measurement must not be empty; tags {tags:?}")]
    EmptyName {
        /// The series.
        tags: String,
    },
    /// No field has both a key and a value that can be written.
    #[error("{series:?}: no serializable fields")]
    NoFields {
        /// The series.
        series: String,
    },
    /// One field alone is longer than a line may be.
    #[error("{series:?}: need more space for field {key:?} than {limit} bytes; raise `influx_max_line_bytes`")]
    TooLong {
        /// The series.
        series: String,
        /// The field.
        key: String,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Writes metrics as line protocol.
#[derive(Debug)]
pub struct InfluxSerializer {
    style: Style,
    order: Option<FieldOrder>,
    memo: PartMemo,
    // Texts of the line at hand, where its length matters.
    pair: Vec<u8>,
    footer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Style {
    max_line_bytes: Option<usize>,
    has_uint: bool,
    has_timestamp: bool,
}

impl InfluxSerializer {
    /// A serializer with these options.
    pub fn new(options: InfluxOptions) -> Self {
        let style = Style {
            max_line_bytes: usize::try_from(options.influx_max_line_bytes).ok().filter(|&limit| limit > 0),
            has_uint: options.influx_uint_support,
            has_timestamp: !options.influx_omit_timestamp,
        };
        Self {
            style,
            order: options.influx_sort_fields.then(FieldOrder::default),
            memo: PartMemo::default(),
            pair: Vec::new(),
            footer: Vec::new(),
        }
    }

    /// Appends the lines of a metric. After an error, lines that were finished before it stay in the buffer.
    pub fn write(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), InfluxError> {
        let Self { style, order, memo, pair, footer } = self;
        let fingerprint = metric.series.fingerprint();
        let mut parts = match memo.get(fingerprint) {
            Some(parts) if parts.knows_all(metric.fields) => parts,
            _ => {
                let keys = metric.fields.iter().map(|field| field.key.clone());
                memo.learn(fingerprint, keys, &mut Escaped(metric.series))
            }
        };
        if parts.head.is_empty() {
            return Err(InfluxError::EmptyName { tags: metric.series.to_string() });
        }
        let mut line = Line { style: *style, metric, pair, footer };
        match (order, style.max_line_bytes) {
            (None, None) => line.write(&mut parts, metric.fields.iter(), out),
            (None, Some(limit)) => line.write_within(limit, &mut parts, metric.fields.iter(), out),
            (Some(order), None) => line.write(&mut parts, order.sorted(metric.fields), out),
            (Some(order), Some(limit)) => line.write_within(limit, &mut parts, order.sorted(metric.fields), out),
        }
    }
}

impl Serializer for InfluxSerializer {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        self.write(metric, out).map_err(|error| {
            out.truncate(start);
            error.into()
        })
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let mut skipped = 0usize;
        let mut last = None;
        for metric in batch.iter() {
            if let Err(error) = self.write(metric, out) {
                skipped += 1;
                last = Some(error);
            }
        }
        if let Some(error) = last {
            tracing::trace!(error = %error, count = skipped, "some metrics have no line");
        }
        Ok(())
    }
}

/// What the lines of one metric are made of.
struct Line<'a> {
    style: Style,
    metric: MetricRef<'a>,
    pair: &'a mut Vec<u8>,
    footer: &'a mut Vec<u8>,
}

impl<'a> Line<'a> {
    /// All fields on one line.
    #[inline]
    fn write(
        &mut self,
        parts: &mut Parts<'_>,
        fields: impl Iterator<Item = &'a Field>,
        out: &mut Vec<u8>,
    ) -> Result<(), InfluxError> {
        let start = out.len();
        out.extend_from_slice(parts.head);
        let before_fields = out.len();
        for field in fields {
            let before = out.len();
            if before > before_fields {
                out.push(b',');
            }
            if !self.style.write_pair(parts, field, out) {
                out.truncate(before);
            }
        }
        if out.len() == before_fields {
            out.truncate(start);
            return Err(self.no_fields());
        }
        self.style.write_footer(self.metric.time, out);
        Ok(())
    }

    /// As many fields on each line as fit. The commas between earlier fields of a line are not counted, as Telegraf does
    /// not, so that both cut at the same fields.
    fn write_within(
        &mut self,
        limit: usize,
        parts: &mut Parts<'_>,
        fields: impl Iterator<Item = &'a Field>,
        out: &mut Vec<u8>,
    ) -> Result<(), InfluxError> {
        self.footer.clear();
        self.style.write_footer(self.metric.time, self.footer);
        let around = parts.head.len() + self.footer.len();
        let mut pairs_len = 0;
        for field in fields {
            self.pair.clear();
            if !self.style.write_pair(parts, field, self.pair) {
                continue;
            }
            let comma = usize::from(pairs_len > 0);
            if pairs_len > 0 && around + pairs_len + comma + self.pair.len() > limit {
                out.extend_from_slice(self.footer);
                pairs_len = 0;
            }
            if pairs_len == 0 {
                if around + self.pair.len() > limit {
                    return Err(self.too_long(field, limit));
                }
                out.extend_from_slice(parts.head);
            } else {
                out.push(b',');
            }
            out.extend_from_slice(self.pair);
            pairs_len += self.pair.len();
        }
        if pairs_len == 0 {
            return Err(self.no_fields());
        }
        out.extend_from_slice(self.footer);
        Ok(())
    }

    #[cold]
    fn no_fields(&self) -> InfluxError {
        InfluxError::NoFields { series: self.metric.series.to_string() }
    }

    #[cold]
    fn too_long(&self, field: &Field, limit: usize) -> InfluxError {
        InfluxError::TooLong { series: self.metric.series.to_string(), key: field.key.to_string(), limit }
    }
}

impl Style {
    /// Appends `key=value`; tells whether there is such a pair.
    #[inline]
    fn write_pair(self, parts: &mut Parts<'_>, field: &Field, out: &mut Vec<u8>) -> bool {
        let key = parts.get(&field.key).unwrap_or_default();
        if key.is_empty() || matches!(field.value, Value::Float(value) if !value.is_finite()) {
            return false;
        }
        out.extend_from_slice(key);
        match &field.value {
            Value::Float(value) => write_plain_f64(out, *value),
            Value::Int(value) => {
                write_i64(out, *value);
                out.push(b'i');
            }
            Value::Uint(value) if self.has_uint => {
                write_u64(out, *value);
                out.push(b'u');
            }
            Value::Uint(value) => {
                write_u64(out, (*value).min(i64::MAX as u64));
                out.push(b'i');
            }
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Text(text) => {
                out.push(b'"');
                escape(text, b"\"\\", out);
                out.push(b'"');
            }
        }
        true
    }

    #[inline]
    fn write_footer(self, time: i64, out: &mut Vec<u8>) {
        if self.has_timestamp {
            out.push(b' ');
            write_i64(out, time);
        }
        out.push(b'\n');
    }
}

/// Escapes what stands once for a series: measurement and tags, then each field key with its `=`.
struct Escaped<'a>(&'a Series);

impl PartSource for Escaped<'_> {
    /// Measurement, tags and a blank; nothing if there is no measurement.
    fn head(&mut self, out: &mut Vec<u8>) {
        if self.0.name().is_empty() {
            return;
        }
        escape_word(self.0.name(), b", ", out);
        for (key, value) in self.0.tags() {
            let before = out.len();
            out.push(b',');
            let has_key = escape_tag_part(key, out);
            out.push(b'=');
            if !(has_key && escape_tag_part(value, out)) {
                out.truncate(before);
            }
        }
        out.push(b' ');
    }

    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        if !key.as_bytes().is_empty() {
            escape_word(key.as_bytes(), b",= ", out);
            out.push(b'=');
        }
    }
}

/// Appends a tag key or value without backslashes at its end, which would escape the character behind it; tells whether
/// anything is left.
fn escape_tag_part(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    escape_word(text, b",= ", out);
    while out.len() > start && out.last() == Some(&b'\\') {
        out.pop();
    }
    out.len() > start
}

/// Appends a name: white space as a letter behind a backslash, the characters of `special` behind one.
fn escape_word(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        let letter = match byte {
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ if special.contains(&byte) => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

fn escape(mut text: &[u8], special: &[u8; 2], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr2(special[0], special[1], text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(&[b'\\', text[at]]);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests;
