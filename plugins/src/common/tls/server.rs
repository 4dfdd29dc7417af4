//! The TLS server block.

use std::sync::Arc;

use heliograph_core::config::Secret;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

use super::verify::ClientVerifier;
use super::{TlsError, material, suite};

/// The TLS server block, as a plugin takes it out of its section with `section.take_struct::<TlsServerOptions>()`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsServerOptions {
    /// Certificate of the server, with its chain.
    pub tls_cert: String,
    /// Key of the certificate.
    pub tls_key: String,
    /// Password of an encrypted key.
    pub tls_key_pwd: Secret,
    /// PEM files of authorities; any makes a client's certificate necessary.
    pub tls_allowed_cacerts: Vec<String>,
    /// Names of which a client's certificate must hold one, as its DNS name, exactly.
    pub tls_allowed_dns_names: Vec<String>,
    /// Names of cipher suites of TLS 1.2, or keywords.
    pub tls_cipher_suites: Vec<String>,
    /// Lowest version; TLS 1.2 if empty.
    pub tls_min_version: String,
    /// Highest version; no limit if empty.
    pub tls_max_version: String,
}

impl TlsServerOptions {
    /// Whether the block asks for TLS: a certificate, a key or authorities are set.
    pub fn is_configured(&self) -> bool {
        !(self.tls_cert.is_empty() && self.tls_key.is_empty() && self.tls_allowed_cacerts.is_empty())
    }

    /// What rustls needs, with the files as they are now; `None` if the block does not ask for TLS. Protocols are not
    /// set (`alpn_protocols` is empty).
    ///
    /// # Errors
    /// If the pair of certificate and key is incomplete, a file cannot be read or used, or an option has no value that
    /// can be done.
    pub fn server_config(&self) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        if !self.is_configured() {
            return Ok(None);
        }
        for (option, value) in [("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key)] {
            if value.is_empty() {
                let reason = "must be set; a server needs both a certificate and its key".to_owned();
                return Err(TlsError::Option { option, reason });
            }
        }
        let provider = Arc::new(suite::provider_with(&self.tls_cipher_suites)?);
        let versions = suite::versions(&self.tls_min_version, &self.tls_max_version)?;
        let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
        let verifier = self.verifier(&provider)?;
        let chain = material::certificates("tls_cert", &self.tls_cert)?;
        let key = material::private_key("tls_key", &self.tls_key, &self.tls_key_pwd)?;
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| setup(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map(|config| Some(Arc::new(config)))
            .map_err(|error| TlsError::Content {
                option: "tls_key",
                path: self.tls_key.clone(),
                reason: format!("it does not go with the certificate in {:?}: {error}", self.tls_cert),
            })
    }

    fn verifier(
        &self,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        if self.tls_allowed_cacerts.is_empty() {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        for path in &self.tls_allowed_cacerts {
            trusted.extend(material::add_roots("tls_allowed_cacerts", path, &mut roots)?);
        }
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok(Arc::new(ClientVerifier { inner, trusted, names: self.tls_allowed_dns_names.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_refused() {
        let half = TlsServerOptions { tls_cert: "/c.pem".into(), ..Default::default() };
        let error = half.server_config().unwrap_err().to_string();
        assert_eq!(error, "option `tls_key`: must be set; a server needs both a certificate and its key");
        assert!(TlsServerOptions::default().server_config().unwrap().is_none());
    }
}
