//! Runs an output: connect, write when a batch is full or the flush is due, flush once more at the end.

mod quarantine;
mod retry;
mod split;

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::error::{BoxError, Chain, StartError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::Output;
use heliograph_core::stats::{Count, MeanTime};
use heliograph_core::throttle::Throttle;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::quarantine::{Quarantine, QuarantineStats};
pub use self::retry::Policy;
use self::retry::Retry;
use self::split::Outcome;
use super::schedule::Random;
use super::stop::Stop;
use crate::config::StartupErrorBehavior;
use crate::journal::{OutputSlot, Reader, Resolution};

/// Counters of an output, its own and the agent's.
#[derive(Debug, Clone, Default)]
pub struct OutputStats {
    pub written: Vec<Count>,
    pub rejected: Vec<Count>,
    pub write_errors: Vec<Count>,
    /// Attempts after a failure.
    pub retries: Count,
    pub startup_errors: Count,
    pub write_time: MeanTime,
}

/// An output with all that its table and the agent's say about it, before the start.
pub struct OutputPlan {
    pub name: Arc<str>,
    pub plugin: Box<dyn Output>,
    pub slot: OutputSlot,
    pub flush_interval: Duration,
    pub flush_jitter: Duration,
    /// Most metrics in a write (`metric_batch_size`).
    pub batch_size: usize,
    /// When a failed write is tried again.
    pub retry: Policy,
    /// Where metrics go that the backend refuses for good; `None` if they are only counted.
    pub quarantine: Option<Quarantine>,
    pub startup_errors: StartupErrorBehavior,
    pub stats: OutputStats,
}

/// An output that runs.
pub struct RunningOutput {
    name: Arc<str>,
    plugin: Box<dyn Output>,
    reader: Reader,
    flush_interval: Duration,
    flush_jitter: Duration,
    batch_size: usize,
    stats: OutputStats,
    connected: bool,
    /// Number of the last write.
    writes: u64,
    retry: Retry,
    quarantine: Option<Quarantine>,
    /// For lines that can come with every batch.
    refusals: Throttle,
    expiries: Throttle,
    /// Metrics that were too old, since that was last told.
    expired: usize,
}

/// How connecting at the start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connected {
    Yes,
    /// Each write tries again first.
    NotYet,
    /// The agent goes on without the output.
    Gone,
}

/// Between the two attempts to connect at the start.
const CONNECT_RETRY: Duration = Duration::from_secs(15);

/// How long the last flush begins new writes, so that there is time left to close the connection in order: a journal on
/// disk may hold more than can be written at the end.
const LAST_FLUSH: Duration = Duration::from_secs(15);

/// What woke the output up.
enum Wake {
    Flush,
    /// SIGUSR1.
    FlushNow,
    Retry,
    Appended,
    Stop,
}

impl OutputPlan {
    /// Connects before the start: twice, a quarter of a minute apart, or once if told to stop meanwhile. `Err` if the
    /// agent must not run without it.
    pub async fn connect(&mut self, stop: &mut Stop) -> Result<Connected, BoxError> {
        let plugin = &*self.name;
        let Err(first) = self.plugin.connect().await else { return Ok(Connected::Yes) };
        self.stats.startup_errors.increment();
        tracing::error!(plugin, error = %Chain(first.cause()), "failed to connect, retrying in 15s");
        tokio::select! {
            () = tokio::time::sleep(CONNECT_RETRY) => {}
            () = stop.requested() => return Ok(Connected::NotYet),
        }
        let Err(error) = self.plugin.connect().await else { return Ok(Connected::Yes) };
        self.stats.startup_errors.increment();
        match (&error, self.startup_errors) {
            (StartError::Retry(_), StartupErrorBehavior::Retry) => Ok(Connected::NotYet),
            (StartError::Retry(_), StartupErrorBehavior::Ignore) => {
                tracing::info!(plugin, error = %Chain(error.cause()), "failed to connect, shutting down plugin");
                Ok(Connected::Gone)
            }
            _ => Err(format!("connecting output {plugin}: {}", Chain(error.cause())).into()),
        }
    }

