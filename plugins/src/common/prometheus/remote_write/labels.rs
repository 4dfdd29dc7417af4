//! The labels of the series that a field yields, encoded once.

use std::borrow::Cow;

use bstr::ByteSlice;
use heliograph_core::model::{Key, Kind, MetricRef, Series};
use heliograph_core::number::write_general_f64;

use super::families::Families;
use super::symbols::Symbols;
use super::{Version, wire};
use crate::common::part_memo::PartSource;
use crate::common::prometheus::labels::{Fnv, LabelList, from_tags_but, from_texts};
use crate::common::prometheus::names::{NameRule, Role, raw_name};
use crate::common::prometheus::value::bound;

/// How labels are made of metrics.
#[derive(Clone, Debug, Default)]
pub struct LabelRules {
    /// Which names are allowed.
    pub names: NameRule,
    /// Whether texts become labels; otherwise they are left out.
    pub strings_are_labels: bool,
    /// Labels of every series that has none of that name.
    pub external: LabelList,
    /// A tag that is no label.
    pub without: Option<Vec<u8>>,
    /// Whether version 2.0 says since when counters, histograms and summaries count, where a field has it, in place of a
    /// series of its own.
    pub created_timestamps: bool,
    /// Whether all is left out or mended for which a receiver would refuse the series: labels without a value, a second
    /// label of a name, a name of a native histogram that is not allowed, and bytes that are no UTF-8. Otherwise it is
    /// sent as Telegraf sends it.
    pub strict: bool,
}

/// Labels of one series of the request: their encoding and what tells the series apart from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<'a> {
    /// 64-bit FNV-1a over `name 0 value 0` of the sorted labels.
    pub(super) hash: u64,
    /// For version 1.0 the encoded fields `labels` of a `TimeSeries`; for 2.0 the numbers of the symbols of names and
    /// values, four bytes each.
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
    rules: &'a LabelRules,
    common: LabelList,
    sink: LabelSink<'a>,
}

/// What labels leave behind besides their encoding.
pub(super) struct LabelSink<'a> {
    pub(super) version: Version,
    pub(super) symbols: &'a mut Symbols,
    /// Families of this tenant are noted.
    pub(super) families: Option<(&'a mut Families, &'a [u8])>,
}

impl<'a> FieldLabels<'a> {
    pub(super) fn new(metric: MetricRef<'a>, rules: &'a LabelRules, sink: LabelSink<'a>) -> Self {
        Self { series: metric.series, kind: metric.kind, rules, common: common_labels(metric, rules), sink }
    }

    fn list(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let raw = raw_name(self.series.name(), key, self.kind);
        let Some(name) = self.rules.names.metric(&raw) else { return };
        let start = out.len();
        let role = Role::split(key).0;
        let with = |ending: &str| [&name, ending.as_bytes()].concat();
        let series = self.series;
        let limit = |tag: &str| bound(series.tag(tag.as_bytes())).map(|bound| (tag.as_bytes().to_vec(), text(bound)));
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
                    self.encode(name.to_vec(), Some(quantile), out);
                }
            }
            (Kind::Counter | Kind::Gauge | Kind::Untyped, _) => self.encode(name.to_vec(), None, out),
        }
        if out.len() > start {
            self.sink.note(&name, self.kind);
        }
    }

    fn encode(&mut self, name: Vec<u8>, extra: Option<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
        encode(complete(&self.common, name, extra, self.rules), &mut self.sink, out);
    }
}

impl LabelSink<'_> {
    fn note(&mut self, family: &[u8], kind: Kind) {
        if let Some((families, tenant)) = &mut self.families {
            families.note(tenant, family, kind);
        }
    }
}

impl PartSource for FieldLabels<'_> {
    fn head(&mut self, _out: &mut Vec<u8>) {}

    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        self.list(key.as_bytes(), out);
    }
}

