//! The ID of a plugin: the same for the same options, whatever their order.

use std::fmt::Write;

use heliograph_core::config::{
    Section,
    tree::{SourceFile, Table, Value},
};
use ring::digest;

/// SHA-256 over the category and name of the plugin and the source text of its options, in lower-case hexadecimal.
///
/// `category` is `inputs`, `outputs`, `processors`, `aggregators`, or `aggprocessors` for the run of the processors
/// behind the aggregators. State files and self-metrics use it, so it has to be Telegraf's.
#[must_use]
pub fn plugin_id(category: &str, section: &Section) -> String {
    let mut options = Vec::new();
    flatten("", section.table(), section.source(), &mut options);
    options.sort();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{category}.{}\0", section.plugin()).as_bytes());
    for (key, value) in options {
        context.update(format!("{key}:{value}\0").as_bytes());
    }
    context.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn flatten(prefix: &str, table: &Table, file: &SourceFile, options: &mut Vec<(String, String)>) {
    for (key, entry) in table.iter() {
        match &entry.node.value {
            Value::Table(table) => flatten(&format!("{prefix}{key}."), table, file, options),
            Value::Array(array) if array.headers => {
                for (index, item) in array.items.iter().enumerate() {
                    if let Some(table) = item.as_table() {
                        flatten(&format!("{prefix}#{index}."), table, file, options);
                    }
                }
            }
            _ => options.push((format!("{prefix}{key}"), file.slice(entry.node.span).to_owned())),
        }
    }
}
