//! MQTT 5.

use std::time::Duration;

use bytes::Bytes;
use heliograph_core::error::BoxError;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions, StateError};

use super::super::acks::Acks;
use super::super::config::{Retained, Settings};
use super::super::server::Server;
use super::alias::Aliases;
use super::reason::{of_connect, of_disconnect, of_subscribe, of_unsubscribe};
use super::{Connected, Event, Failure, MAX_PACKET, Message, Properties, REQUESTS, Terms};
use rumqttc::QoS;

/// The library's table of outgoing packets. Nothing is published, and one request of SUBSCRIBE and UNSUBSCRIBE is under way
/// at a time, so one place is enough. With more, a broker that lowers its receive maximum later would let the library
/// count its packets past the end.
const OUTGOING: u16 = 1;
/// Shortest keepalive that the library takes.
pub const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(5);
/// In the place of pings that the broker does not want: the library cannot do without.
const RARELY: Duration = Duration::from_secs(86_400);

pub struct Client {
    pub events: EventLoop,
    requests: AsyncClient,
    /// The broker has released a message that was received earlier.
    releases: bool,
    aliases: Aliases,
    alias_maximum: u16,
    /// Somebody looks at properties.
    keeps_properties: bool,
    keepalive: Option<Duration>,
}

impl Client {
    pub fn new(settings: &Settings, server: &Server, id: &str) -> Result<(Self, AsyncClient), BoxError> {
        let (requests, events) = AsyncClient::new(options(settings, server, id)?, REQUESTS);
        let alias_maximum = settings.options.topic_alias_maximum;
        let client = Self {
            events,
            requests: requests.clone(),
            releases: settings.keeps_releases(),
            aliases: Aliases::new(alias_maximum),
            alias_maximum,
            keeps_properties: settings.properties.is_some(),
            keepalive: Some(settings.keepalive),
        };
        Ok((client, requests))
    }

    pub fn aim(&mut self, settings: &Settings, server: &Server, id: &str, patience: Duration) -> Result<(), BoxError> {
        self.events.clean();
        self.events.pending.clear();
        self.events.state.events.clear();
        if self.releases {
            self.expect_releases();
        }
        self.aliases = Aliases::new(self.alias_maximum);
        let mut options = options(settings, server, id)?;
        let patience = patience.as_secs_f64().ceil() as u64;
        let mut network = options.network_options();
        network.set_connection_timeout(patience);
        options.set_connection_timeout(patience).set_network_options(network);
        self.events.options = options;
        Ok(())
    }

