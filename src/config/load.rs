//! Loads configurations one after the other into the state of the agent that they make together.

use std::{collections::BTreeMap, sync::Arc};

use heliograph_core::config::{
    ConfigError, SecretStores, Section, is_word,
    tree::{Entry, Node, OffsetMap, Source, SourceFile, Table, Value},
};
use tracing::{info, warn};

use super::{
    agent::AgentConfig,
    comments,
    common::{CommonAggregator, CommonInput, CommonOutput, CommonProcessor},
    environment::{EnvironmentMode, Lookup, substitute_text, substitute_tree},
    known::{KnownPlugins, PluginKind},
    labels::{Selector, is_selected},
    source::{self, Location},
    toml,
    version::Version,
};

/// What to load and how.
#[derive(Debug, Default)]
pub struct LoadOptions {
    /// Values of `--config`.
    pub configs: Vec<String>,
    /// Values of `--config-directory`.
    pub directories: Vec<String>,
    /// How environment variables are treated.
    pub environment: EnvironmentMode,
    /// Value of `--config-url-retry-attempts`; a file can change it for the addresses after it.
    pub url_retry_attempts: i64,
    /// Values of `--select`.
    pub select: Vec<Selector>,
    /// Names of `--input-filter`; `None` for all.
    pub input_filter: Option<Vec<String>>,
    /// Names of `--output-filter`; `None` for all.
    pub output_filter: Option<Vec<String>>,
    /// Names of `--secretstore-filter`; `None` for all.
    pub secretstore_filter: Option<Vec<String>>,
    /// The plugins of this build.
    pub known: KnownPlugins,
    /// Host name of the operating system, see [`os_hostname`].
    pub os_hostname: String,
}

/// The host name as the operating system has it, which in a container is the name of the pod.
#[must_use]
pub fn os_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An input to build.
#[derive(Debug)]
pub struct InputSection {
    /// Its table.
    pub section: Section,
    /// The options that all inputs have.
    pub options: CommonInput,
    /// Add its own tags again after its tag filter.
    pub always_include_local_tags: bool,
    /// Add the global tags again after its tag filter.
    pub always_include_global_tags: bool,
}

/// A processor to build, once before and once behind the aggregators.
#[derive(Debug, Clone)]
pub struct ProcessorSection {
    /// Its table.
    pub section: Section,
    /// The options that all processors have.
    pub options: CommonProcessor,
}

/// An aggregator to build.
#[derive(Debug)]
pub struct AggregatorSection {
    /// Its table.
    pub section: Section,
    /// The options that all aggregators have.
    pub options: CommonAggregator,
}

/// An output to build.
#[derive(Debug)]
pub struct OutputSection {
    /// Its table.
    pub section: Section,
    /// The options that all outputs have.
    pub options: CommonOutput,
    /// Largest number of metrics in a write, of the output or else of the agent when the file was loaded.
    pub metric_batch_size: usize,
    /// Largest number of metrics that wait, of the output or else of the agent when the file was loaded.
    pub metric_buffer_limit: usize,
}

/// The merged configuration.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The agent as a whole.
    pub agent: AgentConfig,
    /// Tags of all inputs, with `host`.
    pub global_tags: BTreeMap<String, String>,
    /// In the order of the files.
    pub inputs: Vec<InputSection>,
    /// In the order in which they run.
    pub processors: Vec<ProcessorSection>,
    /// In the order of the files.
    pub aggregators: Vec<AggregatorSection>,
    /// In the order of the files.
    pub outputs: Vec<OutputSection>,
    /// The stores that secrets are read from.
    pub secret_stores: Arc<SecretStores>,
    /// Kind and name of every plugin with the files it comes from, in order.
    pub origins: Vec<(String, String)>,
    /// Where all of it was read from, in order, and the version of each file.
    pub sources: Vec<(Location, Option<Version>)>,
}

