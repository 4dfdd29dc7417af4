//! Writes a batch, and again in parts if the backend refuses it as a whole: to find the metrics at fault.

use std::ops::Range;
use std::time::Duration;

use heliograph_core::error::{Chain, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::Output;

/// Most writes for one batch, but for the last ones of what is then left.
const WRITES: usize = 128;
/// Writes in a row of which none was taken: enough to find one metric among thousands, but no more where all are bad.
const FRUITLESS: usize = 32;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many metrics were taken.
    pub written: usize,
    /// Metrics that were refused for good.
    pub rejections: Vec<Rejection>,
    /// Indices of the metrics that stay, in ascending order.
    pub keep: Vec<usize>,
    /// How long the backend asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Why metrics stay, or what the output complains about although none do.
    pub failure: Option<String>,
}

/// Metrics that the backend refuses for good.
#[derive(Debug)]
pub struct Rejection {
    /// Their indices, in ascending order.
    pub metrics: Vec<usize>,
    /// What the backend says.
    pub answer: String,
}

/// Writes as much of a batch as the backend takes.
///
/// A refused part is halved, the older half goes first. A failure that may pass ends it: the rest stays.
pub async fn write(plugin: &mut dyn Output, batch: &WriteBatch) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut writes, mut fruitless) = (0, 0);
    // The next part is the last of the list.
    let whole = 0..batch.len();
    let mut parts = vec![whole];
    while let Some(part) = parts.pop() {
        writes += 1;
        let Err(error) = plugin.write(&batch.slice(part.clone())).await else {
            outcome.written += part.len();
            fruitless = 0;
            continue;
        };
        fruitless += 1;
        let is_whole = error.undivided && error.rejected.len() == part.len();
        if is_whole && part.len() > 1 && writes < WRITES && fruitless < FRUITLESS {
            let middle = part.start + part.len() / 2;
            parts.extend([middle..part.end, part.start..middle]);
        } else if !outcome.settle(&part, error) {
            outcome.keep.extend(parts.drain(..).rev().flatten());
        }
    }
    outcome
}

impl Outcome {
    /// Whether everything was taken without a complaint.
    pub fn is_clean(&self) -> bool {
        self.rejections.is_empty() && self.keep.is_empty() && self.failure.is_none()
    }

    /// How many metrics were refused for good.
    pub fn rejected(&self) -> usize {
        self.rejections.iter().map(|rejection| rejection.metrics.len()).sum()
    }

    /// Why it is not clean.
    pub fn reason(&self) -> &str {
        let refusal = self.rejections.first().map(|rejection| rejection.answer.as_str());
        self.failure.as_deref().or(refusal).unwrap_or_default()
    }

    /// Takes over what was said of a part; `false` if some of it stays.
    fn settle(&mut self, part: &Range<usize>, error: WriteError) -> bool {
        #[derive(Clone, Copy, PartialEq)]
        enum Fate {
            Kept,
            Written,
            Rejected,
        }
        let mut fates = vec![Fate::Kept; part.len()];
        let told = [(error.rejected, Fate::Rejected), (error.written, Fate::Written)];
        for (index, fate) in told.into_iter().flat_map(|(list, fate)| list.into_iter().map(move |index| (index, fate)))
        {
            fates.get_mut(index).into_iter().for_each(|place| *place = fate);
        }
        let of = |fate| part.clone().zip(&fates).filter(move |(_, is)| **is == fate).map(|(index, _)| index);
        let answer = Chain(&*error.source).to_string();
        self.written += of(Fate::Written).count();
        let before = self.keep.len();
        self.keep.extend(of(Fate::Kept));
        let all_settled = self.keep.len() == before;
        let metrics: Vec<usize> = of(Fate::Rejected).collect();
        if !all_settled || metrics.is_empty() {
            self.failure = Some(answer.clone());
        }
        // Halves of a batch that is bad all over have the same to say.
        match self.rejections.last_mut() {
            _ if metrics.is_empty() => {}
            Some(last) if last.answer == answer => last.metrics.extend(metrics),
            _ => self.rejections.push(Rejection { metrics, answer }),
        }
        self.retry_after = self.retry_after.max(error.retry_after);
        all_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use heliograph_core::error::StartError;
    use heliograph_core::model::{Batch, Kind, SeriesBuilder};
    use proptest::prelude::*;

    /// Refuses batches with a bad metric, those of the times in the list, and is away from some write on.
    struct Strict {
        bad: Vec<i64>,
        away_after: usize,
        writes: usize,
        got: Vec<i64>,
    }

    #[async_trait]
    impl Output for Strict {
        async fn connect(&mut self) -> Result<(), StartError> {
            Ok(())
        }

        async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
            self.writes += 1;
            if self.writes > self.away_after {
                return Err(WriteError::retry("away"));
            }
            if batch.iter().any(|metric| self.bad.contains(&metric.time)) {
                return Err(WriteError::reject_batch(batch.len(), "400: bad metric"));
            }
            self.got.extend(batch.iter().map(|metric| metric.time));
            Ok(())
        }
    }

