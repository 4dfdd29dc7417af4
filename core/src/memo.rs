//! A bounded memory of what was decided about a series.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// Remembers a decision per series fingerprint, so that filters and renames run once a series and not once a metric.
///
/// When it is full it starts anew: a decision is cheap to make again, a sweep on the hot path is not.
#[derive(Clone, Debug)]
pub struct SeriesMemo<T> {
    decisions: HashMap<u64, T, BuildHasherDefault<FingerprintHasher>>,
    limit: usize,
}

/// Takes a fingerprint for its own hash: it is one already.
#[derive(Clone, Copy, Debug, Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is meant to be used; this keeps the type honest for any key.
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

impl<T> Default for SeriesMemo<T> {
    fn default() -> Self {
        Self::with_limit(50_000)
    }
}

impl<T> SeriesMemo<T> {
    /// Remembers at most `limit` decisions.
    pub fn with_limit(limit: usize) -> Self {
        Self { decisions: HashMap::default(), limit }
    }

    /// The decision about the series of this fingerprint, made by `decide` if it is not known.
    #[inline]
    pub fn get(&mut self, fingerprint: u64, decide: impl FnOnce() -> T) -> &mut T {
        if self.decisions.len() >= self.limit && !self.decisions.contains_key(&fingerprint) {
            self.decisions.clear();
        }
        self.decisions.entry(fingerprint).or_insert_with(decide)
    }

    /// Number of decisions remembered.
    pub fn len(&self) -> usize {
        self.decisions.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_once() {
        let mut memo = SeriesMemo::default();
        assert_eq!(*memo.get(1, || "first"), "first");
        assert_eq!(*memo.get(1, || "second"), "first");
    }

    #[test]
    fn stays_within_its_limit() {
        let mut memo = SeriesMemo::with_limit(10);
        (0..1000).for_each(|i| {
            memo.get(i, || i);
        });
        assert!(memo.len() <= 10);
    }
}
