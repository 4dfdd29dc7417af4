//! Reads the configuration: from where it stands to the sections that plugins are built from.

mod comments;
mod environment;
mod toml;

pub use environment::{EnvironmentMode, Lookup, process_environment};
