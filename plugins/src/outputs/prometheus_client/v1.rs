//! The collection of `metric_version = 1`: the last metric of every set of tags, by names as Telegraf first gave them.

use std::collections::{BTreeMap, HashMap};

use heliograph_core::glob::{GlobError, GlobSet};
use heliograph_core::model::{Kind, MetricRef, Value};
use heliograph_core::number::parse_float;

use super::exposition::{Family, HELP, Sample, SampleValue};
use crate::common::prometheus::collection::CollectionOptions;
use crate::common::prometheus::names::NameRule;
use crate::common::prometheus::value::milliseconds;

/// Samples that are held at most; what comes after them is refused and counted.
const MOST_SAMPLES: usize = 2_000_000;

/// Families by name.
#[derive(Debug)]
pub(super) struct Collection {
    names: NameRule,
    string_as_label: bool,
    counter: GlobSet,
    gauge: GlobSet,
    /// Nanoseconds; 0 keeps samples for ever.
    age: i64,
    families: HashMap<Vec<u8>, Stored>,
    len: usize,
    refused: u64,
}

/// A family keeps the type of the metric that made it.
#[derive(Debug)]
struct Stored {
    kind: Kind,
    samples: HashMap<Box<[u8]>, StoredSample>,
    /// How often a label was set, less how often its sample expired. Telegraf counts every replacement but only one end,
    /// so the names of labels that are gone stay until the whole family is; their values are empty.
    label_uses: BTreeMap<Vec<u8>, u64>,
}

#[derive(Clone, Debug)]
struct StoredSample {
    labels: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Content,
    /// Nanoseconds since the Unix epoch.
    time: i64,
    /// Nanoseconds since the Unix epoch.
    expires: i64,
}

/// What a metric brought; a family of another type shows of it what it knows.
#[derive(Clone, Debug, Default)]
struct Content {
    value: f64,
    /// Bounds or quantiles, sorted.
    parts: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Collection {
    pub(super) fn new(options: &CollectionOptions, age: i64) -> Result<Self, GlobError> {
        Ok(Self {
            names: options.names,
            string_as_label: options.string_as_label,
            counter: GlobSet::new(&options.types.counter, "")?,
            gauge: GlobSet::new(&options.types.gauge, "")?,
            age,
            families: HashMap::new(),
            len: 0,
            refused: 0,
        })
    }

    /// Takes the metrics of a batch in, oldest first; of those of one time the last comes first, so that the first stays.
    pub(super) fn add_batch<'a>(&mut self, metrics: impl Iterator<Item = MetricRef<'a>>, now: i64) {
        let mut metrics: Vec<MetricRef<'a>> = metrics.collect();
        metrics.reverse();
        metrics.sort_by_key(|metric| metric.time);
        metrics.into_iter().for_each(|metric| self.add(metric, now));
    }

    fn add(&mut self, metric: MetricRef<'_>, now: i64) {
        let identity = identity(metric);
        let sample = StoredSample {
            labels: self.labels(metric),
            content: Content::default(),
            time: metric.time,
            expires: now.saturating_add(self.age),
        };
        let measurement = metric.series.name();
        if matches!(metric.kind, Kind::Histogram | Kind::Summary) {
            self.store(
                measurement,
                metric.kind,
                &identity,
                StoredSample { content: Content::of_parts(metric), ..sample },
            );
            return;
        }
        for field in metric.fields {
            let Some(value) = field.value.as_number() else { continue };
            let name = match (metric.kind, field.key.as_bytes()) {
                (_, b"value") | (Kind::Counter, b"counter") | (Kind::Gauge, b"gauge") => measurement.to_vec(),
                (_, key) => [measurement, b"_", key].concat(),
            };
            let content = Content { value, ..Content::default() };
            self.store(&name, metric.kind, &identity, StoredSample { content, ..sample.clone() });
        }
    }

    fn labels(&self, metric: MetricRef<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut labels = BTreeMap::new();
        let mut set = |key: &[u8], value: &[u8]| {
            if let Some(name) = self.names.label(key) {
                labels.insert(name.into_owned(), value.to_vec());
            }
        };
        metric.series.tags().for_each(|(key, value)| set(key, value));
        for field in metric.fields.iter().filter(|_| self.string_as_label) {
            if let Value::Text(text) = &field.value {
                set(field.key.as_bytes(), text);
            }
        }
        labels
    }

