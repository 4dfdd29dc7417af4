//! Connecting: every server in order, what it says about itself, and what every connection begins with.

use heliograph_core::error::{BoxError, StartError};
use tokio::time::{Instant, timeout};

use super::super::client::{Client, Connected, Event, Failure};
use super::super::deadline::Deadlines;
use super::super::grant;
use super::Connection;

impl Connection {
    /// Tries every server once. The error is that of the last one.
    pub(super) async fn connect(&mut self) -> Result<(), StartError> {
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
}
