//! Options of the MQTT consumer, and what the client needs of them.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::config::{self, Secret};
use rumqttc::{MqttOptions, QoS, TlsConfiguration, Transport};
use serde::Deserialize;

use super::topic::{TopicParsing, TopicParsingError, TopicParsingOptions, check_filter};
use crate::common::tls::{TlsClientOptions, TlsError, default_client_config};

/// The options, as they stand in the file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConsumerOptions {
    /// Broker URLs, tried in order at every connection.
    pub servers: Vec<String>,
    /// Subscription filters.
    pub topics: Vec<String>,
    /// Tag that holds the topic; empty for none.
    pub topic_tag: String,
    /// Quality of service of all filters: 0, 1 or 2.
    pub qos: u8,
    /// Time for connecting, TLS and the MQTT handshake together.
    pub connection_timeout: config::Duration,
    /// Longest pause between two attempts to connect.
    pub max_reconnect_interval: config::Duration,
    /// Silence after which a ping is sent.
    pub keepalive: config::Duration,
    /// Time for the answer to a ping.
    pub ping_timeout: config::Duration,
    /// Messages on their way to the outputs, with a persistent session.
    pub max_undelivered_messages: Option<i64>,
    /// Ask the broker to keep the session, and acknowledge only what is delivered.
    pub persistent_session: bool,
    /// Own name towards the broker; made up if empty.
    pub client_id: String,
    /// User name.
    pub username: Secret,
    /// Password.
    pub password: Secret,
    /// Log what the client does, at debug level.
    pub client_trace: bool,
    /// What topics say.
    pub topic_parsing: Vec<TopicParsingOptions>,
}

impl Default for MqttConsumerOptions {
    fn default() -> Self {
        let seconds = |seconds: i64| config::Duration::from_nanos(seconds * 1_000_000_000);
        Self {
            servers: vec!["tcp://127.0.0.1:1883".into()],
            topics: Vec::new(),
            topic_tag: "topic".into(),
            qos: 0,
            connection_timeout: seconds(30),
            max_reconnect_interval: seconds(30),
            keepalive: seconds(60),
            ping_timeout: seconds(10),
            max_undelivered_messages: None,
            persistent_session: false,
            client_id: String::new(),
            username: Secret::default(),
            password: Secret::default(),
            client_trace: false,
            topic_parsing: Vec::new(),
        }
    }
}

