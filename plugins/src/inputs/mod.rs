//! Inputs: what gathers or receives metrics.

use heliograph_core::plugin::InputSpec;

mod cpu;
mod disk;
mod diskio;
mod kernel;
mod mem;
mod net;
mod processes;
mod swap;
mod system;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[&cpu::SPEC, &disk::SPEC, &diskio::SPEC, &kernel::SPEC, &mem::SPEC, &net::SPEC, &processes::SPEC, &swap::SPEC, &system::SPEC];
