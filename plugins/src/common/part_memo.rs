//! A bounded memory of the bytes that a serializer has worked out for a series: a head, and a part per field key.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use heliograph_core::memo::FingerprintHasher;
use heliograph_core::model::{Field, Key};

/// Remembers per series what does not change from metric to metric, so that a known series costs one look-up and a copy.
///
/// The bytes of all series stand in a few large chunks and the key lists are shared between series of one shape: with
/// ten thousand devices of three fields each, a heap block per field would take more memory than the text in it. Full,
/// it starts anew; to find out what is old would cost more on the hot path than to work out a path again.
#[derive(Debug)]
pub(crate) struct PartMemo {
    /// Where the record of a series begins.
    known: HashMap<u64, Place, BuildHasherDefault<FingerprintHasher>>,
    chunks: Vec<Vec<u8>>,
    shapes: Vec<Box<[Key]>>,
    shape_numbers: HashMap<Box<[Key]>, u32>,
    limits: Limits,
    /// The record that is being built, or one that is too long to be kept.
    scratch: Scratch,
}

/// How much a [`PartMemo`] holds before it starts anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Number of series.
    pub(crate) series: usize,
    /// Bytes of all records.
    pub(crate) bytes: usize,
    /// Number of distinct lists of keys.
    pub(crate) shapes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series: 500_000, bytes: 32 << 20, shapes: 4096 }
    }
}

/// Most keys that are carried over when a series comes with new ones: a device that invents keys must not make each of
/// its metrics dearer than the one before.
const OTHER_KEYS: usize = 64;

/// A position in the chunks.
#[derive(Clone, Copy, Debug)]
struct Place(u32);

/// Size of a chunk; a longer record is worked out each time.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 16;

impl Place {
    fn new(chunk: usize, offset: usize) -> Self {
        Self((chunk << CHUNK_BITS | offset) as u32)
    }

    fn chunk(self) -> usize {
        (self.0 >> CHUNK_BITS) as usize
    }

    fn offset(self) -> usize {
        self.0 as usize & (CHUNK - 1)
    }
}

/// A record: the number of its key list, the length of the head and the head, then length and bytes of each part.
#[derive(Debug, Default)]
struct Scratch {
    keys: Vec<Key>,
    bytes: Vec<u8>,
}

const LENGTH: usize = size_of::<u32>();

/// Works out the bytes of a series that is not known yet.
pub(crate) trait PartSource {
    /// Appends what stands once for the series.
    fn head(&mut self, out: &mut Vec<u8>);
    /// Appends what belongs to a field.
    fn part(&mut self, key: &Key, out: &mut Vec<u8>);
}

/// The record of one series, read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// What stands once for the series.
    pub(crate) head: &'a [u8],
    keys: &'a [Key],
    /// Lengths and parts, of as many as there are keys.
    parts: &'a [u8],
    // The part that is likely to be asked for next.
    next_key: usize,
    next_at: usize,
}

impl<'a> Parts<'a> {
    fn new(keys: &'a [Key], record: &'a [u8]) -> Self {
        let head_len = length_at(record, LENGTH);
        let (head, parts) = record[2 * LENGTH..].split_at(head_len);
        Self { head, keys, parts, next_key: 0, next_at: 0 }
    }

