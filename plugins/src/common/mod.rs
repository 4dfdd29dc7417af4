//! What several plugins share.

pub mod arrival;
pub mod go_regex;
pub mod key_suffix;
pub(crate) mod part_memo;
pub mod prometheus;
pub mod tls;
