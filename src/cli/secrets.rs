//! `secrets …`: what the secret stores of the configuration hold.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use heliograph_core::config::{SecretStore, SecretStores, did_you_mean};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::arguments::Arguments;
use super::options::RunOptions;
use crate::config::{Lookup, load};

/// What to do with secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretsCommand {
    /// List the keys of stores.
    List {
        /// Ids of the stores; none for all.
        ids: Vec<String>,
        /// Show the secrets, too.
        reveal: bool,
    },
    /// Print a secret.
    Get {
        /// Id of the store.
        id: String,
        /// Its name there.
        key: String,
    },
    /// Set a secret.
    Set {
        /// Id of the store.
        id: String,
        /// Its name there.
        key: String,
        /// The secret; `None` to ask for it.
        value: Option<super::Password>,
    },
    /// Remove a secret.
    Remove {
        /// Id of the store.
        id: String,
        /// Its name there.
        key: String,
    },
}

impl SecretsCommand {
    pub(super) fn new(action: &str, found: &Arguments) -> Result<Self> {
        let rest = found.rest.as_slice();
        let id_and_key = || match rest {
            [id, key, ..] => Ok((id.clone(), key.clone())),
            _ => Err(anyhow!("command \"secrets {action}\" needs the id of a secret store and the key of a secret")),
        };
        Ok(match action {
            "get" => {
                let (id, key) = id_and_key()?;
                Self::Get { id, key }
            }
            "set" => {
                let (id, key) = id_and_key()?;
                let value = rest.get(2).filter(|value| !value.is_empty()).cloned().map(super::Password);
                Self::Set { id, key, value }
            }
            "remove" => {
                let (id, key) = id_and_key()?;
                Self::Remove { id, key }
            }
            _ => Self::List { ids: rest.to_vec(), reveal: found.switch("reveal-secret") },
        })
    }
}

/// Loads the configuration without its inputs and outputs, and does what is asked with its stores.
///
/// # Errors
/// If the configuration cannot be loaded, there is no such store or secret, or a store can only be read.
pub async fn secrets(
    command: &SecretsCommand,
    options: &RunOptions,
    os_hostname: String,
    lookup: Lookup<'_>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut options = options.load_options(os_hostname)?;
    // No plugin has an empty name.
    options.input_filter = Some(Vec::new());
    options.output_filter = Some(Vec::new());
    let loaded = load(&options, lookup).await?;
    run(command, &loaded.secret_stores, out)
}

fn run(command: &SecretsCommand, stores: &SecretStores, out: &mut dyn Write) -> Result<()> {
    match command {
        SecretsCommand::List { ids, reveal } if ids.is_empty() => {
            stores.iter().try_for_each(|(id, store)| list(id, store, *reveal, out))
        }
        SecretsCommand::List { ids, reveal } => {
            let mut ids = ids.clone();
            ids.sort();
            ids.iter().try_for_each(|id| list(id, store(stores, id)?, *reveal, out))
        }
        SecretsCommand::Get { id, key } => {
            let value = store(stores, id)?.get(key).with_context(|| failed("read", id, key))?;
            write!(out, "{id}:{key} = ")?;
            out.write_all(&value)?;
            Ok(writeln!(out)?)
        }
        SecretsCommand::Set { id, key, value } => {
            let store = store(stores, id)?;
            let value = match value {
                Some(value) => value.0.clone(),
                None => ask(out)?,
            };
            store.set(key, value.as_bytes()).with_context(|| failed("set", id, key))
        }
        SecretsCommand::Remove { id, key } => store(stores, id)?.remove(key).with_context(|| failed("remove", id, key)),
    }
}

fn list(id: &str, store: &Arc<dyn SecretStore>, reveal: bool, out: &mut dyn Write) -> Result<()> {
    let mut keys = store.list().with_context(|| format!("cannot list the secrets of store {id:?}"))?;
    keys.sort();
    writeln!(out, "Known secrets for store {id:?}:")?;
    for key in keys {
        let value = if reveal { store.get(&key).with_context(|| failed("read", id, &key))? } else { Vec::new() };
        write!(out, "    {key:30}  ")?;
        out.write_all(&value)?;
        writeln!(out)?;
    }
    Ok(())
}

