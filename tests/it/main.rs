//! The agent from outside.

#[cfg(feature = "demo")]
mod demo;
mod shipped_configs;
