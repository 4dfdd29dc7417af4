//! The agent's figures about itself, as `inputs.internal` reports them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The registry: one per process, it survives reloads, as the counters in it do.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Mutex<Registry>>);

type Registry = BTreeMap<StatSeries, BTreeMap<&'static str, Cell>>;

/// Measurement (without the prefix `internal_`) and tags, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatSeries {
    /// `gather`, `write`, `mqtt_consumer` …
    pub measurement: String,
    /// Tags besides `version`.
    pub tags: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
enum Cell {
    Count(Count),
    Mean(MeanTime),
}

/// A counter or a level.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicI64>);

impl Count {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as i64, Ordering::Relaxed);
    }

    /// Adds a time, in nanoseconds.
    pub fn add_time(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as i64, Ordering::Relaxed);
    }

    /// Sets a level.
    pub fn set(&self, value: usize) {
        self.0.store(value as i64, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The mean of the times recorded since it was last read.
#[derive(Clone, Debug, Default)]
pub struct MeanTime(Arc<MeanCells>);

#[derive(Debug, Default)]
struct MeanCells {
    sum: AtomicU64,
    count: AtomicU64,
    last: AtomicU64,
}

impl MeanTime {
    /// Adds a time.
    pub fn record(&self, time: Duration) {
        self.0.sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Mean in nanoseconds since the last reading; without a record since then, the same as last time.
    fn read(&self) -> i64 {
        let (sum, count) = (self.0.sum.swap(0, Ordering::Relaxed), self.0.count.swap(0, Ordering::Relaxed));
        if let Some(mean) = sum.checked_div(count) {
            self.0.last.store(mean, Ordering::Relaxed);
        }
        self.0.last.load(Ordering::Relaxed) as i64
    }

    /// What [`Self::read`] would return, leaving the records to it.
    fn peek(&self) -> i64 {
        let (sum, count) = (self.0.sum.load(Ordering::Relaxed), self.0.count.load(Ordering::Relaxed));
        sum.checked_div(count).unwrap_or_else(|| self.0.last.load(Ordering::Relaxed)) as i64
    }
}

impl StatSeries {
    /// Of this measurement, with these tags; an empty value leaves the tag out.
    pub fn new(measurement: impl Into<String>, tags: &[(&'static str, &str)]) -> Self {
        let mut tags: Vec<_> =
            tags.iter().filter(|(_, value)| !value.is_empty()).map(|&(key, value)| (key, value.to_string())).collect();
        tags.sort();
        Self { measurement: measurement.into(), tags }
    }
}

impl Stats {
    /// The counter of this name, made at the first call; plugins of equal tags share it.
    pub fn count(&self, series: &StatSeries, field: &'static str) -> Count {
        let cell = self.cell(series, field, || Cell::Count(Count::default()));
        match cell {
            Cell::Count(count) => count,
            Cell::Mean(_) => Count::default(),
        }
    }

    /// The mean time of this name, made at the first call.
    pub fn mean_time(&self, series: &StatSeries, field: &'static str) -> MeanTime {
        let cell = self.cell(series, field, || Cell::Mean(MeanTime::default()));
        match cell {
            Cell::Mean(mean) => mean,
            Cell::Count(_) => MeanTime::default(),
        }
    }

    /// Every series with its fields as they are now; reading starts the means anew.
    pub fn read(&self) -> Vec<(StatSeries, Vec<(&'static str, i64)>)> {
        self.values(MeanTime::read)
    }

    /// The same for an onlooker: the means go on, for whoever calls [`Self::read`].
    pub fn peek(&self) -> Vec<(StatSeries, Vec<(&'static str, i64)>)> {
        self.values(MeanTime::peek)
    }

    fn values(&self, mean: impl Fn(&MeanTime) -> i64) -> Vec<(StatSeries, Vec<(&'static str, i64)>)> {
        let value = |cell: &Cell| match cell {
            Cell::Count(count) => count.get(),
            Cell::Mean(time) => mean(time),
        };
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry
            .iter()
            .map(|(series, cells)| (series.clone(), cells.iter().map(|(&field, cell)| (field, value(cell))).collect()))
            .collect()
    }

    fn cell(&self, series: &StatSeries, field: &'static str, make: impl FnOnce() -> Cell) -> Cell {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.entry(series.clone()).or_default().entry(field).or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tags_share_a_counter() {
        let stats = Stats::default();
        let series = StatSeries::new("gather", &[("input", "cpu"), ("alias", "")]);
        stats.count(&series, "errors").add(2);
        stats.count(&StatSeries::new("gather", &[("input", "cpu")]), "errors").increment();
        assert_eq!(stats.read(), [(series, vec![("errors", 3)])]);
    }

    #[test]
    fn a_mean_without_news_repeats_itself() {
        let mean = MeanTime::default();
        mean.record(Duration::from_nanos(10));
        mean.record(Duration::from_nanos(20));
        assert_eq!((mean.read(), mean.read()), (15, 15));
    }

    #[test]
    fn an_onlooker_leaves_the_means_as_they_are() {
        let mean = MeanTime::default();
        mean.record(Duration::from_nanos(10));
        assert_eq!(mean.peek(), 10);
        mean.record(Duration::from_nanos(20));
        assert_eq!((mean.peek(), mean.read(), mean.peek()), (15, 15, 15));
    }
}