    /// The output as it runs, and its place in the journal.
    pub fn split(self, connected: Connected) -> (OutputSlot, impl FnOnce(Reader) -> RunningOutput) {
        let Self { name, plugin, slot, flush_interval, flush_jitter, batch_size, retry, quarantine, stats, .. } = self;
        let running = move |reader| RunningOutput {
            name,
            plugin,
            reader,
            flush_interval,
            flush_jitter,
            batch_size,
            stats,
            connected: connected == Connected::Yes,
            writes: 0,
            retry: Retry::new(retry),
            quarantine,
            refusals: Throttle::new(),
            expiries: Throttle::new(),
            expired: 0,
        };
        (slot, running)
    }
}

impl RunningOutput {
    /// Writes until told to stop, then flushes once more and closes.
    ///
    /// `flush_now` asks for a flush at every change of its number (SIGUSR1).
    pub async fn run(mut self, mut stop: Stop, mut flush_now: watch::Receiver<u64>) {
        let mut random = Random::new();
        let mut due = Instant::now() + self.flush_interval + random.below(self.flush_jitter);
        loop {
            let retry = self.retry.due();
            let wake = tokio::select! {
                biased;
                () = stop.requested() => Wake::Stop,
                () = tokio::time::sleep_until(due) => Wake::Flush,
                changed = flush_now.changed() => if changed.is_ok() { Wake::FlushNow } else { Wake::Stop },
                () = tokio::time::sleep_until(retry.unwrap_or(due)), if retry.is_some() => Wake::Retry,
                () = self.reader.appended(), if self.retry.is_idle() => Wake::Appended,
            };
            match wake {
                Wake::Stop => break,
                Wake::Flush | Wake::FlushNow => {
                    if matches!(wake, Wake::FlushNow) {
                        self.retry.hurry();
                    }
                    self.flush(|| stop.is_requested()).await;
                    due = Instant::now() + self.flush_interval + random.below(self.flush_jitter);
                }
                Wake::Retry => self.flush(|| stop.is_requested()).await,
                Wake::Appended => {
                    while (self.reader.len() >= self.batch_size || self.reader.is_hurried())
                        && !stop.is_requested()
                        && self.write_batch().await
                    {}
                }
            }
        }
        self.retry.last_chance();
        let last = Instant::now() + LAST_FLUSH;
        self.flush(|| Instant::now() >= last).await;
        self.plugin.close().await;
        self.reader.doubt(self.plugin.doubt());
    }

    /// Writes what waits now, batch by batch, up to the first failure or until it is to end; nothing that comes meanwhile.
    async fn flush(&mut self, ends: impl Fn() -> bool) {
        let overflow = self.reader.take_overflow();
        if overflow > 0 {
            tracing::warn!(
                plugin = &*self.name,
                count = overflow,
                "Metric buffer overflow; {overflow} metrics have been dropped"
            );
        }
        self.expire();
        let waiting = self.reader.len();
        if waiting == 0 && self.retry.may_write() {
            // What failed before has gone meanwhile.
            self.retry.succeeded();
            self.tend().await;
        }
        for _ in 0..=waiting / self.batch_size {
            if self.reader.is_empty() || ends() || !self.write_batch().await {
                break;
            }
        }
        tracing::debug!(plugin = &*self.name, size = self.reader.len(), limit = self.reader.limit(), "buffer fullness");
    }

    /// Lets the output put things in order that do not wait for the next write.
    async fn tend(&mut self) {
        if !self.connected {
            return;
        }
        if let Err(error) = self.plugin.tend().await {
            self.stats.write_errors.iter().for_each(Count::increment);
            tracing::error!(output = &*self.name, error = %Chain(&*error), "error writing to {}", self.name);
        }
        self.reader.doubt(self.plugin.doubt());
    }

