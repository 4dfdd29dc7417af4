//! Sends what was collected, shard by shard, and finds what a receiver refuses.

use std::time::Duration;

use bytes::Bytes;
use heliograph_core::error::BoxError;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

use super::answer::{Doubt, Sent, Verdict};
use super::endpoint::{Endpoint, Outgoing};
use crate::common::prometheus::remote_write::{Collector, Encoder, Limits, Piece, Version};

/// What one round of requests is about.
#[derive(Clone, Copy)]
pub(super) struct Round<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) collector: &'a Collector,
    pub(super) version: Version,
    pub(super) limits: Limits,
    pub(super) attempt: u32,
    pub(super) can_change: bool,
    pub(super) is_proven: bool,
}

/// The pieces that one shard sends for one tenant, in order.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) tenant: Option<&'a HeaderValue>,
    pub(super) pieces: Vec<Piece>,
}

/// How a round went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: Vec<Piece>,
    pub(super) rejected: Vec<Piece>,
    pub(super) unsent: Vec<Piece>,
    /// Why pieces were rejected, by the first of the answers.
    pub(super) rejection: Option<BoxError>,
    /// Why pieces are unsent.
    pub(super) failure: Option<BoxError>,
    /// Whether the receiver cannot be reached, or fails: another one may be tried.
    pub(super) is_away: bool,
    pub(super) retry_after: Option<Duration>,
    pub(super) doubt: Option<Doubt>,
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

/// Most requests in which a write looks for what the receiver refuses; what is not found by then is rejected with its
/// neighbours. One bad series among two thousand takes 22.
const SEARCH: usize = 128;

impl Outcome {
    pub(super) fn merge(&mut self, other: Self) {
        self.written.extend(other.written);
        self.rejected.extend(other.rejected);
        self.unsent.extend(other.unsent);
        self.rejection = self.rejection.take().or(other.rejection);
        self.failure = self.failure.take().or(other.failure);
        self.is_away |= other.is_away;
        self.retry_after = self.retry_after.max(other.retry_after);
        self.doubt = match (self.doubt, other.doubt) {
            (Some(Doubt::Certain), _) | (_, Some(Doubt::Certain)) => Some(Doubt::Certain),
            (one, other) => one.or(other),
        };
        self.requests += other.requests;
        self.bytes += other.bytes;
    }
}

/// Sends lanes one after the other, each up to the first request that has to wait.
pub(super) async fn send_lanes(round: Round<'_>, lanes: Vec<Lane<'_>>, encoder: &mut Encoder) -> Outcome {
    let mut sender = Sender { round, search: SEARCH, is_proven: round.is_proven, outcome: Outcome::default() };
    let mut is_open = true;
    for lane in lanes {
        match is_open {
            true => is_open = sender.send(lane, encoder).await,
            false => sender.outcome.unsent.extend(lane.pieces),
        }
    }
    sender.outcome
}

struct Sender<'a> {
    round: Round<'a>,
    /// Requests left for the search.
    search: usize,
    is_proven: bool,
    outcome: Outcome,
}

