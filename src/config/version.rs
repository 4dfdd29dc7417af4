//! What tells a file from a changed one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The version of a file's content, as far as the file system tells. Links are followed, so that one which is made to
/// point elsewhere shows another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The same of the inode: it moves also where a writer sets the time of modification back.
    changed: (i64, i64),
}

impl Version {
    /// That of the file now; `None` if there is no such file.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn follows_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "x").unwrap();
        fs::write(path("b"), "x").unwrap();
        symlink("a", path("link")).unwrap();
        assert_eq!(Version::of(&path("link")), Version::of(&path("a")));
        assert_ne!(Version::of(&path("link")), Version::of(&path("b")));
        fs::write(path("a"), "longer").unwrap();
        let longer = Version::of(&path("link"));
        fs::remove_file(path("link")).unwrap();
        assert_eq!(Version::of(&path("link")), None);
        symlink("b", path("link")).unwrap();
        assert_ne!(Version::of(&path("link")), longer);
    }
}
