//! The journal on disk (`buffer_strategy = "disk"`).

mod codec;
#[cfg(test)]
mod fake;
mod log;
mod segment;
mod storage;
