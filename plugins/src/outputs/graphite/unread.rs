//! What was handed to the kernel and may not have been read.
//!
//! Graphite has no acknowledgement. When a connection breaks, what still lay in the buffers on the way is lost, unless it
//! is sent again: a point of the same path and time overwrites itself, so that what did arrive does no harm.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The newest buffers, up to a limit in bytes.
#[derive(Debug, Default)]
pub(super) struct Unread {
    buffers: VecDeque<Buffer>,
    bytes: usize,
    limit: usize,
}

/// Lines of one write.
#[derive(Debug)]
pub(super) struct Buffer {
    /// The write's number.
    pub(super) write: u64,
    /// When it was handed to the kernel.
    pub(super) at: Instant,
    /// It was written before, to a connection that broke.
    pub(super) again: bool,
    pub(super) lines: Vec<u8>,
}

/// What a server may have read without doing anything with it yet, before the end of its connection.
const AT_WORK: Duration = Duration::from_secs(2);
/// An end that is seen so long after the last write has nothing to do with it.
const RECENT: Duration = Duration::from_secs(30);

impl Unread {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds the newest buffer. What is too much goes, the oldest first; the last buffer that went can be used again.
    pub(super) fn push(&mut self, buffer: Buffer) -> Vec<u8> {
        self.bytes += buffer.lines.len();
        self.buffers.push_back(buffer);
        self.shrink()
    }

    /// Number of the oldest write of which there is a buffer.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.buffers.front().map(|buffer| buffer.write)
    }

    /// Number of the oldest write that was sent again just now: a server that has broken one connection may not take the next
    /// one seriously either.
    pub(super) fn oldest_sent_again(&self) -> Option<u64> {
        let fresh = |buffer: &&Buffer| buffer.again && buffer.at.elapsed() < AT_WORK;
        self.buffers.iter().find(fresh).map(|buffer| buffer.write)
    }

    /// Takes the oldest buffer out.
    pub(super) fn pop(&mut self) -> Option<Buffer> {
        let buffer = self.buffers.pop_front()?;
        self.bytes -= buffer.lines.len();
        Some(buffer)
    }

    /// Puts a buffer back in front of all others, whatever the limit: it was within it.
    pub(super) fn put_back(&mut self, buffer: Buffer) {
        self.bytes += buffer.lines.len();
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

    /// The server's system had handed all of it over when the connection ended. If that was because the process died, it
    /// has taken with it what it was at.
    pub(super) fn was_read(&mut self) {
        let newest = self.buffers.back().map(|buffer| buffer.at);
        let settled = |at: Instant| newest.is_none_or(|newest| newest.elapsed() > RECENT || at + AT_WORK < newest);
        while self.buffers.front().is_some_and(|buffer| settled(buffer.at)) {
            drop(self.pop());
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) -> Vec<u8> {
        let mut gone = Vec::new();
        while self.bytes > self.limit {
            let Some(buffer) = self.pop() else { break };
            gone = buffer.lines;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(unread: &mut Unread) -> String {
        std::iter::from_fn(|| unread.pop()).map(|buffer| String::from_utf8(buffer.lines).unwrap() + " ").collect()
    }

    fn buffer(write: u64, lines: &str) -> Buffer {
        Buffer { write, at: Instant::now(), again: write.is_multiple_of(2), lines: lines.into() }
    }

    #[test]
    fn the_newest_stay() {
        let mut unread = Unread::new(4);
        assert!(unread.push(buffer(1, "ab")).is_empty());
        assert!(unread.push(buffer(2, "cd")).is_empty());
        assert_eq!(unread.oldest(), Some(1));
        assert_eq!(unread.push(buffer(3, "ef")), b"ab");
        assert_eq!(unread.oldest(), Some(2));
        assert_eq!((unread.bytes(), all(&mut unread).as_str()), (4, "cd ef "));
        assert_eq!(unread.push(buffer(4, "too long")), b"too long");
        assert_eq!(unread.oldest(), None);
    }

    #[test]
    fn older_ones_come_first_again() {
        let (mut unread, mut older) = (Unread::new(5), Unread::new(9));
        unread.push(buffer(3, "c"));
        older.push(buffer(1, "a"));
        older.push(buffer(2, "bb"));
        assert_eq!((unread.prepend(&mut older), older.bytes(), unread.oldest()), (0, 0, Some(1)));
        unread.put_back(buffer(0, "0"));
        assert_eq!(all(&mut unread), "0 a bb c ");
        older.push(buffer(4, "123456"));
        assert_eq!(unread.prepend(&mut older), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_connection_that_ends_in_order_the_last_seconds_are_in_doubt() {
        let mut unread = Unread::new(100);
        unread.push(buffer(1, "a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        unread.push(buffer(2, "b"));
        tokio::time::advance(Duration::from_secs(1)).await;
        unread.push(buffer(3, "c"));
        tokio::time::advance(Duration::from_secs(20)).await;
        unread.was_read();
        assert_eq!((unread.oldest(), unread.bytes()), (Some(2), 2));
        tokio::time::advance(Duration::from_secs(20)).await;
        unread.was_read();
        assert_eq!((unread.oldest(), unread.bytes()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_again_is_in_doubt_for_a_while() {
        let mut unread = Unread::new(100);
        unread.push(buffer(1, "a"));
        assert_eq!(unread.oldest_sent_again(), None);
        unread.push(buffer(2, "b"));
        assert_eq!(unread.oldest_sent_again(), Some(2));
        tokio::time::advance(AT_WORK).await;
        assert_eq!(unread.oldest_sent_again(), None);
    }
}
