//! Options of the JSON parser, and what follows from them for each name.

use heliograph_core::error::BoxError;
use heliograph_core::glob::GlobSet;
use heliograph_core::timestamp::TimestampFormat;
use serde::Deserialize;

use super::query::Query;
use super::shape::Role;

/// As in the configuration.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) metric_name: String,
    pub(super) tag_keys: Vec<String>,
    pub(super) json_string_fields: Vec<String>,
    pub(super) json_name_key: String,
    pub(super) json_query: String,
    pub(super) json_time_key: String,
    pub(super) json_time_format: String,
    pub(super) json_timezone: String,
    pub(super) json_strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            metric_name: String::new(),
            tag_keys: Vec::new(),
            json_string_fields: Vec::new(),
            json_name_key: String::new(),
            json_query: String::new(),
            json_time_key: String::new(),
            json_time_format: String::new(),
            json_timezone: String::new(),
            json_strict: true,
        }
    }
}

/// The options, checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) measurement: String,
    pub(super) query: Option<Query>,
    pub(super) selection: Selection,
    /// None without `json_time_format`.
    pub(super) time_format: Option<TimestampFormat>,
    pub(super) strict: bool,
}

/// What becomes of a value by its flattened name.
#[derive(Debug)]
pub(super) struct Selection {
    tags: GlobSet,
    kept: GlobSet,
    measurement: String,
    /// `json_time_key`; empty for the time of reading.
    pub(super) time: String,
}

impl Config {
    /// Checks the options; `metric_name` names metrics unless they or the documents do.
    pub(super) fn new(options: Options, metric_name: &str) -> Result<Self, BoxError> {
        let time_format = TimestampFormat::new(&options.json_time_format, &options.json_timezone)
            .map_err(|error| format!("option \"json_timezone\": {error}"))?;
        let globs = |option, patterns: &[String]| {
            GlobSet::new(patterns, "").map_err(|error| format!("option {option:?}: {error}"))
        };
        let name = if options.metric_name.is_empty() { metric_name } else { &options.metric_name };
        Ok(Self {
            measurement: name.to_owned(),
            query: if options.json_query.is_empty() { None } else { Some(Query::new(&options.json_query)?) },
            selection: Selection {
                tags: globs("tag_keys", &options.tag_keys)?,
                kept: globs("json_string_fields", &options.json_string_fields)?,
                measurement: options.json_name_key,
                time: options.json_time_key,
            },
            time_format: (!options.json_time_format.is_empty()).then_some(time_format),
            strict: options.json_strict,
        })
    }
}

impl Selection {
    /// What becomes of the values of this name.
    pub(super) fn role(&self, name: &[u8]) -> Role {
        // An empty option names nothing, not the empty name.
        let is = |option: &str| !option.is_empty() && option.as_bytes() == name;
        Role {
            time: is(&self.time),
            measurement: is(&self.measurement),
            tag: self.tags.matches(name),
            kept: self.kept.matches(name),
        }
    }

    /// Whether time, measurement and tags come from outside the document.
    pub(super) fn is_plain(&self) -> bool {
        self.time.is_empty() && self.measurement.is_empty() && self.tags.is_empty()
    }
}
