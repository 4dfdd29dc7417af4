//! The agent from outside: the real program against real brokers and backends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

mod cardinality;
#[cfg(feature = "demo")]
mod demo;
mod disk_full;
mod graphite;
mod kill;
mod lifecycle;
mod mqtt;
mod mqtt5;
mod mqtt_delivery;
mod mqtt_script;
mod outage;
mod prometheus;
mod quarantine;
mod remote_write;
mod remote_write_stream;
mod running_agent;
mod shipped_configs;
mod tables;
mod testcases;
