//! The heliograph agent.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod journal;
mod pipeline;