/// Loads all configurations that the options name, or those of the usual places.
///
/// # Errors
/// At the first mistake; nothing is loaded then.
pub async fn load(options: &LoadOptions, lookup: Lookup<'_>) -> Result<Loaded, ConfigError> {
    let locations = source::locate(&options.configs, &options.directories, lookup)?;
    let mut loader = Loader::new(options, lookup);
    for location in locations {
        let name = location.display();
        if !loader.loaded.agent.quiet {
            info!("Loading config: {name}");
        }
        // Taken before the file is read, so that a change from here on is one.
        let version = match &location {
            Location::File(path) => Version::of(path),
            Location::Url(_) => None,
        };
        let bytes = source::read(&location, loader.loaded.agent.config_url_retry_attempts, lookup).await?;
        loader.add(&name, &bytes)?;
        loader.loaded.sources.push((location, version));
    }
    Ok(loader.finish())
}

/// The state while files are added.
pub struct Loader<'a> {
    options: &'a LoadOptions,
    lookup: Lookup<'a>,
    loaded: Loaded,
    stores: SecretStores,
    seen_agent: bool,
}

impl<'a> Loader<'a> {
    /// Nothing loaded yet.
    #[must_use]
    pub fn new(options: &'a LoadOptions, lookup: Lookup<'a>) -> Loader<'a> {
        let mut loaded = Loaded::default();
        loaded.agent.config_url_retry_attempts = options.url_retry_attempts;
        Loader { options, lookup, loaded, stores: SecretStores::default(), seen_agent: false }
    }

    /// Adds the content of a file, whose name is for messages.
    ///
    /// # Errors
    /// At the first mistake in it.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConfigError> {
        let (source, mut tree) = prepare(name, bytes, self.options.environment, self.lookup)?;
        for name in ["tags", "global_tags"] {
            if let Some(entry) = tree.remove(name) {
                self.global_tags(name, &entry, &source)?;
            }
        }
        if let Some(entry) = tree.remove("agent") {
            let table = top_table("agent", &entry, &source)?;
            if std::mem::replace(&mut self.seen_agent, true) {
                warn!("Overlapping settings in multiple [agent] tables: later values win");
            }
            self.loaded.agent.read(Section::new("agent", Arc::clone(&source), entry.node.span, table.clone()))?;
        }
        self.host_tag();
        for (name, entry) in tree {
            let table = top_table(&name, &entry, &source)?;
            match name.as_str() {
                "inputs" | "plugins" => self.plugins(PluginKind::Input, table, &source)?,
                "outputs" => self.plugins(PluginKind::Output, table, &source)?,
                "processors" => self.plugins(PluginKind::Processor, table, &source)?,
                "aggregators" => self.plugins(PluginKind::Aggregator, table, &source)?,
                "secretstores" => self.plugins(PluginKind::SecretStore, table, &source)?,
                // Files older than Telegraf 0.10 have inputs at the top.
                _ => self.plugin(PluginKind::Input, &name, &entry.node, table, &source)?,
            }
        }
        Ok(())
    }

    /// The merged configuration, with processors in the order in which they run and secrets bound to their stores.
    #[must_use]
    pub fn finish(mut self) -> Loaded {
        self.loaded.processors.sort_by_key(|processor| processor.options.order);
        let stores = Arc::new(self.stores);
        let Loaded { inputs, processors, aggregators, outputs, .. } = &mut self.loaded;
        let sections = (inputs.iter_mut().map(|input| &mut input.section))
            .chain(processors.iter_mut().map(|processor| &mut processor.section))
            .chain(aggregators.iter_mut().map(|aggregator| &mut aggregator.section))
            .chain(outputs.iter_mut().map(|output| &mut output.section));
        for section in sections {
            section.bind_secrets(Arc::clone(&stores));
        }
        self.loaded.secret_stores = stores;
        self.loaded
    }

    fn global_tags(&mut self, name: &str, entry: &Entry, source: &Source) -> Result<(), ConfigError> {
        for (tag, entry) in top_table(name, entry, source)?.iter() {
            let Value::String(value) = &entry.node.value else {
                let message = format!("tag {tag:?} must be a string, not {}", entry.node.value.describe());
                return Err(ConfigError::at(source, entry.node.span, name, message));
            };
            self.loaded.global_tags.insert(tag.to_owned(), value.clone());
        }
        Ok(())
    }

    /// Sets the `host` tag as it is after this file. One that an earlier file set stays if this one omits it.
    fn host_tag(&mut self) {
        let agent = &mut self.loaded.agent;
        if agent.omit_hostname {
            return;
        }
        if agent.hostname.is_empty() {
            agent.hostname.clone_from(&self.options.os_hostname);
        }
        self.loaded.global_tags.insert("host".to_owned(), agent.hostname.clone());
    }

    fn plugins(&mut self, kind: PluginKind, table: &Table, source: &Source) -> Result<(), ConfigError> {
        let mut found: Vec<(&str, &Node, &Table)> = Vec::new();
        for (name, entry) in table.iter() {
            let single = matches!(kind, PluginKind::Input | PluginKind::Output);
            match &entry.node.value {
                Value::Table(table) if single => found.push((name, &entry.node, table)),
                Value::Array(array) if array.items.iter().all(|item| item.as_table().is_some()) => {
                    found.extend(array.items.iter().filter_map(|item| Some((name, item, item.as_table()?))));
                }
                other => {
                    let message = format!(
                        "unsupported config format: {} where [[{}.{name}]] is expected",
                        other.describe(),
                        kind.table()
                    );
                    let owner = format!("{}.{name}", kind.table());
                    return Err(ConfigError::at(source, entry.key_span, &owner, message));
                }
            }
        }
        found.sort_by_key(|(_, node, _)| node.span.start);
        for (name, node, table) in found {
            self.plugin(kind, name, node, table, source)?;
        }
        Ok(())
    }

    fn plugin(
        &mut self,
        kind: PluginKind,
        name: &str,
        node: &Node,
        table: &Table,
        source: &Source,
    ) -> Result<(), ConfigError> {
        let filter = match kind {
            PluginKind::Input => &self.options.input_filter,
            PluginKind::Output => &self.options.output_filter,
            PluginKind::SecretStore => &self.options.secretstore_filter,
            PluginKind::Processor | PluginKind::Aggregator => &None,
        };
        if filter.as_ref().is_some_and(|names| !names.iter().any(|known| known == name)) {
            return Ok(());
        }
        let full_name = format!("{}.{name}", kind.table());
        let mut section = Section::new(full_name.clone(), Arc::clone(source), node.span, table.clone());
        if !is_selected(&section, &self.options.select)? {
            return Ok(());
        }
        if let Some(problem) = self.options.known.problem(kind, name) {
            return Err(section.error(problem));
        }
        self.loaded.origins.push((full_name, source.path().to_owned()));
        let agent = &self.loaded.agent;
        match kind {
            PluginKind::Input => {
                let options = CommonInput::read(&mut section)?;
                self.loaded.inputs.push(InputSection {
                    section,
                    options,
                    always_include_local_tags: agent.always_include_local_tags,
                    always_include_global_tags: agent.always_include_global_tags,
                });
            }
            PluginKind::Processor => {
                let options = CommonProcessor::read(&mut section)?;
                self.loaded.processors.push(ProcessorSection { section, options });
            }
            PluginKind::Aggregator => {
                let options = CommonAggregator::read(&mut section)?;
                self.loaded.aggregators.push(AggregatorSection { section, options });
            }
            PluginKind::Output => {
                let options = CommonOutput::read(&mut section)?;
                self.loaded.outputs.push(OutputSection {
                    section,
                    metric_batch_size: options.metric_batch_size.unwrap_or(agent.metric_batch_size),
                    metric_buffer_limit: options.metric_buffer_limit.unwrap_or(agent.metric_buffer_limit),
                    options,
                });
            }
            PluginKind::SecretStore => self.secret_store(name, section)?,
        }
        Ok(())
    }

    fn secret_store(&mut self, name: &str, mut section: Section) -> Result<(), ConfigError> {
        let Some(id) = section.take::<String>("id")?.filter(|id| !id.is_empty()) else {
            return Err(section.error("a secret store needs an \"id\", by which secrets name it"));
        };
        if !is_word(&id) {
            let message = format!("option \"id\" is {id:?}, but may hold only letters, digits and \"_\"");
            return Err(section.error_at("id", message));
        }
        let twice = section.error_at("id", format!("option \"id\" is {id:?}, which another secret store has already"));
        let place = section.position();
        let Some(spec) = self.options.known.secret_stores.iter().find(|spec| spec.name == name) else {
            return Err(place.error(format!("undefined but requested secretstores: {name}")));
        };
        // Stores may use secrets of the stores before them.
        section.bind_secrets(Arc::new(self.stores.clone()));
        let store = (spec.build)(section)?;
        if self.stores.insert(&id, store) { Ok(()) } else { Err(twice) }
    }
}

