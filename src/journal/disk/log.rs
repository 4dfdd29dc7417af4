//! The log on the disk: segments one after the other, of which the last is written to.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::model::Batch;

use super::codec::Encoder;
use super::segment::{Cursor, HEADER, Header, HeaderError, Place, Record, Records, put_batch, put_cursors, put_record};
use super::storage::{Append, Disk};

/// Written to the file at a time, when a commit holds more.
const WRITE_BYTES: usize = 256 << 10;
/// Longest record, if the limits allow it.
const MAX_RECORD: u64 = 256 << 20;
/// No file is older than the format: its clock had not been set. 2023-11-01.
const FORMAT_MADE: i64 = 1_698_796_800_000_000_000;
const SUFFIX: &str = ".journal";
const DAMAGED: &str = ".journal.damaged";
const NEWER: &str = ".journal.newer";

/// How much the log may keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files.
    pub size: u64,
    /// Bytes after which a new segment is begun; at most a quarter of `size`.
    pub segment_size: u64,
    /// Age after which a segment goes.
    pub age: Option<Duration>,
    /// The shortest age at which an output drops metrics: a segment is to tell how old its metrics are.
    pub output_age: Option<Duration>,
    /// Wait for the disk at each commit.
    pub sync: bool,
}

impl Limits {
    /// Longest record of a batch: one that is longer would have no room beside others.
    pub fn record(&self) -> u64 {
        (self.size / 2).min(MAX_RECORD)
    }

    /// How long a segment is written to: an eighth of the age, so that what goes is not much older than what stays.
    fn span(&self) -> Option<Duration> {
        let output = self.output_age.map(|age| (age / 8).max(Duration::from_secs(1)));
        self.age.map(|age| age / 8).into_iter().chain(output).min()
    }
}

/// The time, on two clocks. Ages are told by the one that nobody can set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Nanoseconds since the Unix epoch.
    pub wall: i64,
    /// Nanoseconds since some moment before the log was opened.
    pub steady: i64,
}

/// A file of the log, and which part of it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number in its name.
    pub sequence: u64,
    /// What comes before its first batch.
    pub before: Place,
    /// Its last batch that is safe.
    pub last: Place,
    /// Bytes of it that are safe.
    pub bytes: u64,
    /// Bytes it takes.
    file_bytes: u64,
    /// When it was begun, on the steady clock.
    pub born: i64,
    /// When the last of it was written; `None` for the newest one that was found at the start.
    pub ended: Option<i64>,
    /// A reader found that it ends too early.
    damaged: bool,
}

/// The log, held by one thread.
pub struct Log {
    disk: Arc<dyn Disk>,
    limits: Limits,
    segments: VecDeque<Segment>,
    active: Option<Active>,
    encoder: Encoder,
    sequence: u64,
    appended: Place,
    synced: Place,
    cursors: Vec<Cursor>,
    dropped: Vec<Segment>,
    quarantined: VecDeque<(String, u64)>,
    now: Moment,
}

/// The segment that is written to; it is the last of the list.
struct Active {
    file: Box<dyn Append>,
    seed: u64,
    /// Bytes of it, those in the buffer included.
    size: u64,
    buffer: Vec<u8>,
    /// Its name is not safe yet.
    fresh: bool,
    /// Something was written since the last commit.
    dirty: bool,
}

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

