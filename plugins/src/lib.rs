//! The plugins of heliograph: a folder each, named in one table per kind.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod aggregators;
pub mod common;
pub mod inputs;
pub mod outputs;
pub mod parsers;
pub mod processors;
pub mod secretstores;
pub mod serializers;
