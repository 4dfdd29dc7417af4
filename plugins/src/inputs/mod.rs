//! Inputs: what gathers or receives metrics.

mod exec;
mod file;
mod internal;
mod mqtt_consumer;

use heliograph_core::plugin::InputSpec;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[&exec::SPEC, &file::SPEC, &internal::SPEC, &mqtt_consumer::SPEC];
