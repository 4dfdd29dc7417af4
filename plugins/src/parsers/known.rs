//! What was made of a text seen before, so that it is neither parsed nor built again.

use hashbrown::HashMap;

/// A bounded memory from the bytes of a line's head to what they mean; it starts anew when it is full.
#[derive(Debug)]
pub(super) struct Known<T> {
    entries: HashMap<Box<[u8]>, T>,
    bytes: usize,
}

/// Heads remembered, and their memory in bytes.
const MAX_ENTRIES: usize = 100_000;
const MAX_BYTES: usize = 16 << 20;
/// A longer head is not worth its memory.
const MAX_HEAD: usize = 4096;

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

impl<T> Known<T> {
    /// What these bytes mean.
    #[inline]
    pub(super) fn get(&self, head: &[u8]) -> Option<&T> {
        self.entries.get(head)
    }

    /// Remembers what these bytes mean.
    pub(super) fn insert(&mut self, head: &[u8], meaning: T) {
        if head.len() > MAX_HEAD {
            return;
        }
        if self.entries.len() >= MAX_ENTRIES || self.bytes + head.len() > MAX_BYTES {
            *self = Self::default();
        }
        if self.entries.insert(head.into(), meaning).is_none() {
            self.bytes += head.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_within_its_limits() {
        let mut known = Known::default();
        for i in 0..MAX_BYTES / 1000 * 2 {
            let head = format!("{i:01000}");
            known.insert(head.as_bytes(), i);
            assert_eq!(known.get(head.as_bytes()), Some(&i));
            assert!(known.bytes <= MAX_BYTES);
        }
        known.insert(&[b'x'; MAX_HEAD + 1], 0);
        assert_eq!(known.get(&[b'x'; MAX_HEAD + 1]), None);
    }
}
