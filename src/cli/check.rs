//! `config check`: loads a configuration and sets up its plugins, without starting any.

use anyhow::Result;
use tracing::warn;

use super::arguments::Arguments;
use super::options::environment;
use crate::agent::known_plugins;
use crate::config::{EnvironmentMode, LoadOptions};
use crate::logging;

/// What to check and how.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Configuration files and addresses, in order.
    pub configs: Vec<String>,
    /// Folders of further configuration files, in order.
    pub directories: Vec<String>,
    /// Further attempts to fetch an address: 0 for 3, -1 for no end.
    pub url_retry_attempts: i64,
    /// How environment variables are treated: as in Telegraf, not strictly unless that is asked for.
    pub environment: EnvironmentMode,
    /// Filters or selectors were given, which do not count here.
    pub is_filtered: bool,
    /// Log at level debug.
    pub debug: bool,
    /// Log errors only.
    pub quiet: bool,
}

impl CheckOptions {
    pub(super) fn new(found: &Arguments) -> Result<Self> {
        Ok(Self {
            configs: found.list("config"),
            directories: found.list("config-directory"),
            url_retry_attempts: found.int("config-url-retry-attempts"),
            environment: environment(found, false)?,
            is_filtered: !found.list("select").is_empty()
                || ["input-filter", "output-filter", "secretstore-filter", "aggregator-filter", "processor-filter"]
                    .iter()
                    .any(|filter| !found.names_of_filter(filter).is_empty()),
            debug: found.switch("debug"),
            quiet: found.switch("quiet"),
        })
    }

    /// What to load. Every plugin in the files is checked: neither the filters nor the selectors of a run count.
    #[must_use]
    pub fn load_options(&self, os_hostname: String) -> LoadOptions {
        if self.is_filtered {
            warn!(target: logging::MAIN, "Filters and selectors do not count here: every plugin is checked");
        }
        LoadOptions {
            configs: self.configs.clone(),
            directories: self.directories.clone(),
            environment: self.environment,
            url_retry_attempts: self.url_retry_attempts,
            known: known_plugins(),
            os_hostname,
            ..LoadOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use crate::config::{Loaded, load};

    async fn checked(line: &str, text: &str) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.conf");
        std::fs::write(&path, text).unwrap();
        let args = line.split_whitespace().map(|arg| arg.replace("t.conf", &path.display().to_string()));
        let Ok(Command::ConfigCheck(options)) = parse(args) else { panic!("{line}") };
        let lookup = |name: &str| (name == "BATCH").then(|| "5".to_owned());
        load(&options.load_options("h".into()), &lookup).await.map_err(|error| error.to_string())
    }

    const NUMBER: &str = "[agent]\n  metric_batch_size = ${BATCH}\n";

    #[tokio::test]
    async fn the_environment_is_not_strict_unless_asked_for() {
        let loaded = checked("config check --config t.conf", NUMBER).await.unwrap();
        assert_eq!(loaded.agent.metric_batch_size, 5);
        let error = checked("config check --strict-env-handling --config t.conf", NUMBER).await.unwrap_err();
        assert!(error.contains("t.conf:2:"), "{error}");
    }

    #[tokio::test]
    async fn filters_do_not_count() {
        let line = "config check --config t.conf --input-filter cpu";
        let error = checked(line, "[[inputs.nope]]\n").await.unwrap_err();
        assert!(error.contains("undefined but requested input: nope"), "{error}");
    }
}
