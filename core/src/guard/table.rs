//! The table of admitted series: twelve bytes each, no names, no look-up by string.

use hashbrown::{HashMap, HashTable};

/// How many series may exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Budgets {
    /// Altogether.
    pub total: usize,
    /// Of one measurement, where nothing else is said.
    pub per_measurement: usize,
    /// Of these measurements.
    pub measurements: Vec<(String, usize)>,
}

/// The table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Seen before.
    Known,
    /// New, and there was room for it.
    Admitted,
    /// There is no room in the budget of the measurement.
    OverMeasurement,
    /// There is no room in the budget of the whole agent.
    OverTotal,
}

/// Which places of a budget a series may take. Folding always finds one, as long as the budget has room for one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A series as it came: all but a tenth of the budget (at least two places, at most a hundred).
    Real,
    /// A series some of whose tags are folded: also of that tenth, but for its last half.
    Folded,
    /// A series all of whose tags are folded: any place.
    Last,
}

/// Admitted series by fingerprint, with when each was last seen and which budget it counts to.
///
/// A live series is never thrown out for a new one; series that were idle for long enough go with [`Self::expire`].
#[derive(Debug)]
pub struct SeriesTable {
    entries: HashTable<Entry>,
    budgets: Vec<Budget>,
    by_name: HashMap<Box<[u8]>, u16>,
    total: usize,
    default_budget: usize,
}

/// Twelve bytes, so that a million series stay within the 32 bytes each that the table may take as it grows.
#[derive(Clone, Copy, Debug)]
struct Entry {
    fingerprint: [u32; 2],
    /// In ticks of the caller's choice; wraps.
    seen: u16,
    budget: u16,
}

#[derive(Clone, Debug)]
struct Budget {
    name: Box<[u8]>,
    limit: usize,
    used: usize,
}

/// Measurements with a count of their own; any further one shares the count of the last, which is called `other`.
const MEASUREMENTS: usize = 10_000;

/// Places of a budget that only folded series may take.
fn reserve(limit: usize) -> usize {
    (limit / 10).clamp(2, 100).min(limit.saturating_sub(1))
}

impl Entry {
    fn fingerprint(&self) -> u64 {
        u64::from(self.fingerprint[0]) << 32 | u64::from(self.fingerprint[1])
    }
}

impl SeriesTable {
    /// An empty table with these budgets.
    pub fn new(budgets: &Budgets) -> Self {
        let mut table = Self {
            entries: HashTable::new(),
            budgets: Vec::new(),
            by_name: HashMap::new(),
            total: budgets.total,
            default_budget: budgets.per_measurement,
        };
        for (name, limit) in &budgets.measurements {
            let index = table.budget(name.as_bytes());
            table.budgets[index as usize].limit = *limit;
        }
        table
    }

    /// Whether the series may exist, `tick` being the time now. A known series costs one look-up.
    ///
    /// `place` says which places of the budgets are for it.
    #[inline]
    pub fn admit(&mut self, fingerprint: u64, measurement: &[u8], tick: u16, place: Place) -> Admission {
        if let Some(entry) = self.entries.find_mut(fingerprint, |entry| entry.fingerprint() == fingerprint) {
            entry.seen = tick;
            return Admission::Known;
        }
        self.admit_new(fingerprint, measurement, tick, place)
    }

    #[cold]
    fn admit_new(&mut self, fingerprint: u64, measurement: &[u8], tick: u16, place: Place) -> Admission {
        let index = self.budget(measurement);
        let budget = &mut self.budgets[index as usize];
        let room = |limit: usize| match place {
            Place::Real => limit - reserve(limit),
            Place::Folded => limit - reserve(limit).div_ceil(2),
            Place::Last => limit,
        };
        if budget.used >= room(budget.limit) {
            return Admission::OverMeasurement;
        }
        if self.entries.len() >= room(self.total) {
            return Admission::OverTotal;
        }
        budget.used += 1;
        let fingerprint = [(fingerprint >> 32) as u32, fingerprint as u32];
        let entry = Entry { fingerprint, seen: tick, budget: index };
        self.entries.insert_unique(entry.fingerprint(), entry, Entry::fingerprint);
        Admission::Admitted
    }

    /// Whether the series is in the table; does not count as seen.
    pub fn contains(&self, fingerprint: u64) -> bool {
        self.entries.find(fingerprint, |entry| entry.fingerprint() == fingerprint).is_some()
    }

