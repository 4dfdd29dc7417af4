//! Inputs: what gathers or receives metrics.

mod cpu;
mod disk;
mod diskio;
mod exec;
mod file;
mod internal;
mod kernel;
mod mem;
mod mqtt_consumer;
mod net;
mod processes;
mod swap;
mod system;

use heliograph_core::plugin::InputSpec;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[
    &cpu::SPEC,
    &disk::SPEC,
    &diskio::SPEC,
    &exec::SPEC,
    &file::SPEC,
    &internal::SPEC,
    &kernel::SPEC,
    &mem::SPEC,
    &mqtt_consumer::SPEC,
    &net::SPEC,
    &processes::SPEC,
    &swap::SPEC,
    &system::SPEC,
];
