//! The running agent: inputs, chain, journal and outputs as tasks.

pub mod aggregator;
pub mod chain;
pub mod input;
pub mod output;
pub mod running;
pub mod schedule;
pub mod stop;

use std::time::Duration;

use heliograph_core::accumulator::{Delivery, Hurry};
use heliograph_core::clock::Clock;
use heliograph_core::error::BoxError;
use heliograph_core::model::Batch;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::chain::{Chain, Sink};
use self::input::RunningInput;
use self::output::{Connected, OutputPlan};
use self::stop::Stop;
use crate::journal::{Journal, Rest, disk};

/// Everything a configuration asks for, built and not yet started.
pub struct Pipeline {
    pub inputs: Vec<RunningInput>,
    pub chain: Stages,
    pub outputs: Vec<OutputPlan>,
    /// Where metrics wait on the disk; `None` if they wait in memory.
    pub journal: Option<disk::Settings>,
    pub clock: Clock,
}

/// The chain before it knows where its batches go.
pub struct Stages {
    pub before: Vec<running::RunningProcessor>,
    pub aggregators: Vec<aggregator::RunningAggregator>,
    pub after: Vec<running::RunningProcessor>,
    pub guards: Vec<running::RunningProcessor>,
    /// Precision of the time of aggregates, in nanoseconds.
    pub precision: i64,
}

/// Batches between inputs and chain; a full channel slows the inputs down.
const CHANNEL: usize = 16;
/// How long inputs may take to end.
const INPUT_GRACE: Duration = Duration::from_secs(8);
/// How long the last flush may take. With the inputs' it stays below the half minute that Kubernetes gives.
const OUTPUT_GRACE: Duration = Duration::from_secs(20);

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What outputs could not write in time.
    pub rest: Vec<Rest>,
    /// Inputs that failed, with `--once` and `--test`.
    pub failed_inputs: usize,
}

/// Outputs at work.
struct Outputs {
    tasks: JoinSet<()>,
    stopper: stop::Stopper,
    journal: Journal,
}

impl Outcome {
    /// How many metrics could not be written.
    pub fn unsent(&self) -> usize {
        self.rest.iter().map(|rest| rest.metrics.len()).sum()
    }
}

impl Stages {
    fn chain(self, sink: Sink, journal: Option<Journal>, clock: &Clock) -> Chain {
        let Self { before, aggregators, after, guards, precision } = self;
        let interner = heliograph_core::model::Interner::default();
        Chain { before, aggregators, after, guards, sink, journal, clock: clock.clone(), precision, interner }
    }
}

impl Pipeline {
    /// Gives what the outputs before could not write to those with the same plugin ID. What nobody takes is lost.
    pub fn carry_over(&mut self, rest: Vec<Rest>) {
        for rest in rest {
            let mut slots = self.outputs.iter_mut().map(|output| &mut output.slot);
            match slots.find(|slot| slot.id == rest.id && slot.carried.is_empty()) {
                Some(slot) => {
                    tracing::info!(plugin = &*slot.name, count = rest.metrics.len(), "carrying unwritten metrics over");
                    slot.carried = rest.metrics;
                }
                None => rest.lose("no output of the new configuration has the same options"),
            }
        }
    }

