//! TLS as plugins configure it: the client block and the server block, made into what rustls takes.
//!
//! Files are read whenever a configuration is asked for, so a plugin that asks again on each reconnect follows a rotated
//! certificate.

mod client;
mod material;
mod server;
mod suite;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{TlsClientOptions, default_client_config};
pub use server::TlsServerOptions;

/// Why a TLS block cannot be used; it names the option and, where there is one, the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that an option names cannot be read.
    #[error("cannot read {path:?} of option `{option}`")]
    Read {
        /// The option.
        option: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what its option asks for.
    #[error("cannot use {path:?} of option `{option}`: {reason}")]
    Content {
        /// The option.
        option: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value of an option is none that can be used.
    #[error("option `{option}`: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Options that do not go together.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// The one provider of cryptography, handed to every configuration so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
