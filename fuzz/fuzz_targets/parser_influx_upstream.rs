//! Line protocol, stricter grammar.
#![no_main]

use std::sync::{LazyLock, Mutex};

use heliograph_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Mutex<Target>> = LazyLock::new(|| Mutex::new(Target::new("influx_upstream", &[])));

fuzz_target!(|payload: &[u8]| TARGET.lock().expect("a panic ends the run").feed(payload));
