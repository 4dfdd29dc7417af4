//! Parsers: what turns payloads into metrics (`data_format` of inputs).

mod fields;
mod graphite;
mod influx;
mod json;
mod known;
mod measured;
mod quote;
#[cfg(test)]
mod testing;
mod value;
mod words;

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::parse::{Parser, ParserBuilder};
use heliograph_core::plugin::{BuildContext, ParserSpec};

use measured::{Figures, Measured};

/// Every parser, sorted by name.
pub static ALL: &[&ParserSpec] = &[&graphite::SPEC, &influx::SPEC, &influx::SPEC_UPSTREAM, &json::SPEC, &value::SPEC];

/// Takes `data_format` and that parser's own options out of an input's section.
///
/// `default` is the format without the option: `influx`, but `json` for `exec`. `metric_name` is the default measurement,
/// the input's name. Fails on a format that does not exist, naming the nearest ones.
pub fn take(
    section: &mut Section,
    default: &str,
    metric_name: &str,
    context: &BuildContext,
) -> Result<ParserBuilder, ConfigError> {
    let written: Option<String> = section.take("data_format")?;
    // An option of the `value` format that is no mistake beside any other.
    section.take::<String>("data_type")?;
    let upstream = written.as_deref() == Some("influx")
        && section.get::<String>("influx_parser_type")?.is_some_and(|kind| kind == "upstream");
    let format = if upstream { "influx_upstream" } else { written.as_deref().unwrap_or(default) };
    let Some(spec) = ALL.iter().find(|spec| spec.name == format) else {
        return Err(section.unknown_value("data_format", format, ALL.iter().map(|spec| spec.name)));
    };
    let build = (spec.build)(section, metric_name)?;
    let figures = Figures::new(&context.stats, spec.name);
    Ok(Box::new(move || {
        let measured: Box<dyn Parser> = Box::new(Measured { parser: build()?, figures: figures.clone(), calls: 0 });
        Ok(measured)
    }))
}
