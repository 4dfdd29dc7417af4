//! The file with the id of the running process.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::error;

/// A pid file, removed when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the id of this process. A failure is logged, and no reason not to run.
    #[must_use]
    pub fn create(path: &Path) -> Option<Self> {
        match write(path) {
            Ok(()) => Some(Self { path: path.to_owned() }),
            Err(error) => {
                error!(target: crate::logging::MAIN, path = %path.display(), error = %error, "cannot write the pid file");
                None
            }
        }
    }
}

fn write(path: &Path) -> io::Result<()> {
    // Not truncated before it is written, as a reader may look at any time; but no rest of a longer id stays either.
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(path)?;
    let line = format!("{}\n", std::process::id());
    file.write_all(line.as_bytes())?;
    if file.metadata()?.is_file() { file.set_len(line.len() as u64) } else { Ok(()) }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            error!(
                target: crate::logging::MAIN,
                path = %self.path.display(),
                error = %error,
                "cannot remove the pid file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_id_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.pid");
        fs::write(&path, "4294967295 and more\n").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        assert!(PidFile::create(&folder.path().join("no/agent.pid")).is_none());
    }
}
