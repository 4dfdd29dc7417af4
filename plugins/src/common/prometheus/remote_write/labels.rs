//! The labels of the series that a field yields, encoded once.

use heliograph_core::model::{Key, Kind, MetricRef, Series};
use heliograph_core::number::write_general_f64;

use super::wire;
use crate::common::part_memo::PartSource;
use crate::common::prometheus::labels::{Fnv, LabelList, from_tags, from_texts};
use crate::common::prometheus::names::{NameRule, Role, raw_name};
use crate::common::prometheus::value::bound;

/// Labels of one series of the request: their encoding and what tells the series apart from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<'a> {
    /// 64-bit FNV-1a over `name 0 value 0` of the sorted labels.
    pub(super) hash: u64,
    /// The encoded fields `labels` of a `TimeSeries`.
    pub(super) bytes: &'a [u8],
}

/// The series of one field in a fixed order; see [`FieldLabels`].
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedList<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for EncodedList<'a> {
    type Item = Encoded<'a>;

    #[inline]
    fn next(&mut self) -> Option<Encoded<'a>> {
        let (hash, rest) = self.0.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        self.0 = rest;
        Some(Encoded { hash: u64::from_le_bytes(*hash), bytes })
    }
}

/// Works out the labels of the fields of one metric.
///
/// | metric | field | series |
/// |---|---|---|
/// | histogram | `…_bucket` | sum, count, bucket of +Inf, bucket of the tag `le` if that is a number |
/// | histogram | `…_count` | bucket of +Inf, count |
/// | summary | no known ending | quantile, if the tag `quantile` is a number |
/// | others | | itself |
///
/// A field whose name cannot be cleaned yields none.
pub(super) struct FieldLabels<'a> {
    series: &'a Series,
    kind: Kind,
    common: LabelList,
}

impl<'a> FieldLabels<'a> {
    pub(super) fn new(metric: MetricRef<'a>, strings_are_labels: bool) -> Self {
        Self { series: metric.series, kind: metric.kind, common: common_labels(metric, strings_are_labels) }
    }

    fn list(&self, key: &[u8], out: &mut Vec<u8>) {
        let raw = raw_name(self.series.name(), key, self.kind);
        let Some(name) = NameRule::Legacy.metric(&raw) else { return };
        let role = Role::split(key).0;
        let with = |ending: &str| [&name, ending.as_bytes()].concat();
        let limit =
            |tag: &str| bound(self.series.tag(tag.as_bytes())).map(|bound| (tag.as_bytes().to_vec(), text(bound)));
        let infinity = || Some((b"le".to_vec(), b"+Inf".to_vec()));
        match (self.kind, role) {
            (Kind::Histogram, Role::Bucket) => {
                self.encode(with("_sum"), None, out);
                self.encode(with("_count"), None, out);
                self.encode(with("_bucket"), infinity(), out);
                if let Some(le) = limit("le") {
                    self.encode(with("_bucket"), Some(le), out);
                }
            }
            (Kind::Histogram, Role::Count) => {
                self.encode(with("_bucket"), infinity(), out);
                self.encode(with("_count"), None, out);
            }
            (Kind::Histogram | Kind::Summary, Role::Sum) => self.encode(with("_sum"), None, out),
            (Kind::Summary, Role::Count) => self.encode(with("_count"), None, out),
            (Kind::Histogram, Role::Other) => {}
            (Kind::Summary, Role::Other | Role::Bucket) => {
                if let Some(quantile) = limit("quantile") {
                    self.encode(name.into_owned(), Some(quantile), out);
                }
            }
            (Kind::Counter | Kind::Gauge | Kind::Untyped, _) => self.encode(name.into_owned(), None, out),
        }
    }

    fn encode(&self, name: Vec<u8>, extra: Option<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
        let mut labels = self.common.clone();
        labels.extend(extra);
        labels.push((b"__name__".to_vec(), name));
        encode(labels, out);
    }
}

impl PartSource for FieldLabels<'_> {
    fn head(&mut self, _out: &mut Vec<u8>) {}

    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        self.list(key.as_bytes(), out);
    }
}

/// The labels from tags with a value, and from texts if they are to be labels.
fn common_labels(metric: MetricRef<'_>, strings_are_labels: bool) -> LabelList {
    let mut labels = LabelList::new();
    from_tags(metric, NameRule::Legacy, &mut labels);
    labels.retain(|(_, value)| !value.is_empty());
    if strings_are_labels {
        from_texts(metric, NameRule::Legacy, &mut labels);
    }
    labels
}

/// Labels of the whole metric, for a native histogram, whose name is the measurement as it is.
pub(super) fn native_labels(metric: MetricRef<'_>, strings_are_labels: bool) -> Vec<u8> {
    let mut labels = common_labels(metric, strings_are_labels);
    labels.push((b"__name__".to_vec(), metric.series.name().to_vec()));
    let mut out = Vec::new();
    encode(labels, &mut out);
    out
}

/// Sorts by name alone, so that equal names keep their order, and appends hash, length and encoding.
fn encode(mut labels: LabelList, out: &mut Vec<u8>) {
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    let hash =
        labels.iter().fold(Fnv::default(), |hash, (name, value)| hash.with(name).with(&[0]).with(value).with(&[0]));
    out.extend_from_slice(&hash.0.to_le_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    let mut label = Vec::new();
    for (name, value) in &labels {
        label.clear();
        wire::bytes(&mut label, 1, name);
        wire::bytes(&mut label, 2, value);
        wire::bytes(out, 1, &label);
    }
    let len = (out.len() - start) as u32;
    out[at..start].copy_from_slice(&len.to_le_bytes());
}

/// A bound as Prometheus prints it.
fn text(bound: f64) -> Vec<u8> {
    let mut out = Vec::new();
    write_general_f64(&mut out, bound);
    out
}
