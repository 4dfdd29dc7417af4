//! What one output still has to write: its view of the sequence, without copies.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use heliograph_core::model::{Batch, WriteBatch};

/// The unwritten part of the sequence, as one output sees it.
///
/// The front of the queue may be in flight: handed to the output, but not resolved. Bounded by `limit` metrics besides
/// those in flight. When it overflows the oldest metrics go; batches that an input holds for acknowledgement stay, since
/// that input bounds them itself and sends no more until they are written.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    len: usize,
    in_flight: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    /// When it was appended, in nanoseconds on the journal's steady clock.
    since: i64,
    batch: Arc<Batch>,
    rest: Range<usize>,
    /// The batch is not that of its position: `rest` says nothing about that one.
    apart: bool,
}

/// What became of a batch that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// All of it is done with.
    Done,
    /// All of it stays.
    Keep,
    /// These indices stay, in ascending order; the rest is done with.
    KeepSome(Vec<usize>),
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), len: 0, in_flight: 0, limit }
    }

    /// Metrics that wait or are in flight.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Metrics that wait.
    pub fn waiting(&self) -> usize {
        self.len - self.in_flight
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The newest position before which nothing is left, `last` being the newest of the whole sequence.
    pub fn done(&self, last: u64) -> u64 {
        self.entries.front().map_or(last, |entry| entry.position - 1)
    }

    /// Adds a batch; returns how many metrics had to go for it.
    pub fn push(&mut self, position: u64, since: i64, batch: Arc<Batch>) -> usize {
        let rest = 0..batch.len();
        self.push_part(position, since, batch, rest)
    }

    /// Adds some metrics of a batch; returns how many metrics had to go for them.
    pub fn push_part(&mut self, position: u64, since: i64, batch: Arc<Batch>, rest: Range<usize>) -> usize {
        self.len += rest.len();
        self.entries.push_back(Entry { position, since, batch, rest, apart: false });
        self.shrink()
    }

    /// Adds some metrics of a batch that is another one than that of its position.
    pub fn push_apart(&mut self, position: u64, since: i64, batch: Arc<Batch>, rest: Range<usize>) {
        self.len += rest.len();
        self.entries.push_back(Entry { position, since, batch, rest, apart: true });
    }

    /// How many metrics of the oldest batch are done with; 0 if that cannot be said.
    pub fn front_offset(&self) -> usize {
        self.entries.front().map_or(0, |entry| if entry.apart { 0 } else { entry.rest.start })
    }

    /// Takes out what is not safe up to this position.
    pub fn drain_after(&mut self, position: u64) -> WriteBatch {
        let mut rest = WriteBatch::new();
        for entry in self.entries.drain(..) {
            if entry.position > position || entry.apart {
                rest.push(entry.batch, entry.rest);
            }
        }
        (self.len, self.in_flight) = (0, 0);
        rest
    }

    /// The oldest `max` metrics, which are in flight from now on.
    pub fn take(&mut self, max: usize) -> WriteBatch {
        debug_assert_eq!(self.in_flight, 0, "one write at a time");
        let mut write = WriteBatch::new();
        for entry in &self.entries {
            let room = max - write.len();
            if room == 0 {
                break;
            }
            let range = entry.rest.start..entry.rest.end.min(entry.rest.start.saturating_add(room));
            write.push(entry.batch.clone(), range);
        }
        self.in_flight = write.len();
        write
    }

    /// Ends the flight of what was taken; returns how many metrics had to go since the queue had filled meanwhile.
    pub fn resolve(&mut self, resolution: Resolution) -> usize {
        let taken = std::mem::take(&mut self.in_flight);
        match resolution {
            Resolution::Keep => {}
            Resolution::Done => drop(self.remove_front(taken, &[])),
            Resolution::KeepSome(keep) => {
                if let Some(kept) = self.remove_front(taken, &keep) {
                    self.len += kept.batch.len();
                    self.entries.push_front(kept);
                }
            }
        }
        self.shrink()
    }

    /// Drops what was appended before this time, as long as nothing is in flight; returns how many metrics that were.
    pub fn expire(&mut self, before: i64) -> usize {
        let len = self.len;
        if self.in_flight == 0 {
            let fresh = self.entries.iter().position(|entry| entry.since >= before).unwrap_or(self.entries.len());
            self.len -= self.entries.drain(..fresh).map(|entry| entry.rest.len()).sum::<usize>();
        }
        len - self.len
    }

    /// Takes everything out, what is in flight included.
    pub fn drain(&mut self) -> WriteBatch {
        let mut rest = WriteBatch::new();
        for entry in self.entries.drain(..) {
            rest.push(entry.batch, entry.rest);
        }
        (self.len, self.in_flight) = (0, 0);
        rest
    }

    /// Takes the oldest `count` metrics out, and gives those of the indices `keep` as an entry that holds their place.
    fn remove_front(&mut self, count: usize, keep: &[usize]) -> Option<Entry> {
        let mut keep = keep.iter().copied().peekable();
        let mut kept: Option<(u64, i64, Batch)> = None;
        let mut index = 0;
        while index < count {
            let Some(front) = self.entries.front_mut() else { break };
            let here = front.rest.len().min(count - index);
            for offset in 0..here {
                if keep.next_if_eq(&(index + offset)).is_some() {
                    let (_, _, batch) = kept.get_or_insert_with(|| (front.position, front.since, Batch::new()));
                    batch.push_copy(front.batch.get(front.rest.start + offset));
                    batch.origin = front.batch.origin;
                }
            }
            index += here;
            front.rest.start += here;
            self.len -= here;
            if front.rest.is_empty() {
                self.entries.pop_front();
            }
        }
        kept.map(|(position, since, batch)| {
            let rest = 0..batch.len();
            Entry { position, since, batch: Arc::new(batch), rest, apart: true }
        })
    }

    /// Drops the oldest waiting metrics until the limit holds.
    fn shrink(&mut self) -> usize {
        let mut surplus = self.waiting().saturating_sub(self.limit);
        let mut dropped = 0;
        let mut flying = self.in_flight;
        let mut i = 0;
        while surplus > 0 && i < self.entries.len() {
            let entry = &mut self.entries[i];
            let flying_here = flying.min(entry.rest.len());
            flying -= flying_here;
            // A part of an entry can only go at its front, so one that is partly in flight stays until it is resolved.
            if flying_here > 0 || entry.batch.origin.is_some() {
                i += 1;
                continue;
            }
            let here = surplus.min(entry.rest.len());
            entry.rest.start += here;
            surplus -= here;
            dropped += here;
            if entry.rest.is_empty() {
                self.entries.remove(i);
            }
        }
        self.len -= dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::{Key, Kind, Origin, SeriesBuilder, Value};
    use proptest::prelude::*;

    fn batch(values: Range<i64>) -> Arc<Batch> {
        let mut batch = Batch::new();
        for v in values {
            batch.start(SeriesBuilder::new().start(b"m").build(), v, Kind::Untyped);
            batch.push_field(Key::fixed("v"), Value::Int(v));
        }
        Arc::new(batch)
    }

    fn times(write: &WriteBatch) -> Vec<i64> {
        write.iter().map(|metric| metric.time).collect()
    }

    fn all(queue: &mut Queue) -> Vec<i64> {
        let write = queue.take(usize::MAX);
        queue.resolve(Resolution::Keep);
        times(&write)
    }

    #[test]
    fn the_newest_stay() {
        let mut queue = Queue::new(3);
        assert_eq!(queue.push(1, 0, batch(0..5)), 2);
        assert_eq!(all(&mut queue), [2, 3, 4]);
    }

    #[test]
    fn what_is_in_flight_does_not_count_and_does_not_go() {
        let mut queue = Queue::new(2);
        queue.push(1, 0, batch(0..2));
        let flying = queue.take(2);
        assert_eq!(queue.push(2, 0, batch(2..5)), 1);
        assert_eq!((times(&flying), queue.len()), (vec![0, 1], 4));
        assert_eq!(queue.resolve(Resolution::Keep), 2);
        assert_eq!(all(&mut queue), [3, 4]);
    }

    #[test]
    fn some_can_stay_and_hold_their_place() {
        let mut queue = Queue::new(10);
        queue.push(1, 0, batch(0..3));
        queue.push(2, 0, batch(3..6));
        assert_eq!(times(&queue.take(5)), [0, 1, 2, 3, 4]);
        queue.resolve(Resolution::KeepSome(vec![1, 3]));
        assert_eq!((queue.done(2), queue.len()), (0, 3));
        assert_eq!(all(&mut queue), [1, 3, 5]);
    }

    #[test]
    fn what_is_left_comes_out_whole() {
        let mut queue = Queue::new(10);
        queue.push_part(1, 0, batch(0..4), 2..4);
        queue.push(2, 0, batch(4..6));
        queue.take(1);
        assert_eq!((times(&queue.drain()), queue.len(), queue.waiting()), (vec![2, 3, 4, 5], 0, 0));
    }

    #[test]
    fn done_moves_with_the_front() {
        let mut queue = Queue::new(10);
        queue.push(4, 0, batch(0..2));
        queue.push(7, 0, batch(2..4));
        assert_eq!(queue.done(9), 3);
        queue.take(2);
        queue.resolve(Resolution::Done);
        assert_eq!(queue.done(9), 6);
        queue.take(2);
        queue.resolve(Resolution::Done);
        assert_eq!(queue.done(9), 9);
    }

    #[test]
    fn batches_held_for_acknowledgement_stay() {
        let mut queue = Queue::new(2);
        let mut held = Arc::unwrap_or_clone(batch(0..2));
        held.origin = Some(Origin { input: 0, message: 3 });
        queue.push(1, 0, Arc::new(held));
        queue.push(2, 0, batch(2..4));
        assert_eq!(all(&mut queue), [0, 1]);
    }

    #[test]
    fn what_is_too_old_goes_from_the_front() {
        let mut queue = Queue::new(10);
        (0..4).for_each(|i| assert_eq!(queue.push(i as u64 + 1, 10 * i, batch(2 * i..2 * i + 2)), 0));
        queue.take(3);
        assert_eq!(queue.expire(100), 0, "it is in flight");
        queue.resolve(Resolution::KeepSome(vec![2]));
        // What stayed is as old as it was.
        assert_eq!((queue.expire(10), queue.expire(11), queue.done(4)), (0, 2, 2));
        assert_eq!((queue.expire(25), all(&mut queue)), (2, vec![6, 7]));
    }

    proptest! {
        /// Against a plain list: nothing is lost, doubled or reordered, whatever is written, kept or pushed in between.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0usize..6, 0usize..6, prop::collection::btree_set(0usize..6, 0..6)), 1..40)) {
            let mut queue = Queue::new(usize::MAX);
            let mut model: Vec<i64> = Vec::new();
            let mut next = 0;
            for (position, (pushed, max, keep)) in steps.into_iter().enumerate() {
                queue.push(position as u64 + 1, 0, batch(next..next + pushed as i64));
                model.extend(next..next + pushed as i64);
                next += pushed as i64;
                let taken = queue.take(max);
                let expected: Vec<i64> = model.iter().copied().take(max).collect();
                prop_assert_eq!(times(&taken), expected.clone());
                let keep: Vec<usize> = keep.into_iter().filter(|&i| i < expected.len()).collect();
                let kept: Vec<i64> = keep.iter().map(|&i| expected[i]).collect();
                model.splice(..expected.len(), kept);
                queue.resolve(Resolution::KeepSome(keep));
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert_eq!(all(&mut queue), model);
        }
    }
}
