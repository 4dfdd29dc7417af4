//! From a loaded configuration to a pipeline that can run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Section};
use heliograph_core::filter::Filter;
use heliograph_core::host::HostPaths;
use heliograph_core::model::{Interner, WriteBatch};
use heliograph_core::plugin::{BuildContext, ProcessorSpec};
use heliograph_core::stage::{InputRules, Rename};
use heliograph_core::states::States;
use heliograph_core::stats::{Count, StatSeries, Stats};
use tracing::Level;

use heliograph_plugins::{aggregators, inputs, outputs, processors};

use crate::config::{
    AgentConfig, AggregatorSection, BufferStrategy, Common, InputSection, Loaded, LogLevel, OutputSection,
    ProcessorSection, plugin_id,
};
use crate::journal::{OutputSlot, disk};
use crate::logging::Control;
use crate::pipeline::aggregator::{AggregatorRules, AggregatorStats, RunningAggregator};
use crate::pipeline::input::{InputStats, RunningInput};
use crate::pipeline::output::{OutputPlan, OutputStats, Policy, Quarantine, QuarantineStats};
use crate::pipeline::running::{Admission, RunningProcessor, Selection};
use crate::pipeline::schedule::Timing;
use crate::pipeline::{Pipeline, Stages};

/// What outlives a configuration.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Clock,
    pub host: HostPaths,
    pub stats: Stats,
    pub states: States,
}

/// What the log is to know of the plugins, once they run.
#[derive(Default)]
pub struct LogRules(Vec<(Arc<str>, Count, Option<Level>)>);

impl LogRules {
    /// Tells the log whose errors it counts, and whose level differs from the agent's.
    pub fn apply(&self, log: &Control) {
        for (plugin, errors, level) in &self.0 {
            log.count_errors(plugin, errors.clone());
            if let Some(level) = level {
                log.set_plugin_level(plugin, *level);
            }
        }
    }
}

/// Builds every plugin. Touches nothing outside but the files that options name.
pub fn build(loaded: Loaded, surroundings: &Surroundings) -> Result<(Pipeline, LogRules), ConfigError> {
    let Loaded { agent, global_tags, inputs, processors, aggregators, outputs, .. } = loaded;
    let builder =
        Builder { agent: &agent, global_tags: &global_tags, surroundings, log: RefCell::new(LogRules::default()) };
    let built_inputs = inputs.into_iter().map(|section| builder.input(section)).collect::<Result<_, _>>()?;
    let (guards, plain): (Vec<_>, Vec<_>) =
        processors.into_iter().partition(|processor| processor.section.plugin() == processors::cardinality::NAME);
    let has_aggregators = !aggregators.is_empty();
    let run_before = !agent.skip_processors_before_aggregators;
    let run_after = has_aggregators && !agent.skip_processors_after_aggregators.unwrap_or(false);
    let each = |list: Vec<ProcessorSection>, category: &str| {
        list.into_iter().map(|section| builder.processor(section, category)).collect::<Result<Vec<_>, _>>()
    };
    let before = if run_before { each(plain.clone(), "processors")? } else { Vec::new() };
    let built_aggregators =
        aggregators.into_iter().map(|section| builder.aggregator(section)).collect::<Result<_, _>>()?;
    let after = if run_after { each(plain, "aggprocessors")? } else { Vec::new() };
    let guards = each(guards, "processors")?;
    let built_outputs = outputs.into_iter().map(|section| builder.output(section)).collect::<Result<_, _>>()?;
    let pipeline = Pipeline {
        inputs: built_inputs,
        chain: Stages { before, aggregators: built_aggregators, after, guards, precision: builder.precision(None) },
        outputs: built_outputs,
        journal: builder.journal(),
        clock: surroundings.clock.clone(),
    };
    Ok((pipeline, builder.log.into_inner()))
}

struct Builder<'a> {
    agent: &'a AgentConfig,
    global_tags: &'a BTreeMap<String, String>,
    surroundings: &'a Surroundings,
    log: RefCell<LogRules>,
}

/// How a plugin is known: to logs, and to the figures about it.
struct Identity {
    context: BuildContext,
    series: StatSeries,
    /// The same for the same options.
    id: String,
}

