//! Writes metrics to receivers of Prometheus remote-write, versions 1.0 and 2.0.

mod answer;
mod deliver;
mod endpoint;
mod ends;
mod negotiate;
mod options;
mod receivers;
mod sender;
mod tenants;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Section};
use heliograph_core::error::{Chain, StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{BuildContext, Output, OutputSpec};
use heliograph_core::stats::{Count, StatSeries, Stats};
use heliograph_core::throttle::Throttle;
use reqwest::header::HeaderValue;

use self::deliver::{Fate, Fates};
use self::endpoint::{Endpoint, Outgoing};
use self::ends::{End, Ends};
use self::options::{Options, Refusal};
use self::receivers::{Receiver, Receivers};
use self::sender::Outcome;
use self::tenants::Tenants;
use crate::common::aws::AwsOptions;
use crate::common::http_client::HttpClientOptions;
use crate::common::prometheus::remote_write::{Collector, Encoder, Late, Limits, Piece, Version, encode_metadata};

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "remote_write",
    sample: include_str!("sample.conf"),
    build: |section, context| RemoteWrite::build(section, context).map(|output| Box::new(output) as _),
};

struct RemoteWrite {
    name: Arc<str>,
    options: Options,
    receivers: Receivers,
    limits: Limits,
    collector: Collector,
    tenants: Tenants,
    /// One for each shard.
    encoders: Vec<Encoder>,
    ends: Option<Ends>,
    /// Writes in a row that have left something to be tried again.
    attempt: u32,
    clock: Clock,
    figures: Figures,
    losses: Throttle,
    problems: Throttle,
}

/// Figures that the wrapper around the output cannot see.
struct Figures {
    requests: Count,
    bytes: Count,
    written: Count,
    rejected: Count,
    failovers: Count,
    /// As [`crate::common::prometheus::remote_write::Losses`] has them, but for the first: samples are sorted, so none is
    /// too old.
    left_out: [Count; 4],
}

impl RemoteWrite {
    fn build(mut section: Section, context: &BuildContext) -> Result<Self, ConfigError> {
        let client = HttpClientOptions::take(&mut section)?;
        let aws: AwsOptions = section.take_struct()?;
        let place = section.clone();
        Self::new(section.finish()?, client, aws, context)
            .map_err(|refusal| place.error_at(refusal.option, refusal.reason))
    }

    fn new(
        options: Options,
        mut client: HttpClientOptions,
        aws: AwsOptions,
        context: &BuildContext,
    ) -> Result<Self, Refusal> {
        let oauth2 = &client.oauth2;
        options.check(!(oauth2.client_id.is_empty() || oauth2.token_url.is_empty()))?;
        if client.timeout.positive().is_none() {
            client.timeout = Duration::from_secs(30).into();
        }
        if client.transport.max_idle_conn_per_host == 0 {
            // Otherwise shards beyond the second would connect anew for each request.
            client.transport.max_idle_conn_per_host = options.shards.get().max(2);
        }
        let tenants = Tenants::new(&options.tenant).ok_or_else(|| Refusal {
            option: "tenant",
            reason: format!("{:?} has characters that a header cannot have", options.tenant),
        })?;
        let receiver = |url: &str| {
            let clock = context.clock.clone();
            let endpoint = Endpoint::new(&options, url, client.clone(), aws.clone(), clock, context.version)?;
            Ok(Receiver::new(endpoint, options.protocol))
        };
        let receivers = Receivers::new(options.urls().map(receiver).collect::<Result<_, _>>()?);
        let mut collector = Collector::new(options.rules(), Late::Sort);
        if options.metadata {
            collector.note_families();
        }
        Ok(Self {
            name: context.name.clone(),
            receivers,
            limits: Limits {
                samples: options.max_samples_per_request.get() as usize,
                bytes: options.max_request_size.as_usize(),
                metadata: options.metadata,
            },
            collector,
            tenants,
            encoders: (0..options.shards.get()).map(|_| Encoder::default()).collect(),
            ends: options.staleness_markers.then(|| Ends::new(options.staleness_timeout.to_std())),
            attempt: 0,
            clock: context.clock.clone(),
            figures: Figures::new(&context.stats, &context.name),
            losses: Throttle::new(),
            problems: Throttle::new(),
            options,
        })
    }

    fn report_losses(&mut self) {
        let losses = self.collector.losses();
        self.figures.left_out.iter().zip(&losses.counts[1..]).for_each(|(figure, count)| figure.add(*count));
        if let Some(reason) = losses.last
            && let Some(suppressed) = self.losses.admit()
        {
            let count = losses.total();
            tracing::warn!(error = %reason, count, suppressed, "some samples are not in the remote-write requests");
        }
    }

