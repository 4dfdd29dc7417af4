//! What several plugins share.

pub mod aws;
pub mod compress;
pub mod go_regex;
pub mod http_client;
pub mod rotate;
pub mod tls;
