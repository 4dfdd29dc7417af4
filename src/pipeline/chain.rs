//! The task between inputs and journal: processors, aggregators, guards.

use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::model::{Batch, Interner};
use heliograph_core::rounding::round;
use tokio::sync::mpsc;

use super::aggregator::RunningAggregator;
use super::running::RunningProcessor;
use crate::journal::Journal;

/// Where batches go that have come through: the journal, or standard output with `--test`.
pub type Sink = Box<dyn FnMut(Batch) + Send>;

/// All stages between inputs and journal, in order. One task runs them over whole batches, in place.
pub struct Chain {
    pub before: Vec<RunningProcessor>,
    pub aggregators: Vec<RunningAggregator>,
    /// Sees aggregates only.
    pub after: Vec<RunningProcessor>,
    /// Sees everything, last.
    pub guards: Vec<RunningProcessor>,
    pub sink: Sink,
    /// The journal behind the sink, if it is one: the chain waits for it.
    pub journal: Option<Journal>,
    pub clock: Clock,
    /// Precision of the time of aggregates, in nanoseconds.
    pub precision: i64,
    pub interner: Interner,
}

impl Chain {
    /// Takes batches until every input has ended, then lets aggregators and guards speak for the last time.
    pub async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        let mut guards_due = self.guards_due(self.clock.now());
        loop {
            if let Some(journal) = &self.journal {
                journal.ready().await;
            }
            let now = self.clock.now();
            let due = self.aggregators.iter().map(RunningAggregator::due).chain(guards_due).min();
            // The wall clock decides, and it may be set while we sleep: look at it again at least once a second.
            let pause = due.map(|due| Duration::from_nanos(due.saturating_sub(now).clamp(0, 1_000_000_000) as u64));
            let received = tokio::select! {
                batch = batches.recv() => Some(batch),
                () = sleep(pause), if pause.is_some() => None,
            };
            match received {
                Some(Some(batch)) => self.process(batch),
                Some(None) => break,
                None => {}
            }
            let now = self.clock.now();
            self.push_aggregators(now, |aggregator| aggregator.due() <= now);
            if guards_due.is_some_and(|due| due <= now) {
                self.push_guards(now);
                guards_due = self.guards_due(now);
            }
        }
        let now = self.clock.now();
        self.push_aggregators(now, |_| true);
        self.push_guards(now);
    }

    fn process(&mut self, mut batch: Batch) {
        let now = self.clock.now();
        self.before.iter_mut().for_each(|processor| processor.apply(&mut batch, &mut self.interner, now));
        if !self.aggregators.is_empty() {
            let (aggregators, interner) = (&mut self.aggregators, &mut self.interner);
            batch.retain_mut(|metric| {
                // Every aggregator sees the metric, also behind one that drops the original.
                let mut keep = true;
                for aggregator in aggregators.iter_mut() {
                    keep &= !aggregator.add(metric.view(), interner, now);
                }
                keep
            });
        }
        self.deliver(batch, now);
    }

    fn push_aggregators(&mut self, now: i64, due: impl Fn(&RunningAggregator) -> bool) {
        let mut aggregates = Batch::new();
        let push_time = round(now, self.precision);
        for aggregator in self.aggregators.iter_mut().filter(|aggregator| due(aggregator)) {
            aggregator.push(&mut aggregates, &mut self.interner, now, push_time);
        }
        if !aggregates.is_empty() {
            self.after.iter_mut().for_each(|processor| processor.apply(&mut aggregates, &mut self.interner, now));
            self.deliver(aggregates, now);
        }
    }

    fn push_guards(&mut self, now: i64) {
        let mut emitted = Batch::new();
        self.guards.iter_mut().for_each(|guard| guard.push(&mut emitted, &mut self.interner, now));
        if !emitted.is_empty() {
            (self.sink)(emitted);
        }
    }

    fn guards_due(&self, now: i64) -> Option<i64> {
        let period = self.guards.iter().filter_map(|guard| guard.plugin.period()).min()?;
        Some(now.saturating_add(period.as_nanos() as i64))
    }

    fn deliver(&mut self, mut batch: Batch, now: i64) {
        self.guards.iter_mut().for_each(|guard| guard.apply(&mut batch, &mut self.interner, now));
        if !batch.is_empty() || batch.origin.is_some() {
            (self.sink)(batch);
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    tokio::time::sleep(pause.unwrap_or_default()).await;
}
