//! `config migrate`: writes a copy of a configuration in which deprecated options have their present names.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tracing::info;

use super::arguments::Arguments;
use crate::config::{Location, Lookup, locate, migrated, read};
use crate::logging;

/// What to migrate.
#[derive(Debug, PartialEq, Eq)]
pub struct MigrateOptions {
    /// Configuration files and addresses.
    pub configs: Vec<String>,
    /// Folders of further configuration files.
    pub directories: Vec<String>,
    /// Further attempts to fetch an address: 0 for 3, -1 for no end.
    pub url_retry_attempts: i64,
    /// Overwrite a migrated file that is there already.
    pub force: bool,
}

impl MigrateOptions {
    pub(super) fn new(found: &Arguments) -> Self {
        Self {
            configs: found.list("config"),
            directories: found.list("config-directory"),
            url_retry_attempts: found.int("config-url-retry-attempts"),
            force: found.switch("force"),
        }
    }
}

/// Migrates every configuration that the options name, or those of the usual places, each into a file of its own:
/// `<file>.migrated`, for an address in the working directory. Without something to migrate no file is written.
///
/// # Errors
/// If a configuration cannot be read or is not TOML, and if the file cannot be written or is there already.
pub async fn migrate(options: &MigrateOptions, lookup: Lookup<'_>) -> Result<()> {
    for location in locate(&options.configs, &options.directories, lookup)? {
        let name = location.display();
        let bytes = read(&location, options.url_retry_attempts, lookup).await?;
        let (text, count) = migrated(&name, &bytes)?;
        if count == 0 {
            info!(target: logging::MAIN, "No migration applied for {name:?}");
            continue;
        }
        let target = target(&location)?;
        let shown = target.display();
        info!(target: logging::MAIN, "{count} migration applied for {name:?}, writing result as \"{shown}\"");
        let mut open = OpenOptions::new();
        open.write(true).mode(0o640).truncate(true).create(true).create_new(!options.force);
        let mut file = match open.open(&target) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("output file \"{shown}\" already exists; give --force to overwrite it")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot write \"{shown}\"")),
        };
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write \"{shown}\""))?;
    }
    Ok(())
}

fn target(location: &Location) -> Result<PathBuf> {
    match location {
        Location::File(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".migrated");
            Ok(name.into())
        }
        Location::Url(url) => {
            let parsed = reqwest::Url::parse(url).context("cannot read the address")?;
            let name = parsed.path().trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
            Ok(format!("{}.migrated", name.context("the address has no file name")?).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn writes_a_file_only_if_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        let new = folder.path().join("a.conf.migrated");
        let mut options = MigrateOptions {
            configs: vec![path.display().to_string()],
            directories: Vec::new(),
            url_retry_attempts: 0,
            force: false,
        };
        fs::write(&path, "[[inputs.cpu]]\n  fieldinclude = [\"a\"]\n").unwrap();
        migrate(&options, &|_| None).await.unwrap();
        assert!(!new.exists());

        fs::write(&path, "[[inputs.cpu]]\n  pass = [\"a\"] # why\n").unwrap();
        migrate(&options, &|_| None).await.unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "[[inputs.cpu]]\n  fieldinclude = [\"a\"] # why\n");
        let error = migrate(&options, &|_| None).await.unwrap_err().to_string();
        assert!(error.ends_with("a.conf.migrated\" already exists; give --force to overwrite it"), "{error}");
        options.force = true;
        migrate(&options, &|_| None).await.unwrap();
    }

    #[test]
    fn addresses_are_written_to_the_working_directory() {
        let name = |url: &str| target(&Location::Url(url.to_owned())).map(|path| path.display().to_string());
        assert_eq!(name("https://u:p@host/x/agent.conf?v=1").unwrap(), "agent.conf.migrated");
        assert!(name("https://host").is_err());
    }
}
