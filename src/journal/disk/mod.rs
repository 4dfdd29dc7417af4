//! The journal on disk (`buffer_strategy = "disk"`).
//!
//! The newest batches are in memory until they are safe, and a while longer for outputs that keep up; the rest is read
//! from the log. A thread writes what was appended in groups, each made safe by one sync.

mod codec;
mod doubts;
#[cfg(test)]
mod fake;
mod journal;
mod log;
mod segment;
mod state;
mod stats;
mod storage;
mod writer;

pub use codec::{Decoder, Encoder};
pub use journal::{Journal, Reader, Settings};
pub use log::Limits;
pub use stats::JournalStats;
