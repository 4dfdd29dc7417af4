//! Options of the MQTT consumer, checked.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::config::{self, SecretError};
use heliograph_core::glob::GlobError;
use heliograph_core::timestamp::TimestampError;
use rumqttc::QoS;

use super::client::SHORTEST_KEEPALIVE;
pub use super::options::{MqttConsumerOptions, Retained};
use super::properties::PropertyRules;
use super::server::{Server, without_login};
use super::topic::{TopicParsing, TopicParsingError, check_filter, shared_group};
use crate::common::tls::{TlsClientOptions, TlsError};

/// Most connections of an input.
const MAX_CONNECTIONS: usize = 64;

/// An option whose value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("option `servers`: the list is empty; name at least one broker, such as \"tcp://127.0.0.1:1883\"")]
    NoServers,
    #[error("option `servers`: cannot use {url:?}: {reason}")]
    Server { url: String, reason: String },
    #[error("option `{option}`: cannot use filter {filter:?}: {reason}")]
    Filter { option: &'static str, filter: String, reason: &'static str },
    #[error("option `qos`: {0} is none of 0, 1 and 2")]
    Qos(u8),
    #[error("option `protocol`: {0:?} is not spoken here; a broker that knows 3.1 alone has to learn \"3.1.1\"")]
    OldProtocol(String),
    #[error("option `protocol`: {0:?} is none of \"3.1.1\" and \"5\"")]
    Protocol(String),
    #[error("option `{0}` needs protocol = \"5\"")]
    OnlyV5(&'static str),
    #[error("option `connection_timeout`: {0:?} is shorter than 1s")]
    ConnectionTimeout(Duration),
    #[error("option `keepalive`: {0:?} is shorter than 5s, the least with protocol = \"5\"")]
    Keepalive(Duration),
    #[error("option `max_undelivered_messages`: {0} is less than 1")]
    MaxUndelivered(i64),
    #[error("option `persistent_session` needs a `client_id`, so that the broker knows the session again")]
    NoClientId,
    #[error("option `{0}` needs persistent_session = true")]
    OnlyPersistent(&'static str),
    #[error("option `session_expiry`: {0:?} is neither \"never\" nor a duration of at least 1s")]
    SessionExpiry(String),
    #[error(
        "option `receive_maximum`: {maximum} is more than the {connections} connections may have of max_undelivered_messages = {limit}"
    )]
    ReceiveMaximum { maximum: u16, connections: usize, limit: u64 },
    #[error("option `connections`: {0} is not between 1 and {MAX_CONNECTIONS}")]
    Connections(i64),
    #[error(
        "option `connections`: more than one need a `client_id`, from which they have their names and their shared group"
    )]
    ConnectionsWithoutName,
    #[error("option `{option}`: {group:?} cannot name a shared group, which is not empty and has none of / + #{hint}")]
    Group { option: &'static str, group: String, hint: &'static str },
    #[error("option `user_properties_as_tags`: {0}")]
    UserProperties(GlobError),
    #[error("option `user_property_timestamp_format`: {0}")]
    TimestampFormat(TimestampError),
    #[error(transparent)]
    TopicParsing(#[from] TopicParsingError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V3_1_1,
    V5,
}

