//! Options that every plugin of a kind has, read beside the plugin's own.

use std::time;

use heliograph_core::{
    config::{ConfigError, Duration, Section, tree::Value},
    filter::FilterOptions,
    stage::Rename,
};

use super::filters::filter_options;

/// Inputs that have an option `time_source` of their own, with values of their own.
const OWN_TIME_SOURCE: &[&str] = &["inputs.socket_listener"];

/// What to do when a plugin cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartupErrorBehavior {
    /// The agent does not start.
    #[default]
    Error,
    /// Try again at every interval.
    Retry,
    /// Go on without the plugin.
    Ignore,
    /// Go on without the plugin if a probe of it fails.
    Probe,
}

/// What the time of gathered metrics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeSource {
    /// As the plugin set it.
    #[default]
    Metric,
    /// When the gather began.
    CollectionStart,
    /// When the gather ended.
    CollectionEnd,
}

/// The level of detail of a plugin's log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings too.
    Warn,
    /// What starts and stops too.
    Info,
    /// What happens once an interval too.
    Debug,
    /// Everything.
    Trace,
}

/// Options that all kinds of plugins have.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// Name of the instance; empty for none.
    pub alias: String,
    /// `None` for the agent's.
    pub log_level: Option<LogLevel>,
    /// Which metrics the plugin sees; it has been compiled once, so it compiles.
    pub filter: FilterOptions,
}

/// Options common to inputs.
#[derive(Debug, Clone, Default)]
pub struct CommonInput {
    /// Options of all kinds.
    pub common: Common,
    /// `None` for the agent's.
    pub interval: Option<time::Duration>,
    /// `None` for the agent's; if set, service inputs round as well.
    pub precision: Option<time::Duration>,
    /// `None` for the agent's; zero turns it off.
    pub collection_jitter: Option<time::Duration>,
    /// `None` for the agent's.
    pub collection_offset: Option<time::Duration>,
    /// What to do when it cannot start.
    pub startup_error_behavior: StartupErrorBehavior,
    /// What the time of metrics is.
    pub time_source: TimeSource,
    /// New names of measurements.
    pub rename: Rename,
    /// Tags for metrics that do not have them.
    pub tags: Vec<(String, String)>,
}

/// Options common to processors.
#[derive(Debug, Clone, Default)]
pub struct CommonProcessor {
    /// Options of all kinds.
    pub common: Common,
    /// Place among the processors; those without have zero.
    pub order: i64,
}

/// Options common to aggregators.
#[derive(Debug, Clone)]
pub struct CommonAggregator {
    /// Options of all kinds.
    pub common: Common,
    /// Length of the window; above zero.
    pub period: time::Duration,
    /// How late the window takes metrics beyond its end.
    pub delay: time::Duration,
    /// How early the window takes metrics before its start.
    pub grace: time::Duration,
    /// Drop what was aggregated.
    pub drop_original: bool,
    /// New names of aggregates.
    pub rename: Rename,
    /// Tags for aggregates that do not have them.
    pub tags: Vec<(String, String)>,
}

impl Default for CommonAggregator {
    fn default() -> CommonAggregator {
        CommonAggregator {
            common: Common::default(),
            period: time::Duration::from_secs(30),
            delay: time::Duration::from_millis(100),
            grace: time::Duration::ZERO,
            drop_original: false,
            rename: Rename::default(),
            tags: Vec::new(),
        }
    }
}

/// Options common to outputs.
#[derive(Debug, Clone, Default)]
pub struct CommonOutput {
    /// Options of all kinds.
    pub common: Common,
    /// `None` for the agent's.
    pub flush_interval: Option<time::Duration>,
    /// `None` for the agent's.
    pub flush_jitter: Option<time::Duration>,
    /// `None` for the agent's as it was when the file was loaded.
    pub metric_batch_size: Option<usize>,
    /// `None` for the agent's as it was when the file was loaded.
    pub metric_buffer_limit: Option<usize>,
    /// What to do when it cannot start; never `Probe`.
    pub startup_error_behavior: StartupErrorBehavior,
    /// Longest pause after the first failed write; `None` for what fits the flush. An option of heliograph, as the next.
    pub retry_initial: Option<time::Duration>,
    /// Longest pause after any failed write; `None` for what fits the flush.
    pub retry_max: Option<time::Duration>,
    /// How long metrics may wait for it; `None` for ever. An option of heliograph.
    pub metric_max_age: Option<time::Duration>,
    /// New names of measurements.
    pub rename: Rename,
}

