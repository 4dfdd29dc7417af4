//! The heliograph agent.

use std::process::ExitCode;
use std::time::Duration;

use heliograph::agent::{Mode, Options, known_plugins, run};
use heliograph::config::{LoadOptions, os_hostname};

fn main() -> ExitCode {
    let log = heliograph::logging::init(heliograph_core::clock::Clock::system());
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut load = LoadOptions { known: known_plugins(), os_hostname: os_hostname(), ..Default::default() };
    let mut mode = Mode::Run;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--config" => load.configs.extend(args.next()),
            "--config-directory" => load.directories.extend(args.next()),
            "--once" => mode = Mode::Once(Duration::ZERO),
            "--test" => mode = Mode::Test(Duration::ZERO),
            _ => {}
        }
    }
    match run(&Options { load, mode, debug: false, quiet: false }, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.fatal(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