    /// Sends the types of families, which version 1.0 does not have with the samples. A failure costs no sample.
    async fn send_metadata(&mut self, now: i64) {
        let Some(families) = self.collector.families() else { return };
        let receiver = self.receivers.current_mut();
        if now < receiver.metadata_due || receiver.negotiation.version(now) == Version::Two {
            return;
        }
        receiver.metadata_due = now.saturating_add(self.options.metadata_interval.to_std().as_nanos() as i64);
        let mut problem = None;
        for (tenant, families) in families.iter() {
            let header =
                if tenant.is_empty() { self.tenants.default_header() } else { HeaderValue::from_bytes(tenant).ok() };
            let families: Vec<_> = families.iter().map(|(name, kind)| (&**name, *kind)).collect();
            for part in families.chunks(self.limits.samples) {
                let body = encode_metadata(part.iter().copied());
                let Ok(body) = snap::raw::Encoder::new().compress_vec(&body) else { continue };
                let outgoing =
                    Outgoing { version: Version::One, body: Bytes::from(body), tenant: header.as_ref(), attempt: 0 };
                self.figures.requests.increment();
                problem = match receiver.endpoint.send(outgoing).await {
                    Ok(answer) => answer.error.or(problem),
                    Err(error) => Some(error),
                };
            }
        }
        if let Some(error) = problem
            && let Some(suppressed) = self.problems.admit()
        {
            tracing::warn!(error = %Chain(&*error), suppressed, "cannot send the types of metrics; trying again later");
        }
    }

    /// Marks series as ended; those that the receiver does not take now are tried again.
    async fn send_ends(&mut self, ends: Vec<End>, now: i64) {
        if ends.is_empty() {
            return;
        }
        let version = self.receivers.current().negotiation.version(now);
        self.collector.start(version);
        self.tenants.start();
        for end in &ends {
            if let Some(tenant) = self.tenants.number(&end.tenant) {
                self.collector.add_stale(&end.labels, (tenant, &end.tenant), end.is_histogram, end.time);
            }
        }
        let outcome = self.send(version, false).await;
        self.figures.count(&outcome);
        if let Some(known) = &mut self.ends {
            outcome.written.iter().chain(&outcome.rejected).for_each(|piece| known.forget(&self.collector, *piece));
        }
        if let Some(error) = outcome.rejection.or(outcome.failure)
            && let Some(suppressed) = self.problems.admit()
        {
            let count = outcome.unsent.len() + outcome.rejected.len();
            tracing::warn!(error = %Chain(&*error), count, suppressed, "cannot mark the end of series");
        }
    }
}

#[async_trait]
impl Output for RemoteWrite {
    async fn connect(&mut self) -> Result<(), StartError> {
        self.receivers.start().await.map_err(StartError::Retry)
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let mut fates = Fates::new(batch.len());
        let outcome = self.deliver(batch, &mut fates).await;
        let now = self.clock.now();
        match outcome.failure {
            Some(source) => {
                self.attempt = self.attempt.saturating_add(1);
                let (written, rejected) = (fates.all(Fate::Written), fates.all(Fate::Rejected));
                let retry_after = outcome.retry_after;
                return Err(WriteError { written, rejected, retry_after, ..WriteError::retry(source) });
            }
            None => self.attempt = 0,
        }
        self.send_metadata(now).await;
        if let Some(ends) = &mut self.ends {
            let (due, refused) = (ends.due(now), std::mem::take(&mut ends.refused));
            if refused > 0
                && let Some(suppressed) = self.problems.admit()
            {
                tracing::warn!(count = refused, suppressed, "too many series to mark the end of all");
            }
            self.send_ends(due, now).await;
        }
        match outcome.rejection {
            Some(source) => {
                let (written, rejected) = (fates.all(Fate::Written), fates.all(Fate::Rejected));
                Err(WriteError { written, rejected, ..WriteError::retry(source) })
            }
            None => Ok(()),
        }
    }

    async fn close(&mut self) {
        if let Some(ends) = &self.ends {
            let all = ends.all();
            self.send_ends(all, self.clock.now()).await;
        }
    }
}

impl Figures {
    fn new(stats: &Stats, name: &str) -> Self {
        let series = StatSeries::new("remote_write", &[("output", name.trim_start_matches("outputs."))]);
        let count = |field| stats.count(&series, field);
        Self {
            requests: count("requests"),
            bytes: count("bytes_sent"),
            written: count("samples_written"),
            rejected: count("samples_rejected"),
            failovers: count("failovers"),
            left_out: [
                count("samples_mixed"),
                count("samples_without_name"),
                count("samples_without_value"),
                count("samples_without_shape"),
            ],
        }
    }

    fn count(&self, outcome: &Outcome) {
        let samples = |pieces: &[Piece]| pieces.iter().map(|piece| piece.len as usize).sum();
        self.requests.add(outcome.requests);
        self.bytes.add(outcome.bytes);
        self.written.add(samples(&outcome.written));
        self.rejected.add(samples(&outcome.rejected));
    }
}

#[cfg(test)]
mod tests;
