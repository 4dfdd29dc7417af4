//! Signed requests to AWS: where the keys come from, and how a request is signed with them.

mod credentials;
mod metadata;
mod shared_files;
mod sign;
mod sts;

use std::time::Duration;

use serde::Deserialize;

use super::http_client::HttpError;
use heliograph_core::config::Secret;

pub use credentials::CredentialSource;
pub use sign::sign;

/// The AWS credential block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsOptions {
    /// Region; by default that of the environment or of the profile.
    pub region: String,
    /// Key that is given here.
    pub access_key: Secret,
    /// Its secret.
    pub secret_key: Secret,
    /// Session token that belongs to the two.
    pub token: Secret,
    /// Role to take on.
    pub role_arn: String,
    /// Name of the session of that role.
    pub role_session_name: String,
    /// File with a token by which the role is taken on.
    pub web_identity_token_file: String,
    /// Profile of the shared files.
    pub profile: String,
    /// Shared file, instead of the one in the home folder.
    pub shared_credential_file: String,
    /// Where roles are asked for, instead of the region's own address.
    pub endpoint_url: String,
}

/// Keys, with the end of their time if they have one.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public part.
    pub access_key: String,
    /// Secret part.
    pub secret_key: String,
    /// Session token; empty without one.
    pub token: String,
    /// Nanoseconds since the Unix epoch.
    pub until: Option<i64>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Keys are asked for anew this long before they end.
const EARLY: Duration = Duration::from_secs(300);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// A file cannot be read.
    #[error("cannot read AWS credentials from {path:?}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A server that gives keys refused, or could not be reached.
    #[error("cannot get AWS credentials")]
    Http(#[from] HttpError),
    /// Something is missing or makes no sense.
    #[error("cannot get AWS credentials: {0}")]
    Other(String),
}