    /// Runs until `stop`, then ends stage by stage. `flush_now` asks all outputs for a flush at every change.
    ///
    /// `started` is called once the outputs are connected and the inputs have started.
    pub async fn run(
        self,
        mut stop: Stop,
        flush_now: watch::Receiver<u64>,
        started: impl FnOnce(),
    ) -> Result<Outcome, BoxError> {
        let Self { mut inputs, chain, outputs, journal, clock } = self;
        let begun = clock.now();
        let mut outputs = Outputs::start(outputs, journal, inputs.len(), &mut stop, flush_now).await?;
        if stop.is_requested() {
            // Told while outputs were connecting: what they were given is all there is to do.
            inputs.clear();
        }
        outputs.give_watermarks(&mut inputs);
        let (sink, mut chain) = outputs.start_chain(chain, &clock);
        let (input_stopper, input_stop) = stop::channel();
        let mut tasks = JoinSet::new();
        let mut starting = Vec::new();
        for input in inputs {
            let (ready, started) = oneshot::channel();
            starting.push(started);
            tasks.spawn(input.run(clock.clone(), sink.clone(), input_stop.clone(), begun, ready));
        }
        drop(sink);
        let mut outcome = Ok(());
        for input in starting {
            tokio::select! {
                ready = input => match ready {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => outcome = outcome.and(Err(error)),
                    Err(_) => outcome = outcome.and(Err("an input ended while it was starting".into())),
                },
                () = stop.requested() => break,
            }
        }
        if outcome.is_ok() {
            if !stop.is_requested() {
                started();
            }
            tokio::select! {
                ended = supervise(&mut tasks, &mut stop) => outcome = ended,
                // Without its chain or an output there is nothing left to flush in order.
                failed = outputs.failure(&mut chain) => return Err(failed),
            }
        }
        input_stopper.stop();
        if tokio::time::timeout(INPUT_GRACE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(count = tasks.len(), "inputs did not end in time and are cut off");
        }
        tasks.shutdown().await;
        let rest = outputs.finish(chain).await?;
        outcome.map(|()| Outcome { rest, failed_inputs: 0 })
    }

    /// Gathers once, waits, and writes everything (`--once`).
    pub async fn once(
        self,
        wait: Duration,
        mut stop: Stop,
        flush_now: watch::Receiver<u64>,
    ) -> Result<Outcome, BoxError> {
        let Self { mut inputs, chain, outputs, journal, clock } = self;
        let outputs = Outputs::start(outputs, journal, inputs.len(), &mut stop, flush_now).await?;
        outputs.give_watermarks(&mut inputs);
        let (sink, chain) = outputs.start_chain(chain, &clock);
        let failed = gather_each_once(inputs, &clock, sink, wait, stop).await;
        let rest = outputs.finish(chain).await?;
        Ok(Outcome { rest, failed_inputs: failed? })
    }

    /// Gathers once, waits, and gives every batch to `print` instead of the outputs (`--test`).
    pub async fn test(self, wait: Duration, stop: Stop, print: Sink) -> Result<Outcome, BoxError> {
        let Self { inputs, chain, clock, .. } = self;
        let (sink, batches) = mpsc::channel(CHANNEL);
        let chain = tokio::spawn(chain.chain(print, None, &clock).run(batches));
        let failed = gather_each_once(inputs, &clock, sink, wait, stop).await;
        ended(chain).await?;
        Ok(Outcome { rest: Vec::new(), failed_inputs: failed? })
    }
}

impl Outputs {
    /// Connects one after the other, as listed, and lets those run that the agent is to have.
    async fn start(
        plans: Vec<OutputPlan>,
        journal: Option<disk::Settings>,
        inputs: usize,
        stop: &mut Stop,
        flush_now: watch::Receiver<u64>,
    ) -> Result<Self, BoxError> {
        let (mut slots, mut running) = (Vec::new(), Vec::new());
        for mut plan in plans {
            let connected = plan.connect(stop).await?;
            if connected == Connected::Gone {
                plan.slot.take_carried().lose("their output is not running");
            } else {
                let (slot, run) = plan.split(connected);
                slots.push(slot);
                running.push(run);
            }
        }
        let (journal, readers) = Journal::start(journal, slots, inputs).await?;
        let (stopper, told) = stop::channel();
        let mut tasks = JoinSet::new();
        for (run, reader) in running.into_iter().zip(readers) {
            tasks.spawn(run(reader).run(told.clone(), flush_now.clone()));
        }
        Ok(Self { tasks, stopper, journal })
    }

