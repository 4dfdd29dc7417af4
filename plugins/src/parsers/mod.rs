//! Parsers: what turns payloads into metrics (`data_format` of inputs).

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::parse::ParserBuilder;
use heliograph_core::plugin::ParserSpec;

/// Every parser, sorted by name.
pub static ALL: &[&ParserSpec] = &[];

/// Takes `data_format` and that parser's own options out of an input's section.
///
/// `default` is the format without the option: `influx`, but `json` for `exec`. `metric_name` is the default measurement,
/// the input's name. Fails on a format that does not exist, naming the nearest ones.
pub fn take(section: &mut Section, default: &str, metric_name: &str) -> Result<ParserBuilder, ConfigError> {
    let format: Option<String> = section.take("data_format")?;
    let format = format.as_deref().unwrap_or(default);
    match ALL.iter().find(|spec| spec.name == format) {
        Some(spec) => (spec.build)(section, metric_name),
        None => Err(section.unknown_value("data_format", format, ALL.iter().map(|spec| spec.name))),
    }
}
