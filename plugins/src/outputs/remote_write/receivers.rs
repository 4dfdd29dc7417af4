//! The receivers, of which one at a time is written to.

use std::time::Duration;

use heliograph_core::error::{BoxError, Chain};

use super::endpoint::Endpoint;
use super::negotiate::{Negotiation, Protocol};

/// A receiver and what is known of it.
pub(super) struct Receiver {
    pub(super) endpoint: Endpoint,
    pub(super) negotiation: Negotiation,
    /// When metadata of 1.0 is due, in nanoseconds since the Unix epoch.
    pub(super) metadata_due: i64,
    /// Until when others are tried first, in nanoseconds since the Unix epoch.
    away_until: Option<i64>,
}

/// In the order of the option: the one that is wanted most first. There is at least one.
pub(super) struct Receivers {
    all: Vec<Receiver>,
    current: usize,
}

/// How long a receiver that failed stands behind the others. One that does not answer costs a write a whole timeout.
const AWAY: Duration = Duration::from_secs(300);

impl Receiver {
    pub(super) fn new(endpoint: Endpoint, protocol: Protocol) -> Self {
        Self { endpoint, negotiation: Negotiation::new(protocol), metadata_due: 0, away_until: None }
    }

    /// It cannot be reached, or fails.
    pub(super) fn leave(&mut self, now: i64) {
        self.away_until = Some(now.saturating_add(AWAY.as_nanos() as i64));
    }

    /// It has answered.
    pub(super) fn is_back(&mut self) {
        self.away_until = None;
    }
}

impl Receivers {
    pub(super) fn new(all: Vec<Receiver>) -> Self {
        Self { all, current: 0 }
    }

    /// In which order they are tried at `now`: those that failed lately after all others.
    pub(super) fn order(&self, now: i64) -> Vec<usize> {
        let is_away = |number: &usize| self.all[*number].away_until.is_some_and(|until| now < until);
        let (away, here): (Vec<_>, Vec<_>) = (0..self.all.len()).partition(is_away);
        [here, away].concat()
    }

    /// Writes to this one from now on; tells whether that is another one than before.
    pub(super) fn choose(&mut self, number: usize) -> bool {
        std::mem::replace(&mut self.current, number) != number
    }

    pub(super) fn current(&self) -> &Receiver {
        &self.all[self.current]
    }

    pub(super) fn current_mut(&mut self) -> &mut Receiver {
        &mut self.all[self.current]
    }

    /// Logs in everywhere. Fails if that works nowhere, with the reason of the first one.
    pub(super) async fn start(&self) -> Result<(), BoxError> {
        let mut failures = Vec::new();
        for receiver in &self.all {
            if let Err(error) = receiver.endpoint.start().await {
                tracing::debug!(url = %receiver.endpoint.address(), error = %Chain(&*error), "cannot log in yet");
                failures.push(error);
            }
        }
        if failures.len() < self.all.len() { Ok(()) } else { failures.into_iter().next().map_or(Ok(()), Err) }
    }
}
