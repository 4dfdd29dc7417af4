//! Runs an input: start, gathers on schedule, stop.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::accumulator::{Accumulator, Delivery};
use heliograph_core::clock::Clock;
use heliograph_core::error::{BoxError, Chain, StartError};
use heliograph_core::model::Batch;
use heliograph_core::plugin::Input;
use heliograph_core::stage::InputRules;
use heliograph_core::states::States;
use heliograph_core::stats::{Count, MeanTime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::schedule::{Schedule, Timing};
use super::stop::Stop;
use crate::config::{StartupErrorBehavior, TimeSource};

/// Counters of an input, its own and the agent's.
#[derive(Debug, Clone, Default)]
pub struct InputStats {
    pub gathered: Vec<Count>,
    pub gather_errors: Vec<Count>,
    pub gather_timeouts: Vec<Count>,
    pub startup_errors: Count,
    pub gather_time: MeanTime,
}

/// An input with all that its table and the agent's say about it.
pub struct RunningInput {
    pub plugin: Box<dyn Input>,
    pub rules: Arc<InputRules>,
    pub timing: Timing,
    /// Of gathered metrics, in nanoseconds.
    pub precision: i64,
    /// Of metrics that a service input hands on by itself, in nanoseconds.
    pub service_precision: i64,
    pub startup_errors: StartupErrorBehavior,
    /// How it learns what is delivered; nothing is with `--test`.
    pub delivery: Option<Delivery>,
    /// What it wants to know again after a reload or a restart.
    pub states: States,
    pub time_source: TimeSource,
    pub stats: InputStats,
}

/// How a start ended.
enum Started {
    Running,
    Later,
    Gone,
}

/// Longest that a gather which still runs may hold up the end of the agent.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A gather that takes this many intervals, and at least [`SHORTEST_DEADLINE`], hangs and is cut off.
const DEADLINE_INTERVALS: u32 = 10;
const SHORTEST_DEADLINE: Duration = Duration::from_secs(60);

impl RunningInput {
    fn accumulator(&self, precision: i64, clock: &Clock, sink: &mpsc::Sender<Batch>) -> Accumulator {
        Accumulator::new(self.rules.clone(), precision, clock.clone(), sink.clone(), self.stats.gathered.clone())
    }

    fn name(&self) -> Arc<str> {
        self.rules.plugin.clone()
    }

    /// Starts the plugin. `Err` if the agent must not run without it.
    async fn start(&mut self, clock: &Clock, sink: &mpsc::Sender<Batch>) -> Result<Started, BoxError> {
        let mut accumulator = self.accumulator(self.service_precision, clock, sink).with_states(self.states.clone());
        if let Some(delivery) = &self.delivery {
            accumulator = accumulator.with_delivery(delivery.clone());
        }
        let Err(error) = self.plugin.start(accumulator).await else { return Ok(Started::Running) };
        self.stats.startup_errors.increment();
        let plugin = &*self.name();
        match (&error, self.startup_errors) {
            (StartError::Retry(_), StartupErrorBehavior::Retry) => {
                tracing::error!(plugin, error = %Chain(error.cause()), "not connected, trying again at the next gather");
                Ok(Started::Later)
            }
            (StartError::Retry(_), StartupErrorBehavior::Ignore | StartupErrorBehavior::Probe) => {
                tracing::info!(plugin, error = %Chain(error.cause()), "failed to start, shutting down plugin");
                Ok(Started::Gone)
            }
            _ => Err(format!("starting input {plugin}: {}", Chain(error.cause())).into()),
        }
    }

    /// Starts and gathers until told to stop. `ready` learns how the first start went.
    pub async fn run(
        mut self,
        clock: Clock,
        sink: mpsc::Sender<Batch>,
        mut stop: Stop,
        begun: i64,
        ready: tokio::sync::oneshot::Sender<Result<(), BoxError>>,
    ) {
        let mut running = match self.start(&clock, &sink).await {
            Ok(Started::Running) => true,
            Ok(Started::Later) => false,
            Ok(Started::Gone) => return drop(ready.send(Ok(()))),
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(Ok(())).is_err() {
            return;
        }
        let mut schedule = Schedule::new(self.timing, clock.clone(), begun);
        let mut accumulator = self.accumulator(self.precision, &clock, &sink);
        loop {
            tokio::select! {
                () = schedule.tick() => {}
                () = stop.requested() => break,
            }
            if !running {
                match self.start(&clock, &sink).await {
                    Ok(Started::Running) => running = true,
                    Ok(Started::Later) => continue,
                    Ok(Started::Gone) => return,
                    Err(error) => {
                        tracing::error!(plugin = &*self.name(), error = %error, "giving up");
                        return;
                    }
                }
            }
            if !self.gather(&mut accumulator, &mut stop).await {
                break;
            }
        }
        self.plugin.stop().await;
    }

    /// One gather with its warnings and its deadline; `false` if it is time to stop.
    async fn gather(&mut self, accumulator: &mut Accumulator, stop: &mut Stop) -> bool {
        let name = self.name();
        let interval = self.timing.interval;
        let began = Instant::now();
        let mut late = tokio::time::interval_at(began + interval, interval);
        let mut deadline = began + SHORTEST_DEADLINE.max(interval.saturating_mul(DEADLINE_INTERVALS));
        let mut stopping = false;
        let outcome = {
            let mut gather = std::pin::pin!(gather_once(&mut *self.plugin, accumulator, self.time_source));
            loop {
                tokio::select! {
                    outcome = &mut gather => break Some(outcome),
                    () = tokio::time::sleep_until(deadline) => break None,
                    _ = late.tick() => {
                        tracing::warn!(plugin = &*name, interval = ?interval, "collection took longer than expected; not complete after interval");
                        self.stats.gather_timeouts.iter().for_each(Count::increment);
                    }
                    () = stop.requested(), if !stopping => {
                        stopping = true;
                        deadline = deadline.min(Instant::now() + STOP_GRACE);
                    }
                }
            }
        };
        self.stats.gather_time.record(began.elapsed());
        match outcome {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.stats.gather_errors.iter().for_each(Count::increment);
                tracing::error!(plugin = &*name, error = %Chain(&*error), "error in plugin");
            }
            None => {
                // What it had found so far would come with the next gather, and late.
                accumulator.discard();
                self.stats.gather_errors.iter().for_each(Count::increment);
                tracing::error!(plugin = &*name, elapsed = ?began.elapsed(), "gather hangs and was cut off");
            }
        }
        !stopping
    }

    /// Starts, gathers once and hands the input back, for `--test` and `--once`. Tells whether the gather failed.
    pub async fn run_once(&mut self, clock: &Clock, sink: &mpsc::Sender<Batch>) -> Result<bool, BoxError> {
        match self.start(clock, sink).await? {
            Started::Running => {}
            Started::Later | Started::Gone => return Ok(true),
        }
        let name = self.name();
        let mut failed = false;
        let gathers = if self.plugin.needs_two_gathers() { 2 } else { 1 };
        for gather in 1..=gathers {
            let mut accumulator = self.accumulator(self.precision, clock, sink);
            let outcome = if gather < gathers {
                let outcome = self.plugin.gather(&mut accumulator).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                outcome
            } else {
                gather_once(&mut *self.plugin, &mut accumulator, self.time_source).await
            };
            failed = accumulator.take_problems() > 0;
            if let Err(error) = outcome {
                tracing::error!(plugin = &*name, error = %Chain(&*error), "error in plugin");
                failed = true;
            }
        }
        Ok(failed)
    }

    /// Stops the plugin, after [`Self::run_once`].
    pub async fn stop(&mut self) {
        self.plugin.stop().await;
    }
}

async fn gather_once(
    plugin: &mut dyn Input,
    accumulator: &mut Accumulator,
    source: TimeSource,
) -> Result<(), BoxError> {
    let start = accumulator.now();
    let outcome = plugin.gather(accumulator).await;
    accumulator.set_time(match source {
        TimeSource::Metric => None,
        TimeSource::CollectionStart => Some(start),
        TimeSource::CollectionEnd => Some(accumulator.now()),
    });
    // What a failed gather found before its error is as good as any.
    accumulator.flush().await?;
    outcome
}
