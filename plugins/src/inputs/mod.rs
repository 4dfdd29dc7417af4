//! Inputs: what gathers or receives metrics.

use heliograph_core::plugin::InputSpec;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[];
