//! A file that is appended to and put aside when it is old or large: for outputs and for the agent's own log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use heliograph_core::clock::Clock;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tracing::warn;

/// When a file is put aside, and how many of those are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotateRules {
    /// Oldest a file may get, counted from its last change before it was opened; `None` is no limit.
    pub interval: Option<Duration>,
    /// Size in bytes from which on a file is put aside; `None` is no limit.
    pub max_size: Option<u64>,
    /// Archives that are kept; `None` keeps all, 0 none.
    pub max_archives: Option<usize>,
}

impl RotateRules {
    /// The rules out of options as Telegraf writes them: 0 turns interval or size off, -1 archives keep all.
    pub fn from_options(interval: Option<Duration>, max_size: u64, max_archives: i64) -> Self {
        // Telegraf gives a number below -1 no meaning of its own; nothing is deleted by mistake here.
        let max_archives = usize::try_from(max_archives).ok();
        Self { interval, max_size: (max_size > 0).then_some(max_size), max_archives }
    }
}

/// An open file with its rules.
///
/// An archive is called `stem.<date>-<unix seconds>.extension`, in the same folder. A failed rotation is logged, and
/// writing goes on in the file at hand.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    rules: RotateRules,
    clock: Clock,
    file: File,
    size: u64,
    /// Nanoseconds since the Unix epoch.
    expires: Option<i64>,
    /// A failed write left a piece of a line at the end, which could not be taken back.
    torn: bool,
}

impl RotatingFile {
    /// Opens or creates the file (mode 0644, no folders) and puts it aside at once if it is due.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: impl Into<PathBuf>, rules: RotateRules, clock: Clock) -> io::Result<Self> {
        let path = path.into();
        let file = append(&path)?;
        let mut opened = Self { path, rules, clock, file, size: 0, expires: None, torn: false };
        opened.measure();
        opened.rotate_if_due();
        Ok(opened)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `data` in one piece, and puts the file aside if it is due then.
    ///
    /// # Errors
    /// If not all of it could be written. What was written of it is taken back, so that the same data can be given again;
    /// where that fails, the next write starts a new line.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let before = self.file.metadata()?.len();
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
            self.size += 1;
            return self.write(data);
        }
        let mut done = 0;
        while done < data.len() {
            match self.file.write(&data[done..]) {
                Ok(0) => return self.take_back(before, done, io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.take_back(before, done, error),
            }
        }
        self.size += data.len() as u64;
        self.rotate_if_due();
        Ok(())
    }

    /// Puts the file aside if it is due; to be called before the end.
    pub fn close(&mut self) {
        self.rotate_if_due();
    }

    /// Of a failed write, removes the piece that arrived. Another writer of the same file may have added something since;
    /// then the piece stays.
    fn take_back(&mut self, before: u64, done: usize, error: io::Error) -> io::Result<()> {
        if done > 0 {
            let alone = self.file.metadata().is_ok_and(|now| now.is_file() && now.len() == before + done as u64);
            self.torn = !(alone && self.file.set_len(before).is_ok());
            self.size += if self.torn { done as u64 } else { 0 };
        }
        Err(error)
    }

    fn measure(&mut self) {
        let now = self.clock.now();
        let metadata = self.file.metadata().ok();
        self.size = metadata.as_ref().map_or(0, fs::Metadata::len);
        let changed = metadata.and_then(|found| found.modified().ok());
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_nanos() as i64);
        let start = changed.filter(|_| self.size > 0).unwrap_or(now);
        self.expires = self.rules.interval.map(|interval| start.saturating_add_unsigned(interval.as_nanos() as u64));
    }

    fn rotate_if_due(&mut self) {
        let old = self.expires.is_some_and(|expires| self.clock.now() > expires);
        let large = self.rules.max_size.is_some_and(|limit| self.size >= limit);
        if !(old || large) {
            return;
        }
        let result = self.rotate();
        // Also after a failure: the limits count anew, or every further write would try and fail again.
        self.measure();
        if let Err(error) = result {
            self.size = 0;
            warn!(path = %self.path.display(), error = %error, "cannot rotate the file, writing goes on in it");
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        // A pipe or a terminal stays where it is.
        if !self.file.metadata()?.is_file() {
            return Ok(());
        }
        let archive = self.archive_name()?;
        fs::rename(&self.path, archive)?;
        self.file = append(&self.path)?;
        self.torn = false;
        self.purge()
    }

    /// A name with the present second, or the next that is free: an archive never replaces another.
    fn archive_name(&self) -> io::Result<PathBuf> {
        let now = Timestamp::from_nanosecond(self.clock.now().into()).map_err(io::Error::other)?;
        let date = Zoned::new(now, TimeZone::system()).strftime("%Y-%m-%d").to_string();
        let (stem, extension) = self.split_name()?;
        let first = now.as_second();
        (first..first + 10_000)
            .map(|second| self.path.with_file_name(format!("{stem}.{date}-{second}{extension}")))
            .find(|name| !name.exists())
            .ok_or_else(|| io::Error::other("no free name for the archive"))
    }

    /// The name up to its last dot, and the rest with the dot.
    fn split_name(&self) -> io::Result<(&str, &str)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("the name of the file is not valid UTF-8"))?;
        Ok(name.split_at(name.rfind('.').unwrap_or(name.len())))
    }

    fn purge(&self) -> io::Result<()> {
        let Some(keep) = self.rules.max_archives else { return Ok(()) };
        let (stem, extension) = self.split_name()?;
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut archives: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_archive(name, stem, extension)))
            .map(|entry| entry.path())
            .collect();
        archives.sort_unstable();
        let excess = archives.len().saturating_sub(keep);
        archives[..excess].iter().try_for_each(fs::remove_file)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Whether the name is `stem.YYYY-MM-DD-seconds` with the extension. Telegraf takes any name with a dash in that place,
