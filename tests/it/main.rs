//! The agent from outside.

#[cfg(feature = "demo")]
mod demo;
