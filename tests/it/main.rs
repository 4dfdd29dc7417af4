//! The agent from outside: the real program against real brokers and backends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

#[cfg(feature = "demo")]
mod demo;
mod graphite;
mod lifecycle;
mod mqtt;
mod mqtt_delivery;
mod shipped_configs;
mod testcases;