impl Builder<'_> {
    /// `measurement` is that of its own figures, `kind` their tag.
    fn identify(
        &self,
        section: &Section,
        common: &Common,
        category: &str,
        measurement: &str,
        kind: &'static str,
    ) -> Identity {
        let Surroundings { clock, host, stats, .. } = self.surroundings;
        let plugin = section.plugin();
        let full = section.name();
        let name: Arc<str> =
            if common.alias.is_empty() { full.into() } else { format!("{full}::{}", common.alias).into() };
        let id = plugin_id(category, section);
        let series = StatSeries::new(measurement, &[(kind, plugin), ("alias", &common.alias), ("_id", &id)]);
        let level = common.log_level.map(level);
        self.log.borrow_mut().0.push((name.clone(), stats.count(&series, "errors"), level));
        let debug =
            common.log_level.map_or(self.agent.debug, |level| matches!(level, LogLevel::Debug | LogLevel::Trace));
        let context = BuildContext {
            name,
            clock: clock.clone(),
            host: host.clone(),
            stats: stats.clone(),
            version: crate::VERSION,
            debug,
        };
        Identity { context, series, id }
    }

    /// The counter of the plugin, and with it that of the agent as a whole.
    fn both(&self, series: &StatSeries, field: &'static str) -> Vec<Count> {
        let stats = &self.surroundings.stats;
        vec![stats.count(series, field), stats.count(&StatSeries::new("agent", &[]), field)]
    }

    /// Where metrics wait on the disk, if they do.
    fn journal(&self) -> Option<disk::Settings> {
        let agent = self.agent;
        (agent.buffer_strategy == BufferStrategy::Disk).then(|| disk::Settings {
            directory: agent.journal_directory(),
            limits: disk::Limits {
                size: agent.buffer_max_size.bytes(),
                segment_size: agent.segment_size(),
                age: agent.buffer_max_age.positive(),
                output_age: None,
                sync: agent.buffer_disk_sync,
            },
            commit_interval: agent.buffer_commit_interval.to_std(),
            stats: disk::JournalStats::new(&self.surroundings.stats),
            clock: self.surroundings.clock.clone(),
        })
    }

    /// Precision of gathered metrics in nanoseconds: the agent's, or what fits the interval.
    fn precision(&self, interval: Option<Duration>) -> i64 {
        if let Some(precision) = self.agent.precision.positive() {
            return precision.as_nanos() as i64;
        }
        let interval = interval.unwrap_or(self.agent.interval.to_std());
        [1_000_000_000, 1_000_000, 1_000].into_iter().find(|&unit| interval.as_nanos() >= unit as u128).unwrap_or(1)
    }

    fn input(&self, input: InputSection) -> Result<RunningInput, ConfigError> {
        let InputSection { section, options, always_include_local_tags, always_include_global_tags } = input;
        let Identity { context, series, .. } = self.identify(&section, &options.common, "inputs", "gather", "input");
        let spec = inputs::ALL.iter().find(|spec| spec.name == section.plugin());
        let spec = spec.ok_or_else(|| section.error("undefined but requested input"))?;
        let filter = compile(&section, &options.common)?;
        let interval = options.interval.unwrap_or(self.agent.interval.to_std());
        let rules = InputRules {
            plugin: context.name.clone(),
            filter,
            rename: options.rename,
            tags: options.tags,
            global_tags: self.global_tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            always_include_local_tags,
            always_include_global_tags,
        };
        let stats = &self.surroundings.stats;
        let own_precision = options.precision.map(|precision| precision.as_nanos() as i64);
        Ok(RunningInput {
            plugin: (spec.build)(section, &context)?,
            rules: Arc::new(rules),
            timing: Timing {
                interval,
                jitter: options.collection_jitter.unwrap_or(self.agent.collection_jitter.to_std()),
                offset: options.collection_offset.unwrap_or(self.agent.collection_offset.to_std()),
                round_interval: self.agent.round_interval,
            },
            precision: own_precision.unwrap_or_else(|| self.precision(Some(interval))),
            service_precision: own_precision.unwrap_or(1),
            startup_errors: options.startup_error_behavior,
            time_source: options.time_source,
            stats: InputStats {
                gathered: self.both(&series, "metrics_gathered"),
                gather_errors: self.both(&series, "gather_errors"),
                gather_timeouts: self.both(&series, "gather_timeouts"),
                startup_errors: stats.count(&series, "startup_errors"),
                gather_time: stats.mean_time(&series, "gather_time_ns"),
            },
            delivery: None,
            states: self.surroundings.states.clone(),
        })
    }

    fn processor(&self, processor: ProcessorSection, category: &str) -> Result<RunningProcessor, ConfigError> {
        let ProcessorSection { section, options } = processor;
        // Both runs share the figures of the first.
        let Identity { context, .. } = self.identify(&section, &options.common, "processors", "process", "processor");
        let spec: Option<&&ProcessorSpec> = processors::ALL.iter().find(|spec| spec.name == section.plugin());
        let spec = spec.ok_or_else(|| section.error(format!("undefined but requested processor in {category}")))?;
        let selection = Selection::new(compile(&section, &options.common)?, Rename::default());
        Ok(RunningProcessor { name: context.name.clone(), selection, plugin: (spec.build)(section, &context)? })
    }

    fn aggregator(&self, aggregator: AggregatorSection) -> Result<RunningAggregator, ConfigError> {
        let AggregatorSection { section, options } = aggregator;
        let Identity { context, series, .. } =
            self.identify(&section, &options.common, "aggregators", "aggregate", "aggregator");
        let spec = aggregators::ALL.iter().find(|spec| spec.name == section.plugin());
        let spec = spec.ok_or_else(|| section.error("undefined but requested aggregator"))?;
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let rules = AggregatorRules {
            name: context.name.clone(),
            filter: compile(&section, &options.common)?,
            period: nanos(options.period),
            delay: nanos(options.delay),
            grace: nanos(options.grace),
            drop_original: options.drop_original,
            rename: options.rename,
            tags: options.tags,
        };
        let stats = &self.surroundings.stats;
        let stats = AggregatorStats {
            pushed: stats.count(&series, "metrics_pushed"),
            filtered: stats.count(&series, "metrics_filtered"),
            dropped: stats.count(&series, "metrics_dropped"),
            push_time: stats.count(&series, "push_time_ns"),
        };
        let plugin = (spec.build)(section, &context)?;
        Ok(RunningAggregator::new(rules, plugin, stats, self.surroundings.clock.now(), self.agent.round_interval))
    }

    fn output(&self, output: OutputSection) -> Result<OutputPlan, ConfigError> {
        let OutputSection { section, options, metric_batch_size, metric_buffer_limit, .. } = output;
        let Identity { context, series, id } = self.identify(&section, &options.common, "outputs", "write", "output");
        let spec = outputs::ALL.iter().find(|spec| spec.name == section.plugin());
        let spec = spec.ok_or_else(|| section.error("undefined but requested output"))?;
        let stats = &self.surroundings.stats;
        let mut admission = Admission {
            name: context.name.clone(),
            selection: Selection::new(compile(&section, &options.common)?, options.rename),
            filtered: stats.count(&series, "metrics_filtered"),
            interner: Interner::default(),
            clock: self.surroundings.clock.clone(),
        };
        stats.count(&series, "buffer_limit").set(metric_buffer_limit);
        let flush_interval = options.flush_interval.unwrap_or(self.agent.flush_interval.to_std());
        let quarantine = self.agent.quarantine().map(|(directory, max_size)| {
            let figures = QuarantineStats {
                metrics: stats.count(&series, "metrics_quarantined"),
                errors: stats.count(&series, "quarantine_errors"),
            };
            Quarantine::new(&directory, &context.name, max_size, self.surroundings.clock.clone(), figures)
        });
        // The figure is there only where there is something to count.
        let expired = options.metric_max_age.map(|_| stats.count(&series, "metrics_expired")).unwrap_or_default();
        Ok(OutputPlan {
            name: context.name.clone(),
            slot: OutputSlot {
                name: context.name.clone(),
                id,
                carried: WriteBatch::new(),
                admit: Box::new(move |batch| admission.admit(batch)),
                limit: metric_buffer_limit,
                max_age: options.metric_max_age,
                added: stats.count(&series, "metrics_added"),
                dropped: self.both(&series, "metrics_dropped"),
                expired,
                size: stats.count(&series, "buffer_size"),
            },
            flush_interval,
            flush_jitter: options.flush_jitter.unwrap_or(self.agent.flush_jitter.to_std()),
            batch_size: metric_batch_size,
            quarantine,
            retry: Policy::new(options.retry_initial, options.retry_max, flush_interval),
            startup_errors: options.startup_error_behavior,
            stats: OutputStats {
                written: self.both(&series, "metrics_written"),
                rejected: self.both(&series, "metrics_rejected"),
                write_errors: self.both(&series, "write_errors"),
                retries: stats.count(&series, "write_retries"),
                startup_errors: stats.count(&series, "startup_errors"),
                write_time: stats.mean_time(&series, "write_time_ns"),
            },
            plugin: (spec.build)(section, &context)?,
        })
    }
}

fn compile(section: &Section, common: &Common) -> Result<Filter, ConfigError> {
    // The options were compiled once while they were read; this is for the type, not for the user.
    Filter::new(&common.filter).map_err(|error| section.error(error.to_string()))
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}
