//! The agent from outside.

mod shipped_configs;