    /// The part of a field; quick if the fields come in the order in which they were learnt. `None` if the series has
    /// not been seen with this field.
    #[inline]
    pub(crate) fn get(&mut self, key: &Key) -> Option<&'a [u8]> {
        match self.keys.get(self.next_key) {
            Some(next) if next.same(key) => Some(self.step()),
            _ => self.search(key),
        }
    }

    /// Whether the series has been seen with each of these fields.
    #[inline]
    pub(crate) fn knows_all(&self, fields: &[Field]) -> bool {
        let in_order =
            fields.len() <= self.keys.len() && fields.iter().zip(self.keys).all(|(field, key)| key.same(&field.key));
        in_order || fields.iter().all(|field| self.keys.contains(&field.key))
    }

    fn search(&mut self, key: &Key) -> Option<&'a [u8]> {
        let (passed, ahead) = self.keys.split_at(self.next_key);
        let find = |keys: &[Key]| keys.iter().position(|known| known == key);
        let wanted = find(ahead).map(|i| i + passed.len()).or_else(|| find(passed))?;
        if wanted < self.next_key {
            (self.next_key, self.next_at) = (0, 0);
        }
        while self.next_key < wanted {
            self.step();
        }
        Some(self.step())
    }

    #[inline]
    fn step(&mut self) -> &'a [u8] {
        let start = self.next_at + LENGTH;
        let end = start + length_at(self.parts, self.next_at);
        self.next_key += 1;
        self.next_at = end;
        &self.parts[start..end]
    }
}

#[inline]
fn length_at(bytes: &[u8], at: usize) -> usize {
    let length = bytes[at..].first_chunk().expect("a record holds whole lengths");
    u32::from_le_bytes(*length) as usize
}

impl Default for PartMemo {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl PartMemo {
    /// An empty memory with these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            known: HashMap::default(),
            chunks: Vec::new(),
            shapes: Vec::new(),
            shape_numbers: HashMap::new(),
            limits,
            scratch: Scratch::default(),
        }
    }

    /// What is known of the series of this fingerprint.
    #[inline]
    pub(crate) fn get(&self, fingerprint: u64) -> Option<Parts<'_>> {
        let place = *self.known.get(&fingerprint)?;
        let record = &self.chunks[place.chunk()][place.offset()..];
        Some(Parts::new(&self.shapes[length_at(record, 0)], record))
    }

    /// Works out head and parts for `fields`, beside the parts known already, and remembers them.
    #[cold]
    pub(crate) fn learn(
        &mut self,
        fingerprint: u64,
        fields: impl Iterator<Item = Key>,
        source: &mut impl PartSource,
    ) -> Parts<'_> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.keys.clear();
        scratch.keys.extend(fields);
        if let Some(known) = self.get(fingerprint)
            && known.keys.len() <= OTHER_KEYS
        {
            let new = scratch.keys.len();
            for key in known.keys {
                if !scratch.keys[..new].contains(key) {
                    scratch.keys.push(key.clone());
                }
            }
        }
        scratch.bytes.clear();
        scratch.bytes.extend_from_slice(&[0; LENGTH]);
        scratch.measured(|out| source.head(out));
        for i in 0..scratch.keys.len() {
            let key = scratch.keys[i].clone();
            scratch.measured(|out| source.part(&key, out));
        }
        if scratch.bytes.len() <= CHUNK {
            self.keep(fingerprint, &mut scratch);
        }
        self.scratch = scratch;
        Parts::new(&self.scratch.keys, &self.scratch.bytes)
    }

    fn keep(&mut self, fingerprint: u64, record: &mut Scratch) {
        let len = record.bytes.len();
        let is_full = self.known.len() >= self.limits.series
            || self.chunks.len() * CHUNK + len > self.limits.bytes
            || self.shapes.len() >= self.limits.shapes;
        if is_full {
            self.clear();
        }
        let shape = self.shape_of(&record.keys);
        record.bytes[..LENGTH].copy_from_slice(&shape.to_le_bytes());
        if self.chunks.last().is_none_or(|chunk| chunk.len() + len > CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = Place::new(number, chunk.len());
        chunk.extend_from_slice(&record.bytes);
        self.known.insert(fingerprint, place);
    }

    fn shape_of(&mut self, keys: &[Key]) -> u32 {
        if let Some(&number) = self.shape_numbers.get(keys) {
            return number;
        }
        let number = self.shapes.len() as u32;
        self.shapes.push(keys.into());
        self.shape_numbers.insert(keys.into(), number);
        number
    }

    fn clear(&mut self) {
        self.known.clear();
        self.chunks.clear();
        self.shapes.clear();
        self.shape_numbers.clear();
    }

    /// Memory it takes, in bytes, without the key lists.
    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        let table = self.known.capacity() * 8 / 7 * (size_of::<(u64, Place)>() + 1);
        table + self.chunks.iter().map(Vec::capacity).sum::<usize>()
    }
}