    /// Forgets series that were not seen for more than `idle` ticks; returns how many.
    pub fn expire(&mut self, tick: u16, idle: u16) -> usize {
        let before = self.entries.len();
        let budgets = &mut self.budgets;
        self.entries.retain(|entry| {
            let keep = tick.wrapping_sub(entry.seen) <= idle;
            budgets[entry.budget as usize].used -= usize::from(!keep);
            keep
        });
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2, Entry::fingerprint);
        }
        before - self.entries.len()
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The most series there may be.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Memory of the table itself, in bytes.
    pub fn footprint(&self) -> usize {
        self.entries.allocation_size()
    }

    /// Each measurement with its series and its budget.
    pub fn usage(&self) -> impl Iterator<Item = (&[u8], usize, usize)> {
        self.budgets.iter().map(|budget| (&*budget.name, budget.used, budget.limit))
    }

    fn budget(&mut self, measurement: &[u8]) -> u16 {
        if let Some(&index) = self.by_name.get(measurement) {
            return index;
        }
        let full = self.budgets.len() >= MEASUREMENTS;
        let name: &[u8] = if full { b"other" } else { measurement };
        if full && let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let index = self.budgets.len() as u16;
        self.budgets.push(Budget { name: name.into(), limit: self.default_budget, used: 0 });
        self.by_name.insert(name.into(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(total: usize, per_measurement: usize) -> SeriesTable {
        SeriesTable::new(&Budgets { total, per_measurement, measurements: vec![("big".into(), 5)] })
    }

    #[test]
    fn known_series_stay_and_new_ones_wait() {
        let mut table = table(10, 4);
        assert_eq!(table.admit(1, b"m", 0, Place::Real), Admission::Admitted);
        assert_eq!(table.admit(2, b"m", 0, Place::Real), Admission::Admitted);
        assert_eq!(table.admit(3, b"m", 0, Place::Real), Admission::OverMeasurement);
        assert_eq!(table.admit(1, b"m", 0, Place::Real), Admission::Known);
        assert_eq!(table.admit(4, b"n", 0, Place::Real), Admission::Admitted);
        // The last places are for folded ones, and the very last for what is folded altogether.
        assert_eq!(table.admit(5, b"m", 0, Place::Folded), Admission::Admitted);
        assert_eq!(table.admit(6, b"m", 0, Place::Folded), Admission::OverMeasurement);
        assert_eq!(table.admit(6, b"m", 0, Place::Last), Admission::Admitted);
        assert_eq!(table.admit(7, b"m", 0, Place::Last), Admission::OverMeasurement);
    }

    #[test]
    fn the_whole_has_a_budget_too() {
        let mut table = table(5, 100);
        let answers: Vec<_> = (0..4).map(|i| table.admit(i, b"m", 0, Place::Real)).collect();
        assert_eq!(answers[3], Admission::OverTotal);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_measurement_can_have_its_own_budget() {
        let mut table = table(100, 2);
        assert_eq!((0..10).filter(|&i| table.admit(i, b"big", 0, Place::Real) == Admission::Admitted).count(), 3);
    }

    #[test]
    fn idle_series_make_room() {
        let mut table = table(10, 4);
        table.admit(1, b"m", 0, Place::Real);
        table.admit(2, b"m", 5, Place::Real);
        assert_eq!(table.expire(6, 3), 1);
        assert_eq!(table.admit(3, b"m", 6, Place::Real), Admission::Admitted);
        assert_eq!(table.usage().find(|(name, ..)| *name == b"m"), Some((&b"m"[..], 2, 4)));
    }

    #[test]
    fn ticks_may_wrap() {
        let mut table = table(10, 10);
        table.admit(1, b"m", u16::MAX, Place::Real);
        assert_eq!(table.expire(2, 3), 0);
        assert_eq!(table.expire(3, 3), 1);
    }

    #[test]
    fn a_million_series_take_at_most_32_bytes_each() {
        let mut table = table(2_000_000, 2_000_000);
        for i in 0u64..1_000_000 {
            table.admit(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), b"m", 0, Place::Real);
        }
        assert!(table.footprint() <= 32 << 20, "{} bytes", table.footprint());
    }

    proptest! {
        #[test]
        fn never_more_than_the_budgets(steps in prop::collection::vec((0u64..40, 0usize..3, 0u16..4, any::<bool>(), 0usize..3), 0..300)) {
            let mut table = table(12, 6);
            let mut tick = 0u16;
            for (series, measurement, pause, expire, place) in steps {
                let place = [Place::Real, Place::Folded, Place::Last][place];
                tick = tick.wrapping_add(pause);
                let name = [&b"a"[..], b"b", b"big"][measurement];
                table.admit(series << 2 | measurement as u64, name, tick, place);
                if expire {
                    table.expire(tick, 2);
                }
                prop_assert!(table.len() <= 12);
                prop_assert_eq!(table.usage().map(|(_, used, _)| used).sum::<usize>(), table.len());
                for (name, used, limit) in table.usage() {
                    prop_assert!(used <= limit, "{:?}", name);
                }
            }
        }
    }
}