impl Common {
    fn read(section: &Section) -> Result<Common, ConfigError> {
        Ok(Common { alias: string(section, "alias"), log_level: log_level(section), filter: filter_options(section)? })
    }
}

impl CommonInput {
    /// Reads the options from the table of an input.
    pub(super) fn read(section: &mut Section) -> Result<CommonInput, ConfigError> {
        let interval = not_negative(section, "interval")?;
        Ok(CommonInput {
            common: Common::read(section)?,
            interval: interval.filter(|interval| !interval.is_zero()),
            precision: duration(section, "precision")?.and_then(Duration::positive),
            collection_jitter: not_negative(section, "collection_jitter")?,
            collection_offset: not_negative(section, "collection_offset")?.filter(|offset| !offset.is_zero()),
            startup_error_behavior: startup_error_behavior(section, &["error", "retry", "ignore", "probe"])?,
            time_source: time_source(section)?,
            rename: rename(section),
            tags: tags(section)?,
        })
    }
}

impl CommonProcessor {
    /// Reads the options from the table of a processor.
    pub(super) fn read(section: &mut Section) -> Result<CommonProcessor, ConfigError> {
        let order = section.get::<i64>("order")?.unwrap_or(0);
        Ok(CommonProcessor { common: Common::read(section)?, order })
    }
}

impl CommonAggregator {
    /// Reads the options from the table of an aggregator.
    pub(super) fn read(section: &mut Section) -> Result<CommonAggregator, ConfigError> {
        let default = CommonAggregator::default();
        let period = match duration(section, "period")? {
            None => default.period,
            Some(period) => period.positive().ok_or_else(|| {
                section.error_at("period", format!("option \"period\" is {period}, but must be above zero"))
            })?,
        };
        Ok(CommonAggregator {
            common: Common::read(section)?,
            period,
            delay: not_negative(section, "delay")?.unwrap_or(default.delay),
            grace: not_negative(section, "grace")?.unwrap_or(default.grace),
            drop_original: drop_original(section)?,
            rename: rename(section),
            tags: tags(section)?,
        })
    }
}

impl CommonOutput {
    /// Reads the options from the table of an output.
    pub(super) fn read(section: &mut Section) -> Result<CommonOutput, ConfigError> {
        Ok(CommonOutput {
            common: Common::read(section)?,
            flush_interval: not_negative(section, "flush_interval")?.filter(|interval| !interval.is_zero()),
            flush_jitter: not_negative(section, "flush_jitter")?.filter(|jitter| !jitter.is_zero()),
            metric_batch_size: positive_count(section, "metric_batch_size"),
            metric_buffer_limit: positive_count(section, "metric_buffer_limit"),
            startup_error_behavior: startup_error_behavior(section, &["error", "retry", "ignore"])?,
            metric_max_age: own_duration(section, "metric_max_age")?,
            retry_initial: own_duration(section, "retry_initial")?,
            retry_max: own_duration(section, "retry_max")?,
            rename: rename(section),
        })
    }
}

/// A string option; of another type it counts as not set, as in Telegraf.
pub(super) fn string(section: &Section, key: &str) -> String {
    section.table().get(key).and_then(|entry| entry.node.as_str()).unwrap_or_default().to_owned()
}

/// A common duration; an integer or float counts as not set, as in Telegraf.
fn duration(section: &Section, key: &str) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = section.table().get(key).and_then(|entry| entry.node.as_str()) else { return Ok(None) };
    match Duration::parse_common(text) {
        Ok(duration) => Ok(Some(duration)),
        Err(problem) => Err(section.error_at(key, format!("option {key:?}: error parsing duration: {problem}"))),
    }
}

