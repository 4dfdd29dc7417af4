//! The two ends of the journal on disk: the one that appends, and the readers of the outputs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::model::{Batch, WriteBatch};
use tokio::sync::watch;
use tokio::time::Instant;

use super::codec;
use super::log::{Limits, Log, Moment, Recovered, Segment, file_name, is_broken};
use super::segment::{Batches, Cursor, Next, Place, Records};
use super::state::{Entry, JournalStats, Shared, Slot, Source, State};
use super::storage::{self, Disk};
use super::writer::Writer;
use crate::journal::memory::{OutputSlot, Rest};
use crate::journal::queue::{Queue, Resolution};

/// A write of the disk that takes longer counts as a failure.
const STALL: Duration = Duration::from_secs(10);
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Batches that an output's filters may refuse before a read comes back without them, in metrics.
const SCAN: usize = 50_000;

/// What the options of `[agent]` say.
#[derive(Clone)]
pub struct Settings {
    /// `buffer_directory`.
    pub directory: PathBuf,
    /// `buffer_max_size`, `buffer_segment_size`, `buffer_max_age` and `buffer_disk_sync`.
    pub limits: Limits,
    /// `buffer_commit_interval`: how long a batch may wait for others before it is made safe.
    pub commit_interval: Duration,
    /// Where it counts.
    pub stats: JournalStats,
    /// The wall clock.
    pub clock: Clock,
}

/// The writing end; clones write to the same sequence.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Longest record of a batch, in bytes.
    record: u64,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// One output's end of the journal.
pub struct Reader {
    shared: Arc<Shared>,
    index: usize,
    /// The segment it reads; at another thread while it does.
    place: Option<Box<ReadPlace>>,
}

struct ReadPlace {
    sequence: u64,
    batches: Batches,
}

impl Journal {
    /// Opens the journal, and starts the thread that writes it.
    ///
    /// # Errors
    /// If another agent uses the folder. A folder that cannot be used otherwise is tried again and again.
    pub async fn start(
        mut settings: Settings,
        outputs: Vec<OutputSlot>,
        inputs: usize,
    ) -> Result<(Self, Vec<Reader>), BoxError> {
        let moment = Moment { wall: settings.clock.now(), steady: 0 };
        settings.limits.output_age = outputs.iter().filter_map(|output| output.max_age).min();
        let (path, limits) = (settings.directory.clone(), settings.limits);
        let opened = tokio::task::spawn_blocking(move || -> Result<_, BoxError> {
            let directory = match storage::open(&path)? {
                Ok(directory) => Arc::new(directory) as Arc<dyn Disk>,
                Err(error) => return Ok(Err(Chain(&error).to_string())),
            };
            Ok(Log::open(directory.clone(), limits, moment)
                .map(|(log, recovered)| (directory, log, recovered))
                .map_err(|error| format!("cannot read buffer_directory {path:?}: {error}")))
        });
        let opened = match opened.await?? {
            Ok(opened) => Some(opened),
            Err(error) => {
                settings.stats.errors.increment();
                tracing::error!(plugin = "journal", error, "metrics wait in memory until the disk is there");
                None
            }
        };
        let (journal, readers, writer) = Self::build(settings, opened, outputs, inputs);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        *journal.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((journal, readers))
    }

    /// Puts the ends together; nobody writes yet.
    pub(super) fn build(
        settings: Settings,
        opened: Option<(Arc<dyn Disk>, Log, Recovered)>,
        outputs: Vec<OutputSlot>,
        inputs: usize,
    ) -> (Self, Vec<Reader>, Writer) {
        let (disk, log, recovered) = match opened {
            Some((disk, log, recovered)) => (Some(disk), Some(log), recovered),
            None => (None, None, Recovered::default()),
        };
        if recovered.cut > 0 {
            tracing::warn!(plugin = "journal", bytes = recovered.cut, "cut off a write that had not ended");
            settings.stats.lost_bytes.add(recovered.cut as usize);
        }
        let segments: Vec<Segment> = log.iter().flat_map(Log::segments).collect();
        let slots = place_outputs(outputs, &recovered, &segments);
        settings.stats.bytes.set(log.as_ref().map_or(0, Log::bytes) as usize);
        settings.stats.segments.set(segments.len());
        let state = State::new(slots, recovered.end, segments, disk);
        let count = state.slots.len();
        let Settings { directory, limits, commit_interval, stats, clock } = settings;
        let shared = Arc::new(Shared::new(state, inputs, stats, clock));
        let readers = (0..count).map(|index| Reader { shared: shared.clone(), index, place: None }).collect();
        let writer = Writer::new(shared.clone(), log, directory, limits, commit_interval);
        (Self { shared, record: limits.record(), thread: Arc::default() }, readers, writer)
    }

