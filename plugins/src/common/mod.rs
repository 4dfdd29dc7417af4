//! What several plugins share.

pub mod tls;
