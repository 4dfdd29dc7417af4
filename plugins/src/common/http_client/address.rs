//! Addresses of HTTP servers, those behind unix sockets included.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::HttpError;

/// Where a request goes: `http://…`, `https://…`, or a path on a unix socket as in `http+unix:///run/x.sock:/metrics`.
///
/// Shown without user information, so that it can be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
    socket: Option<PathBuf>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is no URL, has another scheme or no host.
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let fail = |reason: String| HttpError::Address { address: without_user(text), reason };
        let unix = [("http+unix://", "http"), ("https+unix://", "https")];
        if let Some((rest, scheme)) = unix.iter().find_map(|(from, to)| Some((text.strip_prefix(from)?, to))) {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            if socket.is_empty() {
                return Err(fail("the path of the socket is missing".to_owned()));
            }
            let slash = if path.starts_with('/') { "" } else { "/" };
            let url = Url::parse(&format!("{scheme}://localhost{slash}{path}")).map_err(|e| fail(e.to_string()))?;
            return Ok(Self { url, socket: Some(socket.into()) });
        }
        let url = Url::parse(text).map_err(|error| fail(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail(format!("scheme {:?} is none of http, https, http+unix, https+unix", url.scheme())));
        }
        Ok(Self { url, socket: None })
    }

    /// The URL; that of `localhost` if it is behind a unix socket.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

impl From<Url> for Address {
    fn from(url: Url) -> Self {
        Self { url, socket: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "{}+unix://{}:{}", self.url.scheme(), socket.display(), self.url.path()),
            None => f.write_str(&without_user(self.url.as_str())),
        }
    }
}

/// A URL as it may be logged: what stands before `@` is cut out, and so is a query, where tokens are found too often.
fn without_user(text: &str) -> String {
    let text = text.split_once('?').map_or(text, |(start, _)| start);
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{host}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match Address::parse(text) {
            Ok(address) => format!("{address} | {} | {:?}", address.url(), address.socket()),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn addresses() {
        check("http://u:p@h/x?token=y", expect!["http://h/x | http://u:p@h/x?token=y | None"]);
        check(
            "http+unix:///run/x.sock:/metrics?a=b",
            expect![[r#"http+unix:///run/x.sock:/metrics | http://localhost/metrics?a=b | Some("/run/x.sock")"#]],
        );
        check(
            "https+unix:///run/x.sock",
            expect![[r#"https+unix:///run/x.sock:/ | https://localhost/ | Some("/run/x.sock")"#]],
        );
        check(
            "http+unix://:/a",
            expect![[r#"error: invalid address "http+unix://:/a": the path of the socket is missing"#]],
        );
        check(
            "ftp://u:p@h/",
            expect![[
                r#"error: invalid address "ftp://h/": scheme "ftp" is none of http, https, http+unix, https+unix"#
            ]],
        );
        check("h/x", expect![[r#"error: invalid address "h/x": relative URL without a base"#]]);
    }
}
