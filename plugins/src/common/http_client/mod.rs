//! The HTTP client that plugins share: options, TLS, proxies, unix sockets, OAuth2, login by cookie.

mod address;
mod client;
mod cookie;
mod oauth2;
#[cfg(test)]
pub(crate) mod testing;

use heliograph_core::config::{ConfigError, Duration, Section};
use reqwest::Url;
use serde::Deserialize;

use super::tls::{TlsClientOptions, TlsError};

pub use address::Address;
pub use client::{HttpClient, Request, read_body, retry_after, status_error};
pub use cookie::CookieOptions;
pub(crate) use cookie::insert_headers;
pub use oauth2::OAuth2Options;
pub(crate) use oauth2::{basic, form};

/// The HTTP transport block, but for TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportOptions {
    /// How long an idle connection is kept; 0 is for ever.
    pub idle_conn_timeout: Duration,
    /// Most idle connections; 0 is no limit.
    pub max_idle_conn: usize,
    /// Most idle connections to one host; 0 is 2.
    pub max_idle_conn_per_host: usize,
    /// How long the headers of an answer may take; 0 is as long as the whole request.
    pub response_timeout: Duration,
    /// Address to connect from.
    pub local_address: String,
    /// Take the proxy from the environment.
    pub use_system_proxy: bool,
    /// Proxy for all requests, unless that of the environment is used.
    pub http_proxy_url: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeoutOption {
    timeout: Duration,
}

/// The HTTP client block: transport, TLS, timeout, OAuth2 and login by cookie.
#[derive(Clone, Debug, Default)]
pub struct HttpClientOptions {
    /// Connections.
    pub transport: TransportOptions,
    /// The TLS client block.
    pub tls: TlsClientOptions,
    /// For the whole request with its body; 0 is five seconds.
    pub timeout: Duration,
    /// The OAuth2 block.
    pub oauth2: OAuth2Options,
    /// The cookie block.
    pub cookie: CookieOptions,
}

impl HttpClientOptions {
    /// Takes the whole block out of a plugin's section and checks it.
    ///
    /// # Errors
    /// If an option has a value that cannot be used, certificates included.
    pub fn take(section: &mut Section) -> Result<Self, ConfigError> {
        let options = Self {
            transport: section.take_struct()?,
            tls: section.take_struct()?,
            timeout: section.take_struct::<TimeoutOption>()?.timeout,
            oauth2: section.take_struct()?,
            cookie: section.take_struct()?,
        };
        options.check().map_err(|error| {
            let text = heliograph_core::error::Chain(&error).to_string();
            match error.option() {
                Some(option) => section.error_at(option, text),
                None => section.error(text),
            }
        })?;
        Ok(options)
    }

    /// Whether the values can be used; what [`Self::take`] does, for blocks that were made otherwise.
    ///
    /// # Errors
    /// See [`Self::take`].
    pub fn check(&self) -> Result<(), HttpError> {
        self.tls.client_config()?;
        self.transport.proxy()?;
        self.transport.local()?;
        self.oauth2.check()?;
        self.cookie.check()
    }
}

/// Where connections start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Local {
    Any,
    Ip(std::net::IpAddr),
    Name(String),
}

impl TransportOptions {
    fn proxy(&self) -> Result<Option<reqwest::Proxy>, HttpError> {
        if self.use_system_proxy || self.http_proxy_url.is_empty() {
            return Ok(None);
        }
        let fail = |reason: String| HttpError::Option { option: "http_proxy_url", reason };
        let url = Url::parse(&self.http_proxy_url).map_err(|error| fail(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
            return Err(fail(format!("scheme {:?} is none of http, https, socks5", url.scheme())));
        }
        reqwest::Proxy::all(url).map(Some).map_err(|error| fail(error.without_url().to_string()))
    }

    fn local(&self) -> Result<Local, HttpError> {
        let text = self.local_address.as_str();
        if text.is_empty() {
            return Ok(Local::Any);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(Local::Ip(ip));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
        if port != "0" {
            // One port is one connection: the second at the same time would fail.
            let reason = format!("{text:?} has a port, which cannot be chosen; leave it out");
            return Err(HttpError::Option { option: "local_address", reason });
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(host.parse().map_or_else(|_| Local::Name(host.to_owned()), Local::Ip))
    }
}

/// Why a request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The value of an option is none that can be used.
    #[error("option `{option}`: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS block cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is none.
    #[error("invalid address {address:?}: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer came in time.
    #[error("no answer from \"{url}\" within {after:?}")]
    Timeout {
        /// Where to, without user information.
        url: String,
        /// The limit that applied.
        after: std::time::Duration,
    },
    /// The request or its answer broke off.
    #[error("cannot reach \"{url}\"")]
    Send {
        /// Where to, without user information.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer has another status than one of success; the first line of its body follows.
    #[error("\"{url}\" answered {status}{detail}")]
    Status {
        /// Where to, without user information.
        url: String,
        /// The status.
        status: reqwest::StatusCode,
        /// `: ` and the first line of the body, or nothing.
        detail: String,
    },
    /// The body of an answer is longer than what is read.
    #[error("the answer from \"{url}\" is longer than {limit} bytes")]
    TooLong {
        /// Where to, without user information.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A token or a login could not be had.
    #[error("cannot log in for \"{url}\": {reason}")]
    Login {
        /// Where to, without user information.
        url: String,
        /// Why.
        reason: String,
    },
}

impl HttpError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::Option { option, .. } => Some(option),
            Self::Tls(
                TlsError::Read { option, .. } | TlsError::Content { option, .. } | TlsError::Option { option, .. },
            ) => Some(option),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn local(text: &str, expected: Expect) {
        let options = TransportOptions { local_address: text.into(), ..Default::default() };
        expected.assert_eq(&match options.local() {
            Ok(local) => format!("{local:?}"),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn local_addresses() {
        local("", expect!["Any"]);
        local("10.0.0.1", expect!["Ip(10.0.0.1)"]);
        local("10.0.0.1:0", expect!["Ip(10.0.0.1)"]);
        local("[::1]", expect!["Ip(::1)"]);
        local("eth.local:0", expect![[r#"Name("eth.local")"#]]);
        local(
            "10.0.0.1:99",
            expect![[
                r#"error: option `local_address`: "10.0.0.1:99" has a port, which cannot be chosen; leave it out"#
            ]],
        );
    }

    #[test]
    fn proxies() {
        let check = |text: &str| {
            let options = TransportOptions { http_proxy_url: text.into(), ..Default::default() };
            options.proxy().map(|proxy| proxy.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(false));
        assert_eq!(check("http://u:p@proxy:3128"), Ok(true));
        assert!(check("ftp://proxy").unwrap_err().contains("is none of http, https, socks5"));
        assert!(check("proxy").unwrap_err().starts_with("option `http_proxy_url`"));
    }
}
