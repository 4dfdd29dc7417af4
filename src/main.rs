//! The heliograph agent.

use std::process::ExitCode;

use heliograph::{cli, logging};
use heliograph_core::clock::Clock;

fn main() -> ExitCode {
    let log = logging::init(Clock::system());
    drop(rustls::crypto::ring::default_provider().install_default());
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let result = match cli::parse(args) {
        Ok(command) => cli::execute(&command, &log),
        Err(usage) => Err(usage.show()),
    };
    result.unwrap_or_else(|error| {
        log.fatal(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
