//! What journal, readers and writer share: the newest batches, where every output stands, and what is safe.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::model::{Batch, Origin};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::doubts::{Doubts, Stand};
use super::log::{Moment, Segment};
use super::segment::{Cursor, Place};
use super::stats::JournalStats;
use super::storage::Disk;
use crate::journal::memory::OutputSlot;
use crate::journal::queue::Queue;

/// Metrics that are held in memory: those that are not safe yet, and of the others the newest, for outputs that keep up.
const TAIL: u64 = 20_000;

/// What all ends hold together.
pub struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    pub wake: Condvar,
    /// One per output: something was appended.
    pub appended: Vec<Notify>,
    /// Something became safe, or need not.
    pub room: Notify,
    pub watermarks: Vec<watch::Sender<u64>>,
    pub stats: JournalStats,
    pub clock: Clock,
    begun: Instant,
}

pub struct State {
    pub slots: Vec<Slot>,
    /// The newest batches. All that is not safe is here; of that only what memory had no room for is missing.
    pub tail: VecDeque<Entry>,
    /// Metrics in it.
    held: u64,
    /// The newest batch.
    pub last: Place,
    /// The newest batch up to which all is on the disk, but for what went before it got there.
    pub durable: Place,
    /// The safe part of the files, oldest first.
    pub segments: Vec<Segment>,
    /// Where they are; `None` as long as the folder cannot be opened.
    pub disk: Option<Arc<dyn Disk>>,
    /// What inputs wait for, by position.
    origins: VecDeque<(u64, Origin)>,
    /// The disk does not take writes: metrics wait in memory, as many as `memory` says.
    pub failing: bool,
    memory: u64,
    /// When the first of what is to be written came.
    pub pending_since: Option<Instant>,
    /// Somebody waits for the next commit.
    pub hurry: bool,
    /// The writer sleeps until something comes.
    pub asleep: bool,
    /// Cursors have moved since they were written down.
    pub cursors_moved: bool,
    /// They must not wait: one has moved back.
    pub cursors_urgent: bool,
    /// Segments of which a reader found that they end too early.
    pub damaged: Vec<u64>,
    pub stop: bool,
}

pub struct Entry {
    pub place: Place,
    /// When it was appended, on the steady clock.
    pub since: i64,
    pub batch: Arc<Batch>,
}

impl Entry {
    fn before(&self) -> Place {
        Place { position: self.place.position - 1, metrics: self.place.metrics - self.batch.len() as u64 }
    }
}

/// An output's place.
pub struct Slot {
    pub output: OutputSlot,
    /// What its cursor is called.
    pub key: String,
    /// What was read for it, and is not done with.
    pub queue: Queue,
    /// What was read last.
    pub read: Place,
    /// Metrics of the next batch that it was done with before the start.
    pub offset: usize,
    /// Writes that its backend may not have read.
    pub doubts: Doubts,
    /// Lost since it last asked.
    pub overflow: usize,
    /// Too old since it last asked.
    pub expired: usize,
}

/// Where an output finds its next batch.
pub enum Source {
    /// At this index of the tail.
    Tail(usize),
    /// In a file.
    Disk(Segment),
    /// There is none.
    Nothing,
}

