//! The labels of a metric, from its tags and, if asked for, its texts.

use heliograph_core::model::{Kind, MetricRef, Value};

use super::names::NameRule;

/// Names and values, in order; names may repeat where two keys are cleaned to one.
pub type LabelList = Vec<(Vec<u8>, Vec<u8>)>;

/// Appends the labels from tags, in their order. The tag that tells a bucket or quantile from its neighbours (`le` of
/// histograms, `quantile` of summaries) is none.
pub fn from_tags(metric: MetricRef<'_>, rule: NameRule, labels: &mut LabelList) {
    from_tags_but(metric, rule, None, labels);
}

/// The same without the tag of one key.
pub fn from_tags_but(metric: MetricRef<'_>, rule: NameRule, without: Option<&[u8]>, labels: &mut LabelList) {
    let special: Option<&[u8]> = match metric.kind {
        Kind::Histogram => Some(b"le"),
        Kind::Summary => Some(b"quantile"),
        Kind::Counter | Kind::Gauge | Kind::Untyped => None,
    };
    for (key, value) in metric.series.tags().filter(|(key, _)| Some(*key) != special && Some(*key) != without) {
        if let Some(name) = rule.label(key) {
            labels.push((name.into_owned(), value.to_vec()));
        }
    }
}

/// Appends text fields as labels, where there is none of that name; tells whether there was one.
pub fn from_texts(metric: MetricRef<'_>, rule: NameRule, labels: &mut LabelList) -> bool {
    let before = labels.len();
    for field in metric.fields {
        if let (Value::Text(text), Some(name)) = (&field.value, rule.label(field.key.as_bytes()))
            && !labels.iter().any(|(known, _)| **known == *name)
        {
            labels.push((name.into_owned(), text.to_vec()));
        }
    }
    labels.len() > before
}

/// What the labels of a metric depend on, as one number: the series, what its fields mean, and its texts if they are
/// labels.
#[inline]
pub fn identity(metric: MetricRef<'_>, with_texts: bool) -> u64 {
    let kind = (metric.kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let texts = if with_texts { text_hash(metric) } else { 0 };
    metric.series.fingerprint() ^ kind ^ texts.rotate_left(32)
}

fn text_hash(metric: MetricRef<'_>) -> u64 {
    let add = |hash: Fnv, field: &heliograph_core::model::Field| match &field.value {
        Value::Text(text) => hash.with(field.key.as_bytes()).with(&[0]).with(text).with(&[0]),
        _ => hash,
    };
    metric.fields.iter().fold(Fnv::default(), add).0
}

/// The 64-bit FNV-1a hash, as Telegraf identifies series with it.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// The hash with these bytes behind the others.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
    }
}
