//! The agent: loads a configuration, runs it, and changes to the next one.

mod banner;
mod build;
mod signal;
mod state;
mod systemd;
mod watcher;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::config::ConfigError;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::host::HostPaths;
use heliograph_core::model::Batch;
use heliograph_core::serialize::Serializer;
use heliograph_core::states::States;
use heliograph_core::stats::Stats;
use heliograph_plugins::serializers::influx::{InfluxOptions, InfluxSerializer};
use heliograph_plugins::{aggregators, inputs, outputs, processors, secretstores};
use tokio::sync::watch;
use tracing::info;

use self::banner::Banner;
use self::build::{LogRules, Surroundings};
use self::signal::{Request, Signals};
use self::state::StateFile;
use self::systemd::Notifier;
use self::watcher::Watcher;
pub use self::watcher::{Watch, WatchOptions};
use crate::config::{AgentConfig, KnownPlugins, LoadOptions, Location, Version, load, process_environment};
use crate::logging::{Control, Settings};
use crate::pipeline::{Outcome, Pipeline, stop};

pub use crate::pipeline::stop::{Stop, Stopper, channel as stop_channel};

/// What to run, and how.
#[derive(Debug)]
pub struct Options {
    /// Where the configuration is.
    pub load: LoadOptions,
    /// How long.
    pub mode: Mode,
    /// `--debug`.
    pub debug: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// What is watched for changes, to reload by itself.
    pub watch: WatchOptions,
    /// Log which file each plugin comes from.
    pub print_sources: bool,
}

/// How long the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is told to end.
    Run,
    /// One gather, written to the outputs after this wait (`--once`).
    Once(Duration),
    /// One gather, printed to standard output after this wait (`--test`).
    Test(Duration),
}

/// The plugins of this build, as a configuration may name them.
pub fn known_plugins() -> KnownPlugins {
    KnownPlugins {
        inputs: inputs::ALL.iter().map(|spec| spec.name).collect(),
        processors: processors::ALL.iter().map(|spec| spec.name).collect(),
        aggregators: aggregators::ALL.iter().map(|spec| spec.name).collect(),
        outputs: outputs::ALL.iter().map(|spec| spec.name).collect(),
        secret_stores: secretstores::ALL.to_vec(),
        left_out: Vec::new(),
    }
}

/// Loads and builds everything and starts nothing (`config check`).
pub async fn check(options: &LoadOptions) -> Result<(), ConfigError> {
    let loaded = load(options, &process_environment).await?;
    build::build(loaded, &surroundings(Stats::default())).map(drop)
}

/// Runs the agent on a runtime of its own, with as many threads as `[agent] worker_threads` says.
pub fn run(options: &Options, log: &Control) -> Result<(), BoxError> {
    let (_stopper, end) = stop::channel();
    run_with(options, log, Stats::default(), end)
}

/// Runs the agent within a program of another purpose, which sees its figures in `stats` and may tell it to `end`.
pub fn run_with(options: &Options, log: &Control, stats: Stats, end: Stop) -> Result<(), BoxError> {
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let surroundings = surroundings(stats);
    let started = here.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            ready = prepare(options, &surroundings) => Ok::<_, BoxError>(Some((signals, ready?))),
            // An address may not answer for long.
            () = signals.end() => Ok(None),
        }
    })?;
    let Some((signals, ready)) = started else { return Ok(()) };
    let threads = ready.agent.worker_threads;
    let notifier = if options.mode == Mode::Run { Notifier::from_environment() } else { Notifier::default() };
    let work = Agent { options, log, surroundings, signals, end, notifier }.run(ready);
    if threads > 1 {
        // Signals were taken over on the first runtime, which therefore has to live on.
        let _context = here.enter();
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?
            .block_on(work);
    }
    here.block_on(work)
}

fn surroundings(stats: Stats) -> Surroundings {
    Surroundings { clock: Clock::system(), host: HostPaths::from_environment(), stats, states: States::default() }
}

