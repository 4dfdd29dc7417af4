//! Outputs: what writes metrics to a backend.

use heliograph_core::plugin::OutputSpec;

/// Every output, sorted by name.
pub static ALL: &[&OutputSpec] = &[];
