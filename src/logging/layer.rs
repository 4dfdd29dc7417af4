//! Takes the events of `tracing`, decides whether they are shown, and makes records of them.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::PoisonError;

use heliograph_core::error::Chain;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::format::{AGENT, OneLine, Record};
use super::{Control, MAIN};

/// The log as a layer.
#[derive(Debug)]
pub(super) struct LogLayer {
    control: Control,
}

impl LogLayer {
    pub fn new(control: Control) -> Self {
        Self { control }
    }

    fn max_level(&self) -> Level {
        self.control.0.rules.read().unwrap_or_else(PoisonError::into_inner).max_level()
    }
}

/// Where a message comes from, judged by the module that says it.
enum Origin {
    /// The main program and the loading of the configuration.
    Main,
    /// The rest of the agent, and plugins that do not say which they are.
    Agent,
    /// A crate of others. Our plugins report what matters of it, so it is shown for debugging only.
    Foreign,
}

impl Origin {
    fn of(target: &str) -> Self {
        let mut path = target.split("::");
        match (path.next(), path.next()) {
            _ if target == MAIN => Self::Main,
            (Some("heliograph"), None | Some("cli" | "config")) => Self::Main,
            (Some("heliograph" | "heliograph_core" | "heliograph_plugins"), _) => Self::Agent,
            _ => Self::Foreign,
        }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if !metadata.is_event() {
            return false;
        }
        let max_level = self.max_level();
        match Origin::of(metadata.target()) {
            Origin::Foreign => *metadata.level() <= Level::WARN && max_level >= Level::DEBUG,
            _ => *metadata.level() <= max_level,
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level().into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut found = Found::default();
        event.record(&mut found);
        let (level, source) = match Origin::of(metadata.target()) {
            Origin::Foreign => (Level::DEBUG, metadata.target().split("::").next().map(str::to_owned)),
            _ if found.plugin.is_some() => (*metadata.level(), found.plugin.take()),
            Origin::Agent => (*metadata.level(), Some(AGENT.to_owned())),
            Origin::Main => (*metadata.level(), None),
        };
        {
            let rules = self.control.0.rules.read().unwrap_or_else(PoisonError::into_inner);
            let plugin = source.as_deref();
            if level == Level::ERROR
                && let Some(count) = plugin.and_then(|plugin| rules.error_counts.get(plugin))
            {
                count.increment();
            }
            if !rules.shows(plugin, level) {
                return;
            }
        }
        let record = found.into_record(self.control.0.clock.now(), level, source);
        self.control.write(record);
    }
}

/// The fields of an event.
#[derive(Default)]
struct Found {
    message: String,
    plugin: Option<String>,
    error: String,
    suppressed: u64,
    attributes: Vec<(&'static str, Value)>,
}

impl Found {
    fn into_record(self, time: i64, level: Level, source: Option<String>) -> Record {
        let mut message = OneLine(&self.message).to_string();
        if !self.error.is_empty() {
            let _ = write!(message, ": {}", OneLine(&self.error));
        }
        let mut record = Record::new(time, level, source, message);
        record.suppressed = self.suppressed;
        record.attributes = self.attributes;
        record
    }

    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            "plugin" => self.plugin = Some(text),
            "error" => self.error = text,
            name => self.attributes.push((name, text.into())),
        }
    }
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(count) => self.record_u64(field, count),
            Err(_) => self.attributes.push((field.name(), value.into())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "suppressed" => self.suppressed = value,
            name => self.attributes.push((name, value.into())),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push((field.name(), value.into()));
    }
}
