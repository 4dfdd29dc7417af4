//! The TLS client block.

use std::sync::{Arc, OnceLock};

use heliograph_core::config::Secret;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tracing::warn;

use super::verify::{ServerVerifier, Unverified};
use super::{TlsError, material, provider, suite};

/// The TLS client block, as a plugin takes it out of its section with `section.take_struct::<TlsClientOptions>()`.
///
/// A plugin asks for [`Self::client_config`] once while it is built, so that mistakes are found when the configuration is
/// loaded, and again on each reconnect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsClientOptions {
    /// False turns the whole block off; true turns TLS on even if nothing else is set.
    pub tls_enable: Option<bool>,
    /// PEM file that replaces the system's roots.
    pub tls_ca: String,
    /// Client certificate, used together with the key.
    pub tls_cert: String,
    /// Key of the client certificate.
    pub tls_key: String,
    /// Password of an encrypted key.
    pub tls_key_pwd: Secret,
    /// Name to ask for and to verify, instead of that of the address.
    pub tls_server_name: String,
    /// Lowest version.
    pub tls_min_version: String,
    /// Names of cipher suites of TLS 1.2, or keywords.
    pub tls_cipher_suites: Vec<String>,
    /// Only `never` can be done.
    pub tls_renegotiation_method: String,
    /// Verify nothing.
    pub insecure_skip_verify: bool,
}

impl TlsClientOptions {
    /// Whether the block asks for TLS. A minimal version or cipher suites alone do not, as in Telegraf.
    pub fn is_configured(&self) -> bool {
        match self.tls_enable {
            Some(enabled) => enabled,
            None => self.has_settings(),
        }
    }

    fn has_settings(&self) -> bool {
        let renegotiates = !matches!(self.tls_renegotiation_method.as_str(), "" | "never");
        let texts = [&self.tls_ca, &self.tls_cert, &self.tls_key, &self.tls_server_name];
        texts.iter().any(|text| !text.is_empty()) || self.insecure_skip_verify || renegotiates
    }

    /// What rustls needs, with the files as they are now; `None` if the block does not ask for TLS.
    ///
    /// # Errors
    /// If a file cannot be read or used, or the value of an option is none that can be done.
    pub fn client_config(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        if !self.is_configured() {
            return Ok(None);
        }
        if !self.has_settings() {
            // Enabled and nothing else: the defaults hold, and versions and suites are ignored, as in Telegraf.
            return default_client_config().map(Some);
        }
        self.check_renegotiation()?;
        let provider = Arc::new(suite::provider_with(&self.tls_cipher_suites)?);
        let versions = suite::versions(&self.tls_min_version, "")?;
        let verifier = self.verifier(&provider)?;
        build(provider, &versions, verifier, self).map(|config| Some(Arc::new(config)))
    }

    /// The name to connect with: `tls_server_name`, else `host`, a DNS name or an IP address without brackets.
    ///
    /// # Errors
    /// If it is neither.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match self.name_override()? {
            Some(name) => Ok(name),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| TlsError::Setup(format!("{host:?} is neither a DNS name nor an IP address"))),
        }
    }

    /// `tls_server_name`, if the block is in use and sets it.
    pub(crate) fn name_override(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        if !self.is_configured() || self.tls_server_name.is_empty() {
            return Ok(None);
        }
        ServerName::try_from(self.tls_server_name.clone()).map(Some).map_err(|_| TlsError::Option {
            option: "tls_server_name",
            reason: format!("{:?} is neither a DNS name nor an IP address", self.tls_server_name),
        })
    }

    fn check_renegotiation(&self) -> Result<(), TlsError> {
        let reason = match self.tls_renegotiation_method.as_str() {
            "" | "never" => return Ok(()),
            "once" | "freely" => {
                "renegotiation is not supported, as it is insecure; remove the option or set \"never\""
            }
            _ => "must be \"never\"; \"once\" and \"freely\" are not supported",
        };
        Err(TlsError::Option { option: "tls_renegotiation_method", reason: reason.to_owned() })
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        // A name that cannot be used is a mistake even if nothing is verified.
        let name = self.name_override()?;
        if self.insecure_skip_verify {
            if !self.tls_ca.is_empty() {
                material::certificates("tls_ca", &self.tls_ca)?;
            }
            return Ok(Arc::new(Unverified { provider: Arc::clone(provider), accept: true }));
        }
        if self.tls_ca.is_empty() {
            return server_verifier(system_roots(), Vec::new(), name, provider);
        }
        let mut roots = RootCertStore::empty();
        let trusted = material::add_roots("tls_ca", &self.tls_ca, &mut roots)?;
        server_verifier(Arc::new(roots), trusted, name, provider)
    }
}

