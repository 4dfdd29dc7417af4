//! Inputs: what gathers or receives metrics.

mod mqtt_consumer;

use heliograph_core::plugin::InputSpec;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[&mqtt_consumer::SPEC];
