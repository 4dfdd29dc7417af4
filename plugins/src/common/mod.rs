//! What several plugins share.

pub mod http_client;
pub mod tls;
