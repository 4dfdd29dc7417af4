//! A connection to the broker: a task of its own, since the client's poll loop must not be cancelled.
//!
//! It hands messages on in lots, so that a flood costs one wake-up per some hundred messages, and never waits for an
//! acknowledgement: it sends those that are due when it is told that there are any.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::states::States;
use heliograph_core::stats::Count;
use heliograph_core::throttle::Throttle;
use rumqttc::QoS;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout};

use super::acknowledge::Handle;
use super::acks::Acks;
use super::client::{Client, Connected, Event, Failure, Message};
use super::config::Settings;
use super::deadline::{Deadlines, Overdue, passed};
use super::grant;
use super::session::Session;

/// Messages that arrived together, on one connection.
#[derive(Debug)]
pub struct Lot {
    /// Which connection of the input.
    pub connection: usize,
    /// Number of the connection's life, as in [`Acks::epoch`].
    pub epoch: u64,
    pub messages: Vec<Message>,
}

/// Messages in a lot at the most.
pub const LOT: usize = 256;
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// What all connections of an input have in common.
#[derive(Clone)]
pub struct Common {
    pub settings: Arc<Settings>,
    pub plugin: Arc<str>,
    pub lots: mpsc::Sender<Lot>,
    pub states: States,
    /// Messages that the agent was too slow for.
    pub overload: Count,
    /// Connections after the first.
    pub reconnects: Count,
}

/// The connection task's state.
pub struct Connection {
    common: Common,
    /// Which of the input's connections it is, from 0.
    number: usize,
    client: Client,
    session: Session,
    acks: Arc<Acks>,
    lot: Vec<Message>,
    due: Deadlines,
    /// Its silence was told, and no message has come since.
    silence_told: bool,
    /// The handler did not take the last lot in time.
    congested: bool,
    dropped: Throttle,
}

/// Why a connection ended.
enum End {
    Stopped,
    Lost(BoxError),
    /// It was given up, and why was told.
    GivenUp,
}

impl Connection {
    /// Connects for the first time: every server once, in order.
    pub async fn first(common: Common, number: usize) -> Result<(Self, Handle), StartError> {
        let id = &common.settings.client_ids[number];
        let (client, requests) = Client::new(&common.settings, id).map_err(StartError::Fatal)?;
        let session = Session::new(&common.settings, id, common.states.clone());
        let mut connection = Self {
            common,
            number,
            client,
            session,
            acks: Arc::new(Acks::default()),
            lot: Vec::new(),
            due: Deadlines::default(),
            silence_told: false,
            congested: false,
            dropped: Throttle::new(),
        };
        connection.connect().await?;
        let acks = connection.acks.clone();
        Ok((connection, Handle { requests, acks }))
    }

    /// Tries every server once. The error is that of the last one.
    async fn connect(&mut self) -> Result<(), StartError> {
        let settings = self.common.settings.clone();
        let patience = settings.options.connection_timeout.to_std();
        let id = &settings.client_ids[self.number];
        let mut last = None;
        for server in &settings.servers {
            let failed =
                |error: BoxError| -> BoxError { format!("cannot connect to {:?}: {error}", server.shown).into() };
            if let Err(error) = self.client.aim(&settings, server, id, patience) {
                last = Some(StartError::Fatal(failed(error)));
                continue;
            }
            match timeout(patience, self.client.poll()).await {
                Ok(Ok(Event::Connected(connected))) => match grant::check(&connected.terms, &settings) {
                    Ok(()) => {
                        tracing::info!(
                            plugin = &*self.common.plugin,
                            server = server.shown,
                            session = connected.session,
                            reason = connected.terms.reason,
                            "Connected"
                        );
                        grant::warn(&connected.terms, &settings, &self.common.plugin);
                        self.connected(&connected);
                        return Ok(());
                    }
                    Err(problem) => {
                        self.client.cut();
                        last = Some(StartError::Fatal(failed(problem.into())));
                    }
                },
                Ok(Ok(other)) => last = Some(StartError::Retry(failed(format!("unexpected {other:?}").into()))),
                Ok(Err(Failure::Refused(reason))) => {
                    // Asked once, before the first connection succeeds.
                    let why = match self.acks.epoch() == 0 && self.client.takes_only_3_1(patience).await {
                        true => "the broker takes MQTT 3.1 only, which is not supported; it has to learn 3.1.1".into(),
                        false => reason,
                    };
                    last = Some(StartError::Fatal(failed(why.into())));
                }
                Ok(Err(Failure::Lost(error))) => last = Some(StartError::Retry(failed(self.hint(error)))),
                Ok(Err(Failure::Ended)) => last = Some(StartError::Retry(failed("the client has ended".into()))),
                Err(_) => {
                    self.client.cut();
                    last = Some(StartError::Retry(failed(self.hint(format!("no answer within {patience:?}").into()))));
                }
            }
        }
        Err(last.expect("there is at least one server, checked in Settings::new"))
    }

