//! Which version of the protocol the receiver speaks.

use std::time::Duration;

use serde::Deserialize;

use super::answer::Doubt;
use crate::common::prometheus::remote_write::Version;

/// The option `protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Protocol {
    /// 2.0 where the receiver takes it, else 1.0.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "1.0")]
    One,
    #[serde(rename = "2.0")]
    Two,
}

/// What is known of the receiver.
#[derive(Debug)]
pub(super) struct Negotiation {
    protocol: Protocol,
    known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It has said that it wrote samples of a request of 2.0.
    Two,
    /// It does not take 2.0, or did not at the last attempt; the next one is due at this time.
    One {
        until: i64,
    },
}

/// How long a receiver is taken to speak 1.0 alone: it may have been updated after that.
const TRUST: Duration = Duration::from_secs(3600);

impl Negotiation {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, known: Known::Nothing }
    }

    /// The version to write in at `now`, in nanoseconds since the Unix epoch.
    pub(super) fn version(&self, now: i64) -> Version {
        match (self.protocol, self.known) {
            (Protocol::One, _) => Version::One,
            (Protocol::Two, _) => Version::Two,
            (Protocol::Auto, Known::One { until }) if now < until => Version::One,
            (Protocol::Auto, _) => Version::Two,
        }
    }

    /// Whether another version may be tried.
    pub(super) fn is_free(&self) -> bool {
        self.protocol == Protocol::Auto
    }

    /// Whether the receiver has proven that it takes 2.0.
    pub(super) fn is_proven(&self) -> bool {
        self.protocol == Protocol::Two || self.known == Known::Two
    }

    /// Notes that a request of this version was taken.
    pub(super) fn took(&mut self, version: Version, now: i64) {
        match (version, self.known) {
            (Version::Two, _) => self.known = Known::Two,
            (Version::One, Known::One { until }) if now < until => {}
            (Version::One, _) => self.known = Known::One { until: now.saturating_add(TRUST.as_nanos() as i64) },
        }
    }

    /// Notes a doubt about a version; returns the other one.
    pub(super) fn doubt(&mut self, version: Version, doubt: Doubt, now: i64) -> Version {
        match version {
            Version::Two => {
                // An answer that says nothing about versions only counts once the other one was taken.
                if doubt == Doubt::Certain {
                    self.known = Known::Nothing;
                    self.took(Version::One, now);
                }
                Version::One
            }
            Version::One => {
                self.known = Known::Nothing;
                Version::Two
            }
        }
    }
}
