//! The statistics of one field in a period, kept without its values.

use heliograph_core::model::Value;

/// One of the names in `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stat {
    Count,
    Min,
    Max,
    Mean,
    S2,
    Stdev,
    Sum,
    Diff,
    NonNegativeDiff,
    Rate,
    NonNegativeRate,
    PercentChange,
    Interval,
    Last,
    First,
}

/// Each with the ending of its fields, which is its name behind an underscore.
const SUFFIXES: &[(Stat, &str)] = &[
    (Stat::Count, "_count"),
    (Stat::Min, "_min"),
    (Stat::Max, "_max"),
    (Stat::Mean, "_mean"),
    (Stat::S2, "_s2"),
    (Stat::Stdev, "_stdev"),
    (Stat::Sum, "_sum"),
    (Stat::Diff, "_diff"),
    (Stat::NonNegativeDiff, "_non_negative_diff"),
    (Stat::Rate, "_rate"),
    (Stat::NonNegativeRate, "_non_negative_rate"),
    (Stat::PercentChange, "_percent_change"),
    (Stat::Interval, "_interval"),
    (Stat::Last, "_last"),
    (Stat::First, "_first"),
];

impl Stat {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        SUFFIXES.iter().find(|(_, suffix)| &suffix[1..] == name).map(|&(stat, _)| stat)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        SUFFIXES.iter().map(|(_, suffix)| &suffix[1..])
    }

    pub(super) fn suffix(self) -> &'static str {
        SUFFIXES.iter().find(|(stat, _)| *stat == self).map_or("", |&(_, suffix)| suffix)
    }
}

/// What is known of the values so far, at least one.
#[derive(Clone, Debug)]
pub(super) struct Running {
    count: f64,
    min: f64,
    max: f64,
    sum: f64,
    mean: f64,
    /// Sum of squares of differences from the mean (Welford's method).
    m2: f64,
    first: f64,
    last: f64,
    /// Times of the first and the last value that were added, in nanoseconds.
    first_time: i64,
    last_time: i64,
    /// A second; kept when two times are equal.
    rate: f64,
}

impl Running {
    pub(super) fn new(value: f64, time: i64) -> Self {
        Self {
            count: 1.0,
            min: value,
            max: value,
            sum: value,
            mean: value,
            m2: 0.0,
            first: value,
            last: value,
            first_time: time,
            last_time: time,
            rate: 0.0,
        }
    }

    pub(super) fn add(&mut self, value: f64, time: i64) {
        self.count += 1.0;
        let from_old_mean = value - self.mean;
        self.mean += from_old_mean / self.count;
        self.m2 += from_old_mean * (value - self.mean);
        self.sum += value;
        // Comparisons with NaN fail: a first NaN stays, later ones are passed over.
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
        self.last = value;
        self.last_time = time;
        if self.interval() != 0 {
            self.rate = self.diff() / seconds(self.interval());
        }
    }

    /// The statistic, if there are enough values for it and it is not excluded by its sign.
    pub(super) fn get(&self, stat: Stat) -> Option<Value> {
        let several = |value: f64| (self.count > 1.0).then_some(value);
        let rising = |value: f64| several(value).filter(|_| self.diff() >= 0.0);
        let value = match stat {
            Stat::Count => self.count,
            Stat::Min => self.min,
            Stat::Max => self.max,
            Stat::Mean => self.mean,
            Stat::Sum => self.sum,
            Stat::First => self.first,
            Stat::Last => self.last,
            Stat::S2 => several(self.variance())?,
            Stat::Stdev => several(self.variance().sqrt())?,
            Stat::Diff => several(self.diff())?,
            Stat::NonNegativeDiff => rising(self.diff())?,
            Stat::Rate => several(self.rate)?,
            Stat::NonNegativeRate => rising(self.rate)?,
            Stat::PercentChange => several(self.diff() / self.first * 100.0)?,
            Stat::Interval => return (self.count > 1.0).then(|| self.interval().into()),
        };
        Some(value.into())
    }

    fn variance(&self) -> f64 {
        self.m2 / (self.count - 1.0)
    }

    fn diff(&self) -> f64 {
        self.last - self.first
    }

    fn interval(&self) -> i64 {
        self.last_time.saturating_sub(self.first_time)
    }
}

/// As Go computes them: whole seconds and the rest apart.
fn seconds(nanoseconds: i64) -> f64 {
    (nanoseconds / 1_000_000_000) as f64 + (nanoseconds % 1_000_000_000) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        assert_eq!(Stat::from_name("non_negative_rate"), Some(Stat::NonNegativeRate));
        assert_eq!((Stat::from_name("variance"), Stat::from_name("")), (None, None));
        assert_eq!(Stat::names().filter_map(Stat::from_name).count(), 15);
    }

    #[test]
    fn a_nan_spoils_what_is_summed() {
        let mut running = Running::new(1.0, 0);
        running.add(f64::NAN, 1);
        running.add(2.0, 2);
        assert!(running.mean.is_nan() && running.sum.is_nan() && running.variance().is_nan());
        assert_eq!((running.min, running.max), (1.0, 2.0));
    }

    proptest! {
        #[test]
        fn agrees_with_the_textbook(values in prop::collection::vec((-1e6..1e6f64, -1_000_000i64..1_000_000), 2..30)) {
            let mut running = Running::new(values[0].0, values[0].1);
            values[1..].iter().for_each(|&(value, time)| running.add(value, time));
            let n = values.len() as f64;
            let mean = values.iter().map(|v| v.0).sum::<f64>() / n;
            let s2 = values.iter().map(|v| (v.0 - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
            prop_assert!(near(running.mean, mean) && near(running.variance(), s2));
            let ((first, t0), (last, t1)) = (values[0], values[values.len() - 1]);
            prop_assert_eq!(running.get(Stat::Diff), Some(Value::Float(last - first)));
            prop_assert_eq!(running.get(Stat::NonNegativeDiff).is_some(), last >= first);
            prop_assert_eq!(running.get(Stat::Interval), Some(Value::Int(t1 - t0)));
        }
    }
}
