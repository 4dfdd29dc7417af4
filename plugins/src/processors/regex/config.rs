//! Options of the processor, and what they compile to.

use heliograph_core::glob::GlobSet;
use serde::Deserialize;

use crate::common::go_regex::{GoRegex, Template};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) tags: Vec<Entry>,
    pub(super) fields: Vec<Entry>,
    pub(super) tag_rename: Vec<Entry>,
    pub(super) field_rename: Vec<Entry>,
    pub(super) metric_rename: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) pattern: String,
    pub(super) replacement: String,
    pub(super) result_key: String,
    pub(super) append: bool,
}

pub(super) struct Rules {
    pub(super) tags: Vec<Values>,
    pub(super) fields: Vec<Values>,
    pub(super) tag_rename: Vec<Rename>,
    pub(super) field_rename: Vec<Rename>,
    pub(super) metric_rename: Vec<Rename>,
}

/// An entry that rewrites values.
pub(super) struct Values {
    pub(super) keys: GlobSet,
    pub(super) regex: GoRegex,
    pub(super) result: ValueResult,
    pub(super) append: bool,
}

/// Where the result of a match goes.
pub(super) enum ValueResult {
    /// Every group that matched something, under its own name.
    Groups,
    /// The text with its matches replaced, under another key or in place.
    Replaced { template: Template, key: Option<String> },
}

/// An entry that rewrites keys or measurements.
pub(super) struct Rename {
    pub(super) regex: GoRegex,
    pub(super) template: Template,
    /// What to do when the new key is taken: let its value be replaced, or leave both alone.
    pub(super) overwrite: bool,
    pub(super) scratch: Vec<u8>,
}

impl Options {
    /// Compiles all entries; the error names the table and the entry.
    pub(super) fn compile(self, plugin: &str) -> Result<Rules, String> {
        Ok(Rules {
            tags: each("tags", self.tags, |entry, place| entry.values(place, plugin))?,
            fields: each("fields", self.fields, |entry, place| entry.values(place, plugin))?,
            tag_rename: each("tag_rename", self.tag_rename, Entry::key_rename)?,
            field_rename: each("field_rename", self.field_rename, Entry::key_rename)?,
            metric_rename: each("metric_rename", self.metric_rename, |entry, place| entry.rename(place))?,
        })
    }
}

fn each<T>(
    table: &str,
    entries: Vec<Entry>,
    compile: impl Fn(Entry, &str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let numbered = entries.into_iter().enumerate();
    numbered.map(|(i, entry)| compile(entry, &format!("[[{table}]] entry {}", i + 1))).collect()
}

impl Entry {
    fn values(self, place: &str, plugin: &str) -> Result<Values, String> {
        if self.key.is_empty() {
            return Err(format!("{place} has no `key`; name the keys to look at, \"*\" for all"));
        }
        let keys = GlobSet::new([&self.key], "")
            .map_err(|error| format!("cannot use key {:?} of {place}: {error}", self.key))?;
        let regex = self.regex(place)?;
        let result = if self.result_key.is_empty() && self.replacement.is_empty() && all_named(&regex) {
            ValueResult::Groups
        } else {
            if self.result_key.is_empty() && self.replacement.is_empty() {
                tracing::warn!(
                    plugin,
                    entry = place,
                    pattern = self.pattern,
                    "no replacement, no result_key and not all groups named, so matches are deleted"
                );
            }
            let template = Template::new(&self.replacement, regex.names());
            ValueResult::Replaced { template, key: Some(self.result_key).filter(|key| !key.is_empty()) }
        };
        Ok(Values { keys, regex, result, append: self.append })
    }

    fn key_rename(self, place: &str) -> Result<Rename, String> {
        match self.result_key.as_str() {
            "" | "keep" | "overwrite" => self.rename(place),
            other => Err(format!("{place} has result_key {other:?}; it must be \"keep\" or \"overwrite\"")),
        }
    }

    fn rename(self, place: &str) -> Result<Rename, String> {
        let regex = self.regex(place)?;
        let template = Template::new(&self.replacement, regex.names());
        Ok(Rename { regex, template, overwrite: self.result_key == "overwrite", scratch: Vec::new() })
    }

    fn regex(&self, place: &str) -> Result<GoRegex, String> {
        GoRegex::new(&self.pattern)
            .map_err(|error| format!("cannot use pattern {:?} of {place}: {error}", self.pattern))
    }
}

fn all_named(regex: &GoRegex) -> bool {
    regex.names().len() > 1 && regex.names().iter().skip(1).all(|name| !name.is_empty())
}

impl Rename {
    /// The new name of `name`, if the pattern matches.
    pub(super) fn renamed(&mut self, name: &[u8]) -> Option<&[u8]> {
        self.scratch.clear();
        self.regex.replace_all(name, &self.template, &mut self.scratch).then_some(&self.scratch)
    }
}
