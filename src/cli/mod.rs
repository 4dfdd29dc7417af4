//! The command line: what the agent is asked to do, and the commands that need no pipeline.

mod arguments;
mod check;
mod demo;
mod flags;
mod help;
mod migrate;
mod options;
mod pidfile;
mod print;
mod sample;
mod secrets;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tracing::Level;

use arguments::Arguments;
use flags::ROOT;

use crate::VERSION;
use crate::agent::{self, Options};
use crate::config::{os_hostname, process_environment};
use crate::logging::{Control, Settings};

pub use check::CheckOptions;
pub use migrate::{MigrateOptions, migrate};
pub use options::{Password, RunOptions};
pub use pidfile::PidFile;
pub use print::PluginList;
pub use sample::Filters;
pub use secrets::{SecretsCommand, secrets};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the agent, also for `--test` and `--once`.
    Run(Box<RunOptions>),
    /// `config check`
    ConfigCheck(CheckOptions),
    /// `config migrate`: see [`migrate()`].
    ConfigMigrate(MigrateOptions),
    /// `demo`: see [`crate::demo`].
    #[cfg(feature = "demo")]
    Demo(crate::demo::Options),
    /// `secrets …`: see [`secrets()`].
    Secrets(SecretsCommand, Box<RunOptions>),
    /// One that only prints: see [`execute_simple`].
    Print(Print),
}

/// A command that only prints what is known without a configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Print {
    /// `version`
    Version,
    /// `config`, `config create`
    Sample(Filters),
    /// `plugins …`
    Plugins {
        /// The kinds to list, in order.
        kinds: Vec<PluginList>,
        /// Only deprecated ones.
        deprecated: bool,
    },
    /// `--input-list`
    InputList,
    /// `--output-list`
    OutputList,
    /// `--deprecation-list`
    DeprecationList,
    /// `--usage NAME`
    Usage(String),
    /// The help, and whether it was found: else the program ends with code 3.
    Help {
        /// The whole text.
        text: String,
        /// Whether there is help on what was asked for.
        found: bool,
    },
}

/// Why a command line cannot be followed; the program ends with code 1.
#[derive(Debug)]
pub struct Usage {
    /// What standard output shows: the help, after a wrong flag.
    pub help: String,
    /// What the log shows as the last error.
    pub error: String,
}

impl Usage {
    /// Prints the help and gives the error to end with.
    #[must_use]
    pub fn show(self) -> anyhow::Error {
        // The error is what counts; nobody may be left to read the help.
        let _ = io::stdout().write_all(self.help.as_bytes());
        anyhow!(self.error)
    }
}

/// Reads a command line; `args` are those after the name of the program.
///
/// # Errors
/// For flags that do not exist or have a wrong value, and for a command that does not exist.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, Usage> {
    let found = Arguments::parse(args).map_err(|mistake| Usage {
        help: format!("Incorrect Usage: {}\n\n{}", mistake.message, help::text(&mistake.path)),
        error: mistake.message,
    })?;
    if found.help {
        return Ok(Command::Print(help_on(&found)));
    }
    command(&found).map_err(|error| Usage { help: String::new(), error: format!("{error:#}") })
}

fn help_on(found: &Arguments) -> Print {
    match help::path_of(&found.path(), &found.rest) {
        Some(path) => Print::Help { text: help::text(&path), found: true },
        // After a flag `--help` further words have no meaning.
        None if found.rest.is_empty() => Print::Help { text: help::text(&found.path()), found: true },
        None => Print::Help { text: format!("No help topic for '{}'\n", found.rest.join(" ")), found: false },
    }
}

