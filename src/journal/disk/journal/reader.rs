//! One output's end of the journal on disk: from memory as long as it keeps up, else from the segments.

use std::io;
use std::sync::Arc;

use heliograph_core::error::Chain;
use heliograph_core::model::{Batch, WriteBatch};
use heliograph_core::plugin::Doubt;

use crate::journal::disk::log::{Moment, Segment, file_name, is_broken};
use crate::journal::disk::segment::{Batches, Next, Place, Records};
use crate::journal::disk::state::{Entry, Shared, Source};
use crate::journal::disk::storage::Disk;
use crate::journal::queue::Resolution;

/// Batches that an output's filters may refuse before a read comes back without them, in metrics.
const SCAN: usize = 50_000;

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

impl Reader {
    /// Of the output of this index.
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, index, place: None }
    }

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

    /// The metrics taken next belong to the write of this number.
    pub fn begin(&mut self, write: u64) {
        let mut state = self.shared.lock();
        let slot = &mut state.slots[self.index];
        slot.doubts.begin(write, slot.stand());
    }

    /// Says which of the writes may have to be made again by another process. An output says so at every flush: only a change
    /// is worth a commit, and one that moves the cursor back does not wait.
    pub fn doubt(&mut self, doubt: Doubt) {
        let mut state = self.shared.lock();
        let doubts = &mut state.slots[self.index].doubts;
        let before = doubts.repeat();
        doubts.settle(doubt);
        let after = doubts.repeat();
        if after == before {
            return;
        }
        self.shared.cursors_moved(&mut state);
        if after.is_some() {
            state.cursors_urgent = true;
            self.shared.wake.notify_one();
        }
    }

    /// Says what became of the metrics taken last.
    pub fn resolve(&mut self, resolution: Resolution) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let slot = &mut state.slots[self.index];
        slot.queue.resolve(resolution);
        slot.output.size.set(slot.waiting(state.last));
        self.shared.cursors_moved(state);
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
