//! Takes metrics in, with a memory of the labels that their fields yield.

use heliograph_core::model::{Field, Kind, MetricRef, Value};

use super::Version;
use super::created::{is_created, start_of};
use super::families::Families;
use super::labels::{
    Encoded, EncodedList, FieldLabels, LabelRules, LabelSink, native_labels, read_labels, write_labels,
};
use super::native::{NativeHistogram, stale_histogram};
use super::series::{Dropped, Late, STALE, SeriesSet, StoredLabels, TimeSeries};
use super::symbols::Symbols;
use crate::common::part_memo::PartMemo;
use crate::common::prometheus::labels::{Fnv, identity};
use crate::common::prometheus::names::Role;
use crate::common::prometheus::value::{count, milliseconds, sample};

/// Collects the samples of batches by series.
#[derive(Debug)]
pub struct Collector {
    rules: LabelRules,
    version: Version,
    memo: PartMemo,
    symbols: Symbols,
    families: Option<Families>,
    set: SeriesSet,
    losses: Losses,
}

/// What was left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Samples left out for [`Dropped::Older`], [`Dropped::Mixed`], [`Dropped::Name`], [`Dropped::Value`] and
    /// [`Dropped::Shape`].
    pub counts: [usize; 5],
    /// The last reason.
    pub last: Option<Dropped>,
}

impl Losses {
    /// All that was left out.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    #[inline]
    fn note(&mut self, result: Result<(), Dropped>) {
        if let Err(reason) = result {
            self.counts[reason as usize] += 1;
            self.last = Some(reason);
        }
    }
}

impl Collector {
    /// A collector for requests of version 1.0.
    pub fn new(rules: LabelRules, late: Late) -> Self {
        Self {
            rules,
            version: Version::One,
            memo: PartMemo::default(),
            symbols: Symbols::default(),
            families: None,
            set: SeriesSet::new(late),
            losses: Losses::default(),
        }
    }

    /// Notes the families of new series from now on.
    pub fn note_families(&mut self) {
        self.families = Some(Families::default());
    }

    /// The families noted so far.
    pub fn families(&self) -> Option<&Families> {
        self.families.as_ref()
    }

    /// Forgets the last batch; the next one is for requests of this version.
    pub fn start(&mut self, version: Version) {
        self.set.clear();
        self.losses = Losses::default();
        if version != self.version || self.symbols.is_full() {
            self.version = version;
            self.memo = PartMemo::default();
            self.symbols.clear();
        }
    }

    /// Adds the samples of a metric, which is known by `number` afterwards. The tenant is its number and its name.
    pub fn add(&mut self, metric: MetricRef<'_>, number: u32, (tenant, tenant_name): (u32, &[u8])) {
        let Self { rules, version, memo, symbols, families, set, losses } = self;
        let tenant_hash = if tenant_name.is_empty() { 0 } else { Fnv::default().with(tenant_name).0 };
        set.start(number, metric.kind, tenant, tenant_hash);
        let with_strings = rules.strings_are_labels;
        let families = families.as_mut().map(|families| (families, tenant_name));
        let time = milliseconds(metric.time);
        let has_start = rules.created_timestamps
            && *version == Version::Two
            && metric.fields.iter().any(|field| is_created(metric.kind, field));
        if metric.kind == Kind::Histogram
            && let Some(histogram) = NativeHistogram::read(metric)
        {
            if has_start {
                set.count_since(start_of(metric, b""));
            }
            let sink = LabelSink { version: *version, symbols, families };
            losses.note(match native_labels(metric, rules, sink) {
                Some(labels) => {
                    let labels = EncodedList(&labels).next().expect("native_labels encodes one list");
                    set.add_histogram(labels, time, &histogram.encode())
                }
                None => Err(Dropped::Name),
            });
            return;
        }
        let identity = identity(metric, with_strings);
        let mut parts = match memo.get(identity) {
            Some(parts) if parts.knows_all(metric.fields) => parts,
            _ => {
                let keys = metric.fields.iter().map(|field| field.key.clone());
                let sink = LabelSink { version: *version, symbols, families };
                memo.learn(identity, keys, &mut FieldLabels::new(metric, rules, sink))
            }
        };
        for field in metric.fields {
            if has_start {
                if is_created(metric.kind, field) {
                    continue;
                }
                set.count_since(start_of(metric, field.key.as_bytes()));
            }
            let list = EncodedList(parts.get(&field.key).unwrap_or_default());
            let is_label = with_strings && matches!(field.value, Value::Text(_));
            if !is_label {
                losses.note(add_field(set, metric.kind, field, list, time));
            }
        }
    }

