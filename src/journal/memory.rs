//! The journal in memory (`buffer_strategy = "memory"`): batches shared by all outputs, lost with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heliograph_core::model::{Batch, Origin, WriteBatch};
use heliograph_core::stats::Count;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::queue::{Queue, Resolution};

/// Decides what an output sees of a batch: the same one, another with what its filters leave, or nothing.
pub type Admit = Box<dyn FnMut(&Arc<Batch>) -> Option<Arc<Batch>> + Send>;

/// An output's place in the journal.
pub struct OutputSlot {
    /// The output as logs name it.
    pub name: Arc<str>,
    /// Its plugin ID, by which the next configuration knows it again.
    pub id: String,
    /// What the output of the configuration before could not write: the first that this one writes.
    pub carried: WriteBatch,
    /// The output's filters and names.
    pub admit: Admit,
    /// Most metrics kept for it (`metric_buffer_limit`).
    pub limit: usize,
    /// How long metrics may wait for it (`metric_max_age`).
    pub max_age: Option<Duration>,
    /// Metrics put into its queue.
    pub added: Count,
    /// Metrics that went for newer ones, or since they were too old.
    pub dropped: Vec<Count>,
    /// Of those, the ones that were too old.
    pub expired: Count,
    /// Metrics that wait.
    pub size: Count,
}

/// What an output could not write.
#[derive(Debug, Default)]
pub struct Rest {
    /// The output as logs name it.
    pub name: Arc<str>,
    /// Its plugin ID.
    pub id: String,
    /// The metrics, oldest first.
    pub metrics: WriteBatch,
    /// Where they are counted if they are lost.
    pub(super) dropped: Vec<Count>,
}

/// The writing end; clones write to the same sequence.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// One per output: something was appended to its queue.
    appended: Vec<Notify>,
    watermarks: Vec<watch::Sender<u64>>,
}

struct State {
    slots: Vec<Slot>,
    /// Ages count from here.
    begun: Instant,
    /// Position of the newest batch; the first has 1.
    last: u64,
    /// What inputs wait for, by position.
    origins: VecDeque<(u64, Origin)>,
    /// For each input the message up to which it waits.
    wanted: Vec<u64>,
    /// Position of the newest batch that an input waits for.
    hurried: u64,
}

struct Slot {
    output: OutputSlot,
    queue: Queue,
    /// Dropped since the output last asked.
    overflow: usize,
}

/// Position of everything that was carried over.
const CARRIED: u64 = 1;

/// One output's end of the journal.
pub struct Reader {
    shared: Arc<Shared>,
    index: usize,
}

