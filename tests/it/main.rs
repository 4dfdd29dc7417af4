//! The agent from outside.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod running_agent;
mod shipped_configs;
