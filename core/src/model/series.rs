//! Series: measurement and tags, packed into one block of bytes, with the fingerprint computed once.

use std::fmt;
use std::sync::Arc;

use bstr::BStr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A handle on an interned series; cloning counts one reference.
pub type SeriesRef = Arc<Series>;

/// A measurement and its tags, sorted by key, keys unique.
///
/// Immutable: a stage that changes a name or a tag builds another series with [`SeriesBuilder`].
pub struct Series {
    fingerprint: u64,
    /// Measurement, then key, value, key, value …, without separators.
    bytes: Box<[u8]>,
    /// Where each of those parts ends.
    ends: Box<[u32]>,
}

impl Series {
    /// 64-bit hash of measurement and tags (xxh3), equal for equal series in every process and release, so that tables
    /// downstream and on disk can be keyed by it alone.
    #[inline]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The measurement.
    #[inline]
    pub fn name(&self) -> &[u8] {
        self.part(0)
    }

    /// Key and value of each tag, in ascending order of keys.
    #[inline]
    pub fn tags(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator + Clone {
        (0..self.tag_count()).map(|i| (self.part(2 * i + 1), self.part(2 * i + 2)))
    }

    /// Number of tags.
    #[inline]
    pub fn tag_count(&self) -> usize {
        self.ends.len() / 2
    }

    /// The value of the tag of this key.
    pub fn tag(&self, key: &[u8]) -> Option<&[u8]> {
        self.tags().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Memory it takes, in bytes.
    pub fn footprint(&self) -> usize {
        // The two counts of the Arc stand in front of the value.
        size_of::<Self>() + 2 * size_of::<usize>() + self.bytes.len() + size_of_val(&*self.ends)
    }

    #[inline]
    fn part(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.ends == other.ends && self.bytes == other.bytes
    }
}

impl Eq for Series {}

/// Shown as in line protocol, without escapes: `cpu,cpu=cpu0,host=a`.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", BStr::new(self.name()))?;
        self.tags().try_for_each(|(key, value)| write!(f, ",{}={}", BStr::new(key), BStr::new(value)))
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Series({self})")
    }
}

/// Puts a series together in memory that is used again and again.
#[derive(Clone, Debug, Default)]
pub struct SeriesBuilder {
    arena: Vec<u8>,
    name: Range,
    tags: Vec<(Range, Range)>,
    sorted: bool,
    // What the finished series will hold; filled by `pack`.
    packed: Vec<u8>,
    ends: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    start: u32,
    end: u32,
}

/// Longest measurement, tag key or tag value, in bytes. Protocol limits (MQTT: 256 MiB a message) stay far below 4 GiB,
/// but a cut is safer than an overflow.
const MAX_PART: usize = 16 << 20;

