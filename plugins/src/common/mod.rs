//! What several plugins share.

pub mod arrival;
pub mod go_regex;
pub mod graphite_template;
pub mod key_suffix;
pub mod tls;
