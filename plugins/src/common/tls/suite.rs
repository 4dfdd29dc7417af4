//! Versions and cipher suites by the names that Telegraf's users write.

use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use tracing::warn;

use super::{TlsError, provider};

/// A version by its name in options; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl Version {
    pub(super) fn parse(option: &'static str, name: &str) -> Result<Self, TlsError> {
        match name {
            "TLS10" => Ok(Self::Tls10),
            "TLS11" => Ok(Self::Tls11),
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            _ => Err(TlsError::Option {
                option,
                reason: format!("{name:?} is none of \"TLS10\", \"TLS11\", \"TLS12\", \"TLS13\""),
            }),
        }
    }
}

/// The versions from `min` (empty: TLS 1.2) to `max` (empty: no end).
///
/// TLS 1.0 and 1.1 are broken and not built in: as a minimum they mean 1.2, as a maximum they leave nothing.
pub(super) fn versions(min: &str, max: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let min_version = if min.is_empty() { Version::Tls12 } else { Version::parse("tls_min_version", min)? };
    let max_version = if max.is_empty() { Version::Tls13 } else { Version::parse("tls_max_version", max)? };
    if min_version > max_version {
        let low = if min.is_empty() { "TLS12" } else { min };
        return Err(TlsError::Setup(format!("`tls_min_version` {low} is above `tls_max_version` {max}")));
    }
    if max_version < Version::Tls12 {
        let reason = format!("{max} is no longer secure and not supported; the lowest is TLS12");
        return Err(TlsError::Option { option: "tls_max_version", reason });
    }
    if min_version < Version::Tls12 {
        warn!(option = "tls_min_version", value = min, "TLS 1.0 and 1.1 are not supported, the minimum is TLS 1.2");
    }
    let all = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
    Ok(all.iter().filter(|(v, _)| (min_version..=max_version).contains(v)).map(|(_, version)| *version).collect())
}

/// The provider, cut down to the suites that `names` (in any case) allow; TLS 1.3 suites always stay.
pub(super) fn provider_with(names: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = (*provider()).clone();
    if names.is_empty() {
        return Ok(provider);
    }
    let mut allowed: Vec<&str> = Vec::new();
    let mut unsupported: Vec<&str> = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "ALL" | "SECURE" => allowed.extend(SUITES.iter().filter(|suite| suite.supported).map(|suite| suite.name)),
            // Every suite of that class is one that is not built in.
            "INSECURE" => unsupported.push("insecure"),
            _ => match SUITES.iter().find(|suite| suite.name == upper) {
                Some(suite) if suite.supported => allowed.push(suite.name),
                Some(suite) => unsupported.push(suite.name),
                None => {
                    let reason = format!("{name:?} is no known cipher suite, nor \"all\", \"secure\" or \"insecure\"");
                    return Err(TlsError::Option { option: OPTION, reason });
                }
            },
        }
    }
    if allowed.is_empty() {
        let usable: Vec<_> = SUITES.iter().filter(|suite| suite.supported).map(|suite| suite.name).collect();
        let reason = format!(
            "none of {} is supported, as they lack forward secrecy or authenticated encryption; add one of {}",
            unsupported.join(", "),
            usable.join(", ")
        );
        return Err(TlsError::Option { option: OPTION, reason });
    }
    if !unsupported.is_empty() {
        warn!(option = OPTION, suites = unsupported.join(", "), "cipher suites are not supported and never offered");
    }
    provider.cipher_suites.retain(|suite| match suite {
        SupportedCipherSuite::Tls13(_) => true,
        SupportedCipherSuite::Tls12(_) => allowed.contains(&iana_name(suite).as_str()),
    });
    Ok(provider)
}

const OPTION: &str = "tls_cipher_suites";

/// rustls leaves `WITH` out of no name of TLS 1.2, but calls those of 1.3 `TLS13_…`.
fn iana_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

struct Suite {
    name: &'static str,
    supported: bool,
}

const fn yes(name: &'static str) -> Suite {
    Suite { name, supported: true }
}

const fn no(name: &'static str) -> Suite {
    Suite { name, supported: false }
}

/// The names that Go knows, sorted by whether they are built in here.
static SUITES: &[Suite] = &[
    yes("TLS_AES_128_GCM_SHA256"),
    yes("TLS_AES_256_GCM_SHA384"),
    yes("TLS_CHACHA20_POLY1305_SHA256"),
    yes("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    yes("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    yes("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    yes("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    yes("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    yes("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    no("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    no("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    no("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    no("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"),
    no("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    no("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    no("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    no("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    no("TLS_ECDHE_RSA_WITH_RC4_128_SHA"),
    no("TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    no("TLS_RSA_WITH_AES_128_CBC_SHA"),
    no("TLS_RSA_WITH_AES_128_CBC_SHA256"),
    no("TLS_RSA_WITH_AES_128_GCM_SHA256"),
    no("TLS_RSA_WITH_AES_256_CBC_SHA"),
    no("TLS_RSA_WITH_AES_256_GCM_SHA384"),
    no("TLS_RSA_WITH_RC4_128_SHA"),
];

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn suites(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match provider_with(&names) {
            Ok(provider) => provider.cipher_suites.iter().map(iana_name).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    fn check_versions(min: &str, max: &str, expected: Expect) {
        expected.assert_eq(&match versions(min, max) {
            Ok(found) => found.iter().map(|v| format!("{:?}", v.version)).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn every_suite_that_is_called_supported_is_built_in() {
        let built_in: Vec<String> = provider().cipher_suites.iter().map(iana_name).collect();
        let mut supported: Vec<&str> = SUITES.iter().filter(|suite| suite.supported).map(|suite| suite.name).collect();
        let mut known: Vec<&str> = built_in.iter().map(String::as_str).collect();
        supported.sort_unstable();
        known.sort_unstable();
        assert_eq!(supported, known);
    }

    #[test]
    fn names_and_keywords() {
        assert_eq!(suites(&["all"]), suites(&[]));
        assert_eq!(suites(&["Secure"]), suites(&[]));
        expect!["TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
            .assert_eq(&suites(&["tls_ecdhe_rsa_with_aes_128_gcm_sha256", "TLS_RSA_WITH_RC4_128_SHA"]));
        expect![[
            r#"error: option `tls_cipher_suites`: "TLS_X" is no known cipher suite, nor "all", "secure" or "insecure""#
        ]]
        .assert_eq(&suites(&["TLS_X"]));
        assert!(suites(&["insecure"]).starts_with("error: option `tls_cipher_suites`: none of insecure is supported"));
    }

    #[test]
    fn version_ranges() {
        check_versions("", "", expect!["TLSv1_2 TLSv1_3"]);
        check_versions("TLS10", "TLS12", expect!["TLSv1_2"]);
        check_versions("TLS13", "", expect!["TLSv1_3"]);
        check_versions(
            "TLS13",
            "TLS12",
            expect!["error: cannot set up TLS: `tls_min_version` TLS13 is above `tls_max_version` TLS12"],
        );
        check_versions(
            "TLS10",
            "TLS11",
            expect![
                "error: option `tls_max_version`: TLS11 is no longer secure and not supported; the lowest is TLS12"
            ],
        );
        check_versions(
            "1.2",
            "",
            expect![[r#"error: option `tls_min_version`: "1.2" is none of "TLS10", "TLS11", "TLS12", "TLS13""#]],
        );
    }
}
