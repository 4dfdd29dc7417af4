//! Sums series over budget up, without losing a value.

use std::collections::HashMap;

use heliograph_core::model::{Batch, Key, Kind, MetricRef, SeriesRef, Text, Value};
use serde::Deserialize;

/// What is written of a folded field.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum FoldStat {
    /// Number of values.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Sum by count.
    Mean,
    /// The one that came last.
    Last,
}

impl FoldStat {
    fn suffix(self) -> &'static str {
        match self {
            Self::Count => "_count",
            Self::Sum => "_sum",
            Self::Min => "_min",
            Self::Max => "_max",
            Self::Mean => "_mean",
            Self::Last => "_last",
        }
    }
}

/// Folded series of the current period.
#[derive(Debug)]
pub(super) struct Fold {
    value: Vec<u8>,
    stats: Vec<FoldStat>,
    series: HashMap<u64, Folded>,
    /// Keys with their suffixes, by key and place in `stats`.
    keys: HashMap<Vec<u8>, Vec<Key>>,
}

#[derive(Debug)]
struct Folded {
    series: SeriesRef,
    /// The newest of the folded metrics.
    time: i64,
    fields: Vec<(Key, Summary)>,
}

#[derive(Debug)]
struct Summary {
    /// Values of any kind.
    count: u64,
    numbers: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: Value,
}

/// Keys remembered with their suffixes.
const KEYS: usize = 4096;

impl Fold {
    pub(super) fn new(value: Vec<u8>, stats: Vec<FoldStat>) -> Self {
        Self { value, stats, series: HashMap::new(), keys: HashMap::new() }
    }

    /// What folded tags read.
    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    /// Adds the values of a metric to the folded series. The number of those is bounded by the table that admits them.
    pub(super) fn add(&mut self, series: SeriesRef, metric: MetricRef<'_>) {
        let folded = self.series.entry(series.fingerprint()).or_insert_with(|| Folded {
            series,
            time: i64::MIN,
            fields: Vec::new(),
        });
        folded.time = folded.time.max(metric.time);
        for field in metric.fields {
            match folded.fields.iter_mut().find(|(key, _)| *key == field.key) {
                Some((_, summary)) => summary.add(&field.value),
                None => {
                    let mut summary = Summary::new();
                    summary.add(&field.value);
                    folded.fields.push((field.key.clone(), summary));
                }
            }
        }
    }

    /// Writes the folded series of the period and starts the next one.
    pub(super) fn push(&mut self, emit: &mut Batch, now: i64) {
        let Self { stats, series, keys, .. } = self;
        for folded in series.drain().map(|(_, folded)| folded) {
            let time = if folded.time == i64::MIN { now } else { folded.time };
            emit.start(folded.series, time, Kind::Gauge);
            for (key, summary) in folded.fields {
                let suffixed = with_suffixes(keys, key.as_bytes(), stats);
                for (stat, key) in stats.iter().zip(suffixed) {
                    if let Some(value) = summary.value(*stat) {
                        emit.push_field(key.clone(), value);
                    }
                }
            }
        }
    }
}

fn with_suffixes<'a>(keys: &'a mut HashMap<Vec<u8>, Vec<Key>>, key: &[u8], stats: &[FoldStat]) -> &'a [Key] {
    if keys.len() >= KEYS && !keys.contains_key(key) {
        keys.clear();
    }
    keys.entry(key.to_vec())
        .or_insert_with(|| stats.iter().map(|stat| Key::intern(&[key, stat.suffix().as_bytes()].concat())).collect())
}

impl Summary {
    fn new() -> Self {
        let last = Value::Text(Text::from(""));
        Self { count: 0, numbers: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, last }
    }

    fn add(&mut self, value: &Value) {
        self.count += 1;
        self.last = value.clone();
        // One NaN would make the whole sum one.
        if let Some(number) = value.as_number().filter(|number| !number.is_nan()) {
            self.numbers += 1;
            self.sum += number;
            self.min = self.min.min(number);
            self.max = self.max.max(number);
        }
    }

    /// Texts and truth values only have a count and a last one.
    fn value(&self, stat: FoldStat) -> Option<Value> {
        let number = |value: f64| (self.numbers > 0).then_some(Value::Float(value));
        match stat {
            FoldStat::Count => Some(Value::Float(self.count as f64)),
            FoldStat::Sum => number(self.sum),
            FoldStat::Min => number(self.min),
            FoldStat::Max => number(self.max),
            FoldStat::Mean => number(self.sum / self.numbers as f64),
            FoldStat::Last => Some(self.last.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::SeriesBuilder;

    #[test]
    fn texts_have_a_count_and_a_last_and_nan_spoils_nothing() {
        let mut fold =
            Fold::new(b"other".to_vec(), vec![FoldStat::Count, FoldStat::Sum, FoldStat::Mean, FoldStat::Last]);
        let series = SeriesBuilder::new().start(b"m").build();
        for value in [Value::Float(1.0), Value::Float(f64::NAN), Value::Int(3)] {
            let mut batch = Batch::new();
            batch.start(series.clone(), 7, Kind::Gauge);
            batch.push_field(Key::fixed("n"), value);
            batch.push_field(Key::fixed("t"), Value::from("up"));
            fold.add(series.clone(), batch.get(0));
        }
        let mut emit = Batch::new();
        fold.push(&mut emit, 9);
        let metric = emit.get(0);
        assert_eq!(metric.time, 7);
        assert_eq!(metric.field(b"n_sum"), Some(&Value::Float(4.0)));
        assert_eq!(metric.field(b"n_mean"), Some(&Value::Float(2.0)));
        assert_eq!(metric.field(b"n_count"), Some(&Value::Float(3.0)));
        assert_eq!(metric.field(b"t_last"), Some(&Value::from("up")));
        assert_eq!(metric.field(b"t_sum"), None);
    }
}
