//! Texts of labels as numbers, so that a request of version 2.0 can carry each of them once.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Every text that labels have been made of since the table was last cleared. Number 0 is the empty text.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    texts: Vec<u8>,
    /// Where each text but the empty one ends.
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

/// Bytes of text after which the table is to be cleared.
const FULL: usize = 32 << 20;

impl Symbols {
    /// The number of a text.
    pub(super) fn number(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = self.hasher.hash_one(text);
        let Self { texts, ends, numbers, hasher } = self;
        if let Some(&known) = numbers.find(hash, |&number| text_of(texts, ends, number) == text) {
            return known;
        }
        texts.extend_from_slice(text);
        ends.push(texts.len() as u32);
        let number = ends.len() as u32;
        numbers.insert_unique(hash, number, |&number| hasher.hash_one(text_of(texts, ends, number)));
        number
    }

    /// The text of a number that [`Self::number`] gave.
    #[inline]
    pub(super) fn text(&self, number: u32) -> &[u8] {
        text_of(&self.texts, &self.ends, number)
    }

    /// Numbers given, with that of the empty text.
    pub(super) fn len(&self) -> usize {
        self.ends.len() + 1
    }

    /// Whether it is time to forget everything, and with it whatever holds numbers.
    pub(super) fn is_full(&self) -> bool {
        self.texts.len() > FULL
    }

    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.ends.clear();
        self.numbers.clear();
    }
}

#[inline]
fn text_of<'a>(texts: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let Some(last) = (number as usize).checked_sub(1) else { return b"" };
    let start = last.checked_sub(1).map_or(0, |before| ends[before]);
    &texts[start as usize..ends[last] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number() {
        let mut symbols = Symbols::default();
        let numbers: Vec<u32> = ["a", "", "bc", "a", "d"].iter().map(|text| symbols.number(text.as_bytes())).collect();
        assert_eq!(numbers, [1, 0, 2, 1, 3]);
        let texts: Vec<&[u8]> = (0..symbols.len() as u32).map(|number| symbols.text(number)).collect();
        assert_eq!(texts, [&b""[..], b"a", b"bc", b"d"]);
        symbols.clear();
        assert_eq!((symbols.number(b"d"), symbols.len()), (1, 2));
    }
}
