//! Aggregators: what sums metrics up over a period.

mod basicstats;
mod final_;
mod merge;
mod minmax;

use heliograph_core::plugin::AggregatorSpec;

/// Every aggregator, sorted by name.
pub static ALL: &[&AggregatorSpec] = &[&basicstats::SPEC, &final_::SPEC, &merge::SPEC, &minmax::SPEC];