    fn store(&mut self, name: &[u8], kind: Kind, identity: &[u8], sample: StoredSample) {
        let Some(name) = self.names.metric(name) else { return };
        let known = self.families.get(&*name).is_some_and(|family| family.samples.contains_key(identity));
        if !known && self.len >= MOST_SAMPLES {
            self.refused += 1;
            return;
        }
        self.len += usize::from(!known);
        let forced = self.forced_kind(&name, kind);
        let family = self.families.entry(name.into_owned()).or_insert_with(|| Stored {
            kind: forced,
            samples: HashMap::new(),
            label_uses: BTreeMap::new(),
        });
        for label in sample.labels.keys() {
            match family.label_uses.get_mut(label) {
                Some(uses) => *uses += 1,
                None => drop(family.label_uses.insert(label.clone(), 1)),
            }
        }
        family.samples.insert(identity.into(), sample);
    }

    fn forced_kind(&self, name: &[u8], kind: Kind) -> Kind {
        match kind {
            Kind::Histogram | Kind::Summary => kind,
            _ if self.gauge.matches(name) => Kind::Gauge,
            _ if self.counter.matches(name) => Kind::Counter,
            _ => kind,
        }
    }

    /// Forgets samples whose time is over.
    pub(super) fn expire(&mut self, now: i64) {
        if self.age == 0 {
            return;
        }
        let mut gone = 0;
        self.families.retain(|_, Stored { samples, label_uses, .. }| {
            samples.retain(|_, sample| {
                let over = now > sample.expires;
                for label in sample.labels.keys().filter(|_| over) {
                    if let Some(uses) = label_uses.get_mut(label) {
                        *uses -= 1;
                    }
                }
                gone += usize::from(over);
                !over
            });
            label_uses.retain(|_, uses| *uses > 0);
            !samples.is_empty()
        });
        self.len -= gone;
    }

    /// Number of values that found no room, since the beginning.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The families as they are shown.
    pub(super) fn families(&self, with_time: bool) -> Vec<Family> {
        let family = |(name, stored): (&Vec<u8>, &Stored)| Family {
            name: name.clone(),
            help: HELP,
            kind: stored.kind,
            samples: stored.samples.values().map(|sample| stored.show(sample, with_time)).collect(),
        };
        self.families.iter().map(family).collect()
    }
}

impl Stored {
    fn show(&self, sample: &StoredSample, with_time: bool) -> Sample {
        let label = |name: &Vec<u8>| (name.clone(), sample.labels.get(name).cloned().unwrap_or_default());
        let Content { value, parts, sum, count } = &sample.content;
        let value = match self.kind {
            Kind::Summary => SampleValue::Summary { quantiles: parts.clone(), sum: *sum, count: *count as u64 },
            Kind::Histogram => {
                let buckets = parts.iter().map(|(bound, up_to)| (*bound, *up_to as u64)).collect();
                SampleValue::Histogram { buckets, sum: *sum, count: *count as u64 }
            }
            Kind::Untyped | Kind::Counter | Kind::Gauge => SampleValue::Number(*value),
        };
        let labels = self.label_uses.keys().map(label).collect();
        Sample { labels, time: with_time.then(|| milliseconds(sample.time)), value }
    }
}

impl Content {
    /// Of a histogram or summary: `sum`, `count`, and fields whose keys are numbers.
    fn of_parts(metric: MetricRef<'_>) -> Self {
        let mut content = Self::default();
        for field in metric.fields {
            let Some(value) = field.value.as_number() else { continue };
            match field.key.as_bytes() {
                b"sum" => content.sum = value,
                b"count" => content.count = value,
                key => {
                    if let Ok(bound) = parse_float(key) {
                        content.parts.push((bound, value));
                    }
                }
            }
        }
        content.parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Two keys may be one number, such as `1` and `1.0`.
        content.parts.dedup_by(|later, first| later.0 == first.0);
        content
    }
}

/// The raw tags, with their lengths so that borders count.
fn identity(metric: MetricRef<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in metric.series.tags().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    }
    out
}