    /// Appends a batch. One without metrics still carries its origin on.
    pub fn append(&self, mut batch: Batch) {
        // One record has to hold it.
        if batch.len() > 1 && codec::longest(&batch) > self.record {
            let rest = batch.split_off(batch.len() / 2);
            self.append(batch);
            return self.append(rest);
        }
        let batch = Arc::new(batch);
        let now = self.shared.steady();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let was_crowded = state.is_crowded();
        self.shared.stats.appended.add(batch.len());
        let is_empty = batch.is_empty();
        state.push(now, batch);
        if !is_empty {
            state.slots.iter().for_each(|slot| slot.output.size.set(slot.waiting(state.last)));
            self.shared.appended.iter().for_each(tokio::sync::Notify::notify_one);
            let is_first = state.pending_since.is_none();
            if is_first {
                state.pending_since = Some(Instant::now());
            }
            if state.asleep || !was_crowded && state.is_crowded() {
                self.shared.wake.notify_one();
            }
            self.shared.trim(state);
        }
        self.shared.advance(state);
    }

    /// Waits as long as the disk is behind with what was appended.
    pub async fn ready(&self) {
        loop {
            let room = self.shared.room.notified();
            if self.shared.lock().has_room() {
                return;
            }
            if tokio::time::timeout(STALL, room).await.is_err() {
                let mut guard = self.shared.lock();
                if !guard.has_room() {
                    tracing::error!(plugin = "journal", "the disk hangs: metrics wait in memory until it is back");
                    guard.failing = true;
                    self.shared.stats.in_memory.set(1);
                    self.shared.trim(&mut guard);
                }
            }
        }
    }

    /// Asks for a commit at once, of what there is or of what comes next: somebody waits for it.
    pub fn hurry(&self) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.hurry, true) && state.pending_since.is_some() {
            self.shared.wake.notify_one();
        }
    }

    /// Metrics that wait for any output, each counted for every output that has not written it.
    pub fn waiting(&self) -> usize {
        let state = self.shared.lock();
        state.slots.iter().map(|slot| slot.waiting(state.last)).sum()
    }

    /// The newest message of this input up to which all is safe; starts at 0.
    pub fn watermark(&self, input: usize) -> watch::Receiver<u64> {
        self.shared.watermarks[input].subscribe()
    }

    /// Commits for the last time, lets the folder go, and gives what is in memory only, once the outputs have ended.
    pub async fn close(&self) -> Vec<Rest> {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let ended = tokio::task::spawn_blocking(move || thread.join());
            match tokio::time::timeout(LAST_COMMIT, ended).await {
                Ok(Ok(Ok(()))) => {}
                Ok(_) => tracing::error!(plugin = "journal", "the thread that writes the journal has failed"),
                Err(_) => tracing::error!(plugin = "journal", "the last commit did not end in time"),
            }
        }
        self.take_rest()
    }

    fn take_rest(&self) -> Vec<Rest> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let kept: usize = state.slots.iter().map(|slot| slot.waiting(state.durable)).sum();
        if kept > 0 {
            tracing::info!(plugin = "journal", count = kept, "metrics wait in the journal for the next start");
        }
        // The folder is locked as long as anybody has it.
        state.disk = None;
        let durable = state.durable.position;
        let mut rests = Vec::new();
        for slot in &mut state.slots {
            for entry in &state.tail {
                if entry.place.position > durable.max(slot.read.position) {
                    slot.admit(entry.place, entry.since, &entry.batch, None);
                }
            }
            let OutputSlot { name, id, dropped, .. } = &slot.output;
            let metrics = slot.queue.drain_after(durable);
            rests.push(Rest { name: name.clone(), id: id.clone(), metrics, dropped: dropped.clone() });
        }
        rests.retain(|rest| !rest.metrics.is_empty());
        rests
    }
}

