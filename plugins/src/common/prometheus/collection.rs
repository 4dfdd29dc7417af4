//! The last value of every series, by families, put together from metrics that may bring histograms in parts.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use heliograph_core::glob::{GlobError, GlobSet};
use heliograph_core::model::{Field, Key, Kind, MetricRef};
use serde::Deserialize;

use super::labels::{LabelList, from_tags, from_texts, identity};
use super::names::{NameRule, Role, raw_name};
use super::value::{bound, count, sample};
use crate::common::part_memo::{PartMemo, PartSource};

/// The option `metric_types`: patterns of (cleaned) names whose type is set, whatever the metric says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricTypes {
    /// Names of counters.
    pub counter: Vec<String>,
    /// Names of gauges; they win over counters.
    pub gauge: Vec<String>,
}

/// How metrics become families.
#[derive(Clone, Debug, Default)]
pub struct CollectionOptions {
    /// Which names are allowed.
    pub names: NameRule,
    /// Whether texts become labels of all samples of their metric.
    pub string_as_label: bool,
    /// Types that are set by name.
    pub types: MetricTypes,
}

/// Families of samples. Kept alive between writes it is what `outputs.prometheus_client` exposes with
/// `metric_version = 2`; emptied after each batch it is `serializers.prometheus`.
#[derive(Debug)]
pub struct Collection {
    plan: Plan,
    /// Labels and, for each field, type and name of its family.
    memo: PartMemo,
    families: HashMap<Box<[u8]>, Vec<Family>>,
    len: usize,
    refused: u64,
}

/// Samples one collection holds at most; what comes after them is refused and counted.
const MOST_SAMPLES: usize = 2_000_000;

/// What is decided by options alone.
#[derive(Debug)]
struct Plan {
    names: NameRule,
    string_as_label: bool,
    counter: GlobSet,
    gauge: GlobSet,
}

/// Samples of one name and type.
#[derive(Debug)]
pub struct Family {
    /// The cleaned name.
    pub name: Box<[u8]>,
    /// The type, after [`MetricTypes`].
    pub kind: Kind,
    samples: HashMap<Labels, Sample>,
}

/// An ordered list of labels in one shared block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

/// The last state of a series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Time of the metric, in nanoseconds since the Unix epoch.
    pub time: i64,
    /// When it was added or changed last, by the clock handed to [`Collection::add`].
    pub added: i64,
    /// What it holds.
    pub value: SampleValue,
}

/// The value of a sample, by type of its family.
#[derive(Clone, Debug)]
pub enum SampleValue {
    /// Of a counter, gauge or untyped family.
    Number(f64),
    /// Quantiles with their values, in order of arrival.
    Summary {
        /// Quantile and value.
        quantiles: Vec<(f64, f64)>,
        /// Sum of all observations.
        sum: f64,
        /// Number of observations.
        count: u64,
    },
    /// Buckets with their bounds, in order of arrival.
    Histogram {
        /// Upper bound and number of observations up to it.
        buckets: Vec<(f64, u64)>,
        /// Sum of all observations.
        sum: f64,
        /// Number of observations.
        count: u64,
    },
}

/// One piece of a sample, as a field brings it.
enum Piece {
    Number(f64),
    Quantile(f64, f64),
    Bucket(f64, u64),
    Sum(f64),
    Count(u64),
}

impl Collection {
    /// An empty collection; fails on a malformed pattern.
    pub fn new(options: &CollectionOptions) -> Result<Self, GlobError> {
        let plan = Plan {
            names: options.names,
            string_as_label: options.string_as_label,
            counter: GlobSet::new(&options.types.counter, "")?,
            gauge: GlobSet::new(&options.types.gauge, "")?,
        };
        Ok(Self { plan, memo: PartMemo::default(), families: HashMap::new(), len: 0, refused: 0 })
    }

    /// Takes a metric in; `now` is the time by which [`Self::expire`] will judge it, in nanoseconds.
    ///
    /// Fields that Prometheus cannot have, and values older than the last one of their series, change nothing.
    pub fn add(&mut self, metric: MetricRef<'_>, now: i64) {
        let Self { plan, memo, families, len, refused } = self;
        let identity = identity(metric, plan.string_as_label);
        let mut parts = match memo.get(identity) {
            Some(parts) if parts.knows_all(metric.fields) => parts,
            _ => {
                let keys = metric.fields.iter().map(|field| field.key.clone());
                memo.learn(identity, keys, &mut PlannedMetric { plan, metric })
            }
        };
        let labels = parts.head;
        for field in metric.fields {
            let Some((&kind, name)) = parts.get(&field.key).unwrap_or_default().split_first() else { continue };
            let Some(piece) = Piece::read(metric, field) else { continue };
            let family = family_of(families, name, KINDS[kind as usize]);
            if let Some(sample) = family.samples.get_mut(labels) {
                if sample.time <= metric.time {
                    (sample.time, sample.added) = (metric.time, now);
                    sample.value.merge(piece);
                }
            } else if *len < MOST_SAMPLES {
                let mut value = SampleValue::empty(metric.kind);
                value.merge(piece);
                family.samples.insert(Labels(labels.into()), Sample { time: metric.time, added: now, value });
                *len += 1;
            } else {
                *refused += 1;
            }
        }
    }

    /// Forgets samples that were added or changed last more than `age` before `now`, both in nanoseconds.
    pub fn expire(&mut self, now: i64, age: i64) {
        let oldest = now.saturating_sub(age);
        self.families.retain(|_, kinds| {
            kinds.iter_mut().for_each(|family| family.samples.retain(|_, sample| sample.added >= oldest));
            kinds.retain(|family| !family.samples.is_empty());
            !kinds.is_empty()
        });
        self.len = self.families.values().flatten().map(|family| family.samples.len()).sum();
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.families.clear();
        self.len = 0;
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of values that found no room, since the beginning.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The families that hold a sample, in no particular order.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values().flatten().filter(|family| !family.samples.is_empty())
    }