fn command(found: &Arguments) -> anyhow::Result<Command> {
    let filters = || Filters::new(found);
    Ok(match found.names().as_slice() {
        [] => return agent(found),
        ["version"] => Command::Print(Print::Version),
        ["config"] | ["config", "create"] => Command::Print(Print::Sample(filters())),
        ["config", "check"] => Command::ConfigCheck(CheckOptions::new(found)?),
        ["config", "migrate"] => Command::ConfigMigrate(MigrateOptions::new(found)),
        ["plugins", kind @ ..] => Command::Print(Print::Plugins {
            kinds: match kind {
                [name] => PluginList::ALL.iter().copied().filter(|kind| kind.name() == *name).collect(),
                _ => PluginList::ALL.to_vec(),
            },
            deprecated: found.switch("deprecated"),
        }),
        ["demo"] => return demo::command(found),
        ["secrets"] => Command::Print(help_on(found)),
        ["secrets", action] => Command::Secrets(SecretsCommand::new(action, found)?, Box::new(RunOptions::new(found)?)),
        other => bail!("unknown command {:?}", other.join(" ")),
    })
}

/// Without a command: flags that print something, in the order that counts, or the agent.
fn agent(found: &Arguments) -> anyhow::Result<Command> {
    if let Some(stray) = found.rest.first() {
        // A command behind `--` is spelled right.
        let words = ROOT.words.iter().map(|word| word.name).filter(|word| word != stray);
        let hint = heliograph_core::config::did_you_mean(stray, words);
        return Err(anyhow!("unknown command {stray:?}{hint}"));
    }
    let usage = found.text("usage");
    let print = if found.switch("deprecation-list") {
        Print::DeprecationList
    } else if found.switch("output-list") {
        Print::OutputList
    } else if found.switch("input-list") {
        Print::InputList
    } else if !usage.is_empty() {
        Print::Usage(usage)
    } else if found.switch("version") {
        Print::Version
    } else if found.switch("sample-config") {
        Print::Sample(Filters::new(found))
    } else {
        return Ok(Command::Run(Box::new(RunOptions::new(found)?)));
    };
    Ok(Command::Print(print))
}

