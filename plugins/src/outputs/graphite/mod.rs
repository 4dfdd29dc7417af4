//! Graphite plaintext over TCP or TLS, to one of several servers.

mod connection;
mod in_flight;
mod lane;
mod pace;
mod unread;

use std::iter::Peekable;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use heliograph_core::config::{self, ConfigError, Section};
use heliograph_core::error::{BoxError, StartError, WriteError};
use heliograph_core::model::{MetricRef, WriteBatch};
use heliograph_core::plugin::{BuildContext, Doubt, Output, OutputSpec};
use heliograph_core::stats::{Count, StatSeries};
use serde::Deserialize;
use tokio::time::Instant;

use self::lane::{Lane, Round, points};
use self::pace::Pace;
use crate::common::tls::TlsClientOptions;
use crate::serializers::graphite::{GraphiteSerializer, RefusedPath};

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "graphite",
    sample: include_str!("sample.conf"),
    build: |section, context| Graphite::build(section, context).map(|output| Box::new(output) as _),
};

/// The options besides those of the serializer and of TLS.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GraphiteOutputOptions {
    /// `host:port` of each server.
    servers: Vec<String>,
    /// IP address, with or without port, to connect from.
    local_address: String,
    /// Connections to a server that are written to at the same time.
    connections: NonZeroUsize,
    /// For connecting, and for each write; zero waits for ever.
    timeout: config::Duration,
    /// What is kept of what was written to a connection, to be sent again when it breaks.
    resend_limit: config::Size,
    /// Data points that may go out a second; zero for no limit.
    max_data_points_per_second: u32,
}

impl Default for GraphiteOutputOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            local_address: String::new(),
            connections: NonZeroUsize::MIN,
            timeout: config::Duration::from_secs(2),
            resend_limit: config::Size::from_mib(4),
            max_data_points_per_second: 0,
        }
    }
}

/// Most connections: each keeps up to twice `resend_limit`.
const MOST_CONNECTIONS: usize = 64;

/// How long a write holds data points back for the sake of the rate. The agent's end waits for the write at hand.
const PATIENCE: Duration = Duration::from_secs(5);

impl GraphiteOutputOptions {
    fn servers(&self) -> Vec<String> {
        if self.servers.is_empty() { vec!["localhost:2003".to_owned()] } else { self.servers.clone() }
    }

    /// What is wrong with `connections`, if anything.
    fn refusal(&self) -> Option<String> {
        let port = self.local_address.parse::<SocketAddr>().map_or(0, |address| address.port());
        match self.connections.get() {
            count if count > MOST_CONNECTIONS => Some(format!("{count} connections are more than {MOST_CONNECTIONS}")),
            count @ 2.. if port != 0 => {
                Some(format!("{count} connections cannot all come from port {port}: leave it out of `local_address`"))
            }
            _ => None,
        }
    }
}

/// How to reach a server.
#[derive(Debug, Clone)]
struct Dial {
    local: Option<SocketAddr>,
    timeout: Option<Duration>,
    tls: Option<TlsClientOptions>,
}

struct Graphite {
    plugin: Arc<str>,
    /// A metric goes by its series, so that the points of a series keep their order.
    lanes: Vec<Lane>,
    /// Number of the write at hand.
    write: u64,
    local_address: String,
    timeout: Option<Duration>,
    tls: Option<TlsClientOptions>,
    serializer: GraphiteSerializer,
    pace: Pace,
    points_written: Count,
    points_sent_again: Count,
}

/// What became of the metrics of a batch.
#[derive(Default)]
struct Report {
    written: Vec<usize>,
    rejected: Vec<usize>,
    refusal: Option<RefusedPath>,
}

#[async_trait]
impl Output for Graphite {
    /// A server that is away is no reason not to start: what cannot be written waits.
    async fn connect(&mut self) -> Result<(), StartError> {
        let dial = self.dial().await.map_err(StartError::Fatal)?;
        join_all(self.lanes.iter_mut().map(|lane| lane.connect(&dial))).await;
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let until = Instant::now() + PATIENCE;
        let mut report = Report::default();
        let mut metrics = (0..).zip(batch.iter()).peekable();
        while metrics.peek().is_some() {
            self.fill(&mut metrics, &mut report);
            if let Err(source) = self.send(until, &mut report).await {
                let Report { written, rejected, .. } = report;
                return Err(WriteError { written, rejected, ..WriteError::retry(source) });
            }
        }
        let Report { written, rejected, refusal } = report;
        match refusal {
            Some(refusal) => Err(WriteError { written, rejected, ..WriteError::retry(refusal) }),
            None => Ok(()),
        }
    }

    fn begin(&mut self, write: u64) {
        self.write = write;
    }

    fn doubt(&self) -> Doubt {
        let oldest = |one: Option<u64>, other| one.into_iter().chain(other).min();
        self.lanes.iter().map(Lane::doubt).fold(Doubt::default(), |all, lane| Doubt {
            unread: oldest(all.unread, lane.unread),
            lost: oldest(all.lost, lane.lost),
        })
    }

