//! The thread that brings batches to the disk, and is the only one that changes files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::error::Chain;
use heliograph_core::model::Batch;
use tokio::time::Instant;

use super::log::{Limits, Log};
use super::segment::Place;
use super::state::Shared;
use super::storage::{Directory, Disk};

/// Between attempts while the disk fails.
const RETRY: Duration = Duration::from_secs(5);
/// Cursors are written down with every batch, and as often while there are none; what an output has written since is written
/// again after a crash.
const CURSORS: Duration = Duration::from_millis(50);
/// Old segments are looked for as often at the most.
const AGE: Duration = Duration::from_secs(1);

pub struct Writer {
    pub shared: Arc<Shared>,
    pub log: Option<Log>,
    pub directory: PathBuf,
    pub limits: Limits,
    pub commit_interval: Duration,
    cursors_due: Instant,
    retry_due: Instant,
    age_due: Instant,
    /// The folder came late and cannot be used: that was said.
    refused: bool,
    was_failing: bool,
}

/// A batch that is to be written, and where it ends.
type Pending = (Place, Arc<Batch>);

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        log: Option<Log>,
        directory: PathBuf,
        limits: Limits,
        commit_interval: Duration,
    ) -> Self {
        let now = Instant::now();
        let retry_due = now + if log.is_none() { RETRY } else { Duration::ZERO };
        Self {
            shared,
            log,
            directory,
            limits,
            commit_interval,
            cursors_due: now,
            retry_due,
            age_due: now,
            refused: false,
            was_failing: false,
        }
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        while self.wait() {
            self.step(false);
        }
        self.step(true);
    }

    /// Waits until there is something to do; `false` when told to stop.
    fn wait(&self) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.stop {
                return false;
            }
            let due = if state.failing {
                Some(self.retry_due)
            } else if state.cursors_urgent {
                Some(Instant::now())
            } else if let Some(since) = state.pending_since {
                let now = state.hurry || state.is_crowded();
                Some(if now { since } else { since + self.commit_interval })
            } else if state.cursors_moved {
                Some(self.cursors_due)
            } else {
                self.limits.age.map(|_| self.age_due)
            };
            let pause = due.map(|due| due.saturating_duration_since(Instant::now()));
            if pause == Some(Duration::ZERO) {
                return true;
            }
            state.asleep = !state.failing && state.pending_since.is_none();
            state = self.shared.wait(state, pause);
            state.asleep = false;
        }
    }

    /// Brings what there is to the disk, and tells the others.
    pub fn step(&mut self, last: bool) {
        if self.log.is_none() && !self.open_late() {
            self.retry_due = Instant::now() + RETRY;
            return;
        }
        let Some(log) = &mut self.log else { return };
        let now = Instant::now();
        let (pending, needless, save) = {
            let mut state = self.shared.lock();
            state.pending_since = None;
            state.hurry = false;
            let pending: Vec<_> =
                state.tail.range(state.first_unsafe()..).map(|entry| (entry.place, entry.batch.clone())).collect();
            state.damaged.drain(..).for_each(|sequence| log.mark_damaged(sequence));
            log.set_cursors(state.cursors());
            // While the disk fails even an empty commit tells whether it is back.
            let urgent = std::mem::take(&mut state.cursors_urgent);
            let due = last || urgent || !pending.is_empty() || now >= self.cursors_due;
            let save = state.failing || state.cursors_moved && due;
            (pending, state.needless(), save)
        };
        log.tick(self.shared.moment());
        let outcome = write(log, &pending, needless, save);
        if save {
            self.cursors_due = now + CURSORS;
        }
        if let Some(age) = self.limits.age {
            self.age_due = now + (age / 8).max(AGE);
        }
        if outcome.is_err() {
            log.abandon();
            self.retry_due = Instant::now() + RETRY;
        }
        self.publish(&outcome, save, now.elapsed(), &pending);
        self.say(outcome);
    }

    /// Tells readers and inputs what is on the disk now.
    fn publish(&mut self, outcome: &io::Result<Vec<Place>>, saved: bool, elapsed: Duration, pending: &[Pending]) {
        let Some(log) = &mut self.log else { return };
        let stats = &self.shared.stats;
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        state.segments = log.segments().collect();
        // What was only kept since a backend may not have read it is not lost with its file.
        let delivered = state.delivered();
        let lost = log.take_dropped().into_iter().filter(|segment| segment.last.position > delivered);
        lost.for_each(|segment| stats.lost_bytes.add(segment.bytes as usize));
        let before = state.durable;
        state.advance_durable(log.synced());
        if let Ok(oversized) = outcome {
            state.advance_durable(pending.last().map_or(before, |(place, _)| *place));
            state.close_gap();
            state.cursors_moved &= !saved;
            oversized.iter().for_each(|place| state.passed_over(*place, stats));
            if !pending.is_empty() {
                stats.commits.increment();
                stats.commit_time.record(elapsed);
            }
        }
        stats.synced.add((state.durable.metrics - before.metrics) as usize);
        stats.bytes.set(log.bytes() as usize);
        stats.segments.set(state.segments.len());
        stats.in_memory.set(usize::from(outcome.is_err()));
        self.was_failing = std::mem::replace(&mut state.failing, outcome.is_err());
        if state.pending() > 0 && state.pending_since.is_none() {
            state.pending_since = Some(Instant::now());
        }
        self.shared.trim(state);
        self.shared.advance(state);
        drop(guard);
        self.shared.room.notify_waiters();
    }

    /// Tells the operator: once that the disk fails, once that it is back.
    fn say(&self, outcome: io::Result<Vec<Place>>) {
        match outcome {
            Ok(oversized) => {
                if self.was_failing {
                    tracing::info!(plugin = "journal", "the journal is on the disk again");
                }
                if !oversized.is_empty() {
                    // Batches are divided before they get here.
                    let count = oversized.len();
                    tracing::error!(plugin = "journal", count, "metrics larger than half of buffer_max_size are lost");
                }
            }
            Err(error) => {
                self.shared.stats.errors.increment();
                if !self.was_failing {
                    tracing::error!(
                        plugin = "journal",
                        error = %Chain(&error),
                        "cannot write the journal: metrics wait in memory until the disk is back"
                    );
                }
            }
        }
    }

    /// Tries to open the folder that could not be opened at the start.
    fn open_late(&mut self) -> bool {
        if self.refused {
            return false;
        }
        let Ok(directory) = Directory::open(&self.directory) else { return false };
        let disk: Arc<dyn Disk> = Arc::new(directory);
        let Ok((log, _)) = Log::open(disk.clone(), self.limits, self.shared.moment()) else { return false };
        if log.segments().len() > 0 {
            // What it holds is older than what outputs have got meanwhile: only a start can put it in order.
            tracing::error!(
                plugin = "journal",
                path = %self.directory.display(),
                "buffer_directory came late and holds a journal: metrics wait in memory until the agent is restarted"
            );
            self.refused = true;
            return false;
        }
        self.shared.lock().disk = Some(disk);
        self.log = Some(log);
        true
    }
}

/// Writes all of it; gives the batches that were too large.
fn write(log: &mut Log, pending: &[Pending], needless: u64, save: bool) -> io::Result<Vec<Place>> {
    log.free(needless);
    let mut oversized = Vec::new();
    for (place, batch) in pending {
        if !log.append(*place, batch)? {
            oversized.push(*place);
        }
    }
    if save {
        log.save_cursors()?;
    }
    log.commit()?;
    Ok(oversized)
}