    /// A broker that does not know MQTT 5 answers in a way that a client of MQTT 5 takes for none.
    fn hint(&self, error: BoxError) -> BoxError {
        match (&self.client, error.to_string()) {
            (Client::V5(_), text) if text.starts_with("closed by") || text.starts_with("no answer") => {
                format!("{text}; does it speak MQTT 5?").into()
            }
            _ => error,
        }
    }

    /// What every new connection begins with.
    fn connected(&mut self, connected: &Connected) {
        let settings = &self.common.settings;
        self.acks.turn();
        self.due = Deadlines::default();
        self.congested = false;
        self.session.begin(connected.session);
        if settings.filters.is_empty() {
            tracing::warn!(plugin = &*self.common.plugin, "no `topics` configured, nothing will arrive");
            self.give_back();
        } else if let Err(error) = self.client.subscribe(settings) {
            tracing::error!(plugin = &*self.common.plugin, error = %error, "cannot subscribe");
        } else {
            self.due.grant = Some(Instant::now() + settings.options.connection_timeout.to_std());
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
            let end = self.receive().await;
            // From now on nothing is acknowledged.
            self.acks.turn();
            match end {
                End::Stopped => return,
                End::Lost(error) => {
                    tracing::error!(plugin = &*self.common.plugin, error = %error, "connection lost");
                }
                End::GivenUp => {}
            }
            let mut pause = if connected.elapsed() < SHORT_LIVED { Duration::from_secs(1) } else { Duration::ZERO };
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.common.lots.closed() => return,
                }
                match self.connect().await {
                    Ok(()) => break,
                    Err(error) => {
                        let longest = self.common.settings.options.max_reconnect_interval.to_std();
                        pause = (pause * 2).clamp(Duration::from_secs(1), longest.max(Duration::from_secs(1)));
                        tracing::warn!(plugin = &*self.common.plugin, error = %error.cause(), retry_in = ?pause, "cannot reconnect");
                    }
                }
            }
            self.common.reconnects.increment();
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
                Err(end) => {
                    self.client.cut();
                    let end = self.salvage().unwrap_or(end);
                    return if self.hand_on().await { end } else { End::Stopped };
                }
            }
        }
    }

    /// The client reads several packets at a time; what it holds already needs no poll.
    async fn take_further(&mut self) -> Result<(), End> {
        while let Some(event) = self.client.buffered() {
            self.take(event.map_err(ended)?).await?;
        }
        Ok(())
    }

    /// Takes the messages that came right before the end of the connection, since the client may have acknowledged them.
    /// If one of them would have ended it too, that is what happened first.
    fn salvage(&mut self) -> Option<End> {
        while let Some(event) = self.client.buffered() {
            match event {
                Ok(Event::Message(message)) => self.lot.push(message),
                Ok(_) => {}
                Err(failure) => return Some(ended(failure)),
            }
        }
        None
    }

    /// The next event; before sleeping for it, what has arrived is handed on.
    async fn next_event(&mut self) -> Result<Event, End> {
        let Self { common, number, client, acks, lot, due, silence_told, congested, .. } = self;
        let Common { settings, lots, .. } = common;
        let life = client.keepalive().map(|keepalive| {
            let answer = settings.options.ping_timeout.positive();
            keepalive + answer.unwrap_or(settings.options.connection_timeout.to_std())
        });
        let mut pass = |place: mpsc::Permit<'_, Lot>, lot: &mut Vec<Message>| {
            *congested = false;
            place.send(Lot { connection: *number, epoch: acks.epoch(), messages: std::mem::take(lot) });
        };
        let outcome = {
            let mut next = std::pin::pin!(client.poll());
            match poll!(&mut next) {
                std::task::Poll::Ready(outcome) => Ok(outcome),
                std::task::Poll::Pending => {
                    if !lot.is_empty() {
                        heard(settings, due, silence_told);
                        // A full channel is not waited for here, or pings would stop: the lot just grows until it is.
                        if let Ok(place) = lots.try_reserve() {
                            pass(place, lot);
                        }
                    }
                    due.life = life.map(|life| Instant::now() + life);
                    loop {
                        tokio::select! {
                            biased;
                            outcome = &mut next => break Ok(outcome),
                            what = passed(due.first()) => match what {
                                // A broker that waits for us is silent for a good reason.
                                Overdue::Message if !lot.is_empty() || acks.len() > 0 => {
                                    due.message = silence_due(settings);
                                }
                                what => break Err(what),
                            },
                            place = lots.reserve(), if !lot.is_empty() => match place {
                                Ok(place) => pass(place, lot),
                                Err(_) => return Err(End::Stopped),
                            },
                            () = lots.closed(), if lot.is_empty() => return Err(End::Stopped),
                        }
                    }
                }
            }
        };
        match outcome {
            Ok(outcome) => outcome.map_err(ended),
            Err(what) => Err(self.overdue(what)),
        }
    }

    fn overdue(&mut self, what: Overdue) -> End {
        let options = &self.common.settings.options;
        End::Lost(match what {
            Overdue::Ping => "pingresp not received, disconnecting".into(),
            Overdue::Grant => {
                let patience = options.connection_timeout.to_std();
                format!("no answer to the subscription within {patience:?}").into()
            }
            Overdue::Life => "the connection neither sends nor receives".into(),
            Overdue::Message => {
                let silence = options.silence_timeout.to_std();
                let plugin = &*self.common.plugin;
                match std::mem::replace(&mut self.silence_told, true) {
                    false => {
                        tracing::warn!(plugin, silence = ?silence, "no message within silence_timeout, connecting again")
                    }
                    true => tracing::debug!(plugin, silence = ?silence, "still no message, connecting again"),
                }
                return End::GivenUp;
            }
        })
    }

    /// Deals with an event.
    async fn take(&mut self, event: Event) -> Result<(), End> {
        if self.common.settings.options.client_trace {
            tracing::debug!(plugin = &*self.common.plugin, event = ?event, "client event");
        }
        match event {
            Event::Message(message) => {
                self.lot.push(message);
                if self.lot.len() >= LOT && !self.hand_on().await {
                    return Err(End::Stopped);
                }
            }
            Event::Acknowledged if self.common.settings.options.persistent_session => self.acknowledge().await?,
            Event::Granted(results, reason) => {
                grant::tell(&results, reason.as_deref(), &self.common.settings, &self.common.plugin);
                self.due.grant = None;
                self.due.message = silence_due(&self.common.settings);
                self.give_back();
            }
            Event::Unsubscribed(stays) => {
                if let Some(filter) = self.session.given_back(stays.is_some()) {
                    let plugin = &*self.common.plugin;
                    match stays {
                        None => tracing::info!(plugin, filter, "unsubscribed a filter that is no longer in `topics`"),
                        Some(reason) => {
                            tracing::warn!(
                                plugin,
                                filter,
                                reason,
                                "the broker keeps a filter that is no longer in `topics`"
                            );
                        }
                    }
                }
                self.give_back();
            }
            Event::PingAnswered => self.due.ping = None,
            Event::PingSent => {
                let patience = self.common.settings.options.ping_timeout.positive();
                self.due.ping = patience.map(|patience| Instant::now() + patience);
            }
            Event::Goodbye => return Err(End::Stopped),
            Event::Connected(_) | Event::Acknowledged | Event::Other => {}
        }
        Ok(())
    }

    /// Sends what else is to be acknowledged.
    async fn acknowledge(&mut self) -> Result<(), End> {
        let patience = self.common.settings.options.connection_timeout.to_std();
        match timeout(patience, self.client.acknowledge(&self.acks)).await {
            Ok(outcome) => outcome.map_err(ended),
            Err(_) => Err(End::Lost("the broker takes no acknowledgements".into())),
        }
    }

    /// Gives the next filter back that the session has and nobody wants.
    fn give_back(&mut self) {
        let Some(filter) = self.session.next_gone() else { return };
        if let Err(error) = self.client.unsubscribe(filter) {
            tracing::warn!(plugin = &*self.common.plugin, filter, error = %error, "cannot unsubscribe");
        }
    }

    /// Hands what has arrived to the handler; `false` if that is gone.
    ///
    /// While the handler is busy this waits, and with it the reading of the socket: the broker is slowed down. It does not
    /// wait longer than the connection can stand without a ping. Then messages of QoS 0 that find no room are dropped, with
    /// an error and a count. Those that wait for our acknowledgement are bounded by the broker's own window, so reading goes
    /// on and pings with it; others hold the reading up again, for a shorter time.
    async fn hand_on(&mut self) -> bool {
        let Self { common: Common { settings, lots, .. }, due, silence_told, .. } = self;
        let lots = lots.clone();
        if self.lot.is_empty() {
            return !lots.is_closed();
        }
        heard(settings, due, silence_told);
        let keepalive = self.client.keepalive().unwrap_or(Duration::from_secs(3600));
        let place = match (self.congested, settings.options.persistent_session) {
            (false, _) => timeout(keepalive / 2, lots.reserve()).await.map_err(drop),
            (true, false) => timeout(keepalive / 8, lots.reserve()).await.map_err(drop),
            // Not even for the moment that the shortest timeout takes.
            (true, true) => match lots.try_reserve() {
                Ok(place) => Ok(Ok(place)),
                Err(TrySendError::Full(())) => Err(()),
                Err(TrySendError::Closed(())) => return false,
            },
        };
        match place {
            Ok(Ok(place)) => {
                let messages = std::mem::replace(&mut self.lot, Vec::with_capacity(LOT));
                place.send(Lot { connection: self.number, epoch: self.acks.epoch(), messages });
                self.congested = false;
                true
            }
            Ok(Err(_)) => false,
            Err(()) => {
                self.drop_unacknowledged();
                true
            }
        }
    }

    /// Drops what nobody will send again. While the handler stays busy only the newest message can be one.
    fn drop_unacknowledged(&mut self) {
        let before = self.lot.len();
        if !std::mem::replace(&mut self.congested, true) {
            self.lot.retain(|message| message.qos != QoS::AtMostOnce);
        } else if self.lot.last().is_some_and(|message| message.qos == QoS::AtMostOnce) {
            self.lot.pop();
        }
        let count = before - self.lot.len();
        self.common.overload.add(count);
        if count > 0
            && let Some(suppressed) = self.dropped.admit()
        {
            let plugin = &*self.common.plugin;
            tracing::error!(plugin, count, suppressed, "messages of QoS 0 dropped: the agent does not keep up");
        }
    }
}

fn ended(failure: Failure) -> End {
    match failure {
        Failure::Ended => End::Stopped,
        Failure::Refused(reason) => End::Lost(reason.into()),
        Failure::Lost(error) => End::Lost(error),
    }
}

/// Messages have come.
fn heard(settings: &Settings, due: &mut Deadlines, silence_told: &mut bool) {
    *silence_told = false;
    if due.message.is_some() {
        due.message = silence_due(settings);
    }
}

fn silence_due(settings: &Settings) -> Option<Instant> {
    settings.options.silence_timeout.positive().map(|silence| Instant::now() + silence)
}
