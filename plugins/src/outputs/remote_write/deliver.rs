//! Sends a batch: to the receiver that takes it, and in the version that it takes.

use futures_util::future::join_all;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::model::WriteBatch;

use super::RemoteWrite;
use super::sender::{Lane, Outcome, Round, send_lanes};
use crate::common::prometheus::remote_write::Version;

/// What becomes of each metric of a batch.
pub(super) struct Fates(Vec<Fate>);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    Rejected,
    Kept,
}

impl RemoteWrite {
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
    pub(super) async fn send(&mut self, version: Version, can_change: bool) -> Outcome {
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
        let receiver = self.receivers.current();
        let round = Round {
            endpoint: &receiver.endpoint,
            collector: &self.collector,
            version,
            limits: self.limits,
            attempt: self.attempt,
            can_change,
            is_proven: receiver.negotiation.is_proven(),
        };
        let work = lanes.into_iter().zip(&mut self.encoders).map(|(lanes, encoder)| send_lanes(round, lanes, encoder));
        let mut outcome = Outcome::default();
        for shard in join_all(work).await {
            outcome.merge(shard);
        }
        outcome
    }

    /// Sends a batch to the first receiver that takes it.
    ///
    /// One that cannot be reached or fails is passed over. What it has answered for is not sent to the next one, and the rest
    /// of a series goes there only when nothing of it is on its way any more, so that the order holds.
    pub(super) async fn deliver(&mut self, batch: &WriteBatch, fates: &mut Fates) -> Outcome {
        let mut total = Outcome::default();
        let mut failures = Vec::new();
        for number in self.receivers.order(self.clock.now()) {
            let is_other = self.receivers.choose(number);
            let mut outcome = self.deliver_to_current(batch, fates).await;
            let is_away = outcome.is_away;
            let failure = outcome.failure.take();
            total.merge(Outcome { is_away: false, retry_after: None, ..outcome });
            total.retry_after = outcome.retry_after;
            let now = self.clock.now();
            match failure {
                Some(failure) if is_away => {
                    self.receivers.current_mut().leave(now);
                    failures.push(failure);
                }
                failure => {
                    self.receivers.current_mut().is_back();
                    let (plugin, url) = (&*self.name, self.receivers.current().endpoint.address());
                    if let Some(first) = failures.first() {
                        self.figures.failovers.increment();
                        tracing::warn!(plugin, %url, error = %Chain(&**first), "writing to another receiver");
                    } else if is_other {
                        tracing::info!(plugin, %url, "writing to the receiver that comes first again");
                    }
                    total.failure = failure;
                    return total;
                }
            }
        }
        total.failure = all(failures);
        total
    }

    /// Sends a batch in one version, and in the other one where the receiver wants that.
    async fn deliver_to_current(&mut self, batch: &WriteBatch, fates: &mut Fates) -> Outcome {
        let now = self.clock.now();
        let negotiation = &self.receivers.current().negotiation;
        let (mut version, mut can_change) = (negotiation.version(now), negotiation.is_free());
        let mut total = Outcome::default();
        loop {
            fates.keep_none();
            let refused = self.collect(batch, version, fates);
            let mut outcome = self.send(version, can_change).await;
            self.figures.count(&outcome);
            if !outcome.written.is_empty() && (version == Version::Two || outcome.rejected.is_empty()) {
                self.receivers.current_mut().negotiation.took(version, now);
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
            let receiver = self.receivers.current_mut();
            version = receiver.negotiation.doubt(version, doubt, now);
            can_change = false;
            tracing::debug!(url = %receiver.endpoint.address(), ?version, "the receiver does not take the version, trying the other");
        }
    }
}

impl Fates {
    /// Of so many metrics, all of which are written unless something else is noted.
    pub(super) fn new(len: usize) -> Self {
        Self(vec![Fate::Written; len])
    }

    fn set(&mut self, origins: impl Iterator<Item = (u32, i64)>, fate: Fate) {
        origins.for_each(|(metric, _)| self.0[metric as usize] = fate);
    }

    /// What was to be kept is tried once more.
    fn keep_none(&mut self) {
        self.0.iter_mut().filter(|fate| **fate == Fate::Kept).for_each(|fate| *fate = Fate::Written);
    }

    /// The numbers of the metrics of one fate.
    pub(super) fn all(&self, wanted: Fate) -> Vec<usize> {
        (0..).zip(&self.0).filter(|(_, fate)| **fate == wanted).map(|(metric, _)| metric).collect()
    }
}

/// One error of what went wrong at all receivers.
fn all(mut failures: Vec<BoxError>) -> Option<BoxError> {
    let last = failures.pop()?;
    if failures.is_empty() {
        return Some(last);
    }
    failures.push(last);
    let texts: Vec<String> = failures.iter().map(|failure| Chain(&**failure).to_string()).collect();
    Some(format!("no receiver takes the samples: {}", texts.join("; ")).into())
}
