//! Configuration files: the TOML dialect, comments, environment variables, the common options of all plugins.
#![no_main]

use std::sync::LazyLock;

use heliograph::agent::known_plugins;
use heliograph::config::{EnvironmentMode, LoadOptions, Loader};
use libfuzzer_sys::fuzz_target;

static OPTIONS: LazyLock<[LoadOptions; 2]> = LazyLock::new(|| {
    [true, false].map(|strict| LoadOptions {
        known: known_plugins(),
        environment: EnvironmentMode { strict, old_behavior: false },
        os_hostname: "host".into(),
        ..LoadOptions::default()
    })
});

fuzz_target!(|file: &[u8]| {
    let environment = |name: &str| (name.len() % 2 == 0).then(|| format!("{name}\"]\n= ${{X}}"));
    for options in &*OPTIONS {
        let mut loader = Loader::new(options, &environment);
        if let Err(error) = loader.add("fuzz.conf", file) {
            // What is said about a mistake reads the file again, at the place of the mistake.
            assert!(!error.to_string().is_empty());
        }
    }
});