    fn give_watermarks(&self, inputs: &mut [RunningInput]) {
        for (index, input) in inputs.iter_mut().enumerate() {
            let watermark = self.journal.watermark(index);
            let journal = self.journal.clone();
            let hurry = Hurry::new(journal.is_on_disk(), move |message| journal.hurry(index, message));
            input.delivery = Some(Delivery { input: index as u32, watermark, hurry });
        }
    }

    fn start_chain(&self, stages: Stages, clock: &Clock) -> (mpsc::Sender<Batch>, JoinHandle<()>) {
        let journal = self.journal.clone();
        let (sink, batches) = mpsc::channel(CHANNEL);
        let append = Box::new(move |batch| journal.append(batch));
        (sink, tokio::spawn(stages.chain(append, Some(self.journal.clone()), clock).run(batches)))
    }

    /// Waits for what must not happen: an output or the chain that ends before it is told to. Whoever supervises the agent
    /// is to start it anew.
    async fn failure(&mut self, chain: &mut JoinHandle<()>) -> BoxError {
        let (task, ended) = tokio::select! {
            Some(ended) = self.tasks.join_next() => ("an output", ended),
            ended = chain => ("the pipeline", ended),
        };
        match ended {
            Ok(()) => format!("{task} has ended by itself").into(),
            Err(error) => format!("{task} has failed: {error}").into(),
        }
    }

    /// Once no input is left: waits for the chain, then for the last flush. Returns what is left.
    async fn finish(mut self, chain: JoinHandle<()>) -> Result<Vec<Rest>, BoxError> {
        ended(chain).await?;
        tracing::info!("Hang on, flushing any cached metrics before shutdown");
        self.stopper.stop();
        let flushed = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended?;
            }
            Ok::<(), BoxError>(())
        };
        match tokio::time::timeout(OUTPUT_GRACE, flushed).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                tracing::error!(count = self.journal.waiting(), "the last flush did not end in time and is cut off");
                self.tasks.shutdown().await;
            }
        }
        tracing::info!("Stopping running outputs");
        Ok(self.journal.close().await)
    }
}

/// Waits for the stop; an input that panics ends the agent, so that whoever supervises it starts it anew.
async fn supervise(tasks: &mut JoinSet<()>, stop: &mut Stop) -> Result<(), BoxError> {
    loop {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            Some(ended) = tasks.join_next() => ended.map_err(|error| format!("an input has failed: {error}"))?,
            else => {
                stop.requested().await;
                return Ok(());
            }
        }
    }
}

/// Lets every input gather at the same time, waits, and stops them. Returns how many failed.
async fn gather_each_once(
    inputs: Vec<RunningInput>,
    clock: &Clock,
    sink: mpsc::Sender<Batch>,
    wait: Duration,
    mut stop: Stop,
) -> Result<usize, BoxError> {
    let mut tasks = JoinSet::new();
    for mut input in inputs {
        let (clock, sink) = (clock.clone(), sink.clone());
        tasks.spawn(async move {
            let failed = input.run_once(&clock, &sink).await;
            (input, failed)
        });
    }
    drop(sink);
    let mut failed = 0;
    let mut running = Vec::new();
    loop {
        let ended = tokio::select! {
            ended = tasks.join_next() => ended,
            () = stop.requested() => break,
        };
        let Some(ended) = ended else { break };
        let (input, outcome) = ended.map_err(|error| format!("an input has failed: {error}"))?;
        match outcome {
            Ok(this) => failed += usize::from(this),
            Err(error) => {
                tracing::error!(plugin = &*input.rules.plugin, error = %error, "cannot start");
                failed += 1;
            }
        }
        running.push(input);
    }
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.requested() => {}
    }
    for input in &mut running {
        input.stop().await;
    }
    tasks.shutdown().await;
    Ok(failed)
}

async fn ended(chain: JoinHandle<()>) -> Result<(), BoxError> {
    chain.await.map_err(|error| format!("the pipeline has failed: {error}").into())
}