    pub async fn poll(&mut self) -> Result<Event, Failure> {
        match self.events.poll().await {
            Ok(event) => self.convert(event),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub fn buffered(&mut self) -> Option<Result<Event, Failure>> {
        let event = self.events.state.events.pop_front()?;
        Some(self.convert(event))
    }

    pub fn keepalive(&self) -> Option<Duration> {
        self.keepalive
    }

    pub fn subscribe(&mut self, settings: &Settings) -> Result<(), BoxError> {
        let qos = to_v5(settings.qos);
        let persistent = settings.options.persistent_session;
        let filters = settings.filters.iter().map(|path| Filter {
            path: path.clone(),
            qos,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: match settings.options.retained {
                Retained::Drop => RetainForwardRule::Never,
                // The session has kept what came meanwhile.
                _ if persistent && settings.qos != QoS::AtMostOnce => RetainForwardRule::OnNewSubscribe,
                _ => RetainForwardRule::OnEverySubscribe,
            },
        });
        Ok(self.requests.try_subscribe_many(filters)?)
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), BoxError> {
        Ok(self.requests.try_unsubscribe(filter)?)
    }

    /// Asks for the next acknowledgement that is due. The library writes each on its own.
    pub fn acknowledge(&mut self, acks: &Acks) -> Result<(), Failure> {
        let Some(next) = acks.next() else { return Ok(()) };
        let asked = self.requests.try_ack(&received(next.packet, next.qos));
        asked.map_err(|_| Failure::Lost("the client takes no acknowledgements".into()))
    }

    fn convert(&mut self, event: rumqttc::v5::Event) -> Result<Event, Failure> {
        use rumqttc::v5::Event::{Incoming, Outgoing as Sent};
        Ok(match event {
            Incoming(Packet::Publish(publish)) => Event::Message(self.message(publish)?),
            Incoming(Packet::ConnAck(ack)) => {
                self.keepalive = Some(self.events.options.keep_alive()).filter(|keepalive| !keepalive.is_zero());
                if self.keepalive.is_none() {
                    // Or the library would send one ping after the other.
                    self.events.options.set_keep_alive(RARELY);
                }
                Event::Connected(Box::new(connected(ack)))
            }
            Incoming(Packet::SubAck(ack)) => {
                let granted = |code| match code {
                    SubscribeReasonCode::Success(qos) => Ok(to_v4(qos)),
                    refused => Err(of_subscribe(refused)),
                };
                let reason = ack.properties.and_then(|properties| properties.reason_string);
                Event::Granted(ack.return_codes.into_iter().map(granted).collect(), reason)
            }
            Incoming(Packet::UnsubAck(ack)) => Event::Unsubscribed(ack.reasons.into_iter().find_map(of_unsubscribe)),
            Incoming(Packet::PingResp(_)) => Event::PingAnswered,
            Sent(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => Event::Acknowledged,
            Sent(Outgoing::PingReq) => Event::PingSent,
            Sent(Outgoing::Disconnect) => Event::Goodbye,
            _ => Event::Other,
        })
    }

    fn message(&mut self, publish: Publish) -> Result<Message, Failure> {
        let Publish { qos, retain, topic, pkid, payload, properties, .. } = publish;
        let alias = properties.as_ref().and_then(|properties| properties.topic_alias);
        let topic = self.aliases.resolve(alias, topic).map_err(|error| Failure::Lost(error.into()))?;
        let properties = properties.filter(|_| self.keeps_properties).and_then(|properties| {
            let (user, expiry) = (properties.user_properties, properties.message_expiry_interval);
            (!user.is_empty() || expiry.is_some()).then(|| Box::new(Properties { user, expiry }))
        });
        Ok(Message { topic, payload, packet: pkid, qos: to_v4(qos), retain, properties })
    }

    fn failed(&mut self, error: ConnectionError) -> Failure {
        Failure::Lost(match error {
            ConnectionError::RequestsDone => return Failure::Ended,
            ConnectionError::ConnectionRefused(code) => return Failure::Refused(of_connect(code)),
            ConnectionError::MqttState(StateError::Unsolicited(_)) => {
                self.releases = true;
                "the broker releases a message of an earlier session; connecting again".into()
            }
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
                of_disconnect(reason_code, reason_string.as_deref()).into()
            }
            ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => error.into(),
            ConnectionError::MqttState(StateError::ConnectionAborted) => "closed by the broker".into(),
            ConnectionError::MqttState(StateError::AwaitPingResp) => "pingresp not received, disconnecting".into(),
            ConnectionError::Timeout(_) => "no answer in time".into(),
            other => other.into(),
        })
    }

    /// A broker that has kept the session releases QoS 2 messages that the client knows nothing of, since it forgets them
    /// with the connection, or was another process; it gives up on each of them. It is made to expect all there can be.
    fn expect_releases(&mut self) {
        for packet in 1..=u16::MAX {
            // It only marks the packet as received: what it would send is not sent.
            drop(self.events.state.handle_incoming_packet(Packet::Publish(received(packet, QoS::ExactlyOnce))));
            self.events.state.events.clear();
        }
    }
}

/// What an acknowledgement needs to know of a message.
pub fn received(packet: u16, qos: QoS) -> Publish {
    let mut publish = Publish::new("-", to_v5(qos), Bytes::new(), None);
    publish.pkid = packet;
    publish
}

fn options(settings: &Settings, server: &Server, id: &str) -> Result<MqttOptions, BoxError> {
    let (host, port) = server.host_port();
    let mut options = MqttOptions::new(id, host, port);
    options.set_transport(server.transport(&settings.tls)?);
    if let Some((user, password)) = settings.login(server)? {
        options.set_credentials(user, password);
    }
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = settings.session_expiry;
    properties.receive_maximum = settings.window;
    properties.max_packet_size = Some(MAX_PACKET);
    properties.topic_alias_max = Some(settings.options.topic_alias_maximum).filter(|&maximum| maximum > 0);
    options
        .set_keep_alive(settings.keepalive)
        .set_clean_start(!settings.options.persistent_session)
        .set_manual_acks(settings.options.persistent_session)
        .set_outgoing_inflight_upper_limit(OUTGOING)
        .set_connect_properties(properties);
    Ok(options)
}

fn connected(ack: ConnAck) -> Connected {
    let terms = ack.properties.map_or_else(Terms::default, |terms| Terms {
        max_qos: terms.max_qos,
        no_shared: terms.shared_subscription_available == Some(0),
        no_wildcards: terms.wildcard_subscription_available == Some(0),
        session_expiry: terms.session_expiry_interval,
        reason: terms.reason_string,
    });
    Connected { session: ack.session_present, terms }
}

fn to_v5(qos: QoS) -> QoS5 {
    match qos {
        QoS::AtMostOnce => QoS5::AtMostOnce,
        QoS::AtLeastOnce => QoS5::AtLeastOnce,
        QoS::ExactlyOnce => QoS5::ExactlyOnce,
    }
}

fn to_v4(qos: QoS5) -> QoS {
    match qos {
        QoS5::AtMostOnce => QoS::AtMostOnce,
        QoS5::AtLeastOnce => QoS::AtLeastOnce,
        QoS5::ExactlyOnce => QoS::ExactlyOnce,
    }
}
