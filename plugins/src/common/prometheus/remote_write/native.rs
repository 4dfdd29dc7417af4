//! Native histograms: read from the fields that stand for one, and encoded.

use heliograph_core::model::{MetricRef, Value};

use super::wire::{self, Form, tag, varint, zigzag};

/// A native histogram of floats, with absolute counts.
#[derive(Debug, Default)]
pub(super) struct NativeHistogram {
    count: f64,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    reset_hint: u8,
    positive: Side,
    negative: Side,
}

/// The buckets on one side of zero.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<(i32, u32)>,
    counts: Vec<f64>,
}

/// The schema of histograms whose bounds are given one by one.
const CUSTOM_BOUNDS: i32 = -53;

impl NativeHistogram {
    /// Reads a metric; `None` if one of the required fields is missing, or the whole is not valid.
    pub(super) fn read(metric: MetricRef<'_>) -> Option<Self> {
        let float = |key: &[u8]| match metric.field(key)? {
            Value::Float(value) => Some(*value),
            _ => None,
        };
        let Value::Int(schema) = metric.field(b"schema")? else { return None };
        let Value::Uint(reset_hint) = metric.field(b"counter_reset_hint")? else { return None };
        let histogram = Self {
            count: float(b"count")?,
            sum: float(b"sum")?,
            schema: i32::try_from(*schema).ok()?,
            zero_threshold: float(b"zero_threshold")?,
            zero_count: float(b"zero_count")?,
            reset_hint: *reset_hint as u8,
            positive: Side::read(metric, "positive"),
            negative: Side::read(metric, "negative"),
        };
        histogram.is_valid().then_some(histogram)
    }

    fn is_valid(&self) -> bool {
        let Self { positive, negative, .. } = self;
        let is_shape_valid = match self.schema {
            CUSTOM_BOUNDS => {
                // Without bounds there is one bucket, that of all values.
                let reach: i64 = positive.spans.iter().map(|&(offset, len)| i64::from(offset) + i64::from(len)).sum();
                let has_negative_side = !negative.spans.is_empty() || !negative.counts.is_empty();
                let is_zero_empty = self.zero_count == 0.0 && self.zero_threshold == 0.0;
                let goes_back = positive.spans.iter().any(|&(offset, _)| offset < 0);
                is_zero_empty && !has_negative_side && !goes_back && reach <= 1 && positive.is_complete()
            }
            -4..=8 => positive.is_valid() && negative.is_valid(),
            _ => false,
        };
        let counts = positive.counts.iter().chain(&negative.counts).chain([&self.zero_count, &self.count]);
        is_shape_valid && !counts.into_iter().any(|&count| count < 0.0)
    }

    /// The encoded message without its timestamp.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        wire::double(&mut out, 2, self.count);
        if self.sum != 0.0 {
            wire::double(&mut out, 3, self.sum);
        }
        wire::integer(&mut out, 4, zigzag(self.schema));
        if self.zero_threshold != 0.0 {
            wire::double(&mut out, 5, self.zero_threshold);
        }
        wire::double(&mut out, 7, self.zero_count);
        self.negative.encode(8, 10, &mut out);
        self.positive.encode(11, 13, &mut out);
        wire::integer(&mut out, 14, self.reset_hint.into());
        out
    }
}

/// The encoded message that says that a series of histograms has ended, without its timestamp.
pub(super) fn stale_histogram(marker: f64) -> Vec<u8> {
    let mut out = Vec::new();
    wire::double(&mut out, 2, 0.0);
    wire::double(&mut out, 3, marker);
    wire::double(&mut out, 7, 0.0);
    out
}

impl Side {
    fn read(metric: MetricRef<'_>, side: &str) -> Self {
        let field = |key: String| metric.field(key.as_bytes());
        let span = |i: usize| {
            let (Value::Int(offset), Value::Uint(len)) =
                (field(format!("{side}_span_{i}_offset"))?, field(format!("{side}_span_{i}_length"))?)
            else {
                return None;
            };
            Some((i32::try_from(*offset).ok()?, u32::try_from(*len).ok()?))
        };
        let count = |i: usize| match field(format!("{side}_bucket_{i}"))? {
            Value::Float(count) => Some(*count),
            _ => None,
        };
        Self { spans: (0..).map_while(span).collect(), counts: (0..).map_while(count).collect() }
    }

    fn is_valid(&self) -> bool {
        self.is_complete() && !self.spans.iter().skip(1).any(|&(offset, _)| offset < 0)
    }

    /// Whether there is a count for each bucket of the spans.
    fn is_complete(&self) -> bool {
        self.spans.iter().map(|&(_, len)| u64::from(len)).sum::<u64>() == self.counts.len() as u64
    }

    fn encode(&self, spans_field: u8, counts_field: u8, out: &mut Vec<u8>) {
        for &(offset, len) in &self.spans {
            let mut span = Vec::new();
            wire::integer(&mut span, 1, zigzag(offset));
            wire::integer(&mut span, 2, len.into());
            out.push(tag(spans_field, Form::Length));
            varint(out, span.len() as u64);
            out.extend_from_slice(&span);
        }
        let counts: Vec<u8> = self.counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        wire::bytes(out, counts_field, &counts);
    }
}
