//! Inputs: what gathers or receives metrics.

mod cpu;
mod kernel;
mod mem;
mod mqtt_consumer;
mod net;
mod processes;
mod swap;

use heliograph_core::plugin::InputSpec;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] =
    &[&cpu::SPEC, &kernel::SPEC, &mem::SPEC, &mqtt_consumer::SPEC, &net::SPEC, &processes::SPEC, &swap::SPEC];
