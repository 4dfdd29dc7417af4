//! What tests of inputs share: a scratch host, one gather, and metrics as lines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::clock::Clock;
use heliograph_core::config::tree::{Array, Entry, Node, SourceFile, Span, Table, Value as Setting};
use heliograph_core::config::{ConfigError, Section};
use heliograph_core::error::Chain;
use heliograph_core::host::HostPaths;
use heliograph_core::model::{Batch, Kind, MetricRef, Value};
use heliograph_core::number::{write_i64, write_plain_f64, write_u64};
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use heliograph_core::stage::InputRules;
use heliograph_core::stats::Stats;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Metrics of one gather that the kit takes; more would wait for ever.
const BATCHES: usize = 64;

/// A scratch folder that stands for the host, with a clock of its own: `proc/stat` in it is what `HOST_PROC` shows.
pub(crate) struct TestHost {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    /// Stands at one second after the epoch until it is moved.
    pub(crate) clock: Clock,
    runtime: Runtime,
}

impl TestHost {
    /// A host with these files, paths relative to its root. Every `HOST_*` folder variable points into it.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let variables = [
            ("HOST_PROC", "proc"),
            ("HOST_SYS", "sys"),
            ("HOST_ETC", "etc"),
            ("HOST_VAR", "var"),
            ("HOST_RUN", "run"),
            ("HOST_DEV", "dev"),
        ];
        let variables = variables.map(|(variable, name)| (variable, below(name))).to_vec();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let host = Self { folder, variables, clock: Clock::manual(1_000_000_000), runtime };
        files.iter().for_each(|(path, content)| host.write(path, content));
        host
    }

    /// Sets a variable, or with an empty value unsets it.
    pub(crate) fn set(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.retain(|(name, _)| *name != variable);
        self.variables.push((variable, value.into()));
        self
    }

    /// Writes a file with the folders it needs.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The path outside of the host's own view.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// What a plugin on this host is built with.
    pub(crate) fn context(&self) -> BuildContext {
        let lookup = |name: &str| self.variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        BuildContext {
            name: "inputs.test".into(),
            clock: self.clock.clone(),
            host: HostPaths::from_lookup(lookup),
            stats: Stats::default(),
            version: "0.0.0",
            debug: false,
        }
    }

    /// Builds an input with these options, as the agent does.
    pub(crate) fn build(&self, spec: &InputSpec, options: &[(&str, Setting)]) -> Result<Box<dyn Input>, ConfigError> {
        (spec.build)(section(spec.name, options), &self.context())
    }

    /// Starts the input and gathers once.
    pub(crate) fn gather_once(&self, spec: &InputSpec, options: &[(&str, Setting)]) -> String {
        match self.build(spec, options) {
            Ok(mut input) => match self.start(&mut *input) {
                Ok(()) => self.gather(&mut *input),
                Err(error) => format!("start error: {error}\n"),
            },
            Err(error) => format!("configuration error: {}\n", error.message()),
        }
    }

    /// Starts the input.
    pub(crate) fn start(&self, input: &mut dyn Input) -> Result<(), String> {
        let (accumulator, _metrics) = self.accumulator();
        self.runtime.block_on(input.start(accumulator)).map_err(|error| Chain(&error).to_string())
    }

    /// What one gather adds, a line a metric; then the error, or how many problems there were.
    pub(crate) fn gather(&self, input: &mut dyn Input) -> String {
        let mut lines = String::new();
        let result = self.gather_batch(input, |metric| lines.push_str(&format!("{}\n", show(metric))));
        lines + &result
    }

    /// As [`Self::gather`], but hands each metric to `see`.
    pub(crate) fn gather_batch(&self, input: &mut dyn Input, mut see: impl FnMut(MetricRef<'_>)) -> String {
        let (mut accumulator, mut metrics) = self.accumulator();
        let (result, problems) = self.runtime.block_on(async {
            let result = input.gather(&mut accumulator).await;
            accumulator.flush().await.unwrap();
            (result, accumulator.take_problems())
        });
        while let Ok(batch) = metrics.try_recv() {
            batch.iter().for_each(&mut see);
        }
        match result {
            Err(error) => format!("error: {}\n", Chain(error.as_ref())),
            Ok(()) if problems > 0 => format!("problems: {problems}\n"),
            Ok(()) => String::new(),
        }
    }

    /// Moves the clock on.
    pub(crate) fn advance(&self, milliseconds: u64) {
        self.clock.advance(Duration::from_millis(milliseconds));
    }

    fn accumulator(&self) -> (Accumulator, mpsc::Receiver<Batch>) {
        let (sink, metrics) = mpsc::channel(BATCHES);
        let rules = Arc::new(InputRules { plugin: "inputs.test".into(), ..InputRules::default() });
        (Accumulator::new(rules, 1, self.clock.clone(), sink, Vec::new()), metrics)
    }
}

/// The table `[[inputs.NAME]]` with these options.
pub(crate) fn section(name: &str, options: &[(&str, Setting)]) -> Section {
    let mut table = Table::default();
    for (key, value) in options {
        let node = Node::new(value.clone(), Span::default());
        table.insert((*key).to_string(), Entry { key_span: Span::default(), node });
    }
    Section::new(format!("inputs.{name}"), Arc::new(SourceFile::new("test.conf", "")), Span::default(), table)
}

/// The option value `true` or `false`.
pub(crate) fn flag(value: bool) -> Setting {
    Setting::Boolean(value)
}

/// The option value `"text"`.
pub(crate) fn text(value: &str) -> Setting {
    Setting::String(value.into())
}

/// The option value `["a", "b"]`.
pub(crate) fn list(values: &[&str]) -> Setting {
    let items = values.iter().map(|value| Node::new(text(value), Span::default())).collect();
    Setting::Array(Array { items, headers: false })
}

/// A metric as `kind name,tags fields`: like line protocol without escapes and time, fields sorted, unsigned numbers with
/// a `u`. An untyped metric has no kind in front.
pub(crate) fn show(metric: MetricRef<'_>) -> String {
    let kind = match metric.kind {
        Kind::Untyped => "",
        Kind::Counter => "counter ",
        Kind::Gauge => "gauge ",
        Kind::Summary => "summary ",
        Kind::Histogram => "histogram ",
    };
    let mut fields: Vec<_> = metric.fields.iter().collect();
    fields.sort_by(|a, b| a.key.cmp(&b.key));
    let fields: Vec<_> = fields.iter().map(|field| format!("{}={}", field.key, show_value(&field.value))).collect();
    format!("{kind}{} {}", metric.series, fields.join(","))
}

fn show_value(value: &Value) -> String {
    let mut out = Vec::new();
    match value {
        Value::Float(value) => write_plain_f64(&mut out, *value),
        Value::Int(value) => {
            write_i64(&mut out, *value);
            out.push(b'i');
        }
        Value::Uint(value) => {
            write_u64(&mut out, *value);
            out.push(b'u');
        }
        Value::Bool(value) => return value.to_string(),
        Value::Text(value) => return format!("{value:?}"),
    }
    String::from_utf8_lossy(&out).into_owned()
}