    /// Adds the mark of the end of a series.
    pub fn add_stale(
        &mut self,
        labels: &StoredLabels,
        (tenant, tenant_name): (u32, &[u8]),
        is_histogram: bool,
        time: i64,
    ) {
        let mut bytes = Vec::new();
        let plain = read_labels(&labels.bytes, Version::One, &Symbols::default())
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect::<Vec<_>>();
        let texts = plain.iter().map(|(name, value)| (&**name, &**value));
        write_labels(texts, self.version, &mut self.symbols, &mut bytes);
        let labels = Encoded { hash: labels.hash, bytes: &bytes };
        let tenant_hash = if tenant_name.is_empty() { 0 } else { Fnv::default().with(tenant_name).0 };
        self.set.start(u32::MAX, Kind::Untyped, tenant, tenant_hash);
        let added = match is_histogram {
            true => self.set.add_histogram(labels, time, &stale_histogram(STALE)),
            false => self.set.add_stale(labels, time),
        };
        self.losses.note(added);
    }

    /// What was collected.
    pub fn set(&self) -> &SeriesSet {
        &self.set
    }

    /// What was collected, to be ordered or settled.
    pub fn set_mut(&mut self) -> &mut SeriesSet {
        &mut self.set
    }

    /// What was left out of the batch.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// The labels of a series of the set, to be kept for [`Self::add_stale`].
    pub fn labels(&self, series: &TimeSeries, tenant_name: &[u8]) -> StoredLabels {
        let tenant_hash = if tenant_name.is_empty() { 0 } else { Fnv::default().with(tenant_name).0 };
        let mut bytes = Vec::new();
        let labels = read_labels(self.set.labels(series), self.version, &self.symbols);
        write_labels(labels, Version::One, &mut Symbols::default(), &mut bytes);
        StoredLabels { hash: series.key ^ tenant_hash, bytes: bytes.into() }
    }

    /// Orders the series by number of labels, then by names and values.
    pub fn sort(&mut self) {
        let Self { set, symbols, version, .. } = self;
        // Encoded labels are cheap to read, and the order is asked for in tests more than in service.
        set.sort_by_cached_key(|bytes| {
            let labels: Vec<_> =
                read_labels(bytes, *version, symbols).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            (labels.len(), labels)
        });
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn symbols(&self) -> &Symbols {
        &self.symbols
    }
}

/// Adds the samples of a field to the series of its `list`, which stand in the order of [`FieldLabels`].
#[inline]
fn add_field(
    set: &mut SeriesSet,
    kind: Kind,
    field: &Field,
    mut list: EncodedList<'_>,
    time: i64,
) -> Result<(), Dropped> {
    let Some(first) = list.next() else {
        return Err(if matches!(kind, Kind::Histogram | Kind::Summary) { Dropped::Shape } else { Dropped::Name });
    };
    if !matches!(kind, Kind::Histogram | Kind::Summary) {
        return set.add(first, time, sample(&field.value).ok_or(Dropped::Value)?);
    }
    match (kind, Role::split(field.key.as_bytes()).0) {
        (Kind::Histogram, Role::Bucket) => {
            let mut bucket = Some(first);
            for _ in 0..3 {
                if let Some(labels) = bucket {
                    set.ensure(labels, time);
                }
                bucket = list.next();
            }
            set.add(bucket.ok_or(Dropped::Shape)?, time, count(&field.value).ok_or(Dropped::Value)? as f64)
        }
        (_, Role::Sum) => set.add(first, time, field.value.as_number().ok_or(Dropped::Value)?),
        (_, Role::Count) => {
            let value = count(&field.value).ok_or(Dropped::Value)? as f64;
            let first = set.add(first, time, value);
            list.map(|labels| set.add(labels, time, value)).fold(first, Result::and)
        }
        _ => set.add(first, time, sample(&field.value).ok_or(Dropped::Value)?),
    }
}
