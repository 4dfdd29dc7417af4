//! The connection to the broker: a task of its own, since the client's poll loop must not be cancelled.
//!
//! It hands messages on in lots, so that a flood costs one wake-up per some hundred messages, and never waits for an
//! acknowledgement: it sends those that are due when it is told that there are any.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Outgoing, Packet, PubAck, PubRec, Publish, QoS,
    StateError, SubAck, SubscribeFilter, SubscribeReasonCode, Transport,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::acks::Acks;
use super::config::Settings;
use super::legacy::accepts_3_1;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::stats::Count;
use heliograph_core::throttle::Throttle;

/// Messages that arrived together, on one connection.
#[derive(Debug)]
pub struct Lot {
    /// Number of the connection, as in [`Acks::epoch`].
    pub epoch: u64,
    pub messages: Vec<Publish>,
}

/// Messages in a lot at the most.
pub const LOT: usize = 256;
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(1);
/// Room for requests to the client, acknowledgements above all.
const REQUESTS: usize = 1024;

/// The connection task's state.
pub struct Connection {
    settings: Arc<Settings>,
    client: AsyncClient,
    events: EventLoop,
    lots: mpsc::Sender<Lot>,
    acks: Arc<Acks>,
    lot: Vec<Publish>,
    /// When the answer to a ping must be here.
    ping_due: Option<Instant>,
    plugin: Arc<str>,
    dropped: Throttle,
    /// Messages that the agent was too slow for.
    overload: Count,
}

/// Why a connection ended.
enum End {
    Stopped,
    Lost(BoxError),
}

impl Connection {
    /// Connects for the first time: every server once, in order.
    pub async fn first(
        settings: Arc<Settings>,
        plugin: Arc<str>,
        lots: mpsc::Sender<Lot>,
        acks: Arc<Acks>,
        overload: Count,
    ) -> Result<(Self, AsyncClient), StartError> {
        let options = settings.client_options(&settings.servers[0]).map_err(StartError::Fatal)?;
        let (client, events) = AsyncClient::new(options, REQUESTS);
        let mut connection = Self {
            settings,
            client: client.clone(),
            events,
            lots,
            acks,
            lot: Vec::new(),
            ping_due: None,
            plugin,
            dropped: Throttle::new(),
            overload,
        };
        connection.connect().await?;
        Ok((connection, client))
    }

    /// Tries every server once. The error is that of the last one.
    async fn connect(&mut self) -> Result<(), StartError> {
        let settings = self.settings.clone();
        let mut last = None;
        for server in &settings.servers {
            let failed =
                |error: BoxError| -> BoxError { format!("cannot connect to {:?}: {error}", server.shown).into() };
            match settings.client_options(server) {
                Ok(options) => self.events.mqtt_options = options,
                Err(error) => {
                    last = Some(StartError::Fatal(failed(error)));
                    continue;
                }
            }
            let patience = settings.options.connection_timeout.to_std();
            self.events.network_options.set_connection_timeout(patience.as_secs_f64().ceil() as u64);
            match timeout(patience, self.events.poll()).await {
                Ok(Ok(Event::Incoming(Packet::ConnAck(ack)))) => {
                    tracing::info!(
                        plugin = &*self.plugin,
                        server = server.shown,
                        session = ack.session_present,
                        "Connected"
                    );
                    self.connected();
                    return Ok(());
                }
                Ok(Ok(other)) => last = Some(StartError::Retry(failed(format!("unexpected {other:?}").into()))),
                Ok(Err(ConnectionError::ConnectionRefused(code))) => {
                    let why = match self.takes_only_3_1(patience).await {
                        true => "the broker takes MQTT 3.1 only, which is not supported; it has to learn 3.1.1",
                        false => refusal(code),
                    };
                    last = Some(StartError::Fatal(failed(why.into())));
                }
                Ok(Err(error)) => last = Some(StartError::Retry(failed(describe(error)))),
                Err(_) => {
                    self.events.clean();
                    last = Some(StartError::Retry(failed(format!("no answer within {patience:?}").into())));
                }
            }
        }
        Err(last.expect("there is at least one server, checked in Settings::new"))
    }

    /// Asked once, before the first connection succeeds.
    async fn takes_only_3_1(&mut self, patience: Duration) -> bool {
        let options = &self.events.mqtt_options;
        if self.acks.epoch() > 0 || !matches!(options.transport(), Transport::Tcp) {
            return false;
        }
        let (host, port) = options.broker_address();
        let address = format!("{host}:{port}");
        let (clean, keep_alive) = (options.clean_session(), options.keep_alive());
        accepts_3_1(&address, &options.client_id(), options.credentials(), clean, keep_alive, patience).await
    }

