//! Serializers: what turns metrics into bytes (`data_format` of outputs).

mod field_order;
pub mod graphite;
pub mod influx;
pub mod prometheus;
pub mod prometheusremotewrite;
#[cfg(test)]
mod testing;

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;

/// Every serializer, sorted by name.
pub static ALL: &[&SerializerSpec] = &[&graphite::SPEC, &influx::SPEC, &prometheus::SPEC, &prometheusremotewrite::SPEC];

/// Takes `data_format` (by default `influx`) and that serializer's own options out of an output's section.
pub fn take(section: &mut Section) -> Result<Box<dyn Serializer>, ConfigError> {
    let format: Option<String> = section.take("data_format")?;
    let format = format.as_deref().unwrap_or("influx");
    match ALL.iter().find(|spec| spec.name == format) {
        Some(spec) => (spec.build)(section),
        None => Err(section.unknown_value("data_format", format, ALL.iter().map(|spec| spec.name))),
    }
}