/// The labels from tags with a value, and from texts if they are to be labels.
fn common_labels(metric: MetricRef<'_>, rules: &LabelRules) -> LabelList {
    let mut labels = LabelList::new();
    from_tags_but(metric, rules.names, rules.without.as_deref(), &mut labels);
    labels.retain(|(_, value)| !value.is_empty());
    if rules.strings_are_labels {
        from_texts(metric, rules.names, &mut labels);
    }
    labels.extend_from_slice(&rules.external);
    labels
}

/// All labels of a series, sorted by name alone, so that equal names keep their order.
fn complete(common: &LabelList, name: Vec<u8>, extra: Option<(Vec<u8>, Vec<u8>)>, rules: &LabelRules) -> LabelList {
    let name = (b"__name__".to_vec(), name);
    let mut labels = LabelList::with_capacity(common.len() + 2);
    if !rules.strict {
        labels.extend(common.iter().cloned().chain(extra).chain([name]));
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        return labels;
    }
    // The first of each name stays: what makes the series goes before tags, and tags before external labels.
    labels.extend([name].into_iter().chain(extra).chain(common.iter().cloned()));
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, first| later.0 == first.0);
    for (_, value) in &mut labels {
        if let Cow::Owned(mended) = value.to_str_lossy() {
            *value = mended.into_bytes();
        }
    }
    labels
}

/// Labels of the whole metric, for a native histogram, whose name is the measurement as it is. `None` if that is not
/// allowed and cannot be mended.
pub(super) fn native_labels(metric: MetricRef<'_>, rules: &LabelRules, mut sink: LabelSink<'_>) -> Option<Vec<u8>> {
    let name = metric.series.name();
    let name = if rules.strict { rules.names.metric(name)? } else { Cow::Borrowed(name) };
    sink.note(&name, metric.kind);
    let mut out = Vec::new();
    encode(complete(&common_labels(metric, rules), name.into_owned(), None, rules), &mut sink, &mut out);
    Some(out)
}

/// Appends hash, length and encoding of sorted labels.
fn encode(labels: LabelList, sink: &mut LabelSink<'_>, out: &mut Vec<u8>) {
    let hash =
        labels.iter().fold(Fnv::default(), |hash, (name, value)| hash.with(name).with(&[0]).with(value).with(&[0]));
    out.extend_from_slice(&hash.0.to_le_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    write_labels(labels.iter().map(|(name, value)| (&**name, &**value)), sink.version, sink.symbols, out);
    let len = (out.len() - start) as u32;
    out[at..start].copy_from_slice(&len.to_le_bytes());
}

/// Appends labels as a version has them; see [`Encoded::bytes`].
pub(super) fn write_labels<'a>(
    labels: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    version: Version,
    symbols: &mut Symbols,
    out: &mut Vec<u8>,
) {
    let mut label = Vec::new();
    for (name, value) in labels {
        match version {
            Version::One => {
                label.clear();
                wire::bytes(&mut label, 1, name);
                wire::bytes(&mut label, 2, value);
                wire::bytes(out, 1, &label);
            }
            Version::Two => {
                for text in [name, value] {
                    out.extend_from_slice(&symbols.number(text).to_le_bytes());
                }
            }
        }
    }
}

/// Names and values out of what [`write_labels`] wrote.
pub(super) fn read_labels<'a>(
    mut bytes: &'a [u8],
    version: Version,
    symbols: &'a Symbols,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    std::iter::from_fn(move || match version {
        Version::One => {
            let (_, mut label) = wire::take_field(&mut bytes)?;
            let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
            while let Some((field, text)) = wire::take_field(&mut label) {
                *(if field == 1 { &mut name } else { &mut value }) = text;
            }
            Some((name, value))
        }
        Version::Two => {
            let mut numbers = symbol_numbers(bytes);
            let pair = (symbols.text(numbers.next()?), symbols.text(numbers.next()?));
            bytes = &bytes[2 * size_of::<u32>()..];
            Some(pair)
        }
    })
}

/// The numbers of the symbols of labels of version 2.0.
#[inline]
pub(super) fn symbol_numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number))
}

/// A bound as Prometheus prints it.
fn text(bound: f64) -> Vec<u8> {
    let mut out = Vec::new();
    write_general_f64(&mut out, bound);
    out
}
