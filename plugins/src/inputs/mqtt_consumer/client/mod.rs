//! The client library behind one face: MQTT 3.1.1 and MQTT 5 differ in their types, not in what a connection does.

mod alias;
mod reason;
mod v4;
mod v5;

use std::time::Duration;

use bytes::Bytes;
use heliograph_core::error::BoxError;
use rumqttc::QoS;

pub use self::v5::SHORTEST_KEEPALIVE;
use super::acks::{Ack, Acks};
use super::config::{Protocol, Settings};
use super::server::Server;

/// Room for requests to the client, acknowledgements above all.
const REQUESTS: usize = 1024;
/// Largest packet the protocol knows: no payload is refused for its size.
const MAX_PACKET: u32 = 268_435_455 + 5;

/// A message, whatever the protocol. It is moved, never copied: the topic is the text or the bytes that were read.
pub struct Message {
    pub topic: Bytes,
    pub payload: Bytes,
    /// Packet identifier; 0 with QoS 0.
    pub packet: u16,
    pub qos: QoS,
    pub retain: bool,
    /// Only from MQTT 5, and only if there are some that are asked for.
    pub properties: Option<Box<Properties>>,
}

/// What the input uses of a message's properties.
#[derive(Debug, Default)]
pub struct Properties {
    /// In the order of the packet; names may repeat.
    pub user: Vec<(String, String)>,
    /// Seconds until the message expires.
    pub expiry: Option<u32>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    Connected(Box<Connected>),
    Message(Message),
    /// For each filter, in the order of the request: what was granted, or why nothing was.
    Granted(Vec<Result<QoS, String>>, Option<String>),
    /// Why the filter stays, if it does.
    Unsubscribed(Option<String>),
    /// An acknowledgement that was asked for has been sent.
    Acknowledged,
    PingSent,
    PingAnswered,
    /// The client was told to say goodbye, and has.
    Goodbye,
    Other,
}

/// A broker that has let the client in.
#[derive(Debug, Default)]
pub struct Connected {
    /// Whether it has kept the session.
    pub session: bool,
    pub terms: Terms,
}

/// What a broker of MQTT 5 says about itself.
#[derive(Debug, Default)]
pub struct Terms {
    pub max_qos: Option<u8>,
    pub no_shared: bool,
    pub no_wildcards: bool,
    /// Seconds for which it keeps the session, where it overrules the client.
    pub session_expiry: Option<u32>,
    pub reason: Option<String>,
}

/// Why there is no connection, or none any more.
#[derive(Debug)]
pub enum Failure {
    /// All handles for requests are gone.
    Ended,
    /// The broker does not let the client in.
    Refused(String),
    Lost(BoxError),
}

/// The connection's end of the library.
pub enum Client {
    V4(Box<v4::Client>),
    V5(Box<v5::Client>),
}

/// A handle for what other tasks ask the client to do.
#[derive(Clone)]
pub enum Requests {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

macro_rules! each {
    ($self:ident, $client:ident => $do:expr) => {
        match $self {
            Self::V4($client) => $do,
            Self::V5($client) => $do,
        }
    };
}

impl Client {
    /// A client that is not connected. `id` is its name towards the broker.
    pub fn new(settings: &Settings, id: &str) -> Result<(Self, Requests), BoxError> {
        let server = &settings.servers[0];
        Ok(match settings.protocol {
            Protocol::V3_1_1 => {
                let (client, requests) = v4::Client::new(settings, server, id)?;
                (Self::V4(Box::new(client)), Requests::V4(requests))
            }
            Protocol::V5 => {
                let (client, requests) = v5::Client::new(settings, server, id)?;
                (Self::V5(Box::new(client)), Requests::V5(requests))
            }
        })
    }

    /// Makes the next poll connect to this server. What was meant for an earlier connection is forgotten: its packet
    /// identifiers mean nothing any more. Secrets and certificates are read anew, since they rotate.
    pub fn aim(&mut self, settings: &Settings, server: &Server, id: &str, patience: Duration) -> Result<(), BoxError> {
        each!(self, client => client.aim(settings, server, id, patience))
    }

    /// The next event. Must not be cancelled but to give the connection up.
    pub async fn poll(&mut self) -> Result<Event, Failure> {
        each!(self, client => client.poll().await)
    }

    /// An event that the library holds already: it reads several packets at a time.
    pub fn buffered(&mut self) -> Option<Result<Event, Failure>> {
        each!(self, client => client.buffered())
    }

    /// Silence after which this connection sends pings, as agreed with the broker.
    pub fn keepalive(&self) -> Option<Duration> {
        each!(self, client => client.keepalive())
    }

    /// Asks for all filters; the answer is [`Event::Granted`].
    pub fn subscribe(&mut self, settings: &Settings) -> Result<(), BoxError> {
        each!(self, client => client.subscribe(settings))
    }

    /// Gives a filter back; the answer is [`Event::Unsubscribed`], and only then may the next one follow.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), BoxError> {
        each!(self, client => client.unsubscribe(filter))
    }

    /// Sends what else is to be acknowledged, after one was. Must not be cancelled but to give the connection up.
    pub async fn acknowledge(&mut self, acks: &Acks) -> Result<(), Failure> {
        match self {
            Self::V4(client) => client.acknowledge(acks).await,
            Self::V5(client) => client.acknowledge(acks),
        }
    }

    /// Ends the connection without a word.
    pub fn cut(&mut self) {
        each!(self, client => client.events.clean())
    }

    /// Whether the broker that has just refused would take a client of MQTT 3.1.
    pub async fn takes_only_3_1(&mut self, patience: Duration) -> bool {
        match self {
            Self::V4(client) => client.takes_only_3_1(patience).await,
            Self::V5(_) => false,
        }
    }
}

impl Requests {
    /// Acknowledges a message; the answer is [`Event::Acknowledged`]. Fails if the client is gone.
    pub async fn acknowledge(&self, ack: Ack) -> Result<(), ()> {
        match self {
            Self::V4(requests) => requests.ack(&v4::received(ack.packet, ack.qos)).await.map_err(drop),
            Self::V5(requests) => requests.ack(&v5::received(ack.packet, ack.qos)).await.map_err(drop),
        }
    }

    /// Asks for a goodbye, if there is room to ask.
    pub fn disconnect(&self) {
        // Fails only if the connection has ended by itself, or has too much to do, and is then cut.
        match self {
            Self::V4(requests) => drop(requests.try_disconnect()),
            Self::V5(requests) => drop(requests.try_disconnect()),
        }
    }
}

impl std::fmt::Debug for Message {
    /// Without the payload, which is nobody's business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("topic", &String::from_utf8_lossy(&self.topic))
            .field("bytes", &self.payload.len())
            .field("packet", &self.packet)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}
