//! A message as a line of text or a JSON object.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use heliograph_core::timestamp::{GoLayout, Zone};
use serde_json::Value;
use tracing::Level;

use super::Format;

/// A message with all that its line shows.
#[derive(Debug)]
pub(super) struct Record {
    /// Nanoseconds since the Unix epoch.
    time: i64,
    level: Level,
    /// `inputs.cpu`, `agent`, or `None` for the main program.
    source: Option<String>,
    /// One line, but for the last error of the agent.
    message: String,
    /// Held back before this one.
    pub suppressed: u64,
    /// Further values, in the order of the call.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Second resolution.
static SECONDS: LazyLock<GoLayout> = LazyLock::new(|| GoLayout::new("2006-01-02T15:04:05Z07:00"));

/// Down to nanoseconds, without zeros at the end.
static NANOSECONDS: LazyLock<GoLayout> = LazyLock::new(|| GoLayout::new("2006-01-02T15:04:05.999999999Z07:00"));

/// The source of messages of the agent itself.
pub(super) const AGENT: &str = "agent";

impl Record {
    pub fn new(time: i64, level: Level, source: Option<String>, message: String) -> Self {
        Self { time, level, source, message, suppressed: 0, attributes: Vec::new() }
    }

    /// Appends the line with its end.
    pub fn write(&self, format: &Format, zone: &Zone, out: &mut Vec<u8>) {
        match format {
            Format::Text => self.write_text(zone, out),
            Format::Structured { message_key } => self.write_json(message_key, zone, out),
        }
        out.push(b'\n');
    }

    fn write_text(&self, zone: &Zone, out: &mut Vec<u8>) {
        SECONDS.format(self.time, zone, out);
        let mut line = String::with_capacity(self.message.len() + 64);
        let _ = write!(line, " {}! ", &self.level.as_str()[..1]);
        if let Some(source) = &self.source {
            let _ = write!(line, "[{source}] ");
        }
        line.push_str(&self.message);
        for (key, value) in &self.attributes {
            let _ = write!(line, " {key}=");
            match value {
                Value::String(text) if needs_quotes(text) => {
                    let _ = write!(line, "{text:?}");
                }
                Value::String(text) => line.push_str(text),
                other => {
                    let _ = write!(line, "{other}");
                }
            }
        }
        if self.suppressed > 0 {
            let _ = write!(line, " ({} more suppressed)", self.suppressed);
        }
        out.extend_from_slice(line.as_bytes());
    }

    fn write_json(&self, message_key: &str, zone: &Zone, out: &mut Vec<u8>) {
        let mut time = Vec::new();
        NANOSECONDS.format(self.time, zone, &mut time);
        // A list, not a map: the keys stay in this order.
        let mut object: Vec<(String, Value)> = Vec::new();
        let mut put = |key: &str, value: Value| {
            let mut key = key.to_owned();
            // Two equal keys would make an object that readers disagree on.
            while object.iter().any(|(known, _)| *known == key) {
                key.push('_');
            }
            object.push((key, value));
        };
        put("time", String::from_utf8_lossy(&time).into());
        put("level", self.level.as_str().into());
        match self.source.as_deref() {
            None => put(message_key, self.message.as_str().into()),
            Some(AGENT) => put(message_key, format!("[{AGENT}] {}", self.message).into()),
            Some(source) => {
                put(message_key, self.message.as_str().into());
                let (name, alias) = source.split_once("::").unwrap_or((source, ""));
                let (category, plugin) = name.split_once('.').unwrap_or(("", name));
                for (key, value) in [("category", category), ("plugin", plugin), ("alias", alias)] {
                    if !value.is_empty() {
                        put(key, value.into());
                    }
                }
            }
        }
        for (key, value) in &self.attributes {
            put(key, value.clone());
        }
        if self.suppressed > 0 {
            put("suppressed", self.suppressed.into());
        }
        for (index, (key, value)) in object.iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(value.to_string().as_bytes());
        }
        out.push(b'}');
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

/// Prints a text on one line: control characters, with which outside data could forge lines, are escaped.
pub(super) struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_debug()) } else { f.write_char(c) })
    }
}