impl Journal {
    /// A journal for these outputs and this many inputs, with a reader for each output.
    pub fn new(outputs: Vec<OutputSlot>, inputs: usize) -> (Self, Vec<Reader>) {
        let slots: Vec<Slot> = outputs.into_iter().map(Slot::new).collect();
        let last = if slots.iter().any(|slot| slot.queue.len() > 0) { CARRIED } else { 0 };
        let count = slots.len();
        let (origins, wanted) = (VecDeque::new(), vec![0; inputs]);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { slots, begun: Instant::now(), last, origins, wanted, hurried: 0 }),
            appended: (0..count).map(|_| Notify::new()).collect(),
            watermarks: (0..inputs).map(|_| watch::channel(0).0).collect(),
        });
        let readers = (0..count).map(|index| Reader { shared: shared.clone(), index }).collect();
        (Self(shared), readers)
    }

    /// Appends a batch. One without metrics still carries its origin on.
    pub fn append(&self, batch: Batch) {
        let batch = Arc::new(batch);
        let mut state = self.0.lock();
        let now = state.now();
        let State { slots, last, origins, wanted, hurried, .. } = &mut *state;
        *last += 1;
        if let Some(origin) = batch.origin {
            origins.push_back((*last, origin));
            // It may have been asked for before it came here.
            if wanted.get(origin.input as usize).is_some_and(|wanted| origin.message <= *wanted) {
                *hurried = *last;
            }
        }
        for (slot, appended) in slots.iter_mut().zip(&self.0.appended) {
            if batch.is_empty() {
                break;
            }
            let Some(admitted) = (slot.output.admit)(&batch).filter(|batch| !batch.is_empty()) else { continue };
            slot.output.added.add(admitted.len());
            let dropped = slot.queue.push(*last, now, admitted);
            slot.dropped(dropped);
            appended.notify_one();
        }
        self.0.advance(&mut state);
    }

    /// An input waits for all up to this message of its own.
    pub fn hurry(&self, input: usize, message: u64) {
        let mut state = self.0.lock();
        let State { origins, wanted, hurried, .. } = &mut *state;
        if let Some(wanted) = wanted.get_mut(input) {
            *wanted = message;
        }
        let asked = |(_, origin): &&(u64, Origin)| origin.input as usize == input && origin.message <= message;
        if let Some((position, _)) = origins.iter().rev().find(asked) {
            *hurried = (*hurried).max(*position);
            self.0.appended.iter().for_each(Notify::notify_one);
        }
    }

    /// Metrics that wait for any output, each counted for every output that has not written it.
    pub fn waiting(&self) -> usize {
        self.0.lock().slots.iter().map(|slot| slot.queue.len()).sum()
    }

    /// Takes out what the outputs have not written, once they have ended: one for each that has left something.
    pub fn take_rest(&self) -> Vec<Rest> {
        let mut state = self.0.lock();
        let rest = |slot: &mut Slot| Rest {
            name: slot.output.name.clone(),
            id: slot.output.id.clone(),
            metrics: slot.queue.drain(),
            dropped: slot.output.dropped.clone(),
        };
        state.slots.iter_mut().map(rest).filter(|rest| !rest.metrics.is_empty()).collect()
    }

    /// The newest message of this input up to which all is delivered; starts at 0.
    pub fn watermark(&self, input: usize) -> watch::Receiver<u64> {
        self.0.watermarks[input].subscribe()
    }
}

impl Reader {
    /// Waits until something was appended since the last call; may wake without need.
    pub async fn appended(&self) {
        self.shared.appended[self.index].notified().await;
    }

    /// Metrics that wait.
    pub fn len(&self) -> usize {
        self.shared.lock().slots[self.index].queue.waiting()
    }

    /// Whether an input waits for some of what waits here.
    pub fn is_hurried(&self) -> bool {
        let state = self.shared.lock();
        let queue = &state.slots[self.index].queue;
        queue.waiting() > 0 && queue.done(state.last) < state.hurried
    }

    /// Most metrics kept.
    pub fn limit(&self) -> usize {
        self.shared.lock().slots[self.index].queue.limit()
    }

    /// How many metrics were dropped for newer ones since the last call.
    pub fn take_overflow(&self) -> usize {
        std::mem::take(&mut self.shared.lock().slots[self.index].overflow)
    }

    /// Drops what waits for longer than the output wants; returns how many metrics that were.
    pub fn expire(&mut self) -> usize {
        let mut state = self.shared.lock();
        let now = state.now();
        let slot = &mut state.slots[self.index];
        let Some(oldest) = slot.output.oldest(now) else { return 0 };
        let expired = slot.queue.expire(oldest);
        slot.output.count_expired(expired);
        slot.dropped(0);
        self.shared.advance(&mut state);
        expired
    }

    /// The oldest `max` metrics; [`Self::resolve`] says what became of them before the next call.
    pub fn take(&mut self, max: usize) -> WriteBatch {
        self.shared.lock().slots[self.index].queue.take(max)
    }

    /// Says what became of the metrics taken last.
    pub fn resolve(&mut self, resolution: Resolution) {
        let mut state = self.shared.lock();
        let slot = &mut state.slots[self.index];
        let dropped = slot.queue.resolve(resolution);
        slot.dropped(dropped);
        self.shared.advance(&mut state);
    }
}