/// The options, checked.
#[derive(Debug)]
pub struct Settings {
    pub options: MqttConsumerOptions,
    pub tls: TlsClientOptions,
    pub protocol: Protocol,
    pub servers: Vec<Server>,
    pub qos: QoS,
    /// What is subscribed to: the topics, in a shared group if there is one.
    pub filters: Vec<String>,
    pub topic_parsing: Vec<TopicParsing>,
    /// A name towards the broker for each connection.
    pub client_ids: Vec<String>,
    /// Messages on their way to the outputs, with a persistent session.
    pub max_undelivered: u64,
    /// Those of a connection, as a broker of MQTT 5 is told; without a persistent session nothing waits.
    pub window: Option<u16>,
    /// Whole seconds; zero sends no pings.
    pub keepalive: Duration,
    /// Seconds; only with MQTT 5.
    pub session_expiry: Option<u32>,
    /// What is made of properties, if anything is.
    pub properties: Option<PropertyRules>,
}

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
        let protocol = protocol(&options)?;
        if options.connection_timeout.to_std() < Duration::from_secs(1) {
            return Err(OptionError::ConnectionTimeout(options.connection_timeout.to_std()));
        }
        // The protocol has sixteen bits for it.
        let keepalive = Duration::from_secs(options.keepalive.to_std().as_secs().min(u64::from(u16::MAX)));
        if protocol == Protocol::V5 && keepalive < SHORTEST_KEEPALIVE {
            return Err(OptionError::Keepalive(options.keepalive.to_std()));
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
        let connections = usize::try_from(options.connections).ok().filter(|n| (1..=MAX_CONNECTIONS).contains(n));
        let connections = connections.ok_or(OptionError::Connections(options.connections))?;
        let filters = filters(&options, connections)?;
        let window = window(&options, protocol, connections, max_undelivered)?;
        let session_expiry = session_expiry(&options, protocol)?;
        let secure = tls.client_config()?.is_some();
        let parse = |url: &String| {
            Server::parse(url, secure).map_err(|reason| OptionError::Server { url: without_login(url), reason })
        };
        let servers = options.servers.iter().map(parse).collect::<Result<_, _>>()?;
        let topic_parsing = options.topic_parsing.iter().map(TopicParsing::new).collect::<Result<_, _>>()?;
        let client_ids = match (options.client_id.as_str(), connections) {
            ("", _) => vec![format!("heliograph-consumer-{}", random_name())],
            (id, 1) => vec![id.to_string()],
            (id, _) => (1..=connections).map(|number| format!("{id}-{number}")).collect(),
        };
        let properties = PropertyRules::new(&options)?;
        Ok(Self {
            options,
            tls,
            protocol,
            servers,
            qos,
            filters,
            topic_parsing,
            client_ids,
            max_undelivered,
            window,
            keepalive,
            session_expiry,
            properties,
        })
    }

    /// User and password for this server, if any. Secrets are read anew, since they rotate.
    pub fn login(&self, server: &Server) -> Result<Option<(String, String)>, SecretError> {
        if let Some(login) = server.login() {
            return Ok(Some(login.clone()));
        }
        let (user, password) = (self.options.username.resolve()?, self.options.password.resolve()?);
        let login = (user.as_str()?.to_string(), password.as_str()?.to_string());
        Ok(Some(login).filter(|(user, password)| !user.is_empty() || !password.is_empty()))
    }

    /// Whether the broker may release messages that an earlier connection has received.
    pub fn keeps_releases(&self) -> bool {
        self.options.persistent_session && self.qos == QoS::ExactlyOnce
    }
}

/// The version, and that no option of version 5 is used with another.
fn protocol(options: &MqttConsumerOptions) -> Result<Protocol, OptionError> {
    match options.protocol.as_str() {
        "5" => return Ok(Protocol::V5),
        "3.1.1" => {}
        old @ ("3" | "3.1") => return Err(OptionError::OldProtocol(old.into())),
        other => return Err(OptionError::Protocol(other.into())),
    }
    let default = MqttConsumerOptions::default();
    let used = [
        ("session_expiry", options.session_expiry != default.session_expiry),
        ("receive_maximum", options.receive_maximum != 0),
        ("topic_alias_maximum", options.topic_alias_maximum != 0),
        ("user_properties_as_tags", !options.user_properties_as_tags.is_empty()),
        ("user_property_timestamp", !options.user_property_timestamp.is_empty()),
        ("message_expiry_field", !options.message_expiry_field.is_empty()),
    ];
    match used.into_iter().find(|(_, used)| *used) {
        Some((option, _)) => Err(OptionError::OnlyV5(option)),
        None => Ok(Protocol::V3_1_1),
    }
}

