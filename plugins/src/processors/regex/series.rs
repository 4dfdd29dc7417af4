//! Entries that change tags and measurements: run once a series.

use heliograph_core::model::SeriesBuilder;

use super::config::{Rename, ValueResult, Values};

/// Keys of tags, in ascending order: what one pass over the tags looks at.
fn keys(builder: &SeriesBuilder) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = builder.tags().map(|(key, _)| key.to_vec()).collect();
    keys.sort();
    keys
}

pub(super) fn rewrite_tags(entry: &mut Values, builder: &mut SeriesBuilder) {
    for key in keys(builder) {
        if !entry.keys.matches(&key) {
            continue;
        }
        let Some(value) = builder.tag(&key).map(<[u8]>::to_vec) else { continue };
        match &entry.result {
            ValueResult::Groups => {
                let Some(groups) = entry.regex.first_match(&value) else { continue };
                for (name, group) in entry.regex.names().iter().zip(groups).skip(1) {
                    if let Some(text) = group.filter(|text| !text.is_empty()) {
                        set_tag(builder, name.as_bytes(), text, entry.append);
                    }
                }
            }
            ValueResult::Replaced { template, key: target } => {
                let mut text = Vec::new();
                if entry.regex.replace_all(&value, template, &mut text) {
                    set_tag(builder, target.as_ref().map_or(&key, |target| target.as_bytes()), &text, entry.append);
                }
            }
        }
    }
}

fn set_tag(builder: &mut SeriesBuilder, key: &[u8], text: &[u8], append: bool) {
    match builder.tag(key).filter(|_| append) {
        Some(before) => {
            let joined = [before, text].concat();
            builder.set_tag(key, &joined)
        }
        None => builder.set_tag(key, text),
    };
}

pub(super) fn rename_tags(entry: &mut Rename, builder: &mut SeriesBuilder) {
    let mut collisions = Vec::new();
    for key in keys(builder) {
        let overwrite = entry.overwrite;
        let Some(renamed) = entry.renamed(&key) else { continue };
        if builder.tag(renamed).is_none() {
            move_tag(builder, &key, renamed);
        } else if overwrite && renamed != key {
            collisions.push((key, renamed.to_vec()));
        }
    }
    collisions.iter().for_each(|(key, renamed)| move_tag(builder, key, renamed));
}

fn move_tag(builder: &mut SeriesBuilder, from: &[u8], to: &[u8]) {
    if let Some(value) = builder.tag(from).map(<[u8]>::to_vec) {
        builder.remove_tag(from);
        builder.set_tag(to, &value);
    }
}

pub(super) fn rename_measurement(entry: &mut Rename, builder: &mut SeriesBuilder) {
    let name = builder.name().to_vec();
    if let Some(renamed) = entry.renamed(&name) {
        builder.set_name(renamed);
    }
}