    /// Writes the oldest batch; `false` if it failed, or if it is not yet time to try again.
    async fn write_batch(&mut self) -> bool {
        if !self.retry.may_write() {
            return false;
        }
        if self.retry.begin() {
            self.stats.retries.increment();
        }
        if !self.connected && !self.connect_again().await {
            return false;
        }
        self.expire();
        let batch = self.reader.take(self.batch_size).await;
        if batch.is_empty() {
            self.reader.resolve(Resolution::Done);
            self.retry.succeeded();
            return true;
        }
        self.writes += 1;
        self.plugin.begin(self.writes);
        self.reader.begin(self.writes);
        let started = Instant::now();
        let outcome = self.write_with_warnings(&batch).await;
        self.stats.write_time.record(started.elapsed());
        let (resolution, ok) = if outcome.is_clean() {
            self.stats.written.iter().for_each(|count| count.add(batch.len()));
            tracing::trace!(plugin = &*self.name, count = batch.len(), elapsed = ?started.elapsed(), "wrote batch");
            self.retry.succeeded();
            (Resolution::Done, true)
        } else {
            if let Some(quarantine) = &mut self.quarantine
                && !outcome.rejections.is_empty()
            {
                quarantine.keep(&batch, &outcome.rejections).await;
            }
            self.failed(outcome)
        };
        drop(batch);
        self.reader.doubt(self.plugin.doubt());
        self.reader.resolve(resolution);
        ok
    }

    /// Drops what is too old, and says so now and then.
    fn expire(&mut self) {
        self.expired += self.reader.expire();
        if self.expired > 0 && self.expiries.admit().is_some() {
            let count = std::mem::take(&mut self.expired);
            tracing::warn!(plugin = &*self.name, count, "metrics that waited longer than metric_max_age were dropped");
        }
    }

    async fn write_with_warnings(&mut self, batch: &WriteBatch) -> Outcome {
        let mut late = tokio::time::interval_at(Instant::now() + self.flush_interval, self.flush_interval);
        late.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut write = std::pin::pin!(split::write(&mut *self.plugin, batch));
        loop {
            tokio::select! {
                outcome = &mut write => return outcome,
                _ = late.tick() => tracing::warn!(plugin = &*self.name, "did not complete within its flush interval"),
            }
        }
    }

    /// Counts and logs a failed write; says what stays, and whether to go on with the next.
    fn failed(&mut self, outcome: Outcome) -> (Resolution, bool) {
        self.stats.write_errors.iter().for_each(Count::increment);
        let rejected = outcome.rejected();
        self.stats.written.iter().for_each(|count| count.add(outcome.written));
        self.stats.rejected.iter().for_each(|count| count.add(rejected));
        let progress = outcome.written + rejected > 0;
        match outcome.retry_after {
            Some(pause) if progress => self.retry.pause(pause),
            None if progress => self.retry.succeeded(),
            pause => drop(self.retry.failed(pause)),
        }
        let retry_in = self.retry.due().map(|due| due.duration_since(Instant::now()));
        // A backend that refuses some of every batch does not slow the output down: the line could come a thousand
        // times a second.
        let suppressed = if retry_in.is_some() { Some(0) } else { self.refusals.admit() };
        if let Some(suppressed) = suppressed {
            // The agent's line, not the plugin's: a failed write does not count among the plugin's own errors.
            tracing::error!(
                output = &*self.name,
                rejected,
                kept = outcome.keep.len(),
                retry_in = retry_in.map(tracing::field::debug),
                suppressed = (suppressed > 0).then_some(suppressed),
                error = outcome.reason(),
                "error writing to {}",
                self.name
            );
        }
        let resolution = match outcome.keep {
            keep if keep.is_empty() => Resolution::Done,
            _ if !progress => Resolution::Keep,
            keep => Resolution::KeepSome(keep),
        };
        (resolution, progress)
    }

    async fn connect_again(&mut self) -> bool {
        match self.plugin.connect().await {
            Ok(()) => self.connected = true,
            Err(error) => {
                self.stats.startup_errors.increment();
                let retry_in = self.retry.failed(None);
                tracing::error!(plugin = &*self.name, ?retry_in, error = %Chain(error.cause()), "not connected");
            }
        }
        self.connected
    }
}

#[cfg(test)]
mod tests;