    /// Sends what a connection has lost once more, if it can.
    async fn tend(&mut self) -> Result<(), BoxError> {
        self.lanes.iter_mut().for_each(Lane::clear);
        self.send(Instant::now() + PATIENCE, &mut Report::default()).await
    }

    async fn close(&mut self) {
        if let Err(error) = self.tend().await {
            tracing::error!(plugin = &*self.plugin, error = %error, "what was unread when a connection broke may be lost");
        }
        join_all(self.lanes.iter_mut().map(Lane::close)).await;
    }
}

impl Graphite {
    fn build(mut section: Section, context: &BuildContext) -> Result<Self, ConfigError> {
        let serializer = GraphiteSerializer::take(&mut section)?;
        let tls: TlsClientOptions = section.take_struct()?;
        let place = section.clone();
        let options: GraphiteOutputOptions = section.finish()?;
        if let Some(reason) = options.refusal() {
            return Err(place.error_at("connections", reason));
        }
        let secure = tls.client_config().map_err(|error| place.position().error(error.to_string()))?.is_some();
        Ok(Self::new(options, serializer, secure.then_some(tls), context))
    }

    fn new(
        options: GraphiteOutputOptions,
        serializer: GraphiteSerializer,
        tls: Option<TlsClientOptions>,
        context: &BuildContext,
    ) -> Self {
        let (servers, resend_limit) = (options.servers(), options.resend_limit.as_usize());
        let lane = |number| Lane::new(&context.name, &servers, number, resend_limit);
        let series = StatSeries::new("graphite", &[("output", context.name.trim_start_matches("outputs."))]);
        let count = |field| context.stats.count(&series, field);
        Self {
            plugin: context.name.clone(),
            lanes: (0..options.connections.get()).map(lane).collect(),
            write: 0,
            local_address: options.local_address,
            timeout: options.timeout.positive(),
            tls,
            serializer,
            pace: Pace::new(options.max_data_points_per_second, count("throttled_ns")),
            points_written: count("points_written"),
            points_sent_again: count("points_sent_again"),
        }
    }

    /// Resolves the local address anew each time, since it may be a name.
    async fn dial(&self) -> Result<Dial, BoxError> {
        let local = match self.local_address.as_str() {
            "" => None,
            address => Some(resolve_local(address).await?),
        };
        Ok(Dial { local, timeout: self.timeout, tls: self.tls.clone() })
    }

    /// Takes in as many metrics as may go out at once, and at least one.
    fn fill<'a>(&mut self, metrics: &mut Peekable<impl Iterator<Item = (usize, MetricRef<'a>)>>, report: &mut Report) {
        self.lanes.iter_mut().for_each(Lane::clear);
        let burst = self.pace.burst();
        let mut taken = 0;
        while let Some(&(number, metric)) = metrics.peek() {
            let which = metric.series.fingerprint() % self.lanes.len() as u64;
            let lane = &mut self.lanes[which as usize];
            let start = lane.lines.len();
            let outcome = self.serializer.write(metric, &mut lane.lines);
            if let Some(burst) = burst {
                let points = points(&lane.lines[start..]);
                if taken > 0 && taken + points > burst {
                    lane.lines.truncate(start);
                    return;
                }
                taken += points;
            }
            match outcome {
                Ok(()) => lane.metrics.push(number),
                Err(refusal) => {
                    lane.refused.push(number);
                    report.refusal.get_or_insert(refusal);
                }
            }
            metrics.next();
        }
    }

    /// Sends what was taken in, over all connections at the same time.
    async fn send(&mut self, until: Instant, report: &mut Report) -> Result<(), BoxError> {
        let dial = self.dial().await?;
        let Self { lanes, write, pace, points_written: written, points_sent_again: sent_again, .. } = self;
        let round = Round { write: *write, dial: &dial, pace, until, written, sent_again };
        let outcomes = join_all(lanes.iter_mut().map(|lane| lane.send(round))).await;
        let mut failures = Vec::new();
        for (lane, outcome) in lanes.iter_mut().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    report.written.append(&mut lane.metrics);
                    report.rejected.append(&mut lane.refused);
                }
                // Those of which a path is refused stay as well, for the sake of their other fields.
                Err(error) => failures.push(error),
            }
        }
        match (failures.len(), failures.into_iter().next()) {
            (_, None) => Ok(()),
            (1.., Some(first)) if lanes.len() == 1 => Err(first.into()),
            (failed, Some(first)) => Err(format!("{failed} of {} connections: {first}", lanes.len()).into()),
        }
    }
}

async fn resolve_local(address: &str) -> Result<SocketAddr, BoxError> {
    let with_port = if address.parse::<std::net::IpAddr>().is_ok() {
        SocketAddr::new(address.parse()?, 0).to_string()
    } else if address.contains(':') {
        address.to_string()
    } else {
        format!("{address}:0")
    };
    let found = tokio::net::lookup_host(&with_port).await.map(|mut found| found.next());
    match found {
        Ok(Some(local)) => Ok(local),
        Ok(None) => Err(format!("option `local_address`: {address:?} has no address").into()),
        Err(error) => Err(format!("option `local_address`: cannot use {address:?}: {error}").into()),
    }
}

#[cfg(test)]
mod tests;