/// The table behind a top-level name.
fn top_table<'t>(name: &str, entry: &'t Entry, source: &Source) -> Result<&'t Table, ConfigError> {
    match &entry.node.value {
        Value::Table(table) => Ok(table),
        Value::Array(_) => {
            let message = format!("invalid configuration: {name:?} cannot be a list, write [{name}]");
            Err(ConfigError::at(source, entry.key_span, "", message))
        }
        other => {
            let message = format!(
                "invalid configuration: {name:?} is {} outside of any table, move it into one",
                other.describe()
            );
            Err(ConfigError::at(source, entry.key_span, "", message))
        }
    }
}

/// From the bytes of a file to its tree, with variables in place.
fn prepare(
    name: &str,
    bytes: &[u8],
    mode: EnvironmentMode,
    lookup: Lookup<'_>,
) -> Result<(Source, Table), ConfigError> {
    let original = decode(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes));
    let (without, comments) = comments::remove(&original);
    if mode.strict {
        let source = Arc::new(SourceFile::prepared(name.to_owned(), original, without, vec![comments]));
        let mut tree = toml::parse(&source)?;
        substitute_tree(&mut tree, &source, mode, lookup)?;
        return Ok((source, tree));
    }
    match substitute_text(&without, mode, lookup) {
        Ok((text, variables)) => {
            let maps: Vec<OffsetMap> = vec![comments, variables];
            let source = Arc::new(SourceFile::prepared(name.to_owned(), original, text, maps));
            let mut tree = toml::parse(&source)?;
            mark_substituted(&mut tree, &source);
            Ok((source, tree))
        }
        Err((offset, missing)) => {
            let source = Arc::new(SourceFile::prepared(name.to_owned(), original, without, vec![comments]));
            let span = heliograph_core::config::tree::Span::new(offset, offset + 1);
            Err(ConfigError::at(&source, span, "", missing.to_string()))
        }
    }
}

/// Marks the strings that variables had a part in, so that messages do not show their values.
fn mark_substituted(table: &mut Table, source: &SourceFile) {
    fn mark(node: &mut Node, source: &SourceFile) {
        match &mut node.value {
            Value::String(_) => node.substituted = source.written(node.span) != source.slice(node.span),
            Value::Array(array) => array.items.iter_mut().for_each(|item| mark(item, source)),
            Value::Table(table) => mark_substituted(table, source),
            _ => {}
        }
    }

    for (_, entry) in table.iter_mut() {
        mark(&mut entry.node, source);
    }
}

/// Bytes as text; every byte that is not UTF-8 becomes one U+FFFD.
pub(super) fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests;
