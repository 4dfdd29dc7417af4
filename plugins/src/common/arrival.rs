//! A bounded map that gives its entries back in the order in which they came.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

/// Most entries an [`ArrivalMap`] holds by default.
///
/// Far above what an aggregator is meant for; it keeps a flood of invented series from taking all memory.
pub const ENTRIES: usize = 1_000_000;

/// What aggregators remember between two pushes, a value per key; when it is full, the oldest entry goes.
#[derive(Debug)]
pub struct ArrivalMap<K, T> {
    /// Where an entry is, counted from the first one that ever came.
    places: HashMap<K, usize>,
    entries: VecDeque<(K, T)>,
    /// How many have left in front.
    gone: usize,
    limit: usize,
    dropped: u64,
}

impl<K: Copy + Eq + Hash, T> Default for ArrivalMap<K, T> {
    fn default() -> Self {
        Self::with_limit(ENTRIES)
    }
}

impl<K: Copy + Eq + Hash, T> ArrivalMap<K, T> {
    /// An empty map for at most `limit` entries, at least one.
    pub fn with_limit(limit: usize) -> Self {
        Self { places: HashMap::new(), entries: VecDeque::new(), gone: 0, limit: limit.max(1), dropped: 0 }
    }

    /// The value of a key, made by `make` at its first appearance.
    pub fn get_or_insert(&mut self, key: K, make: impl FnOnce() -> T) -> &mut T {
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => self.insert(key, make()),
        };
        &mut self.entries[place - self.gone].1
    }

    fn insert(&mut self, key: K, value: T) -> usize {
        if self.entries.len() >= self.limit
            && let Some((oldest, _)) = self.entries.pop_front()
        {
            self.places.remove(&oldest);
            self.gone += 1;
            self.dropped += 1;
        }
        let place = self.gone + self.entries.len();
        self.places.insert(key, place);
        self.entries.push_back((key, value));
        place
    }

    /// The values, in order of first appearance.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Keeps the values for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|(_, value)| keep(value));
        if self.entries.len() < before {
            self.places.clear();
            self.gone = 0;
            self.places.extend(self.entries.iter().enumerate().map(|(place, (key, _))| (*key, place)));
        }
    }

    /// Forgets all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.gone = 0;
    }

    /// How many entries had to go since the last call; says so in the log, if there were any.
    pub fn report_dropped(&mut self, plugin: &str) -> u64 {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let limit = self.limit;
            tracing::error!(plugin, count = dropped, limit, "too many series in one period, the oldest were dropped");
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut map = ArrivalMap::with_limit(2);
        [1, 2, 1, 3, 1].into_iter().for_each(|key| *map.get_or_insert(key, || 0) += 1);
        assert_eq!(map.values().copied().collect::<Vec<_>>(), [1, 1]);
        assert_eq!((map.report_dropped("t"), map.report_dropped("t")), (2, 0));
    }

    proptest! {
        #[test]
        fn behaves_as_a_list(steps in prop::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let mut map = ArrivalMap::with_limit(5);
            let mut list: Vec<(u8, u32)> = Vec::new();
            for (key, remove) in steps {
                if remove {
                    map.retain(|&(k, _): &(u8, u32)| k != key);
                    list.retain(|&(k, _)| k != key);
                    continue;
                }
                map.get_or_insert(key, || (key, 0)).1 += 1;
                match list.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, count)) => *count += 1,
                    None => {
                        if list.len() == 5 {
                            list.remove(0);
                        }
                        list.push((key, 1));
                    }
                }
                prop_assert_eq!(map.values().copied().collect::<Vec<_>>(), list.clone());
            }
        }
    }
}
