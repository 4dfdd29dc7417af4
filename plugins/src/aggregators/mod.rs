//! Aggregators: what sums metrics up over a period.

use heliograph_core::plugin::AggregatorSpec;

/// Every aggregator, sorted by name.
pub static ALL: &[&AggregatorSpec] = &[];
