//! JSON documents, with a name and a time in them.
#![no_main]

use std::sync::{LazyLock, Mutex};

use heliograph_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Mutex<Target>> = LazyLock::new(|| Mutex::new(Target::new("json", &[("json_name_key", "n"), ("json_time_key", "t"), ("json_time_format", "unix")])));

fuzz_target!(|payload: &[u8]| TARGET.lock().expect("a panic ends the run").feed(payload));