/// The name of a segment's file.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016}{SUFFIX}")
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

    /// Tells the time.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
    }

    /// The cursors as they go into the next segment.
    pub fn set_cursors(&mut self, cursors: Vec<Cursor>) {
        self.cursors = cursors;
    }

    /// Appends a batch that ends at `place`. `false` if it is larger than the limits allow, and passed over.
    ///
    /// # Errors
    /// After any error of the disk the caller has to [`abandon`](Self::abandon) the segment.
    pub fn append(&mut self, place: Place, batch: &Batch) -> io::Result<bool> {
        let before = Place { position: place.position - 1, metrics: place.metrics - batch.len() as u64 };
        self.prepare(before)?;
        let Some(active) = &mut self.active else { return Ok(false) };
        let start = active.buffer.len();
        let skipped = Place {
            position: before.position - self.appended.position,
            metrics: before.metrics - self.appended.metrics,
        };
        put_record(&mut active.buffer, active.seed, active.size, |out| {
            put_batch(out, skipped, batch, &mut self.encoder);
        });
        let len = (active.buffer.len() - start) as u64;
        if len > self.limits.record() {
            active.buffer.truncate(start);
            self.encoder.clear();
            return Ok(false);
        }
        active.size += len;
        active.dirty = true;
        self.appended = place;
        self.write_out(WRITE_BYTES)?;
        Ok(true)
    }

    /// Writes the cursors down; they are safe after the next commit.
    pub fn save_cursors(&mut self) -> io::Result<()> {
        self.prepare(self.appended)?;
        let Some(active) = &mut self.active else { return Ok(()) };
        let start = active.buffer.len();
        let cursors = clamped(&self.cursors, self.appended.position);
        put_record(&mut active.buffer, active.seed, active.size, |out| put_cursors(out, &cursors));
        active.size += (active.buffer.len() - start) as u64;
        active.dirty = true;
        Ok(())
    }

    /// Returns when all that was appended is safe.
    pub fn commit(&mut self) -> io::Result<()> {
        self.write_out(0)?;
        let Some(active) = self.active.as_mut().filter(|active| active.dirty) else { return Ok(()) };
        if self.limits.sync {
            active.file.sync()?;
            if active.fresh {
                self.disk.sync_names()?;
            }
        }
        active.fresh = false;
        active.dirty = false;
        self.synced = self.appended;
        if let Some(segment) = self.segments.back_mut() {
            segment.last = self.appended;
            segment.ended = Some(self.now.steady);
            segment.bytes = active.size;
            segment.file_bytes = active.size;
        }
        Ok(())
    }

    /// Gives the segment up that is written to, up to what is safe in it.
    pub fn abandon(&mut self) {
        self.encoder.clear();
        self.appended = self.synced;
        let (Some(active), Some(segment)) = (self.active.take(), self.segments.back_mut()) else { return };
        let name = file_name(segment.sequence);
        drop(active.file);
        if segment.bytes == 0 {
            self.segments.pop_back();
            // If it stays, the next segment says that this one ends before its first record.
            drop(self.disk.remove(&name));
        } else if self.disk.truncate(&name, segment.bytes).is_err() {
            segment.file_bytes = active.size;
        }
    }

    /// Where the safe part ends.
    pub fn synced(&self) -> Place {
        self.synced
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment> {
        self.segments.iter().copied()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |active| active.size);
        let written = self.segments.len() - usize::from(self.active.is_some());
        let segments: u64 = self.segments.iter().take(written).map(|segment| segment.file_bytes).sum();
        segments + active + self.quarantined.iter().map(|(_, size)| size).sum::<u64>()
    }

    /// A reader found that this segment ends too early: it is put aside when it is done with.
    pub fn mark_damaged(&mut self, sequence: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.sequence == sequence) {
            segment.damaged = true;
        }
    }

    /// Removes segments that every output is done with: those up to this position, and those that are too old.
    pub fn free(&mut self, done: u64) {
        while self.oldest().is_some_and(|oldest| oldest.last.position <= done) {
            self.drop_oldest();
        }
        let Some(age) = self.limits.age else { return };
        let limit = self.now.steady.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        // A segment is as old as its newest batch, which is older than the next segment.
        while self.oldest().is_some() && self.segments.get(1).is_some_and(|next| next.born < limit) {
            let dropped = self.drop_oldest();
            self.dropped.extend(dropped);
        }
    }

    /// Segments that went although not every output was done with them, since the last call.
    pub fn take_dropped(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.dropped)
    }

    /// The oldest segment, if it is not the one that is written to.
    fn oldest(&self) -> Option<&Segment> {
        self.segments.front().filter(|_| self.segments.len() > usize::from(self.active.is_some()))
    }

    fn drop_oldest(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        if segment.damaged {
            self.quarantine(segment.sequence, segment.file_bytes);
        } else {
            // If it stays on a disk that takes no changes, the cursors pass over it after the next start.
            drop(self.disk.remove(&file_name(segment.sequence)));
        }
        Some(segment)
    }

    fn make_room(&mut self) {
        while self.bytes() > self.limits.size && self.oldest().is_some() {
            let dropped = self.drop_oldest();
            self.dropped.extend(dropped);
        }
    }

    /// Puts a file aside. All those together take a quarter of the space at most, oldest first.
    fn quarantine(&mut self, sequence: u64, size: u64) {
        let name = format!("{sequence:016}{DAMAGED}");
        if self.disk.rename(&file_name(sequence), &name).is_err() {
            return;
        }
        self.quarantined.push_back((name, size));
        while self.quarantined.iter().map(|(_, size)| size).sum::<u64>() > self.limits.size / 4 {
            let Some((name, _)) = self.quarantined.pop_front() else { break };
            drop(self.disk.remove(&name));
        }
    }

    /// Sees to it that there is a segment to write to.
    fn prepare(&mut self, before: Place) -> io::Result<()> {
        let age = |segment: &Segment| (self.now.steady - segment.born).max(0) as u128;
        let aged = |segment: &Segment| self.limits.span().is_some_and(|span| age(segment) > span.as_nanos());
        let full = self.active.as_ref().is_some_and(|active| active.size >= self.limits.segment_size);
        if full || self.active.is_some() && self.segments.back().is_some_and(aged) {
            self.commit()?;
            self.active = None;
            self.encoder.clear();
        }
        if self.active.is_some() {
            return Ok(());
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let file = self.disk.create(&file_name(sequence))?;
        let header = Header { before, previous: self.synced, created: self.now.wall };
        let mut buffer = header.encode().to_vec();
        let seed = header.seed();
        // Whoever finds a batch of this segment has found the cursors before.
        let cursors = clamped(&self.cursors, before.position);
        put_record(&mut buffer, seed, HEADER as u64, |out| put_cursors(out, &cursors));
        self.appended = before;
        self.active = Some(Active { file, seed, size: buffer.len() as u64, buffer, fresh: true, dirty: true });
        self.segments.push_back(Segment {
            sequence,
            before,
            last: before,
            bytes: 0,
            file_bytes: 0,
            born: self.now.steady,
            ended: Some(self.now.steady),
            damaged: false,
        });
        Ok(())
    }

    /// Gives the buffer to the file if it holds more than this; for what it takes there, the oldest goes.
    fn write_out(&mut self, more_than: usize) -> io::Result<()> {
        if self.active.as_ref().is_none_or(|active| active.buffer.len() <= more_than) {
            return Ok(());
        }
        self.make_room();
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        active.file.write(&active.buffer)?;
        active.buffer.clear();
        active.buffer.shrink_to(4 * WRITE_BYTES);
        Ok(())
    }
}

/// Whether the disk says that it has lost what was asked of it; anything else may pass.
pub fn is_broken(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

/// An output may be done with batches that are not on the disk yet. After a power cut their positions are given to
/// others, so no cursor on the disk is ahead of it.
fn clamped(cursors: &[Cursor], end: u64) -> Vec<Cursor> {
    let clamp = |cursor: &Cursor| {
        let mut cursor = cursor.clone();
        if cursor.position >= end {
            cursor.offset = if cursor.position > end { 0 } else { cursor.offset };
            cursor.position = end;
        }
        cursor
    };
    cursors.iter().map(clamp).collect()
}

#[cfg(test)]
mod tests;
