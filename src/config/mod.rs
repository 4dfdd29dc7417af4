//! Reads the configuration: from where it stands to the sections that plugins are built from.

mod agent;
mod comments;
mod common;
mod environment;
mod filters;
mod known;
mod labels;
mod load;
mod migration;
mod plugin_id;
mod source;
mod toml;
mod version;

pub use agent::{AgentConfig, BufferStrategy};
pub use common::{
    Common, CommonAggregator, CommonInput, CommonOutput, CommonProcessor, LogLevel, StartupErrorBehavior, TimeSource,
};
pub use environment::{EnvironmentMode, Lookup, process_environment};
pub use known::{KnownPlugins, PluginKind};
pub use labels::Selector;
pub use load::{
    AggregatorSection, InputSection, LoadOptions, Loaded, Loader, OutputSection, ProcessorSection, load, os_hostname,
};
pub use migration::migrated;
pub use plugin_id::plugin_id;
pub use source::{Location, client, last_modified, locate, locate_quietly, read};
pub use version::Version;
