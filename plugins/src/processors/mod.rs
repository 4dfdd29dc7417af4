//! Processors: what changes metrics on their way.

mod converter;
mod override_;
mod regex;
mod rename;

use heliograph_core::plugin::ProcessorSpec;

/// Every processor, sorted by name.
pub static ALL: &[&ProcessorSpec] = &[&converter::SPEC, &override_::SPEC, &regex::SPEC, &rename::SPEC];
