//! The options of the MQTT consumer, as they stand in the file.

use heliograph_core::config::{Duration, Secret};
use serde::Deserialize;

use super::topic::TopicParsingOptions;

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
    /// `3.1.1` or `5`.
    pub protocol: String,
    /// Time for connecting, TLS and the MQTT handshake together, and for the answer to the subscription.
    pub connection_timeout: Duration,
    /// Longest pause between two attempts to connect.
    pub max_reconnect_interval: Duration,
    /// Silence after which a ping is sent.
    pub keepalive: Duration,
    /// Time for the answer to a ping.
    pub ping_timeout: Duration,
    /// Time without a message after which the connection is made anew; zero for never.
    pub silence_timeout: Duration,
    /// Messages on their way to the outputs, with a persistent session.
    pub max_undelivered_messages: Option<i64>,
    /// Ask the broker to keep the session, and acknowledge only what is delivered.
    pub persistent_session: bool,
    /// Filters that a kept session may still have.
    pub unsubscribe: Vec<String>,
    /// Own name towards the broker; made up if empty.
    pub client_id: String,
    /// Connections, which share the topics.
    pub connections: i64,
    /// Group of topics that are not in one.
    pub shared_group: String,
    /// What becomes of retained messages.
    pub retained: Retained,
    /// User name.
    pub username: Secret,
    /// Password.
    pub password: Secret,
    /// Log what the client does, at debug level.
    pub client_trace: bool,
    /// How long the broker keeps the session: a duration or `never`.
    pub session_expiry: String,
    /// Messages that the broker may send without an acknowledgement; 0 for what `max_undelivered_messages` allows.
    pub receive_maximum: u16,
    /// Topics that the broker may replace by numbers.
    pub topic_alias_maximum: u16,
    /// Names of user properties that become tags; globs.
    pub user_properties_as_tags: Vec<String>,
    /// User property with the time.
    pub user_property_timestamp: String,
    /// How that is written.
    pub user_property_timestamp_format: String,
    /// Field for the seconds until the message expires.
    pub message_expiry_field: String,
    /// What topics say.
    pub topic_parsing: Vec<TopicParsingOptions>,
}

/// What becomes of messages that the broker had kept from before the subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retained {
    /// They are messages like others.
    #[default]
    Accept,
    /// They give no metrics.
    Drop,
    /// Their metrics have the tag `retained`.
    Tag,
}

impl Default for MqttConsumerOptions {
    fn default() -> Self {
        Self {
            servers: vec!["tcp://127.0.0.1:1883".into()],
            topics: Vec::new(),
            topic_tag: "topic".into(),
            qos: 0,
            protocol: "3.1.1".into(),
            connection_timeout: Duration::from_secs(30),
            max_reconnect_interval: Duration::from_secs(30),
            keepalive: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(10),
            silence_timeout: Duration::ZERO,
            max_undelivered_messages: None,
            persistent_session: false,
            unsubscribe: Vec::new(),
            client_id: String::new(),
            connections: 1,
            shared_group: String::new(),
            retained: Retained::Accept,
            username: Secret::default(),
            password: Secret::default(),
            client_trace: false,
            session_expiry: "never".into(),
            receive_maximum: 0,
            topic_alias_maximum: 0,
            user_properties_as_tags: Vec::new(),
            user_property_timestamp: String::new(),
            user_property_timestamp_format: "unix".into(),
            message_expiry_field: String::new(),
            topic_parsing: Vec::new(),
        }
    }
}
