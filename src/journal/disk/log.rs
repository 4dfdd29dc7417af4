//! The log on the disk: segments one after the other, of which the last is written to.

mod open;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::model::Batch;

use super::codec::Encoder;
use super::segment::{Cursor, HEADER, Header, Place, put_batch, put_cursors, put_record};
use super::storage::{Append, Disk};
pub use open::Recovered;

/// Written to the file at a time, when a commit holds more.
const WRITE_BYTES: usize = 256 << 10;
/// Longest record, if the limits allow it.
const MAX_RECORD: u64 = 256 << 20;
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

/// The name of a segment's file.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016}{SUFFIX}")
}

impl Log {
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

    /// Segments that went for the size or their age, since the last call.
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
