//! A connection to the broker: a task of its own, since the client's poll loop must not be cancelled.
//!
//! It hands messages on in lots, so that a flood costs one wake-up per some hundred messages, and never waits for an
//! acknowledgement: it sends those that are due when it is told that there are any.

mod connect;
mod lot;

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::states::States;
use heliograph_core::stats::Count;
use heliograph_core::throttle::Throttle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use self::lot::LOT;
pub use self::lot::Lot;
use super::acknowledge::Handle;
use super::acks::Acks;
use super::client::{Client, Event, Failure, Message};
use super::config::Settings;
use super::deadline::{Alarm, Deadlines, Overdue};
use super::grant;
use super::session::Session;

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
    alarm: Alarm,
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
            alarm: Alarm::new(),
            silence_told: false,
            congested: false,
            dropped: Throttle::new(),
        };
        connection.connect().await?;
        let acks = connection.acks.clone();
        Ok((connection, Handle { requests, acks }))
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
        let Self { common, number, client, acks, lot, due, alarm, silence_told, congested, .. } = self;
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
                            what = alarm.passed(due) => match what {
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
