//! Option names that are accepted in every table, whether they mean something there or not.

/// The names, sorted.
///
/// Options common to plugins of some kind may stand in any plugin, also below it, as in Telegraf: files that carry them
/// in the wrong place exist and work.
pub const GENERAL: &[&str] = &[
    "alias",
    "always_include_local_tags",
    "buffer_directory",
    "buffer_disk_sync",
    "buffer_strategy",
    "collection_jitter",
    "collection_offset",
    "data_format",
    "data_type",
    "delay",
    "drop",
    "drop_original",
    "fielddrop",
    "fieldexclude",
    "fieldinclude",
    "fieldpass",
    "flush_interval",
    "flush_jitter",
    "grace",
    "id",
    "influx_parser_type",
    "interval",
    "labels",
    "log_level",
    "lvm",
    "metric_batch_size",
    "metric_buffer_limit",
    "metricpass",
    "name_override",
    "name_prefix",
    "name_suffix",
    "namedrop",
    "namedrop_separator",
    "namepass",
    "namepass_separator",
    "order",
    "pass",
    "period",
    "precision",
    "startup_error_behavior",
    "tagdrop",
    "tagexclude",
    "taginclude",
    "tagpass",
    "tags",
];

/// True for a name of the general list.
#[must_use]
pub fn is_general(key: &str) -> bool {
    GENERAL.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_sorted() {
        assert!(GENERAL.is_sorted());
        assert!(is_general("tags") && is_general("alias") && !is_general("time_source"));
    }
}