impl Scratch {
    /// Appends what `write` writes, with its length in front.
    fn measured(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        write(&mut self.bytes);
        let len = (self.bytes.len() - at - LENGTH) as u32;
        self.bytes[at..at + LENGTH].copy_from_slice(&len.to_le_bytes());
    }
}

/// The keys of fields for which `wanted` holds.
pub(crate) fn keys_of(fields: &[Field], wanted: fn(&Field) -> bool) -> impl Iterator<Item = Key> + '_ {
    fields.iter().filter(move |field| wanted(field)).map(|field| field.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Echo(u64);

    impl PartSource for Echo {
        fn head(&mut self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.to_string().as_bytes());
        }

        fn part(&mut self, key: &Key, out: &mut Vec<u8>) {
            out.extend_from_slice(key.as_bytes());
        }
    }

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| Key::intern(name.as_bytes())).collect()
    }

    fn show(mut parts: Parts<'_>, keys: &[Key]) -> String {
        let texts: Vec<_> = keys.iter().map(|key| parts.get(key).map_or("?".into(), String::from_utf8_lossy)).collect();
        format!("{}: {}", String::from_utf8_lossy(parts.head), texts.join(" "))
    }

    #[test]
    fn a_series_with_changing_fields_keeps_all_of_them() {
        let mut memo = PartMemo::default();
        let (first, second) = (keys(&["a", "b"]), keys(&["c", "b", "", "a"]));
        assert_eq!(show(memo.learn(1, first.iter().cloned(), &mut Echo(1)), &first), "1: a b");
        assert_eq!(show(memo.get(1).unwrap(), &second), "1: ? b ? a");
        assert_eq!(show(memo.learn(1, second.iter().cloned(), &mut Echo(1)), &second), "1: c b  a");
        assert_eq!(show(memo.get(1).unwrap(), &first), "1: a b");
        assert!(memo.get(2).is_none());
    }

    #[test]
    fn a_record_longer_than_a_chunk_is_worked_out_each_time() {
        let mut memo = PartMemo::default();
        let long = [Key::intern(&vec![b'k'; CHUNK])];
        assert_eq!(memo.learn(1, long.iter().cloned(), &mut Echo(1)).get(&long[0]).unwrap().len(), CHUNK);
        assert!(memo.get(1).is_none());
    }

    #[test]
    fn stays_within_its_limits() {
        let mut memo = PartMemo::new(Limits { series: 100, bytes: 3 * CHUNK, shapes: 10 });
        let long = "x".repeat(500);
        for i in 0..2000 {
            let fields = keys(&[&long, if i % 7 == 0 { "y" } else { "z" }]);
            memo.learn(i, fields.into_iter(), &mut Echo(i));
            assert!(memo.known.len() <= 100 && memo.chunks.len() <= 3 && memo.shapes.len() <= 10);
        }
    }

    proptest! {
        #[test]
        fn answers_as_worked_out_anew(rounds in prop::collection::vec((0..5u64, prop::collection::vec("[a-e]{0,2}", 0..5)), 0..60)) {
            let mut memo = PartMemo::new(Limits { series: 3, bytes: CHUNK, shapes: 20 });
            for (series, names) in rounds {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let keys = keys(&names);
                let all_known = memo.get(series).is_some_and(|mut parts| keys.iter().all(|key| parts.get(key).is_some()));
                let parts = match all_known {
                    true => memo.get(series).unwrap(),
                    false => memo.learn(series, keys.iter().cloned(), &mut Echo(series)),
                };
                prop_assert_eq!(show(parts, &keys), format!("{series}: {}", names.join(" ")));
            }
        }
    }
}
