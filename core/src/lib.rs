//! The foundation of heliograph: metric model, plugin traits, filters, configuration sections.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod file_glob;
pub mod glob;
pub mod metricpass;
pub mod number;
pub mod rounding;
pub mod timestamp;