impl Sender<'_> {
    /// Sends a lane; `false` if others would fail as well.
    async fn send(&mut self, lane: Lane<'_>, encoder: &mut Encoder) -> bool {
        let Lane { tenant, pieces } = lane;
        // What is on top was cut off what stands below it, so it goes first.
        let mut stack = vec![pieces];
        while let Some(mut pieces) = stack.pop() {
            if pieces.is_empty() {
                continue;
            }
            let count = encoder.encode(self.round.collector, &pieces, self.round.limits);
            stack.push(pieces.split_off(count));
            let (verdict, reason) = match self.request(tenant, &pieces, encoder).await {
                Ok(answer) => answer,
                Err(failure) => {
                    self.outcome.is_away = true;
                    self.outcome.failure.get_or_insert(failure);
                    self.leave(pieces, stack);
                    return false;
                }
            };
            match verdict {
                Verdict::Written => self.outcome.written.append(&mut pieces),
                Verdict::Partly { lost } => {
                    self.lose(&pieces, lost.unwrap_or(1));
                    self.outcome.rejection = self.outcome.rejection.take().or(reason);
                }
                Verdict::Split | Verdict::Reject => {
                    let halves = if verdict == Verdict::Split { self.halves(&pieces) } else { None };
                    if let Some((first, second)) = halves {
                        stack.extend([second, first]);
                        continue;
                    }
                    self.outcome.rejected.append(&mut pieces);
                    self.outcome.rejection = self.outcome.rejection.take().or(reason);
                }
                Verdict::OtherVersion(doubt) => {
                    self.outcome.doubt = Some(doubt);
                    self.leave(pieces, stack);
                    return false;
                }
                Verdict::Retry => {
                    self.outcome.failure = self.outcome.failure.take().or(reason);
                    self.leave(pieces, stack);
                    // A tenant's limit is not that of the others.
                    return tenant.is_some();
                }
            }
        }
        true
    }

    /// Sends one request; returns what its answer means, and why samples are not written.
    async fn request(
        &mut self,
        tenant: Option<&HeaderValue>,
        pieces: &[Piece],
        encoder: &mut Encoder,
    ) -> Result<(Verdict, Option<BoxError>), BoxError> {
        let Round { endpoint, version, attempt, can_change, .. } = self.round;
        let body = match encoder.compressed() {
            Ok(body) => Bytes::copy_from_slice(body),
            Err(error) => return Ok((Verdict::Reject, Some(error.into()))),
        };
        self.outcome.requests += 1;
        self.outcome.bytes += body.len();
        let answer = endpoint.send(Outgoing { version, body, tenant, attempt }).await?;
        let samples = pieces.iter().map(|piece| u64::from(piece.len)).sum();
        // Once the receiver has written anything of this version, it is the samples that it refuses.
        let verdict = answer.judge(Sent { version, samples, can_change, is_proven: self.is_proven });
        self.outcome.is_away |= verdict == Verdict::Retry && answer.status != StatusCode::TOO_MANY_REQUESTS;
        self.is_proven |= verdict == Verdict::Written && version == Version::Two;
        self.outcome.retry_after = self.outcome.retry_after.max(answer.retry_after);
        let said = || format!("{:?} answered {}", endpoint.address().to_string(), answer.status);
        let reason = match (verdict, answer.error) {
            (Verdict::Written | Verdict::OtherVersion(_), _) => return Ok((verdict, None)),
            (Verdict::Partly { lost }, error) => {
                let source = error.unwrap_or_else(|| said().into());
                Partly { lost: lost.map_or("some".to_owned(), |lost| lost.to_string()), samples, source }.into()
            }
            (_, Some(error)) => error,
            (_, None) => {
                let advice = "it does not take version 2.0; set `protocol` to \"auto\"";
                format!("{} without saying what was written, so {advice}", said()).into()
            }
        };
        Ok((verdict, Some(reason)))
    }

    /// Cuts refused pieces in two; `None` if there is but one sample, or no request left for the search.
    fn halves(&mut self, pieces: &[Piece]) -> Option<(Vec<Piece>, Vec<Piece>)> {
        self.search = self.search.checked_sub(2)?;
        if let [one] = pieces {
            let (first, second) = self.round.collector.set().split(*one, (one.len / 2).max(1));
            return Some((vec![first], vec![second?]));
        }
        let (first, second) = pieces.split_at(pieces.len() / 2);
        Some((first.to_vec(), second.to_vec()))
    }

    /// Notes pieces of which the receiver has written all but some. Which ones it does not say: the numbers count.
    fn lose(&mut self, pieces: &[Piece], lost: u64) {
        let (mut at, mut left) = (pieces.len(), lost);
        while at > 0 && left > 0 {
            at -= 1;
            left = left.saturating_sub(pieces[at].len.into());
        }
        self.outcome.written.extend_from_slice(&pieces[..at]);
        self.outcome.rejected.extend_from_slice(&pieces[at..]);
    }

    fn leave(&mut self, pieces: Vec<Piece>, stack: Vec<Vec<Piece>>) {
        self.outcome.unsent.extend(pieces.into_iter().chain(stack.into_iter().flatten()));
    }
}

/// The receiver has not written all samples of a request.
#[derive(Debug, thiserror::Error)]
#[error("{lost} of {samples} samples of a request are refused, the others are written")]
struct Partly {
    lost: String,
    samples: u64,
    source: BoxError,
}
