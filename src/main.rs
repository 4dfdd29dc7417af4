//! The door: reads the command line and does what it says.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use heliograph::agent;
use heliograph::cli::{self, Command};
use heliograph::config::{os_hostname, process_environment};
use heliograph::logging::{self, Control};
use heliograph_core::clock::Clock;

fn main() -> ExitCode {
    let log = logging::init(Clock::system());
    let command = match cli::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(usage) => {
            print!("{}", usage.help);
            log.fatal(&usage.error);
            return ExitCode::FAILURE;
        }
    };
    execute(&command, &log).unwrap_or_else(|error| {
        log.fatal(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn execute(command: &Command, log: &Control) -> Result<ExitCode> {
    if let Some(done) = cli::execute_simple(command, &mut io::stdout().lock()) {
        return done;
    }
    // Fails only if there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    match command {
        Command::Run(options) => {
            options.warn();
            agent::run(options, log).map_err(|error| anyhow::anyhow!(error))?;
        }
        Command::ConfigCheck(options) => {
            let build = |loaded| Ok(agent::check(loaded)?);
            block_on(cli::check(options, os_hostname(), &process_environment, build))?;
        }
        Command::ConfigMigrate(options) => block_on(cli::migrate(options, &process_environment))?,
        Command::Secrets(action, options) => {
            let mut out = io::stdout();
            block_on(cli::secrets(action, options, os_hostname(), &process_environment, &mut out))?;
        }
        Command::Print(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
