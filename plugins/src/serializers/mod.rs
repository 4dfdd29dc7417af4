//! Serializers: what turns metrics into bytes (`data_format` of outputs).

mod field_order;
pub mod graphite;
pub mod influx;
pub mod json;
mod measured;
pub mod prometheus;
pub mod prometheusremotewrite;
#[cfg(test)]
pub(crate) mod testing;

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::plugin::{BuildContext, SerializerSpec};
use heliograph_core::serialize::Serializer;

use self::measured::Measured;

/// Every serializer, sorted by name.
pub static ALL: &[&SerializerSpec] =
    &[&graphite::SPEC, &influx::SPEC, &json::SPEC, &prometheus::SPEC, &prometheusremotewrite::SPEC];

/// Takes `data_format` (by default `influx`) and that serializer's own options out of an output's section.
///
/// The serializer counts its work in `context.stats`, as `internal_serializer`. Fails on a format that does not exist,
/// naming the nearest ones.
pub fn take(section: &mut Section, context: &BuildContext) -> Result<Box<dyn Serializer>, ConfigError> {
    let format: Option<String> = section.take("data_format")?;
    let format = format.as_deref().unwrap_or("influx");
    let Some(spec) = ALL.iter().find(|spec| spec.name == format) else {
        return Err(section.unknown_value("data_format", format, ALL.iter().map(|spec| spec.name)));
    };
    Ok(Box::new(Measured::new((spec.build)(section)?, spec.name, &context.stats, context.clock.clone())))
}