/// An option whose value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("option `servers`: the list is empty; name at least one broker, such as \"tcp://127.0.0.1:1883\"")]
    NoServers,
    #[error("option `servers`: cannot use {url:?}: {reason}")]
    Server { url: String, reason: String },
    #[error("option `topics`: cannot use filter {filter:?}: {reason}")]
    Filter { filter: String, reason: &'static str },
    #[error("option `qos`: {0} is none of 0, 1 and 2")]
    Qos(u8),
    #[error("option `connection_timeout`: {0:?} is shorter than 1s")]
    ConnectionTimeout(Duration),
    #[error("option `max_undelivered_messages`: {0} is less than 1")]
    MaxUndelivered(i64),
    #[error("option `persistent_session` needs a `client_id`, so that the broker knows the session again")]
    NoClientId,
    #[error(transparent)]
    TopicParsing(#[from] TopicParsingError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The options, checked.
#[derive(Debug)]
pub struct Settings {
    pub options: MqttConsumerOptions,
    pub tls: TlsClientOptions,
    pub servers: Vec<Server>,
    pub qos: QoS,
    pub topic_parsing: Vec<TopicParsing>,
    pub client_id: String,
    /// Messages on their way to the outputs, with a persistent session.
    pub max_undelivered: u64,
}

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

/// Largest packet the protocol knows: no payload is refused for its size.
const MAX_PACKET: usize = 268_435_455 + 5;

impl Settings {
    /// Checks the options. Reads the certificate files, so that mistakes are found when the configuration is loaded.
    pub fn new(options: MqttConsumerOptions, tls: TlsClientOptions) -> Result<Self, OptionError> {
        if options.servers.is_empty() {
            return Err(OptionError::NoServers);
        }
        let qos = match options.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => return Err(OptionError::Qos(other)),
        };
        if options.connection_timeout.to_std() < Duration::from_secs(1) {
            return Err(OptionError::ConnectionTimeout(options.connection_timeout.to_std()));
        }
        let max_undelivered = match options.max_undelivered_messages {
            None => 1000,
            Some(limit) => {
                u64::try_from(limit).ok().filter(|&limit| limit > 0).ok_or(OptionError::MaxUndelivered(limit))?
            }
        };
        if options.persistent_session && options.client_id.is_empty() {
            return Err(OptionError::NoClientId);
        }
        for filter in &options.topics {
            check_filter(filter).map_err(|reason| OptionError::Filter { filter: filter.clone(), reason })?;
        }
        let secure = tls.client_config()?.is_some();
        let parse = |url: &String| {
            Server::parse(url, secure).map_err(|reason| OptionError::Server { url: without_login(url), reason })
        };
        let servers = options.servers.iter().map(parse).collect::<Result<_, _>>()?;
        let topic_parsing = options.topic_parsing.iter().map(TopicParsing::new).collect::<Result<_, _>>()?;
        let client_id = match options.client_id.as_str() {
            "" => format!("heliograph-consumer-{}", random_name()),
            id => id.to_string(),
        };
        Ok(Self { options, tls, servers, qos, topic_parsing, client_id, max_undelivered })
    }

    /// What the client is to do to reach this server. Secrets and certificates are read anew, since they rotate.
    pub fn client_options(&self, server: &Server) -> Result<MqttOptions, Box<dyn std::error::Error + Send + Sync>> {
        let (host, port) = match &server.address {
            Address::Tcp { host, port } | Address::Tls { host, port } => (host.as_str(), *port),
            Address::WebSocket { url } | Address::SecureWebSocket { url } => (url.as_str(), 0),
            Address::Unix { path } => (path.as_str(), 0),
        };
        let mut client = MqttOptions::new(&self.client_id, host, port);
        let tls = || -> Result<TlsConfiguration, TlsError> {
            let config = match self.tls.client_config()? {
                Some(config) => config,
                None => default_client_config()?,
            };
            Ok(TlsConfiguration::Rustls(config))
        };
        client.set_transport(match &server.address {
            Address::Tcp { .. } => Transport::Tcp,
            Address::Tls { .. } => Transport::Tls(tls()?),
            Address::WebSocket { .. } => Transport::Ws,
            Address::SecureWebSocket { .. } => Transport::Wss(tls()?),
            Address::Unix { .. } => Transport::Unix,
        });
        let (user, password) = match &server.login {
            Some((user, password)) => (user.clone(), password.clone()),
            None => {
                let (user, password) = (self.options.username.resolve()?, self.options.password.resolve()?);
                (user.as_str()?.to_string(), password.as_str()?.to_string())
            }
        };
        if !user.is_empty() || !password.is_empty() {
            client.set_credentials(user, password);
        }
        client
            .set_keep_alive(Duration::from_secs(self.options.keepalive.to_std().as_secs()))
            .set_clean_session(!self.options.persistent_session)
            .set_manual_acks(self.options.persistent_session)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET);
        Ok(client)
    }
}

impl Server {
    fn parse(url: &str, secure: bool) -> Result<Self, String> {
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
fn without_login(url: &str) -> String {
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

/// Five letters that no other consumer is likely to have.
fn random_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = RandomState::new().hash_one(Arc::as_ptr(&Arc::new(())) as usize);
    (0..5)
        .map(|_| {
            let letter = LETTERS[(random % 36) as usize];
            random /= 36;
            char::from(letter)
        })
        .collect()
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

    fn refused(change: impl FnOnce(&mut MqttConsumerOptions)) -> String {
        let mut options = MqttConsumerOptions::default();
        change(&mut options);
        Settings::new(options, TlsClientOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn values_that_cannot_be_used() {
        assert!(refused(|o| o.servers.clear()).contains("`servers`"));
        assert!(refused(|o| o.qos = 3).contains("`qos`: 3"));
        assert!(refused(|o| o.max_undelivered_messages = Some(0)).contains("`max_undelivered_messages`: 0"));
        assert!(refused(|o| o.persistent_session = true).contains("`client_id`"));
        assert!(refused(|o| o.topics.push("a/#/b".into())).contains("a/#/b"));
        assert!(refused(|o| o.connection_timeout = config::Duration::from_nanos(1)).contains("`connection_timeout`"));
    }

    #[test]
    fn each_consumer_has_a_name_of_its_own() {
        let id = || Settings::new(MqttConsumerOptions::default(), TlsClientOptions::default()).unwrap().client_id;
        assert_ne!(id(), id());
    }
}
