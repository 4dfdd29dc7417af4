//! The options of a run of the agent.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use heliograph_core::config::ConfigError;
use tracing::{info, warn};

use super::arguments::Arguments;
use crate::agent::{Mode, Watch, WatchOptions, known_plugins};
use crate::config::{EnvironmentMode, LoadOptions, Selector};
use crate::logging;

/// How the agent is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Configuration files and addresses, in order.
    pub configs: Vec<String>,
    /// Folders of further configuration files, in order.
    pub directories: Vec<String>,
    /// Further attempts to fetch an address: 0 for 3, -1 for no end.
    pub url_retry_attempts: i64,
    /// What is watched for changes.
    pub watch: WatchOptions,
    /// Inputs to load; `None` for all.
    pub input_filter: Option<Vec<String>>,
    /// Outputs to load; `None` for all.
    pub output_filter: Option<Vec<String>>,
    /// Secret stores to load; `None` for all.
    pub secretstore_filter: Option<Vec<String>>,
    /// Label selectors, each checked.
    pub select: Vec<String>,
    /// How environment variables are treated.
    pub environment: EnvironmentMode,
    /// Whether that was said, and not left to the default.
    pub environment_is_chosen: bool,
    /// For ever, or once.
    pub mode: Mode,
    /// Log at level debug, whatever the configuration says.
    pub debug: bool,
    /// Log errors only, whatever the configuration says.
    pub quiet: bool,
    /// File for the process id.
    pub pidfile: Option<PathBuf>,
    /// Password of secret stores that ask for one.
    pub password: Option<Password>,
    /// Do not lock secrets in memory.
    pub unprotected: bool,
    /// Log which file each plugin comes from.
    pub print_plugin_config_source: bool,
}

/// A password, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How often files are looked at where `--watch-interval` does not say.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl RunOptions {
    pub(super) fn new(found: &Arguments) -> anyhow::Result<Self> {
        if !found.text("pprof-addr").is_empty() {
            bail!("flag --pprof-addr is not supported: profiles of the Go runtime do not exist here; remove it");
        }
        if !found.text("plugin-directory").is_empty() {
            bail!(
                "flag --plugin-directory is not supported: plugins cannot be loaded from shared objects; use inputs.execd, \
                 processors.execd or outputs.execd"
            );
        }
        let select = found.list("select");
        for text in &select {
            Selector::parse(text)?;
        }
        let interval = found.duration("watch-interval");
        let files = match found.text("watch-config").as_str() {
            "" => None,
            "poll" => Some(Watch::Poll(if interval.is_zero() { POLL_INTERVAL } else { interval })),
            // Telegraf takes any other word for this one.
            _ => Some(Watch::Notify),
        };
        let filter = |name: &str| Some(found.names_of_filter(name)).filter(|names| !names.is_empty());
        let text = |name: &str| Some(found.text(name)).filter(|text| !text.is_empty());
        Ok(Self {
            configs: found.list("config"),
            directories: found.list("config-directory"),
            url_retry_attempts: found.int("config-url-retry-attempts"),
            watch: WatchOptions {
                files,
                debounce: found.duration("watch-debounce-interval"),
                addresses: Some(found.duration("config-url-watch-interval")).filter(|every| !every.is_zero()),
            },
            input_filter: filter("input-filter"),
            output_filter: filter("output-filter"),
            secretstore_filter: filter("secretstore-filter"),
            select,
            environment: environment(found, true)?,
            environment_is_chosen: found.switch("strict-env-handling") || found.switch("non-strict-env-handling"),
            mode: mode(found),
            debug: found.switch("debug"),
            quiet: found.switch("quiet"),
            pidfile: text("pidfile").map(PathBuf::from),
            password: text("password").map(Password),
            unprotected: found.switch("unprotected"),
            print_plugin_config_source: found.switch("print-plugin-config-source"),
        })
    }

    /// What to load, of the plugins of this program.
    ///
    /// # Errors
    /// For a label selector that is wrong; those of a parsed command line are not.
    pub fn load_options(&self, os_hostname: String) -> Result<LoadOptions, ConfigError> {
        let select =
            self.select.iter().filter_map(|text| Selector::parse(text).transpose()).collect::<Result<_, _>>()?;
        Ok(LoadOptions {
            configs: self.configs.clone(),
            directories: self.directories.clone(),
            environment: self.environment,
            url_retry_attempts: self.url_retry_attempts,
            select,
            input_filter: self.input_filter.clone(),
            output_filter: self.output_filter.clone(),
            secretstore_filter: self.secretstore_filter.clone(),
            known: known_plugins(),
            os_hostname,
        })
    }

    /// Logs what users should know about their flags; first thing at each start.
    pub fn warn(&self) {
        if !self.environment_is_chosen {
            warn!(
                target: logging::MAIN,
                "Strict environment variable handling is the default: variables are put into strings only; choose with \
                 --strict-env-handling or --non-strict-env-handling"
            );
        }
        if self.unprotected {
            info!(target: logging::MAIN, "Secrets are never locked in memory here: --unprotected changes nothing");
        }
    }

    /// Whether the agent gathers once and then exits; there is no pid file and no state file then.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.mode != Mode::Run
    }
}

/// The environment mode of the flags; `strict` where they do not say.
pub(super) fn environment(found: &Arguments, strict: bool) -> anyhow::Result<EnvironmentMode> {
    let strict = match (found.switch("strict-env-handling"), found.switch("non-strict-env-handling")) {
        (true, true) => {
            bail!("flags --strict-env-handling and --non-strict-env-handling exclude each other; give one")
        }
        (false, false) => strict,
        (strict, _) => strict,
    };
    Ok(EnvironmentMode { strict, old_behavior: found.switch("old-env-behavior") })
}

fn mode(found: &Arguments) -> Mode {
    let seconds = found.int("test-wait");
    let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if found.switch("once") {
        Mode::Once(wait)
    } else if found.switch("test") || seconds != 0 {
        Mode::Test(wait)
    } else {
        Mode::Run
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    fn of(line: &str) -> RunOptions {
        match parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Command::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn modes() {
        let wait = Duration::from_secs;
        for (line, want) in [
            ("", Mode::Run),
            ("--test", Mode::Test(wait(0))),
            ("--test-wait 5", Mode::Test(wait(5))),
            ("--test-wait=-5", Mode::Test(wait(0))),
            ("--test --once --test-wait 2", Mode::Once(wait(2))),
            ("--test=false", Mode::Run),
        ] {
            assert_eq!(of(line).mode, want, "{line}");
        }
    }

    #[test]
    fn watching() {
        assert_eq!(of("--watch-config poll").watch.files, Some(Watch::Poll(POLL_INTERVAL)));
        assert_eq!(
            of("--watch-config poll --watch-interval 2s").watch.files,
            Some(Watch::Poll(Duration::from_secs(2)))
        );
        assert_eq!(of("--watch-config inotify").watch.files, Some(Watch::Notify));
        assert_eq!(of("--config-url-watch-interval 0").watch.addresses, None);
    }

    #[test]
    fn filters_and_environment() {
        assert_eq!(of("--output-filter :file:").output_filter, Some(vec!["file".to_owned()]));
        assert_eq!(of("--output-filter :").output_filter, None);
        assert!(of("").environment.strict && !of("").environment_is_chosen);
        assert!(!of("--non-strict-env-handling").environment.strict);
        let select = of("--select app=w?b --select=,tier=b*").load_options("h".into()).unwrap().select;
        assert_eq!(select.len(), 2);
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", of("--password hunter2")).contains("hunter2"));
    }
}
