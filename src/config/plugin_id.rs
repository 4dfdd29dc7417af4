//! The ID of a plugin: the same for the same options, whatever their order.

use std::fmt::Write;

use heliograph_core::config::{
    Section,
    tree::{SourceFile, Table, Value},
};
use ring::digest;

/// Options of ours that say how to deliver, not what: with another value an output is still the same, and what waits for
/// it in a journal on disk stays its own.
const DELIVERY: &[&str] = &["metric_max_age", "retry_initial", "retry_max"];

/// SHA-256 over the category and name of the plugin and the source text of its options, in lower-case hexadecimal.
///
/// `category` is `inputs`, `outputs`, `processors`, `aggregators`, or `aggprocessors` for the run of the processors
/// behind the aggregators. State files and self-metrics use it, so it has to be Telegraf's.
#[must_use]
pub fn plugin_id(category: &str, section: &Section) -> String {
    let mut options = Vec::new();
    flatten("", section.table(), section.source(), &mut options);
    options.retain(|(key, _)| !(category == "outputs" && DELIVERY.contains(&key.as_str())));
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