/// and would delete files that it did not write.
fn is_archive(name: &str, stem: &str, extension: &str) -> bool {
    let middle = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(extension))
        .unwrap_or_default();
    let parts: Vec<&str> = middle.split('-').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 4 && parts.iter().all(digits) && [4, 2, 2].iter().zip(&parts).all(|(len, part)| part.len() == *len)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tempfile::TempDir;

    use super::*;

    const START: i64 = 1_700_000_000_000_000_000;

    struct Case {
        folder: TempDir,
        clock: Clock,
        file: RotatingFile,
    }

    fn case(name: &str, rules: RotateRules) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START);
        let file = RotatingFile::open(folder.path().join(name), rules, clock.clone()).unwrap();
        Case { folder, clock, file }
    }

    impl Case {
        /// Every file with its content, sorted; the date is that of the local zone and left out.
        fn check(&self, expected: Expect) {
            let mut lines: Vec<String> = fs::read_dir(self.folder.path())
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let name = entry.file_name().into_string().unwrap();
                    let name = name.replace("2023-11-14", "DATE").replace("2023-11-15", "DATE");
                    format!("{name}: {}", fs::read_to_string(entry.path()).unwrap())
                })
                .collect();
            lines.sort();
            expected.assert_eq(&lines.join("\n"));
        }
    }

    fn size(bytes: u64, archives: i64) -> RotateRules {
        RotateRules::from_options(None, bytes, archives)
    }

    #[test]
    fn by_size_two_in_a_second() {
        let mut case = case("m.out", size(4, -1));
        for data in ["abc", "d", "efgh", "i"] {
            case.file.write(data.as_bytes()).unwrap();
        }
        case.check(expect![[r#"
            m.DATE-1700000000.out: abcd
            m.DATE-1700000001.out: efgh
            m.out: i"#]]);
    }

    #[test]
    fn the_oldest_archives_go_and_other_files_stay() {
        let mut case = case("m.out", size(1, 1));
        fs::write(case.folder.path().join("m.a-b.out"), "mine").unwrap();
        for data in ["a", "b", "c"] {
            case.file.write(data.as_bytes()).unwrap();
            case.clock.advance(Duration::from_secs(1));
        }
        case.check(expect![[r#"
            m.DATE-1700000002.out: c
            m.a-b.out: mine
            m.out: "#]]);
        let mut none = self::case("plain", size(1, 0));
        none.file.write(b"x").unwrap();
        none.check(expect!["plain: "]);
    }

    #[test]
    fn by_age_and_at_the_close() {
        let mut case = case("a.b.log", RotateRules::from_options(Some(Duration::from_secs(60)), 0, 5));
        case.file.write(b"one").unwrap();
        case.clock.advance(Duration::from_secs(61));
        case.file.write(b" two").unwrap();
        case.file.write(b"three").unwrap();
        // The age of a new file counts from now; that of one with content from its last change, here by the real clock.
        case.clock.advance(Duration::from_secs(61));
        case.file.close();
        case.check(expect![[r#"
            a.b.DATE-1700000061.log: one two
            a.b.DATE-1700000122.log: three
            a.b.log: "#]]);
    }

    #[test]
    fn a_large_file_is_put_aside_when_it_is_opened() {
        let mut case = case("m.out", size(4, -1));
        fs::write(case.file.path(), "before").unwrap();
        case.file = RotatingFile::open(case.file.path().to_owned(), size(4, -1), case.clock.clone()).unwrap();
        case.check(expect![[r#"
            m.DATE-1700000000.out: before
            m.out: "#]]);
    }

    #[test]
    fn a_failed_rotation_does_not_stop_the_writing() {
        let mut case = case("m.out", size(4, -1));
        fs::remove_file(case.file.path()).unwrap();
        case.file.write(b"lost, as the file is gone").unwrap();
        case.file.write(b"x").unwrap();
        case.check(expect![""]);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut file = RotatingFile::open("/dev/full", size(1, -1), Clock::manual(START)).unwrap();
        assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_piece_of_a_failed_write_is_taken_back() {
        let mut case = case("m.out", RotateRules::default());
        case.file.write(b"whole\n").unwrap();
        fs::write(case.file.path(), "whole\npie").unwrap();
        assert!(case.file.take_back(6, 3, io::ErrorKind::StorageFull.into()).is_err());
        case.check(expect!["m.out: whole\n"]);

        fs::write(case.file.path(), "whole\npie+other").unwrap();
        assert!(case.file.take_back(6, 3, io::ErrorKind::StorageFull.into()).is_err());
        case.file.write(b"next").unwrap();
        case.check(expect!["m.out: whole\npie+other\nnext"]);
    }
}
