//! What several plugins share.

pub mod arrival;
pub mod go_regex;
pub mod key_suffix;
pub mod proc_file;
pub mod prometheus;
pub mod tls;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod part_memo;
#[cfg(test)]
pub(crate) mod testkit;
