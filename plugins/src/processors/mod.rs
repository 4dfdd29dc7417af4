//! Processors: what changes metrics on their way.

use heliograph_core::plugin::ProcessorSpec;

/// Every processor, sorted by name.
pub static ALL: &[&ProcessorSpec] = &[];
