//! What several plugins share.

pub mod go_regex;
pub(crate) mod part_memo;
pub mod prometheus;