    async fn run(len: i64, bad: &[i64], away_after: usize) -> (Strict, Outcome) {
        let mut batch = Batch::new();
        (0..len).for_each(|time| batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped));
        let mut backend = Strict { bad: bad.to_vec(), away_after, writes: 0, got: vec![] };
        let outcome = write(&mut backend, &batch.into()).await;
        (backend, outcome)
    }

    fn rejected(outcome: &Outcome) -> Vec<i64> {
        outcome.rejections.iter().flat_map(|rejection| &rejection.metrics).map(|&index| index as i64).collect()
    }

    #[tokio::test]
    async fn the_metric_at_fault_is_found() {
        let (backend, outcome) = run(1000, &[700], usize::MAX).await;
        assert_eq!((rejected(&outcome), outcome.written, outcome.keep.len()), (vec![700], 999, 0));
        assert!(backend.writes <= 21 && backend.got.is_sorted(), "{} writes", backend.writes);
        assert_eq!(outcome.reason(), "400: bad metric");
    }

    #[tokio::test]
    async fn a_batch_that_is_bad_all_over_is_given_up_soon() {
        let all: Vec<i64> = (0..1000).collect();
        let (backend, outcome) = run(1000, &all, usize::MAX).await;
        assert_eq!((rejected(&outcome), outcome.rejections.len()), (all, 1));
        assert!(backend.writes < 50, "{} writes", backend.writes);
    }

    #[tokio::test]
    async fn a_failure_in_between_keeps_the_rest() {
        let (backend, outcome) = run(8, &[1], 5).await;
        // All, 0-3, 0-1, 0, 1; then the backend is away.
        assert_eq!((backend.got, rejected(&outcome)), (vec![0], vec![1]));
        assert_eq!((outcome.keep, outcome.failure.as_deref()), ((2..8).collect(), Some("away")));
    }

    proptest! {
        /// Every metric is written once and in order, rejected, or kept behind all others.
        #[test]
        fn nothing_is_lost_or_doubled(len in 1_i64..300, bad in prop::collection::btree_set(0_i64..300, 0..6), away in 1_usize..200) {
            let bad: Vec<i64> = bad.into_iter().filter(|&time| time < len).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (backend, outcome) = runtime.block_on(run(len, &bad, away));
            let rejected = rejected(&outcome);
            prop_assert!(backend.got.is_sorted() && rejected.is_sorted() && outcome.keep.is_sorted());
            prop_assert_eq!(backend.got.len(), outcome.written);
            let mut all: Vec<i64> = backend.got;
            all.extend(&rejected);
            prop_assert!(outcome.keep.first().is_none_or(|&kept| all.iter().all(|&time| time < kept as i64)));
            all.extend(outcome.keep.iter().map(|&index| index as i64));
            all.sort_unstable();
            prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
            if away == 199 || outcome.keep.is_empty() {
                prop_assert!(bad.iter().all(|time| rejected.contains(time)));
                prop_assert!(backend.writes >= WRITES || rejected.len() == bad.len(), "{rejected:?} of {bad:?}");
            }
        }
    }
}
