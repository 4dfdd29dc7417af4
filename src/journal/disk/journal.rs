//! The journal on disk as the pipeline sees it: the end that appends, and how it starts and ends.

mod reader;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::model::Batch;
use tokio::sync::watch;
use tokio::time::Instant;

use super::codec;
use super::doubts::Doubts;
use super::log::{Limits, Log, Moment, Recovered, Segment};
use super::segment::{Cursor, Place};
use super::state::{Shared, Slot, State};
use super::stats::JournalStats;
use super::storage::{self, Disk};
use super::writer::Writer;
use crate::journal::memory::{OutputSlot, Rest};
use crate::journal::queue::Queue;
pub use reader::Reader;

/// A write of the disk that takes longer counts as a failure.
const STALL: Duration = Duration::from_secs(10);
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

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
        let readers = (0..count).map(|index| Reader::new(shared.clone(), index)).collect();
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
        let doubts = Doubts::default();
        slots.push(Slot { output, key, queue, read, offset, doubts, overflow: 0, expired: 0 });
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

#[cfg(test)]
mod tests;
