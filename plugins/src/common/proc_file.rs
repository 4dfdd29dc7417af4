//! Reads the small files of `/proc` and `/sys` into memory that is used again.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::retry_on_intr;
use rustix::path::Arg;

/// Largest file that is read, in bytes: an order of magnitude above the `cpuinfo` of the largest machines.
const LIMIT: usize = 16 << 20;

/// Room that a first read has, in bytes; most files of `/proc` fit, so that one more read finds their end.
const FIRST_READ: usize = 8 << 10;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path:?}")]
pub struct ReadError {
    /// The path as it was opened.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Reads one file after the other into the same memory.
///
/// A file is opened for each reading: files below `HOST_PROC` may be replaced, and `/proc` itself may be mounted anew. To
/// keep the descriptors of a real `/proc` would save 25 µs of the 240 that a gather of the usual six node inputs costs.
#[derive(Debug, Default)]
pub struct FileReader {
    buffer: Vec<u8>,
}

impl FileReader {
    /// A reader that holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole content of a file.
    ///
    /// Fails as the system says, and on a file of more than 16 MiB.
    pub fn read(&mut self, path: &Path) -> Result<&[u8], ReadError> {
        self.read_at(CWD, path).map_err(|source| ReadError { path: path.to_path_buf(), source })
    }

    /// What was read last.
    pub fn content(&self) -> &[u8] {
        &self.buffer
    }

    /// The whole content of a file whose path starts at a directory; fails as [`Self::read`].
    pub fn read_at(&mut self, directory: impl AsFd, path: impl Arg) -> io::Result<&[u8]> {
        self.buffer.clear();
        let file = openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        loop {
            if self.buffer.capacity() - self.buffer.len() < FIRST_READ / 2 {
                self.buffer.reserve(self.buffer.len().max(FIRST_READ));
            }
            if retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut self.buffer)))? == 0 {
                return Ok(&self.buffer);
            }
            if self.buffer.len() > LIMIT {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 16 MiB"));
            }
        }
    }
}

/// The lines of a text without their line feeds; what follows the last one counts if it is not empty.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = (!text.is_empty()).then(|| text.strip_suffix(b"\n").unwrap_or(text));
    std::iter::from_fn(move || {
        let text = rest?;
        match memchr::memchr(b'\n', text) {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => rest.take(),
        }
    })
}

/// The words of a line, between runs of spaces and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The parts before and after the first `separator`; `None` if there is none.
pub fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        parts.map(|part| std::str::from_utf8(part).unwrap()).collect()
    }

    #[test]
    fn lines_as_a_reader_counts_them() {
        assert_eq!(show(lines(b"")), [""; 0]);
        assert_eq!(show(lines(b"\n")), [""]);
        assert_eq!(show(lines(b"a")), ["a"]);
        assert_eq!(show(lines(b"a\n\nb\n")), ["a", "", "b"]);
    }

    #[test]
    fn words_between_runs_of_blanks() {
        assert_eq!(show(words(b"  cpu0\t1  2 \r")), ["cpu0", "1", "2"]);
    }

    #[test]
    fn the_memory_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let (long, short) = (folder.path().join("long"), folder.path().join("short"));
        std::fs::write(&long, vec![b'x'; 100_000]).unwrap();
        std::fs::write(&short, "short").unwrap();
        let mut reader = FileReader::new();
        assert_eq!(reader.read(&long).unwrap().len(), 100_000);
        assert_eq!(reader.read(&short).unwrap(), b"short");
        assert!(reader.buffer.capacity() >= 100_000);
    }

    #[test]
    fn an_endless_file_is_refused() {
        let error = FileReader::new().read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(format!("{error}: {}", error.source), "cannot read \"/dev/zero\": the file is larger than 16 MiB");
    }

    proptest! {
        #[test]
        fn lines_lose_nothing(text in "[ab\n]{0,20}") {
            let joined = show(lines(text.as_bytes())).join("\n");
            prop_assert_eq!(joined, text.strip_suffix('\n').unwrap_or(&text));
        }
    }
}
