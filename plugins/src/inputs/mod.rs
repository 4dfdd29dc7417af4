//! Inputs: what gathers or receives metrics.

use heliograph_core::plugin::InputSpec;

mod cpu;
mod kernel;
mod mem;
mod net;
mod processes;
mod swap;

/// Every input, sorted by name.
pub static ALL: &[&InputSpec] = &[&cpu::SPEC, &kernel::SPEC, &mem::SPEC, &net::SPEC, &processes::SPEC, &swap::SPEC];
