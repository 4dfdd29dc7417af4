//! What was handed to the kernel and may not have been read.
//!
//! Graphite has no acknowledgement. When a connection breaks, what still lay in the buffers on the way is lost, unless it
//! is sent again: a point of the same path and time overwrites itself, so that what did arrive does no harm.

use std::collections::VecDeque;

/// The newest buffers, up to a limit in bytes.
#[derive(Debug, Default)]
pub(super) struct Unread {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl Unread {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds the newest buffer. What is too much goes, the oldest first; the last buffer that went can be used again.
    pub(super) fn push(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        self.bytes += buffer.len();
        self.buffers.push_back(buffer);
        self.shrink()
    }

    /// Takes the oldest buffer out.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop_front()?;
        self.bytes -= buffer.len();
        Some(buffer)
    }

    /// Puts a buffer back in front of all others, whatever the limit: it was within it.
    pub(super) fn put_back(&mut self, buffer: Vec<u8>) {
        self.bytes += buffer.len();
        self.buffers.push_front(buffer);
    }

    /// Moves all buffers of `other`, which are older, in front of these. Returns the bytes that had to go.
    pub(super) fn prepend(&mut self, other: &mut Self) -> usize {
        let all = self.bytes + other.bytes;
        while let Some(buffer) = other.buffers.pop_back() {
            self.buffers.push_front(buffer);
        }
        (self.bytes, other.bytes) = (all, 0);
        self.shrink();
        all - self.bytes
    }

    /// The server has read all of it.
    pub(super) fn clear(&mut self) {
        self.buffers.clear();
        self.bytes = 0;
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) -> Vec<u8> {
        let mut gone = Vec::new();
        while self.bytes > self.limit {
            let Some(buffer) = self.pop() else { break };
            gone = buffer;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(unread: &mut Unread) -> String {
        std::iter::from_fn(|| unread.pop()).map(|buffer| String::from_utf8(buffer).unwrap() + " ").collect()
    }

    #[test]
    fn the_newest_stay() {
        let mut unread = Unread::new(4);
        assert!(unread.push(b"ab".to_vec()).is_empty());
        assert!(unread.push(b"cd".to_vec()).is_empty());
        assert_eq!(unread.push(b"ef".to_vec()), b"ab");
        assert_eq!((unread.bytes(), all(&mut unread).as_str()), (4, "cd ef "));
        assert_eq!(unread.push(b"too long".to_vec()), b"too long");
    }

    #[test]
    fn older_ones_come_first_again() {
        let (mut unread, mut older) = (Unread::new(5), Unread::new(9));
        unread.push(b"c".to_vec());
        older.push(b"a".to_vec());
        older.push(b"bb".to_vec());
        assert_eq!((unread.prepend(&mut older), older.bytes()), (0, 0));
        unread.put_back(b"0".to_vec());
        assert_eq!(all(&mut unread), "0 a bb c ");
        older.push(b"123456".to_vec());
        assert_eq!(unread.prepend(&mut older), 6);
    }
}
