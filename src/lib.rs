//! The heliograph agent: command line, configuration, pipeline, supervision.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod cli;
pub mod config;
mod journal;
pub mod logging;
mod pipeline;
