//! What plugins are: one trait a kind, and the tables that name them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::accumulator::Accumulator;
use crate::clock::Clock;
use crate::config::{ConfigError, Section};
use crate::error::{BoxError, StartError, WriteError};
use crate::host::HostPaths;
use crate::model::{Batch, Interner, MetricMut, MetricRef, WriteBatch};
use crate::parse::ParserBuilder;
use crate::serialize::Serializer;
use crate::stats::Stats;

/// What the agent hands to a plugin that is being built.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The full name for logs: `inputs.cpu`, with an alias `inputs.cpu::lab`.
    pub name: Arc<str>,
    /// The clock.
    pub clock: Clock,
    /// Where the host's files are.
    pub host: HostPaths,
    /// The agent's figures about itself.
    pub stats: Stats,
    /// The agent's version, as sent in user agents.
    pub version: &'static str,
    /// Whether the plugin logs at debug level.
    pub debug: bool,
}

/// Gathers metrics once an interval, or receives them as they come.
#[async_trait]
pub trait Input: Send {
    /// The first I/O. A service input starts its task here and gives it the [`Accumulator`]; it may be called again
    /// after a [`StartError::Retry`].
    async fn start(&mut self, _accumulator: Accumulator) -> Result<(), StartError> {
        Ok(())
    }

    /// Adds what there is now. `Err` means that nothing was gathered; parts that failed are reported with
    /// [`Accumulator::problem`]. Runs under a deadline and may be dropped at any await: change `self` after the last one,
    /// or not at all.
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError>;

    /// Told once, before the end: a service input stops receiving, hands on what it holds and waits for its task.
    async fn stop(&mut self) {}

    /// Whether `--test` and `--once` gather twice, half a second apart, and show the second: for differences.
    fn needs_two_gathers(&self) -> bool {
        false
    }
}

/// Changes metrics one after the other.
pub trait Processor: Send {
    /// Changes a metric in place; [`Verdict::Drop`] takes it out. More metrics go to [`ProcessContext::emit`].
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict;

    /// How often the processor speaks by itself, if it does.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// Adds what the processor has held back to `context.emit`; called once a period and at the end.
    fn push(&mut self, _context: &mut ProcessContext<'_>) {}
}

/// What becomes of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It ends here.
    Drop,
}

/// What a processor may use.
#[derive(Debug)]
pub struct ProcessContext<'a> {
    /// Gives handles for changed series.
    pub interner: &'a mut Interner,
    /// Nanoseconds since the Unix epoch.
    pub now: i64,
    /// Metrics that go on behind the one at hand.
    pub emit: &'a mut Batch,
    /// The processor's full name, for its log lines.
    pub plugin: &'a str,
}

/// Sees a copy of each metric and speaks once a period.
pub trait Aggregator: Send {
    /// Takes a metric in.
    fn add(&mut self, metric: MetricRef<'_>);

    /// Adds the aggregates of the period to `context.emit`.
    fn push(&mut self, context: &mut ProcessContext<'_>);

    /// Forgets the period; called after each push.
    fn reset(&mut self);
}

/// Writes batches to a backend.
#[async_trait]
pub trait Output: Send {
    /// The first I/O; called again until it succeeds where the configuration asks for that.
    async fn connect(&mut self) -> Result<(), StartError>;

    /// Writes a batch, whole if it can. Runs in a task of its own; a slow one holds nobody else back.
    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError>;

    /// Asked at a flush with nothing to write: makes good what does not wait for the next write, such as lines that a broken
    /// connection has lost.
    async fn tend(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Told before each [`Self::write`], with a number that grows.
    fn begin(&mut self, _write: u64) {}

    /// Asked after each write, and after the close: what is not sure to have arrived although it was written.
    fn doubt(&self) -> Doubt {
        Doubt::default()
    }

    /// Flushes and closes; the agent is about to end.
    async fn close(&mut self) {}
}

/// What a backend without acknowledgements may not have got. The journal on disk keeps it, and an agent that dies with
/// something that waits to be sent again begins there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// The oldest write that the backend may not have read.
    pub unread: Option<u64>,
    /// The oldest write that is to be sent again, since a connection broke.
    pub lost: Option<u64>,
}

/// Reads the options of a plugin's table and makes the plugin.
pub type Build<P> = fn(Section, &BuildContext) -> Result<Box<P>, ConfigError>;

/// A row of the table of inputs.
pub struct InputSpec {
    /// As in `[[inputs.NAME]]`.
    pub name: &'static str,
    /// Every option with its default and meaning, as `heliograph config` prints it.
    pub sample: &'static str,
    /// Reads the options. Touches nothing outside but the files that options name (certificates).
    pub build: Build<dyn Input>,
}

/// A row of the table of processors.
pub struct ProcessorSpec {
    /// As in `[[processors.NAME]]`.
    pub name: &'static str,
    /// Every option with its default and meaning.
    pub sample: &'static str,
    /// Reads the options.
    pub build: Build<dyn Processor>,
}

/// A row of the table of aggregators.
pub struct AggregatorSpec {
    /// As in `[[aggregators.NAME]]`.
    pub name: &'static str,
    /// Every option with its default and meaning.
    pub sample: &'static str,
    /// Reads the options.
    pub build: Build<dyn Aggregator>,
}

/// A row of the table of outputs.
pub struct OutputSpec {
    /// As in `[[outputs.NAME]]`.
    pub name: &'static str,
    /// Every option with its default and meaning.
    pub sample: &'static str,
    /// Reads the options.
    pub build: Build<dyn Output>,
}

/// A row of the table of parsers.
pub struct ParserSpec {
    /// As in `data_format = "NAME"`.
    pub name: &'static str,
    /// Every option with its default and meaning.
    pub sample: &'static str,
    /// Takes the parser's own options out of the section of the plugin that uses it. `metric_name` is the default
    /// measurement: the name of that plugin.
    pub build: fn(&mut Section, metric_name: &str) -> Result<ParserBuilder, ConfigError>,
}

/// A row of the table of serializers.
pub struct SerializerSpec {
    /// As in `data_format = "NAME"`.
    pub name: &'static str,
    /// Every option with its default and meaning.
    pub sample: &'static str,
    /// Takes the serializer's own options out of the section of the plugin that uses it.
    pub build: fn(&mut Section) -> Result<Box<dyn Serializer>, ConfigError>,
}