impl Rest {
    /// Says that the metrics are lost, and counts them.
    pub fn lose(self, reason: &str) {
        let count = self.metrics.len();
        if count > 0 {
            self.dropped.iter().for_each(|counter| counter.add(count));
            tracing::warn!(plugin = &*self.name, count, reason, "metrics that were not written are lost");
        }
    }
}

impl OutputSlot {
    /// What was appended before this time is too old; both times in nanoseconds on the journal's steady clock.
    pub(super) fn oldest(&self, now: i64) -> Option<i64> {
        let age = i64::try_from(self.max_age?.as_nanos()).unwrap_or(i64::MAX);
        Some(now.saturating_sub(age))
    }

    pub(super) fn count_expired(&self, count: usize) {
        if count > 0 {
            self.expired.add(count);
            self.dropped.iter().for_each(|counter| counter.add(count));
        }
    }

    /// Takes what was carried over out again, for an output that does not run after all.
    pub fn take_carried(&mut self) -> Rest {
        Rest {
            name: self.name.clone(),
            id: self.id.clone(),
            metrics: std::mem::take(&mut self.carried),
            dropped: self.dropped.clone(),
        }
    }
}

impl Slot {
    fn new(mut output: OutputSlot) -> Self {
        let carried = std::mem::take(&mut output.carried);
        let mut slot = Self { queue: Queue::new(output.limit), output, overflow: 0 };
        let mut dropped = 0;
        for (mut batch, part) in carried.into_parts() {
            // The input that sent it has ended and waits no more: a batch without origin may go when the queue is full.
            if batch.origin.is_some() {
                Arc::make_mut(&mut batch).origin = None;
            }
            dropped += slot.queue.push_part(CARRIED, 0, batch, part);
        }
        slot.dropped(dropped);
        slot
    }

    fn dropped(&mut self, count: usize) {
        self.overflow += count;
        if count > 0 {
            self.output.dropped.iter().for_each(|counter| counter.add(count));
        }
        self.output.size.set(self.queue.len());
    }
}

impl State {
    /// Nanoseconds since the journal was begun.
    fn now(&self) -> i64 {
        self.begun.elapsed().as_nanos() as i64
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a filter leaves the queues whole: they are changed after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells inputs how far every output has come.
    fn advance(&self, state: &mut State) {
        if state.origins.is_empty() {
            return;
        }
        let done = state.slots.iter().map(|slot| slot.queue.done(state.last)).min().unwrap_or(state.last);
        while let Some(&(position, origin)) = state.origins.front()
            && position <= done
        {
            state.origins.pop_front();
            if let Some(watermark) = self.watermarks.get(origin.input as usize) {
                watermark.send_replace(origin.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::{Key, Kind, SeriesBuilder, Value};

    fn batch(message: u64, name: &str) -> Batch {
        let mut batch = Batch::new();
        batch.start(SeriesBuilder::new().start(name.as_bytes()).build(), 0, Kind::Untyped);
        batch.push_field(Key::fixed("v"), Value::Int(1));
        batch.origin = Some(Origin { input: 0, message });
        batch
    }

    fn slot(admit: impl FnMut(&Arc<Batch>) -> Option<Arc<Batch>> + Send + 'static) -> OutputSlot {
        OutputSlot {
            name: "outputs.x".into(),
            id: "1".into(),
            carried: WriteBatch::new(),
            admit: Box::new(admit),
            limit: 100,
            max_age: None,
            added: Count::default(),
            dropped: vec![],
            expired: Count::default(),
            size: Count::default(),
        }
    }

    fn write(reader: &mut Reader) -> usize {
        let taken = reader.take(10).len();
        reader.resolve(Resolution::Done);
        taken
    }

    #[test]
    fn safe_is_what_every_output_has_written() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone())), slot(|b| Some(b.clone()))], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(7, "a"));
        write(&mut readers[0]);
        assert_eq!(*watermark.borrow(), 0);
        write(&mut readers[1]);
        assert_eq!(*watermark.borrow(), 7);
    }

