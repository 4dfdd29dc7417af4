//! Which series have ended, so that their end can be marked.

use std::collections::HashMap;
use std::time::Duration;

use crate::common::prometheus::remote_write::{Collector, Piece, StoredLabels};

/// The series that were written and have not ended.
#[derive(Debug)]
pub(super) struct Ends {
    timeout: Duration,
    known: HashMap<u64, Known>,
    /// When ends were last looked for, in nanoseconds since the Unix epoch.
    checked: i64,
    /// Series that were not noted since there are too many.
    pub(super) refused: usize,
}

#[derive(Debug)]
struct Known {
    labels: StoredLabels,
    tenant: Box<[u8]>,
    is_histogram: bool,
    /// Time of the last sample in milliseconds.
    last: i64,
    /// When that was written, in nanoseconds since the Unix epoch.
    seen: i64,
}

/// The end of a series.
#[derive(Debug)]
pub(super) struct End {
    pub(super) labels: StoredLabels,
    pub(super) tenant: Box<[u8]>,
    pub(super) is_histogram: bool,
    /// Of the mark, in milliseconds.
    pub(super) time: i64,
}

/// Most series whose ends are marked.
const LIMIT: usize = 1_000_000;

impl Ends {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, known: HashMap::new(), checked: 0, refused: 0 }
    }

    /// Notes that a piece was written at `now`.
    pub(super) fn note(&mut self, collector: &Collector, piece: Piece, tenant: &[u8], now: i64) {
        let set = collector.set();
        let series = set.get(piece.series);
        let Some((_, last)) = set.origins(piece).last() else { return };
        if let Some(known) = self.known.get_mut(&series.key) {
            known.last = known.last.max(last);
            known.seen = now;
        } else if self.known.len() >= LIMIT {
            self.refused += 1;
        } else {
            let labels = collector.labels(series, tenant);
            let known = Known { labels, tenant: tenant.into(), is_histogram: series.is_histogram, last, seen: now };
            self.known.insert(series.key, known);
        }
    }

    /// The series of which nothing was written for as long as the timeout; to be forgotten with [`Self::forget`].
    /// The mark stands where the sample was missed.
    pub(super) fn due(&mut self, now: i64) -> Vec<End> {
        let timeout = self.timeout.as_nanos() as i64;
        // Looking at a million series with every batch would cost more than the batch.
        if now.saturating_sub(self.checked) < timeout / 4 {
            return Vec::new();
        }
        self.checked = now;
        let after = (self.timeout.as_millis() as i64).max(1);
        self.ends(|known| now.saturating_sub(known.seen) >= timeout, after)
    }

    /// All series, since the agent ends. The marks stand right behind the last samples, so that they are in front of what
    /// the next agent writes.
    pub(super) fn all(&self) -> Vec<End> {
        self.ends(|_| true, 1)
    }

    /// Forgets the series of a piece of marks.
    pub(super) fn forget(&mut self, collector: &Collector, piece: Piece) {
        self.known.remove(&collector.set().get(piece.series).key);
    }

    fn ends(&self, is_over: impl Fn(&Known) -> bool, after: i64) -> Vec<End> {
        let end = |known: &Known| End {
            labels: known.labels.clone(),
            tenant: known.tenant.clone(),
            is_histogram: known.is_histogram,
            time: known.last.saturating_add(after),
        };
        self.known.values().filter(|known| is_over(known)).map(end).collect()
    }
}
