//! The state file: what plugins want to know again after a restart (`[agent] statefile`).
//!
//! A JSON object from plugin ID to state, which is JSON in base64. Entries of plugins that are not here, or not in this
//! configuration, are kept as they are.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use heliograph_core::states::States;
use tracing::{debug, info};

/// Largest state file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A state file and what is in it.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    entries: BTreeMap<String, String>,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is there, but cannot be read.
    #[error("cannot read the state file \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no state file.
    #[error("malformed state file \"{}\": {problem}; correct or remove it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It cannot be written.
    #[error("cannot write the state file \"{}\"", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StateFile {
    /// Reads the file. One that does not exist yet has no entries.
    ///
    /// # Errors
    /// If it cannot be read, or is not a state file.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        let path = path.to_owned();
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                info!(file = %path.display(), "state file does not exist yet, there are no states to restore");
                return Ok(Self { path, entries: BTreeMap::new() });
            }
            Err(source) => return Err(StateError::Read { path, source }),
        };
        match parse(&text) {
            Ok(entries) => Ok(Self { path, entries }),
            Err(problem) => Err(StateError::Malformed { path, problem }),
        }
    }

    /// Hands the states to the plugins.
    pub fn restore(&self, states: &States) {
        for (id, state) in &self.entries {
            if let Some(state) = BASE64_STANDARD.decode(state).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                states.restore(id, state);
            }
        }
    }

    /// Writes the file with the states that plugins have now. A reader sees the old one or the new one whole, also after a crash.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn store(&mut self, states: &States) -> Result<(), StateError> {
        self.entries.extend(states.all().into_iter().map(|(id, state)| (id, BASE64_STANDARD.encode(state))));
        debug!(file = %self.path.display(), "storing the states of plugins");
        let text = serde_json::to_string(&self.entries)
            .map_err(|error| StateError::Write { path: self.path.clone(), source: error.into() })?;
        // A link stays one: the file that it points to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        // Where the file alone is mounted or writable it cannot be replaced, only written over.
        replace(&path, text.as_bytes())
            .or_else(|_| fs::write(&path, &text))
            .map_err(|source| StateError::Write { path: self.path.clone(), source })
    }

    /// Goes on with what another configuration has stored in the same file.
    pub fn follow(&mut self, before: StateFile) {
        if self.path == before.path {
            self.entries = before.entries;
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let entries: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for (id, state) in &entries {
        BASE64_STANDARD.decode(state).map_err(|error| format!("the state of plugin {id:?} is not base64: {error}"))?;
    }
    Ok(entries)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use expect_test::{Expect, expect};

    use super::*;

    fn stored(before: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, before).unwrap();
        StateFile::load(&path).unwrap().store(&States::default()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::read_to_string(&path).unwrap()
    }

    fn refused(text: &str, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, text).unwrap();
        let error = StateFile::load(&path).unwrap_err().to_string();
        expected.assert_eq(&error.replace(&folder.path().display().to_string(), ""));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn entries_of_unknown_plugins_stay() {
        assert_eq!(stored(r#" {"b": "eyJhIjoxfQ==", "a": ""} "#), r#"{"a":"","b":"eyJhIjoxfQ=="}"#);
        assert_eq!(stored("{}"), "{}");
    }

    #[test]
    fn states_go_to_plugins_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, r#"{"a": "WzFd", "b": "/w=="}"#).unwrap();
        let mut file = StateFile::load(&path).unwrap();
        let states = States::default();
        file.restore(&states);
        assert_eq!(states.get("a").as_deref(), Some("[1]"));
        assert_eq!(states.get("b"), None, "no text");
        states.set("a", "[2]".into());
        file.store(&states).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"a":"WzJd","b":"/w=="}"#);
    }

    #[test]
    fn a_missing_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        StateFile::load(&path).unwrap().store(&States::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        let error = StateFile { path: folder.path().join("no/state"), entries: BTreeMap::new() }
            .store(&States::default())
            .unwrap_err();
        assert!(error.to_string().starts_with("cannot write the state file"), "{error}");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        refused(
            "",
            expect![[
                r#"malformed state file "/state": EOF while parsing a value at line 1 column 0; correct or remove it"#
            ]],
        );
        refused(
            "[]",
            expect![[
                r#"malformed state file "/state": invalid type: sequence, expected a map at line 1 column 0; correct or remove it"#
            ]],
        );
        refused(
            r#"{"a": 1}"#,
            expect![[
                r#"malformed state file "/state": invalid type: integer `1`, expected a string at line 1 column 7; correct or remove it"#
            ]],
        );
        refused(
            r#"{"a": "?"}"#,
            expect![[
                r#"malformed state file "/state": the state of plugin "a" is not base64: Invalid symbol 63, offset 0.; correct or remove it"#
            ]],
        );
    }

    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("real"), "{}").unwrap();
        symlink("real", path("link")).unwrap();
        let mut state = StateFile::load(&path("link")).unwrap();
        let before = StateFile { path: path("link"), entries: parse(r#"{"a": ""}"#).unwrap() };
        state.follow(before);
        state.store(&States::default()).unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(fs::read_to_string(path("real")).unwrap(), r#"{"a":""}"#);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, r#"{"a": ""}"#).unwrap();
        // A folder in the way of the new file.
        fs::create_dir(folder.path().join("state.new")).unwrap();
        StateFile::load(&path).unwrap().store(&States::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"a":""}"#);
    }
}