impl SeriesBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts anew with this measurement and no tags.
    pub fn start(&mut self, name: &[u8]) -> &mut Self {
        self.arena.clear();
        self.tags.clear();
        self.sorted = true;
        self.name = self.store(name);
        self
    }

    /// Starts anew with measurement and tags of `series`.
    pub fn load(&mut self, series: &Series) -> &mut Self {
        self.start(series.name());
        for (key, value) in series.tags() {
            let pair = (self.store(key), self.store(value));
            self.tags.push(pair);
        }
        self
    }

    /// The measurement.
    pub fn name(&self) -> &[u8] {
        self.get(self.name)
    }

    /// Replaces the measurement.
    pub fn set_name(&mut self, name: &[u8]) -> &mut Self {
        self.name = self.store(name);
        self
    }

    /// Sets a tag, replacing the value of an equal key.
    pub fn set_tag(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        let value = self.store(value);
        match self.position(key) {
            Some(i) => self.tags[i].1 = value,
            None => {
                let key = self.store(key);
                self.sorted = false;
                self.tags.push((key, value));
            }
        }
        self
    }

    /// Sets a tag if there is none of that key; an empty value counts as present.
    pub fn set_tag_if_absent(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        if self.position(key).is_none() {
            self.set_tag(key, value);
        }
        self
    }

    /// The value of the tag of this key.
    pub fn tag(&self, key: &[u8]) -> Option<&[u8]> {
        self.position(key).map(|i| self.get(self.tags[i].1))
    }

    /// Key and value of each tag, in no particular order.
    pub fn tags(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tags.iter().map(|&(key, value)| (self.get(key), self.get(value)))
    }

    /// Removes the tag of this key; tells whether there was one.
    pub fn remove_tag(&mut self, key: &[u8]) -> bool {
        let found = self.position(key);
        if let Some(i) = found {
            self.tags.remove(i);
        }
        found.is_some()
    }

    /// Keeps the tags for which `keep` (of key and value) holds.
    pub fn retain_tags(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> &mut Self {
        let mut tags = std::mem::take(&mut self.tags);
        tags.retain(|&(key, value)| keep(self.get(key), self.get(value)));
        self.tags = tags;
        self
    }

    /// Sorts and packs; what [`Self::fingerprint`], [`Self::matches`] and [`Self::build`] look at.
    pub(super) fn pack(&mut self) -> u64 {
        if !self.sorted {
            let arena = &self.arena;
            let part = |range: Range| &arena[range.start as usize..range.end as usize];
            self.tags.sort_unstable_by(|a, b| part(a.0).cmp(part(b.0)));
            self.sorted = true;
        }
        self.packed.clear();
        self.ends.clear();
        let parts = std::iter::once(self.name).chain(self.tags.iter().flat_map(|&(key, value)| [key, value]));
        for range in parts {
            self.packed.extend_from_slice(&self.arena[range.start as usize..range.end as usize]);
            self.ends.push(self.packed.len() as u32);
        }
        fingerprint(&self.packed, &self.ends)
    }

    pub(super) fn matches(&self, series: &Series) -> bool {
        *series.ends == *self.ends && *series.bytes == *self.packed
    }

    pub(super) fn packed_series(&self, fingerprint: u64) -> Series {
        Series { fingerprint, bytes: self.packed.as_slice().into(), ends: self.ends.as_slice().into() }
    }

    /// The series, outside any interner.
    pub fn build(&mut self) -> SeriesRef {
        let fingerprint = self.pack();
        Arc::new(self.packed_series(fingerprint))
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        self.tags.iter().position(|&(k, _)| self.get(k) == key)
    }

    #[inline]
    fn get(&self, range: Range) -> &[u8] {
        &self.arena[range.start as usize..range.end as usize]
    }

    fn store(&mut self, bytes: &[u8]) -> Range {
        let bytes = &bytes[..bytes.len().min(MAX_PART)];
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Range { start, end: self.arena.len() as u32 }
    }
}

/// The lengths go in as well, so that `a` + `bc` and `ab` + `c` differ.
fn fingerprint(bytes: &[u8], ends: &[u32]) -> u64 {
    let shape = ends.iter().fold(ends.len() as u64, |hash, &end| {
        (hash.rotate_left(23) ^ u64::from(end)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    xxh3_64_with_seed(bytes, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(name: &str, tags: &[(&str, &str)]) -> SeriesRef {
        let mut builder = SeriesBuilder::new();
        builder.start(name.as_bytes());
        for (key, value) in tags {
            builder.set_tag(key.as_bytes(), value.as_bytes());
        }
        builder.build()
    }

    #[test]
    fn tags_are_sorted_and_the_last_value_wins() {
        assert_eq!(series("m", &[("z", "1"), ("a", "2"), ("z", "3")]).to_string(), "m,a=2,z=3");
    }

    #[test]
    fn order_of_setting_does_not_matter() {
        let (a, b) = (series("m", &[("x", "1"), ("y", "2")]), series("m", &[("y", "2"), ("x", "1")]));
        assert_eq!(a, b);
        assert_eq!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn borders_between_parts_count() {
        assert_ne!(series("a", &[("bc", "d")]), series("ab", &[("c", "d")]));
        assert_ne!(series("a", &[("bc", "d")]).fingerprint(), series("ab", &[("c", "d")]).fingerprint());
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_release() {
        assert_eq!(series("cpu", &[("cpu", "cpu0"), ("host", "a")]).fingerprint(), 652_940_933_483_314_910);
    }

    proptest! {
        #[test]
        fn load_and_build_is_identity(name in ".{0,8}", tags in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..6)) {
            let mut builder = SeriesBuilder::new();
            builder.start(name.as_bytes());
            tags.iter().rev().for_each(|(k, v)| { builder.set_tag(k.as_bytes(), v.as_bytes()); });
            let built = builder.build();
            let got: Vec<_> = built.tags().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            let want: Vec<_> = tags.iter().map(|(k, v)| (k.clone().into_bytes(), v.clone().into_bytes())).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(&SeriesBuilder::new().load(&built).build(), &built);
        }
    }
}
