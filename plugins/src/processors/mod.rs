//! Processors: what changes metrics on their way.

pub mod cardinality;

mod converter;
mod override_;
mod regex;
mod rename;

use heliograph_core::plugin::ProcessorSpec;

/// Every processor, sorted by name.
pub static ALL: &[&ProcessorSpec] =
    &[&cardinality::SPEC, &converter::SPEC, &override_::SPEC, &regex::SPEC, &rename::SPEC];
