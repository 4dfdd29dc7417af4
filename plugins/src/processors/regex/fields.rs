//! Entries that change fields: run in place, once a metric.

use hashbrown::HashMap;
use heliograph_core::model::{Field, Key, MetricMut, Series, Value};

use super::config::{Rename, ValueResult, Values};

/// Rewrites text fields; `series` is the metric's with its tags rewritten already.
pub(super) fn rewrite(entry: &mut Values, metric: &mut MetricMut<'_>, series: &Series) {
    // Fields that are added on the way stand behind these and are not looked at.
    for i in 0..metric.view().fields.len() {
        let Field { key, value: Value::Text(text) } = &metric.view().fields[i] else { continue };
        if !entry.keys.matches(key.as_bytes()) {
            continue;
        }
        match &entry.result {
            ValueResult::Groups => {
                // Holds the text, since fields are added while its groups are looked at.
                let text = text.clone();
                let Some(groups) = entry.regex.first_match(&text) else { continue };
                for (name, group) in entry.regex.names().iter().zip(groups).skip(1) {
                    let Some(text) = group.filter(|text| !text.is_empty()) else { continue };
                    // Appending starts from the *tag* of that name, as in Telegraf.
                    let before = series.tag(name.as_bytes()).filter(|_| entry.append).unwrap_or_default();
                    metric.set_field(Key::intern(name.as_bytes()), Value::Text([before, text].concat().into()));
                }
            }
            ValueResult::Replaced { template, key: target } => {
                let mut replaced = Vec::new();
                if !entry.regex.replace_all(text, template, &mut replaced) {
                    continue;
                }
                let value = Value::Text(replaced.into());
                match target {
                    Some(target) => metric.set_field(Key::intern(target.as_bytes()), value),
                    None => metric.fields_mut()[i].value = value,
                }
            }
        }
    }
}

/// An entry that renames fields, with the new names of the keys it has seen.
pub(super) struct KeyRename {
    entry: Rename,
    known: HashMap<Key, Option<Key>>,
    collisions: Vec<(Key, Key)>,
}

/// Keys remembered; data that invents keys starts the memory anew.
const KNOWN: usize = 4096;

impl KeyRename {
    pub(super) fn new(entry: Rename) -> Self {
        Self { entry, known: HashMap::new(), collisions: Vec::new() }
    }

    pub(super) fn apply(&mut self, metric: &mut MetricMut<'_>) {
        for i in 0..metric.view().fields.len() {
            let key = &metric.view().fields[i].key;
            let Some(renamed) = self.renamed(key) else { continue };
            if metric.view().field(renamed.as_bytes()).is_none() {
                metric.fields_mut()[i].key = renamed;
            } else if self.entry.overwrite && renamed != *key {
                self.collisions.push((key.clone(), renamed));
            }
        }
        for (key, renamed) in self.collisions.drain(..) {
            if let Some(value) = metric.remove_field(key.as_bytes()) {
                metric.set_field(renamed, value);
            }
        }
    }

    fn renamed(&mut self, key: &Key) -> Option<Key> {
        let Self { entry, known, .. } = self;
        if known.len() >= KNOWN && !known.contains_key(key) {
            known.clear();
        }
        known.entry(key.clone()).or_insert_with(|| entry.renamed(key.as_bytes()).map(Key::intern)).clone()
    }
}