/// A configuration that is ready to run.
struct Ready {
    agent: AgentConfig,
    log: Settings,
    log_rules: LogRules,
    banner: Banner,
    sources: Vec<(Location, Option<Version>)>,
    state: Option<StateFile>,
    pipeline: Pipeline,
}

async fn prepare(options: &Options, surroundings: &Surroundings) -> Result<Ready, BoxError> {
    let mut loaded = load(&options.load, &process_environment).await?;
    loaded.agent.validate()?;
    let log = Settings::new(&loaded.agent, options.debug, options.quiet)?;
    let banner = Banner::new(&loaded, options.print_sources);
    let agent = loaded.agent.clone();
    let sources = std::mem::take(&mut loaded.sources);
    let (pipeline, log_rules) = build::build(loaded, surroundings)?;
    // After the build, so that a mistake in a plugin's table is told first.
    if pipeline.inputs.is_empty() {
        return Err("no inputs found, did you provide a valid config file?".into());
    }
    if pipeline.outputs.is_empty() && !matches!(options.mode, Mode::Test(_)) {
        return Err("no outputs found, did you provide a valid config file?".into());
    }
    let path = Some(&agent.statefile).filter(|path| !path.is_empty() && options.mode == Mode::Run);
    let state = path.map(|path| StateFile::load(Path::new(path))).transpose()?;
    Ok(Ready { agent, log, log_rules, banner, sources, state, pipeline })
}

/// The running agent.
struct Agent<'a> {
    options: &'a Options,
    log: &'a Control,
    surroundings: Surroundings,
    signals: Signals,
    end: Stop,
    notifier: Notifier,
}

/// What woke the agent up.
enum Wake {
    Ended(Result<Outcome, BoxError>),
    /// A plugin keeps another state.
    State,
    Asked(Request),
}

impl Agent<'_> {
    async fn run(mut self, mut ready: Ready) -> Result<(), BoxError> {
        let is_watching = self.options.mode == Mode::Run;
        let watch = if is_watching { self.options.watch } else { WatchOptions::default() };
        let mut watcher = Watcher::new(&watch, &self.options.load, &ready.sources);
        loop {
            self.log.configure(&ready.log).map_err(|error| format!("cannot open the log file: {error}"))?;
            ready.log_rules.apply(self.log);
            ready.banner.say(&ready.agent, self.options);
            let states = self.surroundings.states.clone();
            if let Some(file) = &ready.state {
                file.restore(&states);
            }
            let (outcome, next) = self.run_configuration(ready.pipeline, ready.state.as_ref(), &mut watcher).await?;
            let Some(mut next) = next else {
                judge(self.options.mode, &outcome)?;
                return ready.state.map_or(Ok(()), |mut file| file.store(&states).map_err(BoxError::from));
            };
            if let Some(mut state) = ready.state {
                if let Err(error) = state.store(&states) {
                    tracing::error!(error = %Chain(&error), "the states of plugins are kept in memory only");
                }
                if let Some(next) = &mut next.state {
                    next.follow(state);
                }
            }
            next.pipeline.carry_over(outcome.rest);
            ready = next;
        }
    }

    /// Runs a configuration; returns how it ended, and the one to go on with, if there is one.
    async fn run_configuration(
        &mut self,
        pipeline: Pipeline,
        file: Option<&StateFile>,
        watcher: &mut Watcher<'_>,
    ) -> Result<(Outcome, Option<Ready>), BoxError> {
        let (stopper, stop) = stop::channel();
        let (flush, flush_now) = watch::channel(0);
        let mode = self.options.mode;
        let mut states = self.surroundings.states.changes();
        let notifier = self.notifier.clone();
        let run = async {
            match mode {
                Mode::Run => pipeline.run(stop, flush_now, || notifier.ready()).await,
                Mode::Once(wait) => pipeline.once(wait, stop, flush_now).await,
                Mode::Test(wait) => pipeline.test(wait, stop, Box::new(print())).await,
            }
        };
        let mut run = std::pin::pin!(run);
        let mut next = None;
        let mut is_ending = false;
        loop {
            let wake = tokio::select! {
                outcome = &mut run => Wake::Ended(outcome),
                request = self.signals.next() => Wake::Asked(request),
                () = self.end.requested(), if !is_ending => Wake::Asked(Request::End),
                () = watcher.changed(), if !is_ending => Wake::Asked(Request::Reload),
                Ok(()) = states.changed(), if file.is_some() => Wake::State,
            };
            match wake {
                Wake::Ended(outcome) => return Ok((outcome?, next)),
                Wake::State => store(file, &self.surroundings.states).await,
                Wake::Asked(_) if is_ending => {}
                Wake::Asked(Request::Flush) => flush.send_modify(|count| *count += 1),
                Wake::Asked(Request::Reload) => match self.reload().await {
                    Reload::Ready(ready) => {
                        watcher.follow(&ready.sources);
                        next = Some(*ready);
                        stopper.stop();
                    }
                    Reload::Failed => {}
                    Reload::End => is_ending = true,
                },
                Wake::Asked(Request::End) => is_ending = true,
            }
            if is_ending {
                next = None;
                self.notifier.stopping();
                stopper.stop();
            }
        }
    }

    /// Loads the configuration again: the new one has to be good before the old one ends.
    async fn reload(&mut self) -> Reload {
        self.notifier.reloading();
        let prepared = tokio::select! {
            prepared = prepare(self.options, &self.surroundings) => prepared,
            // An address may not answer for long.
            () = self.signals.end() => return Reload::End,
        };
        match prepared {
            Ok(ready) => {
                info!("Reloading configuration");
                Reload::Ready(Box::new(ready))
            }
            Err(error) => {
                tracing::error!(error = %error, "cannot reload, going on as before");
                self.notifier.ready();
                Reload::Failed
            }
        }
    }
}

