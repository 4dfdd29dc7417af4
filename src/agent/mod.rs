//! The agent: loads a configuration, runs it, and changes to the next one.

mod build;
mod signal;

use std::io::Write;
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::config::ConfigError;
use heliograph_core::error::BoxError;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Batch;
use heliograph_core::serialize::Serializer;
use heliograph_core::stats::Stats;
use heliograph_plugins::serializers::influx::{InfluxOptions, InfluxSerializer};
use heliograph_plugins::{aggregators, inputs, outputs, parsers, processors, secretstores};
use tokio::sync::watch;
use tracing::{info, warn};

use self::build::{LogRules, Surroundings};
use self::signal::{Request, Signals};
use crate::config::{AgentConfig, KnownPlugins, LoadOptions, Loaded, load, process_environment};
use crate::logging::{Control, MAIN, Settings};
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
    let (signals, ready) = here.block_on(async {
        let signals = Signals::new()?;
        let ready = prepare(options, &surroundings).await?;
        Ok::<_, BoxError>((signals, ready))
    })?;
    let threads = ready.agent.worker_threads;
    let work = Agent { options, log, surroundings, signals, end }.run(ready);
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
    Surroundings { clock: Clock::system(), host: HostPaths::from_environment(), stats }
}

/// A configuration that is ready to run.
struct Ready {
    agent: AgentConfig,
    log: Settings,
    log_rules: LogRules,
    banner: Banner,
    pipeline: Pipeline,
}

/// What is said about a configuration at the start.
struct Banner {
    loaded: Vec<(&'static str, String)>,
    tags: String,
}

async fn prepare(options: &Options, surroundings: &Surroundings) -> Result<Ready, BoxError> {
    let loaded = load(&options.load, &process_environment).await?;
    loaded.agent.validate()?;
    let log = Settings::new(&loaded.agent, options.debug, options.quiet)?;
    let banner = Banner::new(&loaded);
    let agent = loaded.agent.clone();
    let (pipeline, log_rules) = build::build(loaded, surroundings)?;
    // After the build, so that a mistake in a plugin's table is told first.
    if pipeline.inputs.is_empty() {
        return Err("no inputs found, did you provide a valid config file?".into());
    }
    if pipeline.outputs.is_empty() && !matches!(options.mode, Mode::Test(_)) {
        return Err("no outputs found, did you provide a valid config file?".into());
    }
    Ok(Ready { agent, log, log_rules, banner, pipeline })
}

/// The running agent.
struct Agent<'a> {
    options: &'a Options,
    log: &'a Control,
    surroundings: Surroundings,
    signals: Signals,
    end: Stop,
}

impl Agent<'_> {
    async fn run(mut self, mut ready: Ready) -> Result<(), BoxError> {
        loop {
            self.log.configure(&ready.log).map_err(|error| format!("cannot open the log file: {error}"))?;
            ready.log_rules.apply(self.log);
            self.say_hello(&ready);
            match self.run_configuration(ready.pipeline).await? {
                Some(next) => ready = next,
                None => return Ok(()),
            }
        }
    }

    /// Runs a configuration; returns the one to go on with, if there is one.
    async fn run_configuration(&mut self, pipeline: Pipeline) -> Result<Option<Ready>, BoxError> {
        let (stopper, stop) = stop::channel();
        let (flush, flush_now) = watch::channel(0);
        let mode = self.options.mode;
        let run = async {
            match mode {
                Mode::Run => pipeline.run(stop, flush_now).await,
                Mode::Once(wait) => pipeline.once(wait, stop, flush_now).await,
                Mode::Test(wait) => pipeline.test(wait, stop, Box::new(print())).await,
            }
        };
        let mut run = std::pin::pin!(run);
        let mut next = None;
        let mut told_to_end = false;
        loop {
            tokio::select! {
                outcome = &mut run => {
                    judge(mode, outcome?)?;
                    return Ok(next);
                }
                () = self.end.requested(), if !told_to_end => {
                    told_to_end = true;
                    next = None;
                    stopper.stop();
                }
                request = self.signals.next() => match request {
                    Request::Flush => flush.send_modify(|count| *count += 1),
                    Request::End => {
                        next = None;
                        stopper.stop();
                    }
                    // The new configuration has to be good before the old one ends.
                    Request::Reload => match prepare(self.options, &self.surroundings).await {
                        Ok(ready) => {
                            info!("Reloading configuration");
                            next = Some(ready);
                            stopper.stop();
                        }
                        Err(error) => tracing::error!(error = %error, "cannot reload, going on as before"),
                    },
                },
            }
        }
    }

    fn say_hello(&self, ready: &Ready) {
        info!(target: MAIN, "Starting Heliograph {}", crate::VERSION);
        info!(
            target: MAIN,
            "Available plugins: {} inputs, {} aggregators, {} processors, {} parsers, {} outputs, {} secret stores",
            inputs::ALL.len(),
            aggregators::ALL.len(),
            processors::ALL.len(),
            parsers::ALL.len(),
            outputs::ALL.len(),
            secretstores::ALL.len(),
        );
        let test = matches!(self.options.mode, Mode::Test(_));
        for (kind, names) in &ready.banner.loaded {
            if *kind == "outputs" && test {
                warn!(target: MAIN, "Outputs are not used in testing mode!");
            } else {
                info!(target: MAIN, "Loaded {kind}: {names}");
            }
        }
        info!(target: MAIN, "Tags enabled: {}", ready.banner.tags);
        Settings::warn_about(&ready.agent);
        if self.options.mode == Mode::Run {
            let agent = &ready.agent;
            info!(
                "Config: Interval:{:?}, Quiet:{}, Hostname:{:?}, Flush Interval:{:?}",
                agent.interval.to_std(),
                agent.quiet || self.options.quiet,
                agent.hostname,
                agent.flush_interval.to_std(),
            );
        }
    }
}

/// Whether a run that has ended was a success.
fn judge(mode: Mode, outcome: Outcome) -> Result<(), BoxError> {
    let Outcome { unsent, failed_inputs } = outcome;
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

impl Banner {
    fn new(loaded: &Loaded) -> Self {
        let names = |names: Vec<&str>| {
            let mut counts = std::collections::BTreeMap::new();
            names.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
            let show =
                |(name, count): (&str, i32)| if count > 1 { format!("{name} ({count}x)") } else { name.to_string() };
            counts.into_iter().map(show).collect::<Vec<_>>().join(" ")
        };
        let loaded_plugins = vec![
            ("inputs", names(loaded.inputs.iter().map(|input| input.section.plugin()).collect())),
            ("aggregators", names(loaded.aggregators.iter().map(|aggregator| aggregator.section.plugin()).collect())),
            ("processors", names(loaded.processors.iter().map(|processor| processor.section.plugin()).collect())),
            ("secretstores", loaded.secret_stores.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(" ")),
            ("outputs", names(loaded.outputs.iter().map(|output| output.section.plugin()).collect())),
        ];
        let tags = loaded.global_tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        Self { loaded: loaded_plugins, tags }
    }
}
