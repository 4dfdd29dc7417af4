//! What several plugins share.

pub mod go_regex;
pub mod prometheus;
