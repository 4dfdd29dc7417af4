//! The running agent: inputs, chain, journal and outputs as tasks.

pub mod aggregator;
pub mod chain;
pub mod input;
pub mod output;
pub mod running;
pub mod schedule;
pub mod stop;
