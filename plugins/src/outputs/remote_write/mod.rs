//! Writes metrics to receivers of Prometheus remote-write, versions 1.0 and 2.0.

mod answer;
mod endpoint;
mod ends;
mod negotiate;
mod options;
mod sender;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Section};
use heliograph_core::error::{BoxError, Chain, StartError, WriteError};
use heliograph_core::model::{MetricRef, WriteBatch};
use heliograph_core::plugin::{BuildContext, Output, OutputSpec};
use heliograph_core::stats::{Count, StatSeries, Stats};
use heliograph_core::throttle::Throttle;
use reqwest::header::HeaderValue;

use self::endpoint::{Endpoint, Outgoing};
use self::ends::{End, Ends};
use self::negotiate::Negotiation;
use self::options::{Options, Refusal};
use self::sender::{Lane, Outcome, Round, send_lanes};
use crate::common::aws::AwsOptions;
use crate::common::http_client::HttpClientOptions;
use crate::common::prometheus::remote_write::{Collector, Encoder, Late, Limits, Piece, Version, encode_metadata};

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "remote_write",
    sample: include_str!("sample.conf"),
    build: |section, context| RemoteWrite::build(section, context).map(|output| Box::new(output) as _),
};

struct RemoteWrite {
    options: Options,
    endpoint: Endpoint,
    limits: Limits,
    collector: Collector,
    tenants: Tenants,
    /// One for each shard.
    encoders: Vec<Encoder>,
    negotiation: Negotiation,
    ends: Option<Ends>,
    /// When metadata of 1.0 is due, in nanoseconds since the Unix epoch.
    metadata_due: i64,
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
    /// As [`crate::common::prometheus::remote_write::Losses`] has them, but for the first: samples are sorted, so none is
    /// too old.
    left_out: [Count; 4],
}

/// The tenants of a batch by number; the first is that of metrics without one.
#[derive(Default)]
struct Tenants {
    names: Vec<(Box<[u8]>, Option<HeaderValue>)>,
    numbers: HashMap<Box<[u8]>, u32>,
}