    #[test]
    fn a_message_without_metrics_passes_with_its_batch() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone()))], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(1, "a"));
        let mut empty = batch(2, "b");
        empty.truncate(0);
        journal.append(empty);
        assert_eq!(*watermark.borrow(), 0);
        write(&mut readers[0]);
        assert_eq!(*watermark.borrow(), 2);
    }

    #[test]
    fn an_output_that_filters_all_of_it_waits_for_nothing() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone())), slot(|_| None)], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(1, "a"));
        assert_eq!((write(&mut readers[1]), write(&mut readers[0])), (0, 1));
        assert_eq!(*watermark.borrow(), 1);
    }

    #[test]
    fn without_outputs_all_is_safe_at_once() {
        let (journal, _) = Journal::new(vec![], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(1, "a"));
        assert_eq!(*watermark.borrow(), 1);
    }

    #[test]
    fn what_is_left_is_the_first_that_the_next_journal_has() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone())), slot(|b| Some(b.clone()))], 1);
        journal.append(batch(7, "a"));
        journal.append(batch(8, "b"));
        write(&mut readers[1]);
        let [rest] = <[Rest; 1]>::try_from(journal.take_rest()).unwrap();
        assert_eq!(rest.metrics.len(), 2);

        let mut next = slot(|b| Some(b.clone()));
        (next.carried, next.limit) = (rest.metrics, 2);
        let dropped = Count::default();
        next.dropped.push(dropped.clone());
        let (journal, mut readers) = Journal::new(vec![next, slot(|b| Some(b.clone()))], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(1, "c"));
        // The limit holds, also for a batch that an input had waited for.
        let names: Vec<_> = readers[0].take(10).iter().map(|metric| metric.series.to_string()).collect();
        assert_eq!((names.concat(), dropped.get(), readers[0].take_overflow()), ("bc".into(), 1, 1));
        write(&mut readers[1]);
        assert_eq!(*watermark.borrow(), 0);
        readers[0].resolve(Resolution::Done);
        assert_eq!(*watermark.borrow(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_too_long_goes() {
        let mut output = slot(|b| Some(b.clone()));
        output.max_age = Some(Duration::from_secs(10));
        let (journal, mut readers) = Journal::new(vec![output, slot(|b| Some(b.clone()))], 1);
        let watermark = journal.watermark(0);
        journal.append(batch(1, "a"));
        tokio::time::advance(Duration::from_secs(7)).await;
        journal.append(batch(2, "b"));
        write(&mut readers[1]);
        assert_eq!((readers[0].expire(), readers[1].expire()), (0, 0));
        tokio::time::advance(Duration::from_secs(4)).await;
        // It was given up, so nobody waits for it any more.
        assert_eq!((readers[0].expire(), readers[0].len(), *watermark.borrow()), (1, 1, 1));
    }

    #[test]
    fn a_batch_is_shared_not_copied() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone())), slot(|b| Some(b.clone()))], 1);
        journal.append(batch(1, "a"));
        let (a, b) = (readers[0].take(1), readers[1].take(1));
        assert!(std::ptr::eq(a.iter().next().unwrap().fields, b.iter().next().unwrap().fields));
    }

    #[test]
    fn what_an_input_waits_for_does_not_wait_for_a_full_batch() {
        let (journal, mut readers) = Journal::new(vec![slot(|b| Some(b.clone()))], 2);
        journal.append(batch(1, "a"));
        assert!(!readers[0].is_hurried());
        // It asks for what is here, and for what is still on its way.
        journal.hurry(0, 2);
        assert!(readers[0].is_hurried());
        write(&mut readers[0]);
        assert!(!readers[0].is_hurried());
        journal.append(batch(2, "a"));
        assert!(readers[0].is_hurried());
        write(&mut readers[0]);
        journal.append(batch(3, "a"));
        assert!(!readers[0].is_hurried());
        journal.hurry(1, 9);
        assert!(!readers[0].is_hurried(), "another input");
    }
}
