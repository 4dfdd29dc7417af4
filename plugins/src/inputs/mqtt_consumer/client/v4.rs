//! MQTT 3.1.1.

use std::time::Duration;

use bytes::Bytes;
use heliograph_core::error::BoxError;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, MqttOptions, Outgoing, Packet, PubAck, PubRec, Publish,
    QoS, StateError, SubscribeFilter, SubscribeReasonCode, Transport,
};

use super::super::acks::Acks;
use super::super::config::Settings;
use super::super::legacy::accepts_3_1;
use super::super::server::Server;
use super::{Connected, Event, Failure, MAX_PACKET, Message, REQUESTS};

pub struct Client {
    pub events: EventLoop,
    requests: AsyncClient,
    /// The broker has released a message that was received earlier.
    releases: bool,
}

impl Client {
    pub fn new(settings: &Settings, server: &Server, id: &str) -> Result<(Self, AsyncClient), BoxError> {
        let (requests, events) = AsyncClient::new(options(settings, server, id)?, REQUESTS);
        Ok((Self { events, requests: requests.clone(), releases: settings.keeps_releases() }, requests))
    }

    pub fn aim(&mut self, settings: &Settings, server: &Server, id: &str, patience: Duration) -> Result<(), BoxError> {
        self.events.clean();
        self.events.pending.clear();
        self.events.state.events.clear();
        if self.releases {
            self.expect_releases();
        }
        self.events.mqtt_options = options(settings, server, id)?;
        self.events.network_options.set_connection_timeout(patience.as_secs_f64().ceil() as u64);
        // With a session acknowledgements go out in groups, and the broker waits for them. Else the library writes one or a
        // few at a time, which the system had better put together.
        self.events.network_options.set_tcp_nodelay(settings.options.persistent_session);
        Ok(())
    }

    pub async fn poll(&mut self) -> Result<Event, Failure> {
        match self.events.poll().await {
            Ok(event) => Ok(convert(event)),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub fn buffered(&mut self) -> Option<Result<Event, Failure>> {
        self.events.state.events.pop_front().map(|event| Ok(convert(event)))
    }

    pub fn keepalive(&self) -> Option<Duration> {
        Some(self.events.mqtt_options.keep_alive()).filter(|keepalive| !keepalive.is_zero())
    }

    pub fn subscribe(&mut self, settings: &Settings) -> Result<(), BoxError> {
        let filters = settings.filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), settings.qos));
        Ok(self.requests.try_subscribe_many(filters)?)
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), BoxError> {
        Ok(self.requests.try_unsubscribe(filter)?)
    }

    pub async fn takes_only_3_1(&mut self, patience: Duration) -> bool {
        let options = &self.events.mqtt_options;
        if !matches!(options.transport(), Transport::Tcp) {
            return false;
        }
        let (host, port) = options.broker_address();
        let (clean, keepalive) = (options.clean_session(), options.keep_alive());
        let address = format!("{host}:{port}");
        accepts_3_1(&address, &options.client_id(), options.credentials(), clean, keepalive, patience).await
    }

    /// Sends all acknowledgements that are due, with one write to the socket for about a thousand.
    pub async fn acknowledge(&mut self, acks: &Acks) -> Result<(), Failure> {
        let Some(network) = &mut self.events.network else { return Ok(()) };
        let write = async {
            while let Some(ack) = acks.next() {
                let packet = match ack.qos {
                    QoS::ExactlyOnce => Packet::PubRec(PubRec::new(ack.packet)),
                    _ => Packet::PubAck(PubAck::new(ack.packet)),
                };
                network.write(packet).await?;
            }
            network.flush().await
        };
        let written: Result<(), StateError> = write.await;
        written.map_err(|error| self.failed(ConnectionError::MqttState(error)))
    }

    fn failed(&mut self, error: ConnectionError) -> Failure {
        match error {
            ConnectionError::RequestsDone => Failure::Ended,
            ConnectionError::ConnectionRefused(code) => Failure::Refused(refusal(code).into()),
            ConnectionError::MqttState(StateError::Unsolicited(_)) => {
                self.releases = true;
                Failure::Lost("the broker releases a message of an earlier session; connecting again".into())
            }
            ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
                Failure::Lost(error.into())
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => Failure::Lost("closed by the broker".into()),
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Failure::Lost("pingresp not received, disconnecting".into())
            }
            ConnectionError::NetworkTimeout => Failure::Lost("no answer in time".into()),
            other => Failure::Lost(other.into()),
        }
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
    let mut publish = Publish::new("", qos, Vec::new());
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
    options
        .set_keep_alive(settings.keepalive)
        .set_clean_session(!settings.options.persistent_session)
        .set_manual_acks(settings.options.persistent_session)
        .set_max_packet_size(MAX_PACKET as usize, MAX_PACKET as usize);
    Ok(options)
}

fn convert(event: rumqttc::Event) -> Event {
    match event {
        rumqttc::Event::Incoming(Packet::Publish(publish)) => Event::Message(Message {
            // No copy: the library's text is as long as its memory.
            topic: Bytes::from(publish.topic),
            payload: publish.payload,
            packet: publish.pkid,
            qos: publish.qos,
            retain: publish.retain,
            properties: None,
        }),
        rumqttc::Event::Incoming(Packet::ConnAck(ack)) => {
            Event::Connected(Box::new(Connected { session: ack.session_present, ..Connected::default() }))
        }
        rumqttc::Event::Incoming(Packet::SubAck(ack)) => {
            let granted = |code| match code {
                SubscribeReasonCode::Success(qos) => Ok(qos),
                SubscribeReasonCode::Failure => Err("failure (0x80)".into()),
            };
            Event::Granted(ack.return_codes.into_iter().map(granted).collect(), None)
        }
        rumqttc::Event::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed(None),
        rumqttc::Event::Incoming(Packet::PingResp) => Event::PingAnswered,
        rumqttc::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => Event::Acknowledged,
        rumqttc::Event::Outgoing(Outgoing::PingReq) => Event::PingSent,
        rumqttc::Event::Outgoing(Outgoing::Disconnect) => Event::Goodbye,
        _ => Event::Other,
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "connection accepted",
        ConnectReturnCode::RefusedProtocolVersion => "the broker refuses: unacceptable protocol version (1)",
        ConnectReturnCode::BadClientId => "the broker refuses: identifier rejected (2); check `client_id`",
        ConnectReturnCode::ServiceUnavailable => "the broker refuses: server unavailable (3)",
        ConnectReturnCode::BadUserNamePassword => "the broker refuses: bad user name or password (4)",
        ConnectReturnCode::NotAuthorized => "the broker refuses: not authorized (5)",
    }
}
