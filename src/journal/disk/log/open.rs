//! Opens a log: finds the segments that are there, and where the newest ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::{DAMAGED, Limits, Log, Moment, NEWER, SUFFIX, Segment, file_name, is_broken};
use crate::journal::disk::codec::Encoder;
use crate::journal::disk::segment::{Cursor, HEADER, Header, HeaderError, Place, Record, Records};
use crate::journal::disk::storage::Disk;

/// No file is older than the format: its clock had not been set. 2023-11-01.
const FORMAT_MADE: i64 = 1_698_796_800_000_000_000;

/// What a log held when it was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where it ends.
    pub end: Place,
    /// The newest cursors; `None` if none were found.
    pub cursors: Option<Vec<Cursor>>,
    /// Files that were put aside.
    pub damaged: Vec<String>,
    /// Bytes cut off at the end: a write that was under way when the power went.
    pub cut: u64,
}

impl Log {
    /// Opens what is there. Only the newest segment is read through; of the others the header.
    ///
    /// # Errors
    /// If the names of the files cannot be read. A file that cannot be read is put aside.
    pub fn open(disk: Arc<dyn Disk>, limits: Limits, now: Moment) -> io::Result<(Self, Recovered)> {
        let names = disk.names()?;
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect();
        sequences.sort_unstable();
        // Numbers of files that were put aside are not given again.
        let last = names.iter().filter_map(|name| name.split_once(SUFFIX)?.0.parse().ok()).max();
        let mut quarantined: Vec<_> = names.into_iter().filter(|name| name.ends_with(DAMAGED)).collect();
        quarantined.sort_unstable();
        let mut log = Self {
            sequence: last.map_or(1, |last: u64| last.saturating_add(1)),
            segments: VecDeque::new(),
            active: None,
            encoder: Encoder::default(),
            appended: Place::default(),
            synced: Place::default(),
            cursors: Vec::new(),
            dropped: Vec::new(),
            quarantined: VecDeque::new(),
            disk,
            limits,
            now,
        };
        for name in quarantined {
            let size = log.disk.open(&name).and_then(|file| file.size()).unwrap_or(0);
            log.quarantined.push_back((name, size));
        }
        let mut recovered = Recovered::default();
        for sequence in sequences {
            log.find(sequence, &mut recovered);
        }
        log.scan(&mut recovered);
        recovered.end = log.synced;
        Ok((log, recovered))
    }

    /// Adds a segment that is on the disk, and ends the one before it where this one says.
    fn find(&mut self, sequence: u64, recovered: &mut Recovered) {
        let name = file_name(sequence);
        let opened = self.disk.open(&name).and_then(|file| {
            let size = file.size()?;
            Ok((size, Records::new(file)?))
        });
        let (size, header) = match opened {
            Ok((size, Ok(records))) => (size, records.header),
            // The power went before the header was written: nothing was ever safe in it.
            Ok((size, Err(_))) if size < HEADER as u64 => return drop(self.disk.remove(&name)),
            Ok((_, Err(error @ HeaderError::Newer(_)))) => {
                let kept = format!("{sequence:016}{NEWER}");
                tracing::error!(
                    plugin = "journal",
                    file = name,
                    kept,
                    error = %error,
                    "a file of the journal is kept as it is: that version can read it under its old name"
                );
                // Where names cannot be changed it is passed over all the same.
                drop(self.disk.rename(&name, &kept));
                return recovered.damaged.push(name);
            }
            Ok((size, Err(error))) => {
                tracing::error!(plugin = "journal", file = name, error = %error, "put aside a file of the journal");
                self.quarantine(sequence, size);
                return recovered.damaged.push(name);
            }
            Err(error) => {
                tracing::error!(plugin = "journal", file = name, error = %error, "cannot read a file of the journal");
                if is_broken(&error) {
                    self.quarantine(sequence, 0);
                }
                return recovered.damaged.push(name);
            }
        };
        let mut born = self.born(&header);
        if let Some(before) = self.segments.back_mut() {
            before.last = header.previous;
            // It is younger than the one before it, whatever the clocks say.
            born = born.max(before.born);
            before.ended = Some(born);
        }
        self.segments.push_back(Segment {
            sequence,
            before: header.before,
            last: header.before,
            bytes: size,
            file_bytes: size,
            born,
            ended: None,
            damaged: false,
        });
    }

    /// When a segment that was found was begun. A clock that was not set when it was begun, or is behind now, makes it
    /// younger, never older than it is.
    fn born(&self, header: &Header) -> i64 {
        let is_known = header.created > FORMAT_MADE;
        let age = if is_known { self.now.wall.saturating_sub(header.created).max(0) } else { 0 };
        self.now.steady - age
    }

    /// Finds the end of the newest segment, and the newest cursors.
    fn scan(&mut self, recovered: &mut Recovered) {
        for index in (0..self.segments.len()).rev() {
            let newest = index + 1 == self.segments.len();
            let Segment { sequence, bytes, .. } = self.segments[index];
            let name = file_name(sequence);
            let Ok(Ok(mut records)) = self.disk.open(&name).and_then(Records::new) else { continue };
            let mut cursors = None;
            let mut failed = None;
            loop {
                match records.next(bytes) {
                    Ok(Record::Batch { .. }) => {}
                    Ok(Record::Cursors(found)) => cursors = Some(found),
                    Ok(Record::End | Record::Damaged) => break,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            if newest {
                self.synced = records.place;
                self.appended = records.place;
                let segment = &mut self.segments[index];
                segment.last = records.place;
                segment.bytes = records.offset;
                let rest = bytes - records.offset;
                if let Some(error) = failed {
                    // It may be readable by other means: nothing is cut off.
                    segment.damaged = true;
                    tracing::error!(
                        plugin = "journal",
                        file = name,
                        bytes = rest,
                        error = %error,
                        "cannot read the end of the journal: what is there is lost, and the file will be put aside"
                    );
                } else {
                    recovered.cut = rest;
                }
                if recovered.cut > 0 && self.disk.truncate(&name, records.offset).is_ok() {
                    segment.file_bytes = records.offset;
                }
            }
            if cursors.is_some() {
                recovered.cursors = cursors;
                break;
            }
        }
    }
}
