//! Where the lines go: standard error or a file, and a memory of what was said before that was known.

use std::fmt;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use heliograph_core::clock::Clock;
use heliograph_core::timestamp::Zone;
use heliograph_plugins::common::rotate::RotatingFile;

use super::format::Record;
use super::{Format, Settings};

/// Most messages that are remembered until the settings are known.
const MAX_EARLY: usize = 1000;

/// The destination of the log.
pub(super) struct Sink {
    stderr: Box<dyn Write + Send>,
    file: Option<RotatingFile>,
    format: Format,
    zone: Zone,
    /// What was said so far; `None` once the settings are known.
    early: Option<Vec<Record>>,
    line: Vec<u8>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("file", &self.file).field("format", &self.format).finish_non_exhaustive()
    }
}

impl Sink {
    /// Writes text to `stderr` and remembers it.
    pub fn early(stderr: Box<dyn Write + Send>) -> Self {
        Self { stderr, file: None, format: Format::Text, zone: Zone::UTC, early: Some(Vec::new()), line: Vec::new() }
    }

    /// Changes to these settings. A file or JSON log also gets what was said before.
    ///
    /// # Errors
    /// If the file cannot be opened; nothing changes then.
    pub fn configure(&mut self, settings: &Settings, clock: &Clock) -> io::Result<()> {
        let file = match &settings.file {
            None => None,
            Some(path) => {
                make_folder(path)?;
                Some(RotatingFile::open(path.clone(), settings.rotation, clock.clone())?)
            }
        };
        self.file = file;
        self.format = settings.format.clone();
        self.zone = settings.zone.clone();
        let early = self.early.take().unwrap_or_default();
        if self.file.is_some() || self.format != Format::Text {
            early.into_iter().for_each(|record| self.write(record));
        }
        Ok(())
    }

    /// Writes a line. One that the file does not take goes to standard error.
    pub fn write(&mut self, record: Record) {
        self.line.clear();
        record.write(&self.format, &self.zone, &mut self.line);
        let in_file = self.file.as_mut().is_some_and(|file| file.write(&self.line).is_ok());
        if !in_file {
            to_stderr(&mut self.stderr, &self.line);
        }
        if let Some(early) = self.early.as_mut().filter(|early| early.len() < MAX_EARLY) {
            early.push(record);
        }
    }

    /// Whether lines go to a file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Writes a line of text to standard error, wherever the others go.
    pub fn write_to_stderr(&mut self, record: &Record) {
        self.line.clear();
        record.write(&Format::Text, &self.zone, &mut self.line);
        to_stderr(&mut self.stderr, &self.line);
    }
}

/// Nobody can be told that standard error is closed.
fn to_stderr(stderr: &mut dyn Write, line: &[u8]) {
    let _ = stderr.write_all(line);
}

/// Makes the folders of a log file, for the agent alone.
fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => DirBuilder::new().recursive(true).mode(0o700).create(folder),
        _ => Ok(()),
    }
}
