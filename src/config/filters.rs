//! The filter options of a plugin: which metrics it sees, and which of their tags and fields.

use heliograph_core::{
    config::{ConfigError, Section, tree::Value},
    filter::{Filter, FilterOptions},
};

use super::common::string;

/// Reads the filter options of a plugin; they have been compiled once, so they compile.
///
/// # Errors
/// For lists that are none, and for globs and expressions that do not compile.
pub(super) fn filter_options(section: &Section) -> Result<FilterOptions, ConfigError> {
    let globs = |keys: &[&str]| -> Result<Vec<String>, ConfigError> {
        let mut all = Vec::new();
        for key in keys {
            all.extend(list(section, key)?);
        }
        Ok(all)
    };
    for (alias, name) in [
        ("pass", "fieldinclude"),
        ("fieldpass", "fieldinclude"),
        ("drop", "fieldexclude"),
        ("fielddrop", "fieldexclude"),
    ] {
        if section.contains(alias) {
            tracing::info!(plugin = section.name(), option = alias, instead = name, "deprecated option still works");
        }
    }
    let options = FilterOptions {
        namepass: globs(&["namepass"])?,
        namepass_separator: string(section, "namepass_separator"),
        namedrop: globs(&["namedrop"])?,
        namedrop_separator: string(section, "namedrop_separator"),
        tagpass: tag_lists(section, "tagpass")?,
        tagdrop: tag_lists(section, "tagdrop")?,
        metricpass: string(section, "metricpass"),
        fieldinclude: globs(&["pass", "fieldpass", "fieldinclude"])?,
        fieldexclude: globs(&["drop", "fielddrop", "fieldexclude"])?,
        taginclude: globs(&["taginclude"])?,
        tagexclude: globs(&["tagexclude"])?,
    };
    Filter::new(&options).map_err(|error| {
        let mut problem = String::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            problem.push_str(": ");
            problem.push_str(&error.to_string());
            cause = error.source();
        }
        // An alias is named as it stands in the file.
        let aliases: &[&str] = match error.option {
            "fieldinclude" => &["fieldinclude", "fieldpass", "pass"],
            "fieldexclude" => &["fieldexclude", "fielddrop", "drop"],
            _ => &[],
        };
        let key = aliases.iter().find(|key| section.contains(key)).copied().unwrap_or(error.option);
        section.error_at(key, format!("option {key:?}{problem}"))
    })?;
    Ok(options)
}

/// The strings of a list; other elements are skipped, as in Telegraf.
fn list(section: &Section, key: &str) -> Result<Vec<String>, ConfigError> {
    let Some(entry) = section.table().get(key) else { return Ok(Vec::new()) };
    let Some(items) = entry.node.as_array() else {
        let found = entry.node.value.describe();
        return Err(section.error_at(key, format!("option {key:?} must be a list of strings, not {found}")));
    };
    Ok(items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect())
}

/// Tag keys with globs of their values.
type TagLists = Vec<(String, Vec<String>)>;

/// Lists by tag key; `None` if there are none.
fn tag_lists(section: &Section, key: &str) -> Result<Option<TagLists>, ConfigError> {
    let Some(entry) = section.table().get(key) else { return Ok(None) };
    let Some(table) = entry.node.as_table() else {
        let found = entry.node.value.describe();
        return Err(section.error_at(key, format!("option {key:?} must be a table of lists, not {found}")));
    };
    let mut lists = Vec::new();
    for (tag, entry) in table.iter() {
        match &entry.node.value {
            Value::Array(array) => {
                let globs = array.items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect();
                lists.push((tag.to_owned(), globs));
            }
            Value::Table(_) => {}
            other => {
                let message = format!("option \"{key}.{tag}\" must be a list of strings, not {}", other.describe());
                return Err(ConfigError::at(section.source(), entry.node.span, section.name(), message));
            }
        }
    }
    Ok(if lists.is_empty() { None } else { Some(lists) })
}