/// The topics as they are subscribed to: with several connections in a shared group, so that each message comes once.
fn filters(options: &MqttConsumerOptions, connections: usize) -> Result<Vec<String>, OptionError> {
    for (option, filters) in [("topics", &options.topics), ("unsubscribe", &options.unsubscribe)] {
        for filter in filters {
            let refused = |reason| OptionError::Filter { option, filter: filter.clone(), reason };
            check_filter(filter).map_err(refused)?;
        }
    }
    if !options.unsubscribe.is_empty() && !options.persistent_session {
        return Err(OptionError::OnlyPersistent("unsubscribe"));
    }
    if connections > 1 && options.client_id.is_empty() {
        return Err(OptionError::ConnectionsWithoutName);
    }
    let (option, group, hint) = match (options.shared_group.as_str(), connections) {
        ("", 1) => return Ok(options.topics.clone()),
        ("", _) => ("client_id", &options.client_id, "; set `shared_group`"),
        _ => ("shared_group", &options.shared_group, ""),
    };
    if group.contains(['/', '+', '#', '\0']) {
        return Err(OptionError::Group { option, group: group.clone(), hint });
    }
    let in_group = |topic: &String| match shared_group(topic) {
        Some(_) => topic.clone(),
        None => format!("$share/{group}/{topic}"),
    };
    Ok(options.topics.iter().map(in_group).collect())
}

/// Messages that the broker may send on a connection without an acknowledgement.
fn window(
    options: &MqttConsumerOptions,
    protocol: Protocol,
    connections: usize,
    max_undelivered: u64,
) -> Result<Option<u16>, OptionError> {
    let share = u16::try_from((max_undelivered / connections as u64).max(1)).unwrap_or(u16::MAX);
    match (options.receive_maximum, options.persistent_session) {
        (0, true) => Ok(Some(share).filter(|_| protocol == Protocol::V5)),
        (0, false) => Ok(None),
        (_, false) => Err(OptionError::OnlyPersistent("receive_maximum")),
        (maximum, true) if maximum > share => {
            Err(OptionError::ReceiveMaximum { maximum, connections, limit: max_undelivered })
        }
        (maximum, true) => Ok(Some(maximum)),
    }
}

