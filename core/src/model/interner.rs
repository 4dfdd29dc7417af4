//! One handle for each series in use, within limits.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{SeriesBuilder, SeriesRef};

/// Hands out the same [`SeriesRef`] for the same series, so that a series seen before costs a look-up and no allocation.
///
/// Bounded: when it is full, series that nobody has asked for since the last sweep go. Handles given out stay valid; a
/// forgotten series that comes back just gets another handle with the same fingerprint.
#[derive(Debug)]
pub struct Interner {
    table: HashTable<Slot>,
    builder: SeriesBuilder,
    bytes: usize,
    limits: InternerLimits,
}

#[derive(Debug)]
struct Slot {
    series: SeriesRef,
    asked: bool,
}

/// How much an [`Interner`] may hold.
#[derive(Debug, Clone, Copy)]
pub struct InternerLimits {
    /// Number of series.
    pub entries: usize,
    /// Memory of their names and tags, in bytes.
    pub bytes: usize,
}

impl Default for InternerLimits {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 16 << 20 }
    }
}

impl Default for Interner {
    fn default() -> Self {
        Self::new(InternerLimits::default())
    }
}

impl Interner {
    /// An empty interner.
    pub fn new(limits: InternerLimits) -> Self {
        Self { table: HashTable::new(), builder: SeriesBuilder::new(), bytes: 0, limits }
    }

    /// The handle of the series in `builder`.
    pub fn intern(&mut self, builder: &mut SeriesBuilder) -> SeriesRef {
        let fingerprint = builder.pack();
        if let Some(slot) = self.table.find_mut(fingerprint, |slot| builder.matches(&slot.series)) {
            slot.asked = true;
            return slot.series.clone();
        }
        let series = Arc::new(builder.packed_series(fingerprint));
        if self.table.len() >= self.limits.entries || self.bytes >= self.limits.bytes {
            self.sweep();
        }
        self.bytes += series.footprint();
        self.table
            .insert_unique(fingerprint, Slot { series: series.clone(), asked: true }, |slot| slot.series.fingerprint());
        series
    }

    /// The handle of the series that `edit` puts together in the interner's own scratch memory.
    pub fn build(&mut self, edit: impl FnOnce(&mut SeriesBuilder)) -> SeriesRef {
        let mut builder = std::mem::take(&mut self.builder);
        edit(&mut builder);
        let series = self.intern(&mut builder);
        self.builder = builder;
        series
    }

    /// The handle of `series` after `edit`.
    pub fn edit(&mut self, series: &SeriesRef, edit: impl FnOnce(&mut SeriesBuilder)) -> SeriesRef {
        self.build(|builder| {
            builder.load(series);
            edit(builder);
        })
    }

    /// Number of series held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Drops what was not asked for since the last sweep; if that is too little, everything.
    fn sweep(&mut self) {
        let mut bytes = 0;
        self.table.retain(|slot| {
            let keep = std::mem::take(&mut slot.asked);
            bytes += if keep { slot.series.footprint() } else { 0 };
            keep
        });
        // A sweep that frees almost nothing would be repeated at once: a fleet larger than the limit is cheaper without
        // memory of its past than with a sweep a metric.
        if self.table.len() > self.limits.entries / 4 * 3 || bytes > self.limits.bytes / 4 * 3 {
            self.table.clear();
            bytes = 0;
        }
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(interner: &mut Interner, name: usize) -> SeriesRef {
        interner.build(|b| {
            b.start(name.to_string().as_bytes()).set_tag(b"k", b"v");
        })
    }

    #[test]
    fn the_same_series_is_the_same_handle() {
        let mut interner = Interner::default();
        let (a, b) = (intern(&mut interner, 1), intern(&mut interner, 1));
        assert!(Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn never_more_than_the_limit() {
        let mut interner = Interner::new(InternerLimits { entries: 10, bytes: usize::MAX });
        for name in 0..1000 {
            intern(&mut interner, name);
            assert!(interner.len() <= 10, "{} series held", interner.len());
        }
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut interner = Interner::new(InternerLimits { entries: usize::MAX, bytes: 1000 });
        (0..1000).for_each(|name| drop(intern(&mut interner, name)));
        assert!(interner.len() < 20, "{} series held", interner.len());
    }

    #[test]
    fn edit_gives_the_changed_series() {
        let mut interner = Interner::default();
        let series = intern(&mut interner, 1);
        let edited = interner.edit(&series, |b| {
            b.set_name(b"n").remove_tag(b"k");
        });
        assert_eq!(edited.to_string(), "n");
    }
}