/// Does what the command line asks for, and returns the code to end with.
///
/// # Errors
/// With the last word of the agent, which ends with code 1 then.
pub fn execute(command: &Command, log: &Control) -> anyhow::Result<ExitCode> {
    if let Some(result) = execute_simple(command, &mut io::stdout()) {
        return result;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match command {
        Command::Run(options) => run(options, log)?,
        Command::ConfigCheck(options) => {
            log.configure(&Settings { level: level(options.debug, options.quiet), ..Settings::default() })?;
            runtime()?.block_on(agent::check(&options.load_options(os_hostname())))?;
        }
        Command::ConfigMigrate(options) => runtime()?.block_on(migrate(options, &process_environment))?,
        #[cfg(feature = "demo")]
        Command::Demo(options) => crate::demo::show(options, log)?,
        Command::Secrets(command, options) => {
            log.configure(&Settings { level: level(options.debug, options.quiet), ..Settings::default() })?;
            let mut out = io::stdout();
            runtime()?.block_on(secrets(command, options, os_hostname(), &process_environment, &mut out))?;
        }
        Command::Print(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn run(options: &RunOptions, log: &Control) -> anyhow::Result<()> {
    if options.quiet {
        log.quieten();
    }
    options.warn();
    let load = options.load_options(os_hostname())?;
    let _pidfile = options.pidfile.as_deref().filter(|_| !options.is_single()).and_then(PidFile::create);
    let options = Options {
        load,
        mode: options.mode,
        debug: options.debug,
        quiet: options.quiet,
        watch: options.watch,
        print_sources: options.print_plugin_config_source,
    };
    agent::run(&options, log).map_err(|error| anyhow!(error))
}

fn level(debug: bool, quiet: bool) -> Level {
    match (quiet, debug) {
        (true, _) => Level::ERROR,
        (false, true) => Level::DEBUG,
        (false, false) => Level::INFO,
    }
}

/// Does a command that only prints; `None` for the others.
///
/// # Errors
/// For the usage of a plugin that does not exist, and if `out` cannot be written; but not if its reader has had enough.
pub fn execute_simple(command: &Command, out: &mut dyn Write) -> Option<anyhow::Result<ExitCode>> {
    let Command::Print(print) = command else { return None };
    let mut text = String::new();
    let code = match print.render(&mut text) {
        Ok(code) => code,
        Err(error) => return Some(Err(error)),
    };
    Some(match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!("cannot write to standard output: {error}"))
        }
        _ => Ok(code),
    })
}

impl Print {
    fn render(&self, out: &mut String) -> anyhow::Result<ExitCode> {
        match self {
            Self::Version => out.push_str(&format!("Heliograph {VERSION}\n")),
            Self::Sample(filters) => sample::write(filters, out),
            Self::Plugins { kinds, deprecated } => print::plugins(kinds, *deprecated, out),
            Self::InputList => print::names("Input", "inputs", PluginList::Inputs, out),
            Self::OutputList => print::names("Output", "outputs", PluginList::Outputs, out),
            Self::DeprecationList => print::deprecations(out),
            Self::Usage(name) => print::usage(name, out)?,
            Self::Help { text, found } => {
                out.push_str(text);
                return Ok(if *found { ExitCode::SUCCESS } else { ExitCode::from(3) });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn parsed(line: &str) -> Result<Command, Usage> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn printed(line: &str) -> String {
        let mut out = Vec::new();
        execute_simple(&parsed(line).unwrap(), &mut out).unwrap().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn check(line: &str, expected: Expect) {
        expected.assert_eq(&match parsed(line) {
            Ok(command) => format!("{command:?}"),
            Err(usage) => format!("error: {}", usage.error),
        });
    }

    #[test]
    fn commands() {
        check("version", expect!["Print(Version)"]);
        check("--config no-such.conf --version --sample-config", expect!["Print(Version)"]);
        check("--version --usage cpu --input-list", expect!["Print(InputList)"]);
        check("--usage=cpu", expect![[r#"Print(Usage("cpu"))"#]]);
        check("plugins --deprecated parsers", expect!["Print(Plugins { kinds: [Parsers], deprecated: false })"]);
        check("plugins parsers --deprecated", expect!["Print(Plugins { kinds: [Parsers], deprecated: true })"]);
        check(
            "config migrate --force --config a stray",
            expect![[r#"
            ConfigMigrate(MigrateOptions { configs: ["a"], directories: [], url_retry_attempts: 0, force: true })"#]],
        );
    }

    #[test]
    fn what_cannot_be_followed() {
        check("--once --no-such-flag", expect!["error: flag provided but not defined: -no-such-flag"]);
        check("confg", expect![[r#"error: unknown command "confg"; did you mean "config"?"#]]);
        check("--once -- version", expect![[r#"error: unknown command "version""#]]);
        check(
            "--pprof-addr :6060",
            expect![
                "error: flag --pprof-addr is not supported: profiles of the Go runtime do not exist here; remove it"
            ],
        );
        check(
            "--plugin-directory /x",
            expect![
                "error: flag --plugin-directory is not supported: plugins cannot be loaded from shared objects; use inputs.execd, processors.execd or outputs.execd"
            ],
        );
        check(
            "--strict-env-handling --non-strict-env-handling",
            expect!["error: flags --strict-env-handling and --non-strict-env-handling exclude each other; give one"],
        );
        check("--select a", expect![[r#"error: invalid label selector "a" of --select: "a" has no "=""#]]);
        let usage = parsed("config check --nope").unwrap_err();
        assert!(
            usage.help.starts_with(
                "Incorrect Usage: flag provided but not defined: -nope\n\nNAME:\n   heliograph config check"
            )
        );
    }

    #[test]
    fn help_has_an_exit_code() {
        let code = |line: &str| {
            let mut out = Vec::new();
            format!("{:?}", execute_simple(&parsed(line).unwrap(), &mut out).unwrap().unwrap())
        };
        let (good, unknown) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(3)));
        for line in
            ["--help", "-h", "help", "help config", "help config check", "config help", "secrets", "config --help"]
        {
            assert_eq!(code(line), good, "{line}");
        }
        assert_eq!(code("help nonsense"), unknown);
    }

    #[test]
    fn the_version() {
        assert_eq!(printed("version"), format!("Heliograph {VERSION}\n"));
    }

    #[test]
    fn other_commands_are_not_simple() {
        assert!(execute_simple(&parsed("--once").unwrap(), &mut Vec::new()).is_none());
    }
}
