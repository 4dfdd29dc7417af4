//! What several plugins share.

pub mod arrival;
pub mod compress;
pub mod go_regex;
pub mod http_client;
pub mod key_suffix;
pub mod rotate;
pub mod tls;