fn store<'a>(stores: &'a SecretStores, id: &str) -> Result<&'a Arc<dyn SecretStore>> {
    stores.get(id).ok_or_else(|| {
        let hint = did_you_mean(id, stores.iter().map(|(id, _)| id));
        anyhow!("unknown secret store {id:?}{hint}")
    })
}

fn failed(what: &str, id: &str, key: &str) -> String {
    format!("cannot {what} secret {key:?} of store {id:?}")
}

/// Asks for a secret, without showing it where that can be prevented.
fn ask(out: &mut dyn Write) -> Result<String> {
    write!(out, "Enter secret value: ")?;
    out.flush()?;
    let stdin = io::stdin();
    let shown =
        if stdin.is_terminal() { Some(tcgetattr(&stdin).context("cannot read the terminal's modes")?) } else { None };
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        tcsetattr(&stdin, OptionalActions::Flush, shown).context("cannot show again what is typed")?;
        writeln!(out)?;
    }
    if read.context("cannot read the secret")? == 0 {
        bail!("no secret was entered");
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use expect_test::{Expect, expect};
    use heliograph_core::config::SecretError;

    use super::super::{Command, parse};
    use super::*;

    struct Fake(Mutex<BTreeMap<String, Vec<u8>>>);

    impl SecretStore for Fake {
        fn get(&self, key: &str) -> Result<Vec<u8>, SecretError> {
            self.0.lock().unwrap().get(key).cloned().ok_or_else(|| SecretError::new("no such secret"))
        }

        fn set(&self, key: &str, value: &[u8]) -> Result<(), SecretError> {
            self.0.lock().unwrap().insert(key.to_owned(), value.to_owned());
            Ok(())
        }

        fn list(&self) -> Result<Vec<String>, SecretError> {
            Ok(self.0.lock().unwrap().keys().cloned().collect())
        }
    }

    fn check(lines: &[&str], expected: Expect) {
        let mut stores = SecretStores::default();
        for id in ["store", "a"] {
            let store = Fake(Mutex::new([("user".to_owned(), b"me".to_vec())].into()));
            stores.insert(id, Arc::new(store));
        }
        let mut out = Vec::new();
        for line in lines {
            let command = match parse(line.split_whitespace().map(str::to_owned)) {
                Ok(Command::Secrets(command, _)) => command,
                Ok(other) => panic!("{other:?}"),
                Err(usage) => {
                    writeln!(out, "error: {}", usage.error).unwrap();
                    continue;
                }
            };
            if let Err(error) = run(&command, &stores, &mut out) {
                writeln!(out, "error: {error:#}").unwrap();
            }
        }
        expected.assert_eq(&String::from_utf8(out).unwrap().replace("  \n", "|\n"));
    }

    #[test]
    fn lists() {
        check(
            &["secrets list", "secrets list --reveal-secret store"],
            expect![[r#"
            Known secrets for store "a":
                user                          |
            Known secrets for store "store":
                user                          |
            Known secrets for store "store":
                user                            me
        "#]],
        );
    }

    #[test]
    fn reads_and_changes() {
        check(
            &["secrets set a token x", "secrets get a token", "secrets remove a token"],
            expect![[r#"
            a:token = x
            error: cannot remove secret "token" of store "a": cannot remove secret "token": the store can only be read
        "#]],
        );
    }

    #[test]
    fn mistakes() {
        check(
            &["secrets get a", "secrets get stor user", "secrets get a none"],
            expect![[r#"
            error: command "secrets get" needs the id of a secret store and the key of a secret
            error: unknown secret store "stor"; did you mean "store"?
            error: cannot read secret "none" of store "a": no such secret
        "#]],
        );
    }
}
