//! Outputs: what writes metrics to a backend.

mod graphite;

use heliograph_core::plugin::OutputSpec;

/// Every output, sorted by name.
pub static ALL: &[&OutputSpec] = &[&graphite::SPEC];
