//! Options of the processor, and what they compile to.

use hashbrown::HashMap;
use heliograph_core::glob::GlobSet;
use heliograph_core::model::Key;
use heliograph_core::timestamp::TimestampFormat;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) tags: Option<TagOptions>,
    pub(super) fields: Option<FieldOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TagOptions {
    pub(super) measurement: Vec<String>,
    /// A tag is a tag: accepted as in Telegraf, and there is nothing to do.
    pub(super) tag: Vec<String>,
    pub(super) string: Vec<String>,
    pub(super) integer: Vec<String>,
    pub(super) unsigned: Vec<String>,
    pub(super) boolean: Vec<String>,
    pub(super) float: Vec<String>,
    pub(super) timestamp: Vec<String>,
    pub(super) timestamp_format: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FieldOptions {
    pub(super) measurement: Vec<String>,
    pub(super) tag: Vec<String>,
    pub(super) string: Vec<String>,
    pub(super) integer: Vec<String>,
    pub(super) unsigned: Vec<String>,
    pub(super) boolean: Vec<String>,
    pub(super) float: Vec<String>,
    pub(super) timestamp: Vec<String>,
    pub(super) timestamp_format: String,
    pub(super) base64_ieee_float32: Vec<String>,
}

/// What becomes of a tag or field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Measurement,
    Tag,
    Text,
    Integer,
    Unsigned,
    Boolean,
    Float,
    Timestamp,
    Base64Float32,
}

impl Target {
    /// The option's name.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Measurement => "measurement",
            Self::Tag => "tag",
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Boolean => "boolean",
            Self::Float => "float",
            Self::Timestamp => "timestamp",
            Self::Base64Float32 => "base64_ieee_float32",
        }
    }
}

/// One of the two tables.
pub(super) struct Table {
    /// In order of precedence; the first that matches a key counts.
    targets: Vec<(Target, GlobSet)>,
    known: HashMap<Key, Option<Target>>,
    pub(super) format: Option<TimestampFormat>,
}

/// Keys remembered; data that invents keys starts the memory anew.
const KNOWN: usize = 4096;

impl Table {
    fn new(name: &str, targets: &[(Target, &[String])], format: &str) -> Result<Self, String> {
        let compile = |&(target, patterns): &(Target, &[String])| {
            let keys = GlobSet::new(patterns, "")
                .map_err(|error| format!("cannot use `{}` of [{name}]: {error}", target.option()))?;
            Ok((target, keys))
        };
        let mut targets = targets.iter().map(compile).collect::<Result<Vec<_>, String>>()?;
        targets.retain(|(_, keys)| !keys.is_empty());
        let format = match format {
            "" => None,
            format => Some(
                TimestampFormat::new(format, "")
                    .map_err(|error| format!("cannot use `timestamp_format` of [{name}]: {error}"))?,
            ),
        };
        Ok(Self { targets, known: HashMap::new(), format })
    }

    /// What becomes of the tag or field of this key.
    pub(super) fn target(&self, key: &[u8]) -> Option<Target> {
        self.targets.iter().find(|(_, keys)| keys.matches(key)).map(|&(target, _)| target)
    }

    /// As [`Self::target`], with a memory of the keys seen.
    pub(super) fn remembered_target(&mut self, key: &Key) -> Option<Target> {
        if let Some(&target) = self.known.get(key) {
            return target;
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let target = self.target(key.as_bytes());
        self.known.insert(key.clone(), target);
        target
    }
}

impl TagOptions {
    pub(super) fn compile(&self) -> Result<Table, String> {
        // Looked at for mistakes only.
        GlobSet::new(&self.tag, "").map_err(|error| format!("cannot use `tag` of [tags]: {error}"))?;
        let targets: [(Target, &[String]); 7] = [
            (Target::Measurement, &self.measurement),
            (Target::Text, &self.string),
            (Target::Integer, &self.integer),
            (Target::Unsigned, &self.unsigned),
            (Target::Boolean, &self.boolean),
            (Target::Float, &self.float),
            (Target::Timestamp, &self.timestamp),
        ];
        Table::new("tags", &targets, &self.timestamp_format)
    }
}

impl FieldOptions {
    pub(super) fn compile(&self) -> Result<Table, String> {
        let targets: [(Target, &[String]); 9] = [
            (Target::Measurement, &self.measurement),
            (Target::Tag, &self.tag),
            (Target::Float, &self.float),
            (Target::Integer, &self.integer),
            (Target::Unsigned, &self.unsigned),
            (Target::Boolean, &self.boolean),
            (Target::Text, &self.string),
            (Target::Timestamp, &self.timestamp),
            (Target::Base64Float32, &self.base64_ieee_float32),
        ];
        Table::new("fields", &targets, &self.timestamp_format)
    }
}
