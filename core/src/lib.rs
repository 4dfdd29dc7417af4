//! The foundation of heliograph: metric model, plugin traits, filters, configuration sections.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod accumulator;
pub mod clock;
pub mod config;
pub mod error;
pub mod file_glob;
pub mod filter;
pub mod glob;
pub mod guard;
pub mod host;
pub mod memo;
pub mod metricpass;
pub mod model;
pub mod number;
pub mod parse;
pub mod plugin;
pub mod rounding;
pub mod serialize;
pub mod stage;
pub mod states;
pub mod stats;
pub mod throttle;
pub mod timestamp;