/// Where every output starts: at its cursor, or at the end if it is new.
fn place_outputs(outputs: Vec<OutputSlot>, recovered: &Recovered, segments: &[Segment]) -> Vec<Slot> {
    let oldest = segments.first().map_or(recovered.end, |segment| segment.before);
    let mut known: Vec<Cursor> = recovered.cursors.clone().unwrap_or_default();
    let mut slots: Vec<Slot> = Vec::new();
    for mut output in outputs {
        let id: String = output.id.chars().take(16).collect();
        let mut key = format!("{}/{id}", output.name);
        let twins = slots.iter().filter(|slot| slot.key.starts_with(&key)).count();
        if twins > 0 {
            key = format!("{key}/{twins}");
        }
        let cursor = known.iter().position(|cursor| cursor.output == key).map(|index| known.swap_remove(index));
        let (read, offset) = match cursor {
            Some(cursor) if cursor.position >= recovered.end.position => (recovered.end, 0),
            Some(cursor) if cursor.position < oldest.position => (oldest, 0),
            Some(cursor) => {
                // How many metrics there are before it is only known of the segment as a whole, until it is read.
                let within = segments.iter().find(|segment| segment.last.position > cursor.position);
                let metrics = within.map_or(recovered.end, |segment| segment.before).metrics;
                (Place { position: cursor.position, metrics }, cursor.offset as usize)
            }
            None if recovered.cursors.is_some() => (recovered.end, 0),
            // All cursors are lost: rather twice than never.
            None => (oldest, 0),
        };
        let mut queue = Queue::new(usize::MAX);
        for (batch, part) in std::mem::take(&mut output.carried).into_parts() {
            queue.push_apart(recovered.end.position.max(1), 0, batch, part);
        }
        output.size.set(queue.len());
        slots.push(Slot { output, key, queue, read, offset, overflow: 0, expired: 0 });
    }
    for cursor in known {
        tracing::warn!(
            plugin = "journal",
            output = cursor.output,
            "an output is no longer configured, its cursor goes"
        );
    }
    slots
}

impl Reader {
    /// Waits until something was appended since the last call; may wake without need.
    pub async fn appended(&self) {
        self.shared.appended[self.index].notified().await;
    }

    /// Metrics that wait; as long as they have not been read, those count too that the output's filters will refuse.
    pub fn waiting(&self) -> usize {
        let state = self.shared.lock();
        state.slots[self.index].waiting(state.last)
    }

    /// Most metrics kept in memory.
    pub fn limit(&self) -> usize {
        self.shared.lock().slots[self.index].output.limit
    }

    /// How many metrics were dropped for newer ones since the last call.
    pub fn take_overflow(&self) -> usize {
        std::mem::take(&mut self.shared.lock().slots[self.index].overflow)
    }

    /// Drops what waits for longer than the output wants; returns how many metrics were dropped so since the last call.
    pub fn expire(&mut self) -> usize {
        let now = self.shared.steady();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(oldest) = state.slots[self.index].output.oldest(now) {
            let expired = state.slots[self.index].queue.expire(oldest);
            state.slots[self.index].expire(expired);
            // Files that are too old as a whole need not be read.
            while let Source::Disk(segment) = state.source(state.slots[self.index].read.position)
                && segment.ended.is_some_and(|ended| ended < oldest)
            {
                state.slots[self.index].expire_to(segment.last);
            }
        }
        let expired = std::mem::take(&mut state.slots[self.index].expired);
        if expired > 0 {
            state.slots[self.index].output.size.set(state.slots[self.index].waiting(state.last));
            state.cursors_moved = true;
            self.shared.advance(state);
        }
        expired
    }

    /// The oldest `max` metrics, or fewer where the filters refuse most; [`Self::resolve`] says what became of them.
    pub async fn take(&mut self, max: usize) -> WriteBatch {
        let mut scanned = 0;
        while scanned < SCAN {
            let Some((segment, disk, after)) = self.read_memory(max) else { break };
            let place = self.place.take();
            let reading = tokio::task::spawn_blocking(move || read(&*disk, place, segment, after, max));
            let Ok((place, found)) = reading.await else { break };
            self.place = place;
            let now = self.shared.moment();
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            let slot = &mut state.slots[self.index];
            let oldest = slot.output.oldest(now.steady);
            for (place, batch) in found.batches {
                scanned += batch.len();
                // What was dropped meanwhile is counted already.
                if place.position > slot.read.position {
                    slot.admit(place, appended(&segment, &batch, now), &batch, oldest);
                }
            }
            match found.end {
                ReadEnd::Enough => {}
                ReadEnd::Segment => {
                    if slot.read.position < segment.last.position {
                        tracing::error!(
                            plugin = "journal",
                            file = file_name(segment.sequence),
                            output = &*slot.output.name,
                            count = segment.last.metrics.saturating_sub(slot.read.metrics),
                            "a file of the journal is damaged: metrics are lost"
                        );
                        state.damaged.push(segment.sequence);
                        slot.skip_to(segment.last, &self.shared.stats);
                    }
                }
                ReadEnd::Failed(error) => {
                    self.shared.stats.errors.increment();
                    tracing::error!(plugin = "journal", error = %Chain(&error), "cannot read the journal for now");
                    break;
                }
            }
        }
        let mut state = self.shared.lock();
        state.slots[self.index].queue.take(max)
    }