impl Shared {
    pub fn new(state: State, inputs: usize, stats: JournalStats, clock: Clock) -> Self {
        Self {
            appended: state.slots.iter().map(|_| Notify::new()).collect(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            room: Notify::new(),
            watermarks: (0..inputs).map(|_| watch::channel(0).0).collect(),
            stats,
            clock,
            begun: Instant::now(),
        }
    }

    /// Nanoseconds on the clock that nobody sets.
    pub fn steady(&self) -> i64 {
        self.begun.elapsed().as_nanos() as i64
    }

    /// The time on both clocks.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.clock.now(), steady: self.steady() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a filter leaves the state whole: it is changed after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Option<Duration>) -> MutexGuard<'a, State> {
        match at_most {
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(pause) => self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Has the cursors written down before long.
    pub fn cursors_moved(&self, state: &mut State) {
        let was_moved = std::mem::replace(&mut state.cursors_moved, true);
        if !was_moved && state.asleep {
            self.wake.notify_one();
        }
    }

    /// Tells inputs what is safe: on the disk, or written by every output.
    pub fn advance(&self, state: &mut State) {
        if state.origins.is_empty() {
            return;
        }
        let safe = state.delivered().max(state.durable.position);
        while let Some(&(position, origin)) = state.origins.front()
            && position <= safe
        {
            state.origins.pop_front();
            if let Some(watermark) = self.watermarks.get(origin.input as usize) {
                watermark.send_replace(origin.message);
            }
        }
    }

    /// Keeps the tail within its limits.
    pub fn trim(&self, state: &mut State) {
        let oldest = |state: &State| state.tail.front().map(|entry| entry.place.position);
        let limit = if state.failing { TAIL.min(state.memory) } else { TAIL };
        while state.held > limit && oldest(state).is_some_and(|position| position <= state.durable.position) {
            state.forget(0);
        }
        if state.failing {
            self.trim_unsafe(state);
        }
        let floor = state.floor();
        state.slots.iter_mut().for_each(|slot| slot.skip_to(floor, &self.stats));
    }

    /// Keeps what is not safe within its limit while the disk fails.
    fn trim_unsafe(&self, state: &mut State) {
        let oldest = |state: &State| state.tail.front().map(|entry| entry.place.position);
        // What every output has written need not be written down.
        let delivered = state.delivered();
        while oldest(state).is_some_and(|position| position <= delivered) {
            state.forget(0);
        }
        let mut index = 0;
        while state.held > state.memory && index < state.tail.len() {
            // Batches that an input holds for acknowledgement stay: it bounds them itself.
            if state.tail[index].batch.origin.is_some() {
                index += 1;
                continue;
            }
            let entry = state.forget(index);
            for slot in &mut state.slots {
                if slot.read.position == entry.before().position {
                    slot.skip_to(entry.place, &self.stats);
                } else if slot.read.position < entry.place.position {
                    slot.lose(entry.batch.len(), &self.stats);
                }
            }
        }
    }
}

impl State {
    pub fn new(slots: Vec<Slot>, end: Place, segments: Vec<Segment>, disk: Option<Arc<dyn Disk>>) -> Self {
        let memory = slots.iter().map(|slot| slot.output.limit as u64).max().unwrap_or(TAIL);
        Self {
            slots,
            tail: VecDeque::new(),
            held: 0,
            last: end,
            durable: end,
            segments,
            failing: disk.is_none(),
            disk,
            origins: VecDeque::new(),
            memory,
            pending_since: None,
            hurry: false,
            asleep: false,
            cursors_moved: false,
            cursors_urgent: false,
            damaged: Vec::new(),
            stop: false,
        }
    }

    pub fn push(&mut self, since: i64, batch: Arc<Batch>) {
        self.origins.extend(batch.origin.map(|origin| (self.last.position + u64::from(!batch.is_empty()), origin)));
        if batch.is_empty() {
            return;
        }
        self.last.position += 1;
        self.last.metrics += batch.len() as u64;
        self.held += batch.len() as u64;
        self.tail.push_back(Entry { place: self.last, since, batch });
    }

    fn forget(&mut self, index: usize) -> Entry {
        let entry = self.tail.remove(index).expect("the caller has seen it");
        self.held -= entry.batch.len() as u64;
        entry
    }

    /// The index in the tail of the first batch that is not safe.
    pub fn first_unsafe(&self) -> usize {
        self.tail.partition_point(|entry| entry.place.position <= self.durable.position)
    }

    /// All up to here is on the disk.
    pub fn advance_durable(&mut self, place: Place) {
        if place.position > self.durable.position {
            self.durable = place;
        }
    }

    /// What lies before the next batch to be written has left memory: it was written by every output, or is lost.
    pub fn close_gap(&mut self) {
        let next = self.tail.get(self.first_unsafe()).map_or(self.last, Entry::before);
        self.advance_durable(next);
    }

    /// A batch is not on the disk and never will be.
    pub fn passed_over(&mut self, place: Place, stats: &JournalStats) {
        let Some(entry) = self.tail.iter().find(|entry| entry.place == place) else { return };
        let count = entry.batch.len();
        let behind = |slot: &&mut Slot| slot.read.position < place.position;
        self.slots.iter_mut().filter(behind).for_each(|slot| slot.lose(count, stats));
    }

    /// Metrics that are not safe.
    pub fn pending(&self) -> u64 {
        self.last.metrics - self.durable.metrics
    }

    /// Whether more may come at once.
    pub fn has_room(&self) -> bool {
        self.failing || self.pending() < TAIL
    }

    /// Whether it is better to commit than to wait for more.
    pub fn is_crowded(&self) -> bool {
        self.pending() >= TAIL / 2
    }

    /// What every output is done with.
    pub fn delivered(&self) -> u64 {
        self.slots.iter().map(Slot::done).min().unwrap_or(self.last.position)
    }

    /// What no output needs any more, not even another process.
    pub fn needless(&self) -> u64 {
        let needless = |slot: &Slot| slot.doubts.oldest().map_or(u64::MAX, |stand| stand.position).min(slot.done());
        self.slots.iter().map(needless).min().unwrap_or(self.last.position)
    }

    pub fn cursors(&self) -> Vec<Cursor> {
        self.slots.iter().map(Slot::cursor).collect()
    }

    /// Where the batch after this position is.
    pub fn source(&self, position: u64) -> Source {
        let in_tail = self.tail.front().is_some_and(|oldest| oldest.place.position <= position + 1);
        if !in_tail && let Some(segment) = self.segments.iter().find(|segment| segment.last.position > position) {
            return Source::Disk(*segment);
        }
        match self.tail.partition_point(|entry| entry.place.position <= position) {
            index if index < self.tail.len() => Source::Tail(index),
            _ => Source::Nothing,
        }
    }

    /// What lies before the oldest batch that is on the disk or in memory.
    fn floor(&self) -> Place {
        let (disk, memory) =
            (self.segments.first().map(|segment| segment.before), self.tail.front().map(Entry::before));
        match (disk, memory) {
            (Some(disk), Some(memory)) if memory.position < disk.position => memory,
            (Some(disk), _) => disk,
            (None, memory) => memory.unwrap_or(self.last),
        }
    }
}

impl Slot {
    /// It is done with all batches up to this position.
    pub fn done(&self) -> u64 {
        self.queue.done(self.read.position)
    }

    /// What it is done with.
    pub fn stand(&self) -> Stand {
        let position = self.done();
        // As long as nothing was read, what was known at the start still holds.
        let offset = if position == self.read.position { self.offset } else { self.queue.front_offset() };
        Stand { position, offset: offset as u64 }
    }

    fn cursor(&self) -> Cursor {
        let Stand { position, offset } = self.doubts.repeat().unwrap_or_else(|| self.stand());
        Cursor { output: self.key.clone(), position, offset }
    }

    /// Lets the output's filters see a batch, and queues what they leave.
    /// One that was appended before `oldest` is too old for it.
    pub fn admit(&mut self, place: Place, since: i64, batch: &Arc<Batch>, oldest: Option<i64>) {
        self.read = place;
        let done = std::mem::take(&mut self.offset);
        let Some(admitted) = (self.output.admit)(batch) else { return };
        let rest = done.min(admitted.len())..admitted.len();
        if oldest.is_some_and(|oldest| since < oldest) {
            self.expire(rest.len());
        } else if !rest.is_empty() {
            self.output.added.add(rest.len());
            self.queue.push_part(place.position, since, admitted, rest);
        }
    }

    /// So many metrics were too old.
    pub fn expire(&mut self, count: usize) {
        self.expired += count;
        self.output.count_expired(count);
    }

    /// What it has not read up to here is too old.
    pub fn expire_to(&mut self, end: Place) {
        if self.read.position < end.position {
            self.expire((end.metrics - self.read.metrics.min(end.metrics)) as usize);
            self.read = end;
            self.offset = 0;
        }
    }

    /// What it has not read up to here is gone.
    pub fn skip_to(&mut self, end: Place, stats: &JournalStats) {
        if self.read.position < end.position {
            let lost = end.metrics - self.read.metrics.min(end.metrics);
            self.read = end;
            self.offset = 0;
            self.lose(lost as usize, stats);
        }
    }

    fn lose(&mut self, count: usize, stats: &JournalStats) {
        self.overflow += count;
        if count > 0 {
            stats.lost.add(count);
            self.output.dropped.iter().for_each(|counter| counter.add(count));
        }
    }

    /// Metrics that wait, as far as they have been read with the filters applied.
    pub fn waiting(&self, last: Place) -> usize {
        self.queue.waiting() + (last.metrics - self.read.metrics.min(last.metrics)) as usize
    }
}
