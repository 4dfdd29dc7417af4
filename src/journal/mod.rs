//! The journal: one sequence of batches that all outputs read, each at its own pace.
//!
//! The pipeline appends, every output reads through a [`Reader`] with a cursor of its own, and inputs that asked for it
//! learn from a watermark up to which of their messages all is safe. A slow or dead output never holds back another.

mod disk;
mod memory;
mod queue;

pub use memory::{Journal, OutputSlot, Reader, Rest};
pub use queue::Resolution;