/// TLS 1.2 and 1.3 with the system's roots: for addresses that ask for TLS by themselves, such as `https://`.
///
/// # Errors
/// If the cryptography cannot be set up.
pub fn default_client_config() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = server_verifier(system_roots(), Vec::new(), None, &provider)?;
    let versions = suite::versions("", "")?;
    build(provider, &versions, verifier, &TlsClientOptions::default()).map(Arc::new)
}

fn server_verifier(
    roots: Arc<RootCertStore>,
    trusted: material::Roots,
    name: Option<ServerName<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if roots.is_empty() {
        // A container without certificates: plain connections work all the same, and TLS ones say what is missing.
        return Ok(Arc::new(Unverified { provider: Arc::clone(provider), accept: false }));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok(Arc::new(ServerVerifier { inner, name, trusted }))
}

fn build(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ServerCertVerifier>,
    options: &TlsClientOptions,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    if options.tls_cert.is_empty() || options.tls_key.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = material::certificates("tls_cert", &options.tls_cert)?;
    let key = material::private_key("tls_key", &options.tls_key, &options.tls_key_pwd)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Content {
        option: "tls_key",
        path: options.tls_key.clone(),
        reason: format!("it does not go with the certificate in {:?}: {error}", options.tls_cert),
    })
}

/// The roots of the system, read once: bundles are large, and sharing them costs each further plugin nothing.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, unreadable) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let error = found.errors.first().map(ToString::to_string).unwrap_or_default();
            warn!(unreadable, error, "the system has no trusted certificates; set `tls_ca` to connect with TLS");
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(load))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::TlsServerOptions;
    use super::super::testing::{Authority, Files, handshake};
    use super::*;

    fn configured(options: &TlsClientOptions) -> bool {
        options.client_config().unwrap().is_some()
    }

    fn check_error(options: TlsClientOptions, expected: Expect) {
        let error = options.client_config().unwrap_err();
        expected.assert_eq(&heliograph_core::error::Chain(&error).to_string());
    }

    #[test]
    fn what_turns_tls_on() {
        let none = TlsClientOptions::default();
        let weak = TlsClientOptions {
            tls_min_version: "TLS13".into(),
            tls_cipher_suites: vec!["all".into()],
            tls_renegotiation_method: "never".into(),
            ..Default::default()
        };
        assert!(!configured(&none) && !configured(&weak));
        assert!(configured(&TlsClientOptions { tls_enable: Some(true), ..weak.clone() }));
        assert!(configured(&TlsClientOptions { insecure_skip_verify: true, ..weak.clone() }));
        assert!(configured(&TlsClientOptions { tls_cert: "/alone/is/ignored".into(), ..weak }));
        let off = TlsClientOptions { tls_enable: Some(false), insecure_skip_verify: true, ..Default::default() };
        assert!(!configured(&off));
    }

    #[test]
    fn enable_alone_ignores_even_a_wrong_version() {
        let options =
            TlsClientOptions { tls_enable: Some(true), tls_min_version: "TLS99".into(), ..Default::default() };
        assert!(configured(&options));
    }

    #[test]
    fn mistakes_name_the_option_and_the_file() {
        let insecure = TlsClientOptions { insecure_skip_verify: true, ..Default::default() };
        check_error(
            TlsClientOptions { tls_ca: "/nowhere/ca.pem".into(), ..Default::default() },
            expect![[r#"cannot read "/nowhere/ca.pem" of option `tls_ca`: No such file or directory (os error 2)"#]],
        );
        check_error(
            TlsClientOptions { tls_ca: "/dev/null".into(), ..Default::default() },
            expect![[r#"cannot use "/dev/null" of option `tls_ca`: it holds no certificate in PEM form"#]],
        );
        check_error(
            TlsClientOptions { tls_renegotiation_method: "once".into(), ..Default::default() },
            expect![
                "option `tls_renegotiation_method`: renegotiation is not supported, as it is insecure; remove the option or set \"never\""
            ],
        );
        check_error(
            TlsClientOptions { tls_server_name: "a b".into(), ..Default::default() },
            expect![[r#"option `tls_server_name`: "a b" is neither a DNS name nor an IP address"#]],
        );
        check_error(
            TlsClientOptions { tls_min_version: "tls1".into(), ..insecure },
            expect![[r#"option `tls_min_version`: "tls1" is none of "TLS10", "TLS11", "TLS12", "TLS13""#]],
        );
    }

    fn server(files: &Files) -> TlsServerOptions {
        TlsServerOptions { tls_cert: files.cert.clone(), tls_key: files.key.clone(), ..Default::default() }
    }

    #[tokio::test]
    async fn the_named_authority_is_trusted_and_no_other() {
        let authority = Authority::new();
        let files = authority.leaf("metrics.test");
        let client = TlsClientOptions { tls_ca: authority.path(), ..Default::default() };
        assert_eq!(handshake(&client, &server(&files), "metrics.test").await.as_deref(), Ok("TLSv1_3"));
        let error = handshake(&client, &server(&files), "other.test").await.unwrap_err();
        assert!(error.contains("not valid for name"), "{error}");

        let unrelated = Authority::new();
        let stranger = TlsClientOptions { tls_ca: unrelated.path(), ..Default::default() };
        let error = handshake(&stranger, &server(&files), "metrics.test").await.unwrap_err();
        assert!(error.contains("invalid peer certificate"), "{error}");
    }

    #[tokio::test]
    async fn server_name_versions_and_no_verification() {
        let authority = Authority::new();
        let files = authority.leaf("metrics.test");
        let named =
            TlsClientOptions { tls_ca: authority.path(), tls_server_name: "metrics.test".into(), ..Default::default() };
        assert!(handshake(&named, &server(&files), "127.0.0.1").await.is_ok());

        let old = TlsServerOptions { tls_max_version: "TLS12".into(), ..server(&files) };
        let insecure = TlsClientOptions { insecure_skip_verify: true, ..Default::default() };
        assert_eq!(handshake(&insecure, &old, "any.test").await.as_deref(), Ok("TLSv1_2"));
        let new = TlsClientOptions { tls_min_version: "TLS13".into(), ..insecure };
        assert!(handshake(&new, &old, "any.test").await.is_err());
    }

    #[tokio::test]
    async fn a_self_signed_authority_in_the_place_of_a_leaf() {
        let authority = Authority::named("metrics.test");
        let server = server(&authority.files());
        let client = TlsClientOptions { tls_ca: authority.path(), ..Default::default() };
        assert!(handshake(&client, &server, "metrics.test").await.is_ok());
        assert!(handshake(&client, &server, "other.test").await.is_err());
    }

    #[tokio::test]
    async fn client_certificates_and_their_names() {
        let authority = Authority::new();
        let (files, own) = (authority.leaf("metrics.test"), authority.leaf("agent.test"));
        let server = TlsServerOptions { tls_allowed_cacerts: vec![authority.path()], ..server(&files) };
        let anonymous = TlsClientOptions { tls_ca: authority.path(), ..Default::default() };
        let known = TlsClientOptions { tls_cert: own.cert.clone(), tls_key: own.key.clone(), ..anonymous.clone() };
        assert!(handshake(&anonymous, &server, "metrics.test").await.is_err());
        assert!(handshake(&known, &server, "metrics.test").await.is_ok());

        let strict = TlsServerOptions { tls_allowed_dns_names: vec!["agent.test".into()], ..server.clone() };
        assert!(handshake(&known, &strict, "metrics.test").await.is_ok());
        let other = TlsServerOptions { tls_allowed_dns_names: vec!["Agent.test".into()], ..server };
        assert!(handshake(&known, &other, "metrics.test").await.is_err());
    }

    #[test]
    fn encrypted_keys() {
        let authority = Authority::new();
        let files = authority.leaf("agent.test").encrypt("geheim");
        let options = |password: &str| TlsClientOptions {
            tls_ca: authority.path(),
            tls_cert: files.cert.clone(),
            tls_key: files.key.clone(),
            tls_key_pwd: password.into(),
            ..Default::default()
        };
        assert!(configured(&options("geheim")));
        let error = |password: &str| options(password).client_config().unwrap_err().to_string();
        assert!(error("").ends_with("the key is encrypted; set `tls_key_pwd`"), "{}", error(""));
        assert!(error("falsch").contains("cannot decrypt it"), "{}", error("falsch"));
    }
}