/// Seconds for which the broker is to keep the session; the largest number is for ever.
fn session_expiry(options: &MqttConsumerOptions, protocol: Protocol) -> Result<Option<u32>, OptionError> {
    let text = options.session_expiry.as_str();
    if text == "never" {
        return Ok(Some(u32::MAX).filter(|_| options.persistent_session && protocol == Protocol::V5));
    }
    if !options.persistent_session {
        return Err(OptionError::OnlyPersistent("session_expiry"));
    }
    let seconds = config::Duration::parse(text).ok().map(|expiry| expiry.to_std().as_secs()).filter(|&s| s > 0);
    let seconds = seconds.ok_or_else(|| OptionError::SessionExpiry(text.to_string()))?;
    Ok(Some(u32::try_from(seconds).unwrap_or(u32::MAX)))
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

    fn settings(change: impl FnOnce(&mut MqttConsumerOptions)) -> Result<Settings, OptionError> {
        let mut options = MqttConsumerOptions::default();
        change(&mut options);
        Settings::new(options, TlsClientOptions::default())
    }

    fn refused(change: impl FnOnce(&mut MqttConsumerOptions)) -> String {
        settings(change).unwrap_err().to_string()
    }

    fn persistent(options: &mut MqttConsumerOptions) {
        options.protocol = "5".into();
        options.persistent_session = true;
        options.client_id = "keeper".into();
    }

    #[test]
    fn values_that_cannot_be_used() {
        assert!(refused(|o| o.servers.clear()).contains("`servers`"));
        assert!(refused(|o| o.qos = 3).contains("`qos`: 3"));
        assert!(refused(|o| o.max_undelivered_messages = Some(0)).contains("`max_undelivered_messages`: 0"));
        assert!(refused(|o| o.persistent_session = true).contains("`client_id`"));
        assert!(refused(|o| o.topics.push("a/#/b".into())).contains("a/#/b"));
        assert!(refused(|o| o.topics.push("$share/g/".into())).contains("$share/g/"));
        assert!(refused(|o| o.connection_timeout = config::Duration::from_nanos(1)).contains("`connection_timeout`"));
        assert!(refused(|o| o.protocol = "3.1".into()).contains("has to learn \"3.1.1\""));
        assert!(refused(|o| o.protocol = "4".into()).contains("none of \"3.1.1\" and \"5\""));
        assert!(refused(|o| o.connections = 0).contains("`connections`: 0"));
        assert!(refused(|o| o.unsubscribe.push("a".into())).contains("`unsubscribe` needs persistent_session"));
    }

    #[test]
    fn options_of_version_5_need_it() {
        assert_eq!(refused(|o| o.session_expiry = "1h".into()), "option `session_expiry` needs protocol = \"5\"");
        assert!(refused(|o| o.receive_maximum = 1).contains("`receive_maximum` needs protocol"));
        assert!(refused(|o| o.topic_alias_maximum = 1).contains("`topic_alias_maximum` needs protocol"));
        assert!(refused(|o| o.user_properties_as_tags.push("x".into())).contains("`user_properties_as_tags` needs"));
        assert!(refused(|o| o.user_property_timestamp = "ts".into()).contains("`user_property_timestamp` needs"));
        assert!(refused(|o| o.message_expiry_field = "ttl".into()).contains("`message_expiry_field` needs protocol"));
    }

    #[test]
    fn what_a_broker_of_version_5_is_told() {
        let plain = settings(|o| o.protocol = "5".into()).unwrap();
        assert_eq!((plain.window, plain.session_expiry), (None, None));
        let kept = settings(persistent).unwrap();
        assert_eq!((kept.window, kept.session_expiry), (Some(1000), Some(u32::MAX)));
        let with = |change: fn(&mut MqttConsumerOptions)| {
            settings(|o| {
                persistent(o);
                change(o);
            })
        };
        assert_eq!(with(|o| o.session_expiry = "2h".into()).unwrap().session_expiry, Some(7200));
        assert_eq!(with(|o| o.session_expiry = "1000000d".into()).map(|s| s.session_expiry).ok().flatten(), None);
        assert_eq!(with(|o| o.session_expiry = "50000d".into()).unwrap().session_expiry, Some(u32::MAX));
        assert!(with(|o| o.session_expiry = "10ms".into()).unwrap_err().to_string().contains("`session_expiry`"));
        assert_eq!(with(|o| o.max_undelivered_messages = Some(100_000)).unwrap().window, Some(65_535));
        assert_eq!(with(|o| o.receive_maximum = 20).unwrap().window, Some(20));
        assert_eq!(with(|o| o.connections = 3).unwrap().window, Some(333));
        assert!(with(|o| o.receive_maximum = 1001).unwrap_err().to_string().contains("1001 is more than"));
        assert!(refused(|o| (o.protocol, o.receive_maximum) = ("5".into(), 9)).contains("needs persistent_session"));
        let short = config::Duration::from_secs(4);
        assert!(refused(|o| (o.protocol, o.keepalive) = ("5".into(), short)).contains("`keepalive`: 4s"));
    }

    #[test]
    fn several_connections_share_what_they_subscribe_to() {
        let shared = settings(|o| {
            o.topics = vec!["a/#".into(), "$share/own/b".into()];
            (o.connections, o.client_id) = (3, "plant".into());
        });
        let shared = shared.unwrap();
        assert_eq!(shared.client_ids, ["plant-1", "plant-2", "plant-3"]);
        assert_eq!(shared.filters, ["$share/plant/a/#", "$share/own/b"]);
        let one = settings(|o| (o.topics, o.shared_group) = (vec!["a".into()], "g".into())).unwrap();
        assert_eq!(one.filters, ["$share/g/a"]);
        assert!(refused(|o| o.connections = 2).contains("`client_id`"));
        assert!(refused(|o| (o.connections, o.client_id) = (2, "a/b".into())).contains("set `shared_group`"));
        assert!(refused(|o| o.shared_group = "+".into()).contains("`shared_group`: \"+\""));
    }

    #[test]
    fn each_consumer_has_a_name_of_its_own() {
        let id = || settings(|_| {}).unwrap().client_ids;
        assert_ne!(id(), id());
    }
}
