//! What the journal asks of a disk, so that tests can give it one that fails, tears and forgets.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use heliograph_core::error::BoxError;

/// A folder of files that are written at their end only.
pub trait Disk: Send + Sync {
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new file; its name is safe after [`Self::sync_names`].
    fn create(&self, name: &str) -> io::Result<Box<dyn Append>>;
    /// A file to read from.
    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt>>;
    /// Cuts a file off.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; those who read it may go on.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when the names are safe from a power cut.
    fn sync_names(&self) -> io::Result<()>;
}

/// The writing end of a file.
pub trait Append: Send {
    /// Writes all of it at the end. After an error nobody knows how much has been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is safe from a power cut. After an error nobody knows what is.
    fn sync(&mut self) -> io::Result<()>;
}

/// The reading end of a file.
pub trait ReadAt: Send + Sync {
    /// Reads what there is from `offset` on, at most the buffer full; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// A folder of the operating system, held by this process alone.
pub struct Directory {
    path: PathBuf,
    /// Locked as long as it is open. The folder itself carries the lock: that needs no space and no right to write.
    handle: File,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error("cannot use buffer_directory {0:?}: another agent is using it, give each agent a folder of its own")]
    Taken(PathBuf),
    /// The operating system refuses.
    #[error("cannot open buffer_directory {path:?}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl Directory {
    /// Opens the folder, which is made if there is none, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Taken`] if another process has locked it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let handle = File::open(path).map_err(io)?;
        match handle.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), handle }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Taken(path.to_owned())),
            // Some network file systems know no locks; then it is for the operator to keep agents apart.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { path: path.to_owned(), handle })
            }
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let name =
            |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok()).transpose();
        fs::read_dir(&self.path)?.filter_map(name).collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Append>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(File::open(self.path.join(name))?))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(len)?;
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl Append for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// The folder, or `None` with the reason if the agent has to do without it for now.
///
/// # Errors
/// If another process has locked it.
pub fn open(path: &Path) -> Result<Result<Directory, OpenError>, BoxError> {
    match Directory::open(path) {
        Err(error @ OpenError::Taken(_)) => Err(error.into()),
        outcome => Ok(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_on_one_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Directory::open(folder.path()).unwrap();
        let second = Directory::open(folder.path()).err().unwrap().to_string();
        assert!(second.ends_with("another agent is using it, give each agent a folder of its own"), "{second}");
        drop(first);
        assert!(Directory::open(folder.path()).is_ok());
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(&folder.path().join("a/b")).unwrap();
        let mut file = directory.create("x").unwrap();
        file.write(b"hello").unwrap();
        file.sync().unwrap();
        directory.truncate("x", 4).unwrap();
        directory.sync_names().unwrap();
        let mut buffer = [0; 8];
        let file = directory.open("x").unwrap();
        assert_eq!((file.read_at(&mut buffer, 1).unwrap(), &buffer[..3]), (3, &b"ell"[..]));
        assert_eq!(directory.names().unwrap(), ["x"]);
    }
}
