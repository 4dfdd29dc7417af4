//! What several plugins share.

pub mod arrival;
pub mod go_regex;
pub mod key_suffix;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
