//! A connection's share of the metrics: their lines, the servers they go to, and what may have been lost on the way.

use std::sync::Arc;

use heliograph_core::error::BoxError;
use heliograph_core::stats::Count;
use tokio::time::Instant;

use super::Dial;
use super::connection::Server;
use super::pace::{Exhausted, Pace};
use super::unread::{Buffer, Unread};
use heliograph_core::plugin::Doubt;

/// The lines that go one way, in order, to one of the servers.
pub(super) struct Lane {
    plugin: Arc<str>,
    servers: Vec<Server>,
    /// What connections that broke may have lost.
    resend: Unread,
    /// Which server a batch is offered first; they take turns.
    next: usize,
    /// The lines of the metrics below.
    pub(super) lines: Vec<u8>,
    /// Numbers of metrics whose lines these are.
    pub(super) metrics: Vec<usize>,
    /// Numbers of metrics of which some paths are refused, and others may be among the lines.
    pub(super) refused: Vec<usize>,
}

/// What all lanes share while they send.
#[derive(Clone, Copy)]
pub(super) struct Round<'a> {
    /// Number of the write.
    pub(super) write: u64,
    pub(super) dial: &'a Dial,
    pub(super) pace: &'a Pace,
    /// How long data points may be held back.
    pub(super) until: Instant,
    pub(super) written: &'a Count,
    pub(super) sent_again: &'a Count,
}

/// Why lines are not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Held(#[from] Exhausted),
    #[error(transparent)]
    Failed(#[from] BoxError),
}

impl Lane {
    /// One of several to the same servers, of which each begins with another one. `resend_limit` is in bytes.
    pub(super) fn new(plugin: &Arc<str>, addresses: &[String], number: usize, resend_limit: usize) -> Self {
        let server = |address: &String| Server::new(address, plugin.clone(), resend_limit);
        Self {
            plugin: plugin.clone(),
            servers: addresses.iter().map(server).collect(),
            resend: Unread::new(resend_limit),
            next: number,
            lines: Vec::new(),
            metrics: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Forgets metrics and lines.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.metrics.clear();
        self.refused.clear();
    }

    /// Connects to all servers; one that is away does not matter yet.
    pub(super) async fn connect(&mut self, dial: &Dial) {
        for server in &mut self.servers {
            if let Err(error) = server.connect(dial).await {
                tracing::debug!(server = server.address(), error = %error, "cannot connect yet");
            }
        }
    }

    pub(super) async fn close(&mut self) {
        for server in &mut self.servers {
            server.close().await;
        }
    }

    /// Sends all lines to one server: connected ones first, in turn, then those that can be connected again.
    pub(super) async fn send(&mut self, round: Round<'_>) -> Result<(), SendError> {
        // Also where there is nothing new: what a connection has lost must not wait for that.
        for server in 0..self.servers.len() {
            self.servers[server].look();
            self.collect_lost(server);
        }
        if self.lines.is_empty() && self.resend.bytes() == 0 {
            return Ok(());
        }
        let points = points(&self.lines);
        round.pace.admit(points, round.until).await?;
        let count = self.servers.len();
        let mut failures: Vec<String> = Vec::new();
        self.next = (self.next + 1) % count;
        let order: Vec<usize> = (0..count).map(|i| (self.next + i) % count).collect();
        let (up, down): (Vec<_>, Vec<_>) = order.into_iter().partition(|&i| self.servers[i].is_connected());
        // A connection that turns out to be dead is dialled once more: the server may just have restarted.
        for &i in up.iter().chain(&down).chain(&up) {
            match self.send_to(i, round).await {
                Ok(()) => {
                    round.written.add(points);
                    return Ok(());
                }
                Err(SendError::Failed(error)) => failures.push(format!("{:?}: {error}", self.servers[i].address())),
                Err(held) => return Err(held),
            }
        }
        failures.dedup();
        Err(BoxError::from(format!("could not write to any server in cluster ({})", failures.join("; "))).into())
    }

    /// Sends to one server what connections may have lost, and then the lines.
    async fn send_to(&mut self, server: usize, round: Round<'_>) -> Result<(), SendError> {
        self.servers[server].look();
        self.collect_lost(server);
        let outcome = self.write_to(server, round).await;
        self.collect_lost(server);
        outcome
    }

    async fn write_to(&mut self, server: usize, round: Round<'_>) -> Result<(), SendError> {
        let Self { servers, resend, lines, .. } = self;
        let server = &mut servers[server];
        server.connect(round.dial).await?;
        while let Some(lost) = resend.pop() {
            let points = points(&lost.lines);
            if let Err(held) = round.pace.admit(points, round.until).await {
                resend.put_back(lost);
                return Err(held.into());
            }
            if let Err(error) = server.write(&lost.lines, round.dial.timeout).await {
                resend.put_back(lost);
                return Err(error.into());
            }
            round.sent_again.add(points);
            drop(server.keep(Buffer { at: Instant::now(), again: true, ..lost }));
        }
        server.write(lines, round.dial.timeout).await?;
        *lines =
            server.keep(Buffer { write: round.write, at: Instant::now(), again: false, lines: std::mem::take(lines) });
        Ok(())
    }

    /// What is not sure to have arrived.
    pub(super) fn doubt(&self) -> Doubt {
        let unread = self.servers.iter().filter_map(Server::oldest_unread).min();
        let sent_again = self.servers.iter().filter_map(Server::oldest_sent_again).min();
        Doubt { unread, lost: self.resend.oldest().into_iter().chain(sent_again).min() }
    }

    /// If the connection has ended, what the server may not have read of it is to be sent again.
    fn collect_lost(&mut self, server: usize) {
        let server = &mut self.servers[server];
        if server.is_connected() || server.unread().bytes() == 0 {
            return;
        }
        let bytes = self.resend.prepend(server.unread());
        if bytes > 0 {
            tracing::error!(plugin = &*self.plugin, bytes, "more was unread than resend_limit keeps; it may be lost");
        }
    }

    #[cfg(test)]
    pub(super) fn server(&mut self, number: usize) -> &mut Server {
        &mut self.servers[number]
    }
}

/// How many data points the lines are.
pub(super) fn points(lines: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', lines).count()
}