/// Writes the states as soon as one changes, so that a kill costs none; a failure is told again at the end.
async fn store(file: Option<&StateFile>, states: &States) {
    let Some(mut file) = file.cloned() else { return };
    let states = states.clone();
    let stored = tokio::task::spawn_blocking(move || file.store(&states)).await;
    if let Ok(Err(error)) = stored {
        tracing::warn!(error = %Chain(&error), "the states of plugins are kept in memory only");
    }
}

/// How an attempt to reload ended.
enum Reload {
    Ready(Box<Ready>),
    Failed,
    /// The agent was told to end meanwhile.
    End,
}

/// Whether a run that has ended was a success.
fn judge(mode: Mode, outcome: &Outcome) -> Result<(), BoxError> {
    let (unsent, failed_inputs) = (outcome.unsent(), outcome.failed_inputs);
    if mode == Mode::Run {
        if unsent > 0 {
            tracing::error!(count = unsent, "metrics could not be written before the end and are lost");
        }
        return Ok(());
    }
    if failed_inputs > 0 {
        return Err(format!("input plugins recorded {failed_inputs} errors").into());
    }
    if unsent > 0 {
        return Err(format!("output plugins unable to send {unsent} metrics").into());
    }
    Ok(())
}

/// Writes batches to standard output, a line a metric, for `--test`.
fn print() -> impl FnMut(Batch) + Send {
    let options = InfluxOptions { influx_sort_fields: true, influx_uint_support: true, ..InfluxOptions::default() };
    let mut serializer = InfluxSerializer::new(options);
    let mut line = Vec::new();
    move |batch| {
        let mut out = std::io::stdout().lock();
        for metric in batch.iter() {
            line.clear();
            line.extend_from_slice(b"> ");
            // A metric that cannot be written as a line is passed over, as by an output.
            if serializer.serialize(metric, &mut line).is_ok() {
                // Nobody may be reading.
                drop(out.write_all(&line));
            }
        }
    }
}
