//! Brokers as the option `servers` names them.

use rumqttc::{TlsConfiguration, Transport};

use crate::common::tls::{TlsClientOptions, TlsError, default_client_config};

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// For logs: the URL without user and password.
    pub shown: String,
    address: Address,
    login: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    WebSocket { url: String },
    SecureWebSocket { url: String },
    Unix { path: String },
}

impl Server {
    /// What the client is given for host and port; the library takes URLs and paths in the place of a host.
    pub fn host_port(&self) -> (&str, u16) {
        match &self.address {
            Address::Tcp { host, port } | Address::Tls { host, port } => (host, *port),
            Address::WebSocket { url } | Address::SecureWebSocket { url } => (url, 0),
            Address::Unix { path } => (path, 0),
        }
    }

    /// How it is reached. Reads the certificates anew, since they rotate.
    pub fn transport(&self, options: &TlsClientOptions) -> Result<Transport, TlsError> {
        let tls = || -> Result<TlsConfiguration, TlsError> {
            let config = match options.client_config()? {
                Some(config) => config,
                None => default_client_config()?,
            };
            Ok(TlsConfiguration::Rustls(config))
        };
        Ok(match &self.address {
            Address::Tcp { .. } => Transport::Tcp,
            Address::Tls { .. } => Transport::Tls(tls()?),
            Address::WebSocket { .. } => Transport::Ws,
            Address::SecureWebSocket { .. } => Transport::Wss(tls()?),
            Address::Unix { .. } => Transport::Unix,
        })
    }

    /// User and password of the URL.
    pub fn login(&self) -> Option<&(String, String)> {
        self.login.as_ref()
    }

    /// Reads a URL; one without a scheme is TLS if `secure`. The error says what is wrong with it.
    pub fn parse(url: &str, secure: bool) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some(parts) => parts,
            None => {
                let scheme = if secure { "ssl" } else { "tcp" };
                tracing::warn!(server = without_login(url), scheme, "server has no scheme, assuming one");
                (scheme, url)
            }
        };
        if scheme == "unix" {
            let address = Address::Unix { path: rest.to_string() };
            return Ok(Self { shown: url.to_string(), address, login: None });
        }
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let (login, host_port) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, host_port)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((percent_decode(user), percent_decode(password))), host_port)
            }
        };
        let (host, port) = host_port.rsplit_once(':').ok_or("the port is missing")?;
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        if host.is_empty() {
            return Err("the host is missing".into());
        }
        let web = |scheme| format!("{scheme}://{host_port}/{path}");
        let address = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "mqtt" => Address::Tcp { host: bracketed(host), port },
            "ssl" | "tls" | "mqtts" | "mqtt+ssl" | "tcps" => Address::Tls { host: bracketed(host), port },
            "ws" => Address::WebSocket { url: web("ws") },
            "wss" => Address::SecureWebSocket { url: web("wss") },
            other => return Err(format!("{other:?} is none of tcp, mqtt, ssl, tls, mqtts, ws, wss, unix")),
        };
        Ok(Self {
            shown: format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
            address,
            login,
        })
    }
}

/// The client puts host and port together with a colon, so an IPv6 address needs its brackets again.
fn bracketed(host: String) -> String {
    if host.contains(':') { format!("[{host}]") } else { host }
}

/// A URL as it may be shown: without user and password.
pub fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        _ => url.to_string(),
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> String {
        match Server::parse(url, false) {
            Ok(server) => format!("{:?} {:?}", server.address, server.login),
            Err(reason) => reason,
        }
    }

    #[test]
    fn schemes() {
        assert!(server("tcp://h:1883").starts_with("Tcp { host: \"h\", port: 1883 }"));
        assert!(server("mqtts://h:8883").starts_with("Tls"));
        assert!(server("ws://h:80/mqtt").starts_with("WebSocket { url: \"ws://h:80/mqtt\" }"));
        assert!(server("unix:///run/m.sock").starts_with("Unix { path: \"/run/m.sock\" }"));
        assert!(server("tcp://[::1]:1883").starts_with("Tcp { host: \"[::1]\", port: 1883 }"));
        assert!(server("h:1883").starts_with("Tcp"));
        assert!(server("amqp://h:1").contains("none of"));
        assert!(server("tcp://h").contains("port is missing"));
        assert!(server("tcp://h:port").contains("no port"));
    }

    #[test]
    fn a_login_in_the_url_is_used_and_never_shown() {
        assert!(server("tcp://us%40er:pa%3Ass@h:1").ends_with("Some((\"us@er\", \"pa:ss\"))"));
        assert_eq!(Server::parse("tcp://u:secret@h:1", false).unwrap().shown, "tcp://h:1");
        assert_eq!(without_login("tcp://u:secret@h"), "tcp://***@h");
    }
}
