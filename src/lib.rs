//! The heliograph agent: command line, configuration, pipeline, supervision.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod agent;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod journal;
pub mod logging;
mod pipeline;

/// The version of the agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
