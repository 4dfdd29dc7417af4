//! `config check`: loads a configuration and sets up its plugins, without starting any.

use anyhow::Result;
use tracing::warn;

use super::arguments::Arguments;
use super::options::environment;
use super::print::known_plugins;
use crate::config::{EnvironmentMode, LoadOptions, Loaded, Lookup, load};
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
}

/// Loads the configuration and hands it to `build`, which sets up its plugins.
///
/// Every plugin in the files is checked: neither the filters nor the selectors of a run count.
///
/// # Errors
/// At the first mistake.
pub async fn check(
    options: &CheckOptions,
    os_hostname: String,
    lookup: Lookup<'_>,
    build: impl FnOnce(Loaded) -> Result<()>,
) -> Result<()> {
    if options.is_filtered {
        warn!(target: logging::MAIN, "Filters and selectors do not count here: every plugin is checked");
    }
    let options = LoadOptions {
        configs: options.configs.clone(),
        directories: options.directories.clone(),
        environment: options.environment,
        url_retry_attempts: options.url_retry_attempts,
        known: known_plugins(),
        os_hostname,
        ..LoadOptions::default()
    };
    build(load(&options, lookup).await?)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    async fn checked(line: &str, text: &str) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.conf");
        std::fs::write(&path, text).unwrap();
        let args = line.split_whitespace().map(|arg| arg.replace("t.conf", &path.display().to_string()));
        let Ok(Command::ConfigCheck(options)) = parse(args) else { panic!("{line}") };
        let mut found = None;
        let result = check(&options, "h".into(), &|name| (name == "BATCH").then(|| "5".to_owned()), |loaded| {
            found = Some(loaded);
            Ok(())
        });
        result.await.map_err(|error| error.to_string())?;
        Ok(found.unwrap())
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
