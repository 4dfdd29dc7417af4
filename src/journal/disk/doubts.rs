//! Where an output stood before its newest writes, as long as its backend may not have read them.

use std::collections::VecDeque;

use heliograph_core::plugin::Doubt;

/// Writes remembered; of more than that the oldest count as read.
const WRITES: usize = 1024;

/// A place in the journal: done with all up to this position, and with so many metrics of the batch after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    pub position: u64,
    pub offset: u64,
}

/// The writes in doubt, oldest first.
#[derive(Debug, Default)]
pub struct Doubts {
    writes: VecDeque<(u64, Stand)>,
    lost: Option<u64>,
}

impl Doubts {
    /// A write begins from here.
    pub fn begin(&mut self, write: u64, stand: Stand) {
        if self.writes.len() >= WRITES {
            self.writes.pop_front();
        }
        self.writes.push_back((write, stand));
    }

    /// What the output knows of its writes by now.
    pub fn settle(&mut self, doubt: Doubt) {
        self.lost = doubt.lost;
        let oldest = doubt.lost.into_iter().chain(doubt.unread).min();
        while let Some((write, _)) = self.writes.front()
            && oldest.is_none_or(|oldest| *write < oldest)
        {
            self.writes.pop_front();
        }
    }

    /// Where the oldest write in doubt began: what comes after must stay on the disk.
    pub fn oldest(&self) -> Option<Stand> {
        self.writes.front().map(|(_, stand)| *stand)
    }

    /// Where another process is to begin, if something waits to be sent again.
    pub fn repeat(&self) -> Option<Stand> {
        let lost = self.lost?;
        self.writes.iter().find(|(write, _)| *write >= lost).map(|(_, stand)| *stand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes 1 to `count`, each of a batch of its own.
    fn after(count: u64, doubt: Doubt) -> Doubts {
        let mut doubts = Doubts::default();
        (1..=count).for_each(|write| doubts.begin(write, Stand { position: write - 1, offset: 0 }));
        doubts.settle(doubt);
        doubts
    }

    fn positions(doubts: &Doubts) -> (Option<u64>, Option<u64>) {
        (doubts.oldest().map(|stand| stand.position), doubts.repeat().map(|stand| stand.position))
    }

    #[test]
    fn what_is_kept_and_what_is_repeated() {
        assert_eq!(positions(&after(5, Doubt::default())), (None, None));
        assert_eq!(positions(&after(5, Doubt { unread: Some(3), lost: None })), (Some(2), None));
        assert_eq!(positions(&after(5, Doubt { unread: Some(4), lost: Some(2) })), (Some(1), Some(1)));
        assert_eq!(positions(&after(5, Doubt { unread: None, lost: Some(5) })), (Some(4), Some(4)));
        assert_eq!(positions(&after(2000, Doubt { unread: Some(1), lost: Some(1) })), (Some(976), Some(976)));
    }
}