    /// What every new connection begins with.
    fn connected(&mut self) {
        self.acks.connected();
        self.ping_due = None;
        let filters = self.settings.options.topics.iter();
        let filters: Vec<_> = filters.map(|topic| SubscribeFilter::new(topic.clone(), self.settings.qos)).collect();
        if filters.is_empty() {
            tracing::warn!(plugin = &*self.plugin, "no `topics` configured, nothing will arrive");
        } else if let Err(error) = self.client.try_subscribe_many(filters) {
            tracing::error!(plugin = &*self.plugin, error = %error, "cannot subscribe");
        }
    }

    /// Receives until the client is told to disconnect or the handler is gone; then hands on what has arrived.
    pub async fn run(mut self) {
        self.receive_and_reconnect().await;
        self.hand_on().await;
    }

    async fn receive_and_reconnect(&mut self) {
        loop {
            let connected = Instant::now();
            match self.receive().await {
                End::Stopped => return,
                End::Lost(error) => {
                    tracing::error!(plugin = &*self.plugin, error = %error, "connection lost");
                }
            }
            let mut pause = if connected.elapsed() < SHORT_LIVED { Duration::from_secs(1) } else { Duration::ZERO };
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.lots.closed() => return,
                }
                match self.connect().await {
                    Ok(()) => break,
                    Err(error) => {
                        let longest = self.settings.options.max_reconnect_interval.to_std();
                        pause = (pause * 2).clamp(Duration::from_secs(1), longest.max(Duration::from_secs(1)));
                        tracing::warn!(plugin = &*self.plugin, error = %error.cause(), retry_in = ?pause, "cannot reconnect");
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> End {
        loop {
            let outcome = match self.next_event().await {
                Ok(event) => self.take(event).await,
                Err(end) => Err(end),
            };
            let outcome = match outcome {
                Ok(()) => self.take_further().await,
                Err(end) => Err(end),
            };
            match outcome {
                Ok(()) => {}
                Err(End::Stopped) => return End::Stopped,
                Err(End::Lost(error)) => {
                    return if self.hand_on().await { End::Lost(error) } else { End::Stopped };
                }
            }
        }
    }

    /// The client reads several packets at a time; what it holds already needs no poll.
    async fn take_further(&mut self) -> Result<(), End> {
        while let Some(event) = self.events.state.events.pop_front() {
            self.take(event).await?;
        }
        Ok(())
    }

    /// The next event; before sleeping for it, what has arrived is handed on.
    async fn next_event(&mut self) -> Result<Event, End> {
        let Self { events, lot, lots, acks, ping_due, .. } = self;
        let outcome = {
            let mut next = std::pin::pin!(events.poll());
            match poll!(&mut next) {
                std::task::Poll::Ready(outcome) => Ok(outcome),
                std::task::Poll::Pending => {
                    // A full channel is not waited for here, or pings would stop: the lot just grows until it is.
                    if !lot.is_empty()
                        && let Ok(place) = lots.try_reserve()
                    {
                        place.send(Lot { epoch: acks.epoch(), messages: std::mem::take(lot) });
                    }
                    let pending = !lot.is_empty();
                    let ping = ping_due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
                    loop {
                        tokio::select! {
                            outcome = &mut next => break Ok(outcome),
                            () = tokio::time::sleep_until(ping), if ping_due.is_some() => break Err(()),
                            place = lots.reserve(), if pending && !lot.is_empty() => match place {
                                Ok(place) => place.send(Lot { epoch: acks.epoch(), messages: std::mem::take(lot) }),
                                Err(_) => return Err(End::Stopped),
                            },
                            () = lots.closed(), if lot.is_empty() => return Err(End::Stopped),
                        }
                    }
                }
            }
        };
        match outcome {
            Ok(Ok(event)) => Ok(event),
            Ok(Err(ConnectionError::RequestsDone)) => Err(End::Stopped),
            Ok(Err(error)) => {
                self.recover(&error);
                Err(End::Lost(describe(error)))
            }
            Err(()) => {
                self.events.clean();
                Err(End::Lost("pingresp not received, disconnecting".into()))
            }
        }
    }

    /// A broker whose session is older than this process releases QoS 2 messages that the client knows nothing of, and
    /// the client gives up on each of them. It is told of them, so that the next connection gets past.
    fn recover(&mut self, error: &ConnectionError) {
        if let ConnectionError::MqttState(StateError::Unsolicited(packet)) = error {
            let mut known = Publish::new("", QoS::ExactlyOnce, Vec::new());
            known.pkid = *packet;
            // It only marks the packet as received; with manual acknowledgements nothing is sent.
            drop(self.events.state.handle_incoming_packet(Packet::Publish(known)));
        }
        self.events.state.events.clear();
    }

    /// Deals with an event.
    async fn take(&mut self, event: Event) -> Result<(), End> {
        if self.settings.options.client_trace {
            tracing::debug!(plugin = &*self.plugin, event = ?event, "client event");
        }
        match event {
            Event::Incoming(Packet::Publish(publish)) => {
                self.lot.push(publish);
                if self.lot.len() >= LOT && !self.hand_on().await {
                    return Err(End::Stopped);
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => self.granted(&ack),
            Event::Incoming(Packet::PingResp) => self.ping_due = None,
            Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) if self.settings.options.persistent_session => {
                self.acknowledge().await.map_err(End::Lost)?;
            }
            Event::Outgoing(Outgoing::PingReq) => {
                let patience = self.settings.options.ping_timeout.positive();
                self.ping_due = patience.map(|patience| Instant::now() + patience);
            }
            Event::Outgoing(Outgoing::Disconnect) => return Err(End::Stopped),
            _ => {}
        }
        Ok(())
    }

    /// Sends what else is to be acknowledged, with one write to the socket for about a thousand.
    async fn acknowledge(&mut self) -> Result<(), BoxError> {
        let Self { events, acks, settings, .. } = self;
        let Some(network) = &mut events.network else { return Ok(()) };
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
        match timeout(settings.options.connection_timeout.to_std(), write).await {
            Ok(Ok(())) => Ok(()),
            outcome => {
                self.events.clean();
                match outcome {
                    Ok(Err(error)) => Err(describe(ConnectionError::MqttState(error))),
                    _ => Err("the broker takes no acknowledgements".into()),
                }
            }
        }
    }

    fn granted(&self, ack: &SubAck) {
        for (code, filter) in ack.return_codes.iter().zip(&self.settings.options.topics) {
            match code {
                SubscribeReasonCode::Failure => {
                    tracing::error!(
                        plugin = &*self.plugin,
                        filter,
                        "the broker refuses the subscription; nothing will arrive for it"
                    );
                }
                SubscribeReasonCode::Success(granted) if *granted != self.settings.qos => {
                    tracing::warn!(plugin = &*self.plugin, filter, granted = ?granted, "the broker grants a lower quality of service");
                }
                SubscribeReasonCode::Success(_) => {}
            }
        }
    }

    /// Hands what has arrived to the handler; `false` if that is gone.
    ///
    /// While the handler is busy this waits, and with it the reading of the socket: the broker is slowed down. It does not
    /// wait longer than the connection can stand without a ping; messages of QoS 0 that find no room then are dropped and
    /// counted in the log, those of QoS 1 and 2 are bounded by the broker's own window.
    async fn hand_on(&mut self) -> bool {
        if self.lot.is_empty() {
            return !self.lots.is_closed();
        }
        let keepalive = self.settings.options.keepalive.positive();
        let patience = keepalive.map_or(Duration::from_secs(3600), |keepalive| keepalive / 2);
        match timeout(patience, self.lots.reserve()).await {
            Ok(Ok(place)) => {
                let messages = std::mem::replace(&mut self.lot, Vec::with_capacity(LOT));
                place.send(Lot { epoch: self.acks.epoch(), messages });
                true
            }
            Ok(Err(_)) => false,
            Err(_) => {
                let before = self.lot.len();
                self.lot.retain(|message| message.qos != QoS::AtMostOnce);
                let count = before - self.lot.len();
                self.overload.add(count);
                if count > 0
                    && let Some(suppressed) = self.dropped.admit()
                {
                    tracing::error!(
                        plugin = &*self.plugin,
                        count,
                        suppressed,
                        "messages of QoS 0 dropped: the agent does not keep up"
                    );
                }
                true
            }
        }
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "connection accepted",
        ConnectReturnCode::RefusedProtocolVersion => "the broker refuses: unacceptable protocol version",
        ConnectReturnCode::BadClientId => "the broker refuses: identifier rejected; check `client_id`",
        ConnectReturnCode::ServiceUnavailable => "the broker refuses: server unavailable",
        ConnectReturnCode::BadUserNamePassword => "the broker refuses: bad user name or password",
        ConnectReturnCode::NotAuthorized => "the broker refuses: not authorized",
    }
}

/// The client prints some causes as debug structures; this is what an operator can read.
fn describe(error: ConnectionError) -> BoxError {
    match error {
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => error.into(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "closed by the broker".into(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => "pingresp not received, disconnecting".into(),
        ConnectionError::NetworkTimeout => "no answer in time".into(),
        other => other.into(),
    }
}
