//! Counts what serializers do, for `internal_serializer`.

use heliograph_core::clock::Clock;
use heliograph_core::error::BoxError;
use heliograph_core::model::{MetricRef, WriteBatch};
use heliograph_core::serialize::Serializer;
use heliograph_core::stats::{Count, StatSeries, Stats};

/// A serializer with its counters; instances of one format share them.
pub(super) struct Measured {
    inner: Box<dyn Serializer>,
    clock: Clock,
    metrics: Count,
    bytes: Count,
    time: Count,
    errors: Count,
    /// Calls for single metrics since the last one whose time was taken; `None` before the first.
    untimed: Option<u32>,
}

/// Of so many calls for single metrics one is timed and stands for all: reading the clock twice takes as long as writing
/// a short line.
const SAMPLED: u32 = 64;

impl Measured {
    pub(super) fn new(inner: Box<dyn Serializer>, format: &str, stats: &Stats, clock: Clock) -> Self {
        let series = StatSeries::new("serializer", &[("type", format)]);
        Self {
            inner,
            clock,
            metrics: stats.count(&series, "metrics_serialized"),
            bytes: stats.count(&series, "bytes_serialized"),
            time: stats.count(&series, "serialization_time_ns"),
            errors: stats.count(&series, "errors"),
            untimed: None,
        }
    }

    /// Runs `write` and counts its time `times` over.
    fn timed<T>(&mut self, times: u32, write: impl FnOnce(&mut dyn Serializer) -> T) -> T {
        let start = self.clock.now();
        let result = write(self.inner.as_mut());
        let nanos = usize::try_from(self.clock.now() - start).unwrap_or(0);
        self.time.add(nanos.saturating_mul(times as usize));
        result
    }

    fn count(&self, metrics: usize, bytes: usize, result: &Result<(), BoxError>) {
        self.metrics.add(metrics);
        self.bytes.add(bytes);
        if result.is_err() {
            self.errors.increment();
        }
    }
}

impl Serializer for Measured {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        let result = match self.untimed {
            Some(calls) if calls + 1 < SAMPLED => {
                self.untimed = Some(calls + 1);
                self.inner.serialize(metric, out)
            }
            calls => {
                self.untimed = Some(0);
                self.timed(calls.unwrap_or(0) + 1, |inner| inner.serialize(metric, out))
            }
        };
        self.count(1, out.len() - start, &result);
        result
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        let result = self.timed(1, |inner| inner.serialize_batch(batch, out));
        self.count(batch.len(), out.len() - start, &result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializers::testing::batch;
    use std::time::Duration;

    /// Writes a byte in a microsecond, and fails for a series `bad`.
    struct Slow(Clock);

    impl Serializer for Slow {
        fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
            self.0.advance(Duration::from_micros(1));
            if metric.series.name() == b"bad" {
                return Err("bad".into());
            }
            out.push(b'x');
            Ok(())
        }

        fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
            batch.iter().try_for_each(|metric| self.serialize(metric, out))
        }
    }

    #[test]
    fn singles_are_sampled_and_batches_timed() {
        let (stats, clock) = (Stats::default(), Clock::manual(0));
        let mut measured = Measured::new(Box::new(Slow(clock.clone())), "slow", &stats, clock);
        let mut out = b"before".to_vec();
        let single = batch(&["m v=1 0"]);
        for _ in 0..2 * SAMPLED + 1 {
            measured.serialize(single.iter().next().unwrap(), &mut out).unwrap();
        }
        measured.serialize_batch(&batch(&["m v=1 0", "bad v=1 0"]), &mut out).unwrap_err();
        let series = StatSeries::new("serializer", &[("type", "slow")]);
        let n = i64::from(2 * SAMPLED + 1);
        let want = vec![
            ("bytes_serialized", n + 1),
            ("errors", 1),
            ("metrics_serialized", n + 2),
            ("serialization_time_ns", (n + 2) * 1000),
        ];
        assert_eq!(stats.read(), [(series, want)]);
    }
}
