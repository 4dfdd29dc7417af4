//! Runs an output: connect, write when a batch is full or the flush is due, flush once more at the end.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::error::{BoxError, Chain, StartError, WriteError};
use heliograph_core::plugin::Output;
use heliograph_core::stats::{Count, MeanTime};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

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
    /// Batches are not written as they fill up while the last write failed: the flush tries again.
    failing: bool,
    /// No write before this time, since the backend asked for it.
    not_before: Option<Instant>,
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

/// What woke the output up.
enum Wake {
    Flush,
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
        let Self { name, plugin, slot, flush_interval, flush_jitter, batch_size, startup_errors: _, stats } = self;
        let running = move |reader| RunningOutput {
            name,
            plugin,
            reader,
            flush_interval,
            flush_jitter,
            batch_size,
            stats,
            connected: connected == Connected::Yes,
            failing: false,
            not_before: None,
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
            let wake = tokio::select! {
                biased;
                () = stop.requested() => Wake::Stop,
                () = tokio::time::sleep_until(due) => Wake::Flush,
                changed = flush_now.changed() => if changed.is_ok() { Wake::Flush } else { Wake::Stop },
                () = self.reader.appended(), if !self.failing => Wake::Appended,
            };
            match wake {
                Wake::Stop => break,
                Wake::Flush => {
                    self.flush().await;
                    due = Instant::now() + self.flush_interval + random.below(self.flush_jitter);
                }
                Wake::Appended => while self.reader.len() >= self.batch_size && self.write_batch().await {},
            }
        }
        // The last chance does not wait for what a backend asked for.
        self.not_before = None;
        self.flush().await;
        self.plugin.close().await;
    }

    /// Writes what waits now, batch by batch, up to the first failure; nothing that comes meanwhile.
    pub async fn flush(&mut self) {
        let overflow = self.reader.take_overflow();
        if overflow > 0 {
            tracing::warn!(
                plugin = &*self.name,
                count = overflow,
                "Metric buffer overflow; {overflow} metrics have been dropped"
            );
        }
        let waiting = self.reader.len();
        for _ in 0..=waiting / self.batch_size {
            if self.reader.is_empty() || !self.write_batch().await {
                break;
            }
        }
        tracing::debug!(plugin = &*self.name, size = self.reader.len(), limit = self.reader.limit(), "buffer fullness");
    }

    /// Writes the oldest batch; `false` if it failed, or if the backend wants to be left alone for now.
    async fn write_batch(&mut self) -> bool {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return false;
        }
        if !self.connected && !self.connect_again().await {
            self.failing = true;
            return false;
        }
        let batch = self.reader.take(self.batch_size).await;
        if batch.is_empty() {
            self.reader.resolve(Resolution::Done);
            self.failing = false;
            return true;
        }
        let started = Instant::now();
        let outcome = self.write_with_warnings(&batch).await;
        self.stats.write_time.record(started.elapsed());
        let (resolution, ok) = match outcome {
            Ok(()) => {
                self.stats.written.iter().for_each(|count| count.add(batch.len()));
                tracing::trace!(plugin = &*self.name, count = batch.len(), elapsed = ?started.elapsed(), "wrote batch");
                (Resolution::Done, true)
            }
            Err(error) => {
                self.not_before = error.retry_after.map(|time| Instant::now() + time);
                self.failed(batch.len(), error)
            }
        };
        drop(batch);
        self.reader.resolve(resolution);
        self.failing = !ok;
        ok
    }

    async fn write_with_warnings(&mut self, batch: &heliograph_core::model::WriteBatch) -> Result<(), WriteError> {
        let mut late = tokio::time::interval_at(Instant::now() + self.flush_interval, self.flush_interval);
        late.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut write = self.plugin.write(batch);
        loop {
            tokio::select! {
                outcome = &mut write => return outcome,
                _ = late.tick() => tracing::warn!(plugin = &*self.name, "did not complete within its flush interval"),
            }
        }
    }

    /// Counts and logs a failed write, and says what stays.
    fn failed(&self, len: usize, error: WriteError) -> (Resolution, bool) {
        self.stats.write_errors.iter().for_each(Count::increment);
        let (written, rejected) = (error.written.len(), error.rejected.len());
        self.stats.written.iter().for_each(|count| count.add(written));
        self.stats.rejected.iter().for_each(|count| count.add(rejected));
        let mut gone = vec![false; len];
        error.written.iter().chain(&error.rejected).filter(|&&i| i < len).for_each(|&i| gone[i] = true);
        let keep: Vec<usize> = (0..len).filter(|&i| !gone[i]).collect();
        // The agent's line, not the plugin's: a failed write does not count among the plugin's own errors.
        tracing::error!(
            output = &*self.name,
            rejected,
            kept = keep.len(),
            error = %Chain(&*error.source),
            "error writing to {}", self.name
        );
        let progress = written + rejected > 0;
        match keep.len() {
            0 => (Resolution::Done, progress),
            kept if kept == len => (Resolution::Keep, false),
            _ => (Resolution::KeepSome(keep), progress),
        }
    }

    async fn connect_again(&mut self) -> bool {
        match self.plugin.connect().await {
            Ok(()) => self.connected = true,
            Err(error) => {
                self.stats.startup_errors.increment();
                tracing::error!(plugin = &*self.name, error = %Chain(error.cause()), "not connected");
            }
        }
        self.connected
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use heliograph_core::model::{Batch, Kind, SeriesBuilder, WriteBatch};

    use super::*;
    use crate::journal::Journal;
    use crate::pipeline::stop;

    /// Notes when it is written to, and asks for a minute and a half at the first attempt.
    struct Busy(Arc<Mutex<Vec<Instant>>>);

    #[async_trait]
    impl Output for Busy {
        async fn connect(&mut self) -> Result<(), StartError> {
            Ok(())
        }

        async fn write(&mut self, _: &WriteBatch) -> Result<(), WriteError> {
            let mut times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            times.push(Instant::now());
            match times.len() {
                1 => Err(WriteError { retry_after: Some(Duration::from_secs(90)), ..WriteError::retry("busy") }),
                _ => Ok(()),
            }
        }
    }

    /// Seconds after the start at which writes were tried, with one metric that waits and a stop after `running` seconds.
    async fn attempts(running: u64) -> Vec<u64> {
        let times = Arc::new(Mutex::new(Vec::new()));
        let slot = OutputSlot {
            name: "outputs.busy".into(),
            id: "1".into(),
            carried: WriteBatch::new(),
            admit: Box::new(|batch| Some(batch.clone())),
            limit: 100,
            added: Count::default(),
            dropped: vec![],
            size: Count::default(),
        };
        let plan = OutputPlan {
            name: "outputs.busy".into(),
            plugin: Box::new(Busy(times.clone())),
            slot,
            flush_interval: Duration::from_secs(10),
            flush_jitter: Duration::ZERO,
            batch_size: 10,
            startup_errors: StartupErrorBehavior::default(),
            stats: OutputStats::default(),
        };
        let (slot, running_output) = plan.split(Connected::Yes);
        let (journal, mut readers) = Journal::start(None, vec![slot], 1).await.expect("nothing can fail in memory");
        let mut batch = Batch::new();
        batch.start(SeriesBuilder::new().start(b"m").build(), 0, Kind::Untyped);
        journal.append(batch);
        let (stopper, stop) = stop::channel();
        let (_flush, flush_now) = watch::channel(0);
        let begin = Instant::now();
        let task = tokio::spawn(running_output(readers.remove(0)).run(stop, flush_now));
        tokio::time::sleep(Duration::from_secs(running)).await;
        stopper.stop();
        task.await.expect("the output ends");
        let times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        times.iter().map(|time| time.duration_since(begin).as_secs()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_is_left_alone_for_as_long_as_it_asks() {
        assert_eq!(attempts(200).await, [10, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_does_not_wait() {
        assert_eq!(attempts(55).await, [10, 55]);
    }
}