    /// The families by name, then counters before gauges, untyped, summaries and histograms.
    pub fn sorted_families(&self) -> Vec<&Family> {
        let mut families: Vec<_> = self.families().collect();
        families.sort_unstable_by_key(|family| (&family.name, kind_number(family.kind)));
        families
    }
}

impl Family {
    /// The samples, in no particular order.
    pub fn samples(&self) -> impl Iterator<Item = (&Labels, &Sample)> {
        self.samples.iter()
    }

    /// The samples by number of labels, then names and values of labels, pair by pair.
    pub fn sorted_samples(&self) -> Vec<(&Labels, &Sample)> {
        let mut samples: Vec<_> = self.samples().collect();
        samples.sort_unstable_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.iter().cmp(b.iter())));
        samples
    }
}

/// Types in the order in which families of one name are sorted.
const KINDS: [Kind; 5] = [Kind::Counter, Kind::Gauge, Kind::Untyped, Kind::Summary, Kind::Histogram];

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Untyped => 2,
        Kind::Summary => 3,
        Kind::Histogram => 4,
    }
}

fn family_of<'a>(families: &'a mut HashMap<Box<[u8]>, Vec<Family>>, name: &[u8], kind: Kind) -> &'a mut Family {
    if !families.contains_key(name) {
        families.insert(name.into(), Vec::new());
    }
    let kinds = families.get_mut(name).expect("just inserted");
    let at = kinds.iter().position(|family| family.kind == kind).unwrap_or_else(|| {
        kinds.push(Family { name: name.into(), kind, samples: HashMap::new() });
        kinds.len() - 1
    });
    &mut kinds[at]
}

/// A metric of which labels and names are worked out.
struct PlannedMetric<'a> {
    plan: &'a Plan,
    metric: MetricRef<'a>,
}

impl PartSource for PlannedMetric<'_> {
    /// The labels, packed.
    fn head(&mut self, out: &mut Vec<u8>) {
        let mut labels = LabelList::new();
        from_tags(self.metric, self.plan.names, &mut labels);
        if self.plan.string_as_label && from_texts(self.metric, self.plan.names, &mut labels) {
            labels.sort_by(|a, b| a.0.cmp(&b.0));
        }
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
    }

    /// The number of the type, then the name; nothing if no name is left.
    fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
        let raw = raw_name(self.metric.series.name(), key.as_bytes(), self.metric.kind);
        if let Some(name) = self.plan.names.metric(&raw) {
            out.push(kind_number(self.plan.kind_of(&name, self.metric.kind)));
            out.extend_from_slice(&name);
        }
    }
}

impl Plan {
    fn kind_of(&self, name: &[u8], kind: Kind) -> Kind {
        match kind {
            // Their samples cannot be shown as a single number.
            Kind::Summary | Kind::Histogram => kind,
            _ if self.gauge.matches(name) => Kind::Gauge,
            _ if self.counter.matches(name) => Kind::Counter,
            _ => kind,
        }
    }
}

impl Piece {
    fn read(metric: MetricRef<'_>, field: &Field) -> Option<Self> {
        let limit = |tag: &[u8]| bound(metric.series.tag(tag));
        let value = &field.value;
        if !matches!(metric.kind, Kind::Histogram | Kind::Summary) {
            return sample(value).map(Self::Number);
        }
        match (metric.kind, Role::split(field.key.as_bytes()).0) {
            (_, Role::Sum) => value.as_number().map(Self::Sum),
            (_, Role::Count) => count(value).map(Self::Count),
            (Kind::Histogram, Role::Bucket) => Some(Self::Bucket(limit(b"le")?, count(value)?)),
            (Kind::Histogram, _) => None,
            _ => Some(Self::Quantile(limit(b"quantile")?, sample(value)?)),
        }
    }
}

impl SampleValue {
    fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Histogram => Self::Histogram { buckets: Vec::new(), sum: 0.0, count: 0 },
            Kind::Summary => Self::Summary { quantiles: Vec::new(), sum: 0.0, count: 0 },
            Kind::Counter | Kind::Gauge | Kind::Untyped => Self::Number(0.0),
        }
    }

    fn merge(&mut self, piece: Piece) {
        match (self, piece) {
            (Self::Number(value), Piece::Number(new)) => *value = new,
            (Self::Summary { quantiles, .. }, Piece::Quantile(quantile, value)) => set(quantiles, quantile, value),
            (Self::Histogram { buckets, .. }, Piece::Bucket(bound, count)) => set(buckets, bound, count),
            (Self::Summary { sum, .. } | Self::Histogram { sum, .. }, Piece::Sum(new)) => *sum = new,
            (Self::Summary { count, .. } | Self::Histogram { count, .. }, Piece::Count(new)) => *count = new,
            _ => {}
        }
    }
}

/// Sets the value of an equal bound, or adds it.
fn set<T>(list: &mut Vec<(f64, T)>, bound: f64, value: T) {
    match list.iter_mut().find(|(known, _)| *known == bound || known.is_nan() && bound.is_nan()) {
        Some(entry) => entry.1 = value,
        None => list.push((bound, value)),
    }
}

impl Labels {
    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || Some((take_text(&mut rest)?, take_text(&mut rest)?)))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Borrow<[u8]> for Labels {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *bytes = rest;
    Some(text)
}