fn not_negative(section: &Section, key: &str) -> Result<Option<time::Duration>, ConfigError> {
    match duration(section, key)? {
        Some(duration) if duration.is_negative() => {
            Err(section.error_at(key, format!("option {key:?} is {duration}, but must not be negative")))
        }
        duration => Ok(duration.map(Duration::to_std)),
    }
}

/// A duration that Telegraf does not know: mistakes in it are told, and it is unknown to plugins of other kinds. Zero counts
/// as not set.
fn own_duration(section: &mut Section, key: &str) -> Result<Option<time::Duration>, ConfigError> {
    match section.take::<Duration>(key)? {
        Some(duration) if duration.is_negative() => {
            Err(section.error_at(key, format!("option {key:?} is {duration}, but must not be negative")))
        }
        duration => Ok(duration.and_then(Duration::positive)),
    }
}

fn positive_count(section: &Section, key: &str) -> Option<usize> {
    match section.table().get(key)?.node.value {
        Value::Integer(value) if value > 0 => Some(usize::try_from(value).unwrap_or(usize::MAX)),
        _ => None,
    }
}

fn rename(section: &Section) -> Rename {
    Rename {
        name_override: string(section, "name_override"),
        name_prefix: string(section, "name_prefix"),
        name_suffix: string(section, "name_suffix"),
    }
}

/// The `tags` table; something else than a table counts as not set, as in Telegraf.
fn tags(section: &Section) -> Result<Vec<(String, String)>, ConfigError> {
    match section.table().get("tags").map(|entry| &entry.node.value) {
        Some(Value::Table(_)) => {
            let tags: std::collections::BTreeMap<String, String> = section.get("tags")?.unwrap_or_default();
            Ok(tags.into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn log_level(section: &Section) -> Option<LogLevel> {
    let level = string(section, "log_level");
    match level.as_str() {
        "" => None,
        "error" | "ERROR" => Some(LogLevel::Error),
        "warn" | "WARN" => Some(LogLevel::Warn),
        "info" | "INFO" => Some(LogLevel::Info),
        "debug" | "DEBUG" => Some(LogLevel::Debug),
        "trace" | "TRACE" => Some(LogLevel::Trace),
        _ => {
            tracing::error!(plugin = section.name(), log_level = level, "invalid log level is ignored");
            None
        }
    }
}

fn startup_error_behavior(section: &Section, known: &[&str]) -> Result<StartupErrorBehavior, ConfigError> {
    let key = "startup_error_behavior";
    let behavior = string(section, key);
    match behavior.as_str() {
        "" | "error" => Ok(StartupErrorBehavior::Error),
        "retry" => Ok(StartupErrorBehavior::Retry),
        "ignore" => Ok(StartupErrorBehavior::Ignore),
        "probe" if known.contains(&"probe") => Ok(StartupErrorBehavior::Probe),
        other => Err(section.unknown_value(key, other, known.iter().copied())),
    }
}

fn time_source(section: &mut Section) -> Result<TimeSource, ConfigError> {
    let key = "time_source";
    let source = string(section, key);
    // Not in the general list, since it is unknown to plugins of other kinds.
    section.mark_used(key);
    match source.as_str() {
        "" | "metric" => Ok(TimeSource::Metric),
        "collection_start" => Ok(TimeSource::CollectionStart),
        "collection_end" => Ok(TimeSource::CollectionEnd),
        _ if OWN_TIME_SOURCE.contains(&section.name()) => Ok(TimeSource::Metric),
        other => Err(section.unknown_value(key, other, ["metric", "collection_start", "collection_end"])),
    }
}

fn drop_original(section: &Section) -> Result<bool, ConfigError> {
    let key = "drop_original";
    let Some(entry) = section.table().get(key) else { return Ok(false) };
    match &entry.node.value {
        Value::Boolean(value) => Ok(*value),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(section.unknown_value(key, other, ["true", "false"])),
        },
        other => {
            let message = format!("option {key:?} must be true or false, not {}", other.describe());
            Err(section.error_at(key, message))
        }
    }
}