/// What becomes of each metric of a batch.
struct Fates(Vec<Fate>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Rejected,
    Kept,
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
        let endpoint = Endpoint::new(&options, client, aws, context.clock.clone(), context.version)?;
        let mut collector = Collector::new(options.rules(), Late::Sort);
        if options.metadata {
            collector.note_families();
        }
        Ok(Self {
            endpoint,
            limits: Limits {
                samples: options.max_samples_per_request.get() as usize,
                bytes: options.max_request_size.as_usize(),
                metadata: options.metadata,
            },
            collector,
            tenants,
            encoders: (0..options.shards.get()).map(|_| Encoder::default()).collect(),
            negotiation: Negotiation::new(options.protocol),
            ends: options.staleness_markers.then(|| Ends::new(options.staleness_timeout.to_std())),
            metadata_due: 0,
            attempt: 0,
            clock: context.clock.clone(),
            figures: Figures::new(&context.stats, &context.name),
            losses: Throttle::new(),
            problems: Throttle::new(),
            options,
        })
    }

    /// Takes the metrics in for requests of a version. Those of a tenant that no header can name are rejected.
    fn collect(&mut self, batch: &WriteBatch, version: Version, fates: &mut Fates) -> Option<BoxError> {
        self.collector.start(version);
        self.tenants.start();
        let mut refused = None;
        for (number, metric) in (0u32..).zip(batch.iter()) {
            match self.tenants.of(metric, &self.options.tenant_tag) {
                Some(tenant) => self.collector.add(metric, number, (tenant, self.tenants.name(tenant))),
                None => {
                    fates.0[number as usize] = Fate::Rejected;
                    refused.get_or_insert_with(|| {
                        format!(
                            "cannot send metrics of a tenant whose name a header cannot have; tag {:?}",
                            self.options.tenant_tag
                        )
                        .into()
                    });
                }
            }
        }
        self.collector.set_mut().order();
        refused
    }

    /// Sends what is collected.
    async fn send(&mut self, version: Version, can_change: bool) -> Outcome {
        let shards = self.encoders.len();
        let mut lanes: Vec<Vec<Lane<'_>>> = (0..shards).map(|_| Vec::new()).collect();
        for tenant in self.tenants.all() {
            lanes.iter_mut().for_each(|lanes| lanes.push(Lane { tenant, pieces: Vec::new() }));
        }
        let set = self.collector.set();
        for piece in set.pieces(self.options.max_samples_per_request.get()) {
            let series = set.get(piece.series);
            let shard = (series.key % shards as u64) as usize;
            lanes[shard][series.tenant as usize].pieces.push(piece);
        }
        let round = Round {
            endpoint: &self.endpoint,
            collector: &self.collector,
            version,
            limits: self.limits,
            attempt: self.attempt,
            can_change,
            is_proven: self.negotiation.is_proven(),
        };
        let work = lanes.into_iter().zip(&mut self.encoders).map(|(lanes, encoder)| send_lanes(round, lanes, encoder));
        let mut outcome = Outcome::default();
        for shard in join_all(work).await {
            outcome.merge(shard);
        }
        outcome
    }

    /// Sends a batch in one version, and in the other one where the receiver wants that.
    async fn deliver(&mut self, batch: &WriteBatch, fates: &mut Fates) -> Outcome {
        let now = self.clock.now();
        let mut version = self.negotiation.version(now);
        let mut total = Outcome::default();
        let mut can_change = self.negotiation.is_free();
        loop {
            fates.keep_none();
            let refused = self.collect(batch, version, fates);
            let mut outcome = self.send(version, can_change).await;
            self.figures.count(&outcome);
            if !outcome.written.is_empty() && (version == Version::Two || outcome.rejected.is_empty()) {
                self.negotiation.took(version, now);
            }
            let set = self.collector.set();
            outcome.rejected.iter().for_each(|piece| fates.set(set.origins(*piece), Fate::Rejected));
            outcome.unsent.iter().for_each(|piece| fates.set(set.origins(*piece), Fate::Kept));
            if let Some(ends) = &mut self.ends {
                for piece in &outcome.written {
                    let tenant = self.tenants.name(self.collector.set().get(piece.series).tenant);
                    ends.note(&self.collector, *piece, tenant, now);
                }
            }
            if outcome.unsent.is_empty() {
                self.collector.set_mut().unsettle();
            } else {
                // Metrics of which only some samples are answered for come again, the answered samples must not: a
                // receiver that has newer ones of the series would refuse the request.
                for piece in outcome.written.iter().chain(&outcome.rejected) {
                    self.collector.set_mut().settle(*piece);
                }
            }
            self.report_losses();
            let doubt = outcome.doubt.take();
            outcome.rejection = outcome.rejection.or(refused);
            total.merge(Outcome { unsent: Vec::new(), ..outcome });
            let Some(doubt) = doubt.filter(|_| can_change) else { return total };
            version = self.negotiation.doubt(version, doubt, now);
            can_change = false;
            tracing::debug!(url = %self.endpoint.address(), ?version, "the receiver does not take the version, trying the other");
        }
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
        if now < self.metadata_due || self.negotiation.version(now) == Version::Two {
            return;
        }
        self.metadata_due = now.saturating_add(self.options.metadata_interval.to_std().as_nanos() as i64);
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
                problem = match self.endpoint.send(outgoing).await {
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
        let version = self.negotiation.version(now);
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
        self.endpoint.start().await.map_err(StartError::Retry)
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let mut fates = Fates(vec![Fate::Written; batch.len()]);
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

impl Fates {
    fn set(&mut self, origins: impl Iterator<Item = (u32, i64)>, fate: Fate) {
        origins.for_each(|(metric, _)| self.0[metric as usize] = fate);
    }

    /// What was to be kept is tried once more.
    fn keep_none(&mut self) {
        self.0.iter_mut().filter(|fate| **fate == Fate::Kept).for_each(|fate| *fate = Fate::Written);
    }

    fn all(&self, wanted: Fate) -> Vec<usize> {
        (0..).zip(&self.0).filter(|(_, fate)| **fate == wanted).map(|(metric, _)| metric).collect()
    }
}

impl Tenants {
    /// With the tenant of metrics that have none; `None` if a header cannot name it.
    fn new(default: &str) -> Option<Self> {
        let header = if default.is_empty() { None } else { Some(HeaderValue::try_from(default).ok()?) };
        Some(Self { names: vec![(Box::default(), header)], numbers: HashMap::new() })
    }

    /// Forgets the tenants of the last batch.
    fn start(&mut self) {
        self.names.truncate(1);
        self.numbers.clear();
    }

    fn of(&mut self, metric: MetricRef<'_>, tag: &str) -> Option<u32> {
        match tag.is_empty() {
            true => Some(0),
            false => self.number(metric.series.tag(tag.as_bytes()).unwrap_or_default()),
        }
    }

    /// The number of a tenant; `None` if a header cannot name it.
    fn number(&mut self, name: &[u8]) -> Option<u32> {
        if name.is_empty() {
            return Some(0);
        }
        if let Some(&known) = self.numbers.get(name) {
            return Some(known);
        }
        let header = HeaderValue::from_bytes(name).ok()?;
        let new = self.names.len() as u32;
        self.names.push((name.into(), Some(header)));
        self.numbers.insert(name.into(), new);
        Some(new)
    }

    fn name(&self, number: u32) -> &[u8] {
        &self.names[number as usize].0
    }

    fn all(&self) -> impl Iterator<Item = Option<&HeaderValue>> {
        self.names.iter().map(|(_, header)| header.as_ref())
    }

    fn default_header(&self) -> Option<HeaderValue> {
        self.names[0].1.clone()
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