    /// Reads what is in memory, up to `max` metrics; then the segment with what comes next, if that is not in memory.
    fn read_memory(&self, max: usize) -> Option<(Segment, Arc<dyn Disk>, u64)> {
        let now = self.shared.steady();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        while state.slots[self.index].queue.waiting() < max {
            let read = state.slots[self.index].read.position;
            let source = state.source(read);
            let slot = &mut state.slots[self.index];
            match source {
                Source::Tail(index) => {
                    let Entry { place, since, batch } = &state.tail[index];
                    slot.admit(*place, *since, batch, slot.output.oldest(now));
                }
                Source::Disk(segment) => return Some((segment, state.disk.clone()?, read)),
                Source::Nothing => {
                    slot.read = state.last;
                    return None;
                }
            }
        }
        None
    }

    /// Says what became of the metrics taken last.
    pub fn resolve(&mut self, resolution: Resolution) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let slot = &mut state.slots[self.index];
        slot.queue.resolve(resolution);
        slot.output.size.set(slot.waiting(state.last));
        let was_moved = std::mem::replace(&mut state.cursors_moved, true);
        if !was_moved && state.asleep {
            self.shared.wake.notify_one();
        }
        self.shared.advance(state);
    }
}

/// When a batch of a segment was appended, on the steady clock, or somewhat later.
fn appended(segment: &Segment, batch: &Batch, now: Moment) -> i64 {
    segment.ended.unwrap_or_else(|| {
        // When the agent before this one has ended nobody knows; the metrics' own times tell, between these two.
        let newest = batch.iter().map(|metric| metric.time).max().unwrap_or(now.wall);
        now.steady.saturating_sub(now.wall.saturating_sub(newest)).clamp(segment.born, segment.born.max(0))
    })
}

/// What was read from a segment.
struct Found {
    batches: Vec<(Place, Arc<Batch>)>,
    end: ReadEnd,
}

enum ReadEnd {
    /// There may be more.
    Enough,
    /// The segment has no more.
    Segment,
    /// The operating system is short of something.
    Failed(io::Error),
}

/// Reads batches of a segment behind `after`, about as many metrics as wanted.
fn read(
    disk: &dyn Disk,
    place: Option<Box<ReadPlace>>,
    segment: Segment,
    after: u64,
    want: usize,
) -> (Option<Box<ReadPlace>>, Found) {
    let mut batches = Vec::new();
    let usable =
        |place: &ReadPlace| place.sequence == segment.sequence && place.batches.records.place.position <= after;
    let opened = match place.filter(|place| usable(place)) {
        Some(place) => Ok(Ok(place)),
        None => disk.open(&file_name(segment.sequence)).and_then(Records::new).map(|records| {
            records.map(|records| Box::new(ReadPlace { sequence: segment.sequence, batches: Batches::new(records) }))
        }),
    };
    let mut place = match opened {
        Ok(Ok(place)) => place,
        Ok(Err(_)) => return (None, Found { batches, end: ReadEnd::Segment }),
        Err(error) => return (None, Found { batches, end: end_of(error) }),
    };
    let mut count = 0;
    let end = loop {
        if count >= want {
            break ReadEnd::Enough;
        }
        match place.batches.next(segment.bytes) {
            Ok(Next::Batch(at, batch)) if at.position <= segment.last.position => {
                if at.position > after {
                    count += batch.len();
                    batches.push((at, Arc::new(batch)));
                }
            }
            Ok(_) => break ReadEnd::Segment,
            Err(error) => break end_of(error),
        }
    };
    (Some(place), Found { batches, end })
}

/// A file that is gone or broken has no more; anything else may pass.
fn end_of(error: io::Error) -> ReadEnd {
    if error.kind() == io::ErrorKind::NotFound || is_broken(&error) {
        return ReadEnd::Segment;
    }
    ReadEnd::Failed(error)
}

#[cfg(test)]
mod tests;
