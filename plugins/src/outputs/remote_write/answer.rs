//! What an answer of the receiver means for the samples of its request.

use std::time::Duration;

use heliograph_core::error::BoxError;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::common::http_client::retry_after;
use crate::common::prometheus::remote_write::Version;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long the receiver asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Samples and histograms that were written; `None` without any header that tells.
    pub(super) written: Option<u64>,
    /// The answer as an error, unless it is one of success.
    pub(super) error: Option<BoxError>,
    /// The first line of the body of a refusal.
    pub(super) detail: String,
}

/// What becomes of the samples of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All are written.
    Written,
    /// Some are written, and none of the rest ever will be. How many are not, as far as the receiver says it.
    Partly { lost: Option<u64> },
    /// The receiver does not seem to speak this version.
    OtherVersion(Doubt),
    /// Later they may be.
    Retry,
    /// None is written, and something among them is the reason.
    Split,
    /// None is written and none ever will be.
    Reject,
}

/// How sure it is that the receiver does not take a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It said so, or showed it.
    Certain,
    /// It refused a request of 2.0 without a word of what was written, which may as well be due to the samples.
    Likely,
}

/// What was sent, as far as the meaning of an answer depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) version: Version,
    pub(super) samples: u64,
    /// Whether another version may be tried with these samples.
    pub(super) can_change: bool,
    /// Whether the receiver has taken this version before.
    pub(super) is_proven: bool,
}

/// Headers of 2.0 that tell how much was written.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

impl Answer {
    /// Reads the headers; `now` in nanoseconds since the Unix epoch.
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, now: i64) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_said = WRITTEN.iter().any(|name| headers.contains_key(*name));
        let number = |name: &&str| text(name).and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0);
        // Exemplars are not ours.
        let written = is_said.then(|| WRITTEN[..2].iter().map(number).fold(0, u64::saturating_add));
        Self { status, retry_after: retry_after(headers, now), written, error: None, detail: String::new() }
    }

    /// What becomes of the samples.
    pub(super) fn judge(&self, sent: Sent) -> Verdict {
        let Sent { version, samples, can_change, is_proven } = sent;
        let written = self.written.filter(|_| version == Version::Two);
        match self.status.as_u16() {
            200..=299 => match (version, written) {
                (Version::One, _) => Verdict::Written,
                (Version::Two, Some(written)) if written >= samples => Verdict::Written,
                (Version::Two, Some(written)) => Verdict::Partly { lost: Some(samples - written) },
                // A receiver of 1.0 that does not look at the type of the content finds nothing in it.
                (Version::Two, None) if can_change => Verdict::OtherVersion(Doubt::Certain),
                (Version::Two, None) => Verdict::Reject,
            },
            415 if can_change => Verdict::OtherVersion(Doubt::Certain),
            408 | 429 | 500..=599 => Verdict::Retry,
            // Thanos answers so when it has taken all but some.
            409 => {
                let lost = written.map(|written| samples.saturating_sub(written));
                Verdict::Partly { lost: lost.filter(|lost| *lost > 0) }
            }
            400 if version == Version::Two && written.is_none() && !is_proven && can_change => {
                Verdict::OtherVersion(Doubt::Likely)
            }
            400 if written.is_some_and(|written| written > 0) => {
                Verdict::Partly { lost: Some(samples.saturating_sub(written.unwrap_or_default())) }
            }
            400 if written.is_none() && self.keeps_the_rest() => Verdict::Partly { lost: None },
            // These are about the request and not about what is in it.
            401..=407 | 410 | 411 | 415 | 426 | 431 | 451 => Verdict::Reject,
            400..=499 => Verdict::Split,
            _ => Verdict::Reject,
        }
    }

    /// Whether it comes from Mimir or Cortex, which refuse samples one by one and write the others.
    fn keeps_the_rest(&self) -> bool {
        let per_sample = [
            "err-mimir-sample-",
            "err-mimir-label-",
            "err-mimir-too-",
            "err-mimir-max-series-",
            "err-mimir-missing-metric-name",
        ];
        per_sample.iter().any(|id| self.detail.contains(id))
            // Cortex: `user=NAME: err: out of order sample. timestamp=…, series={…}`.
            || self.detail.contains("user=") && self.detail.contains("series=")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Judges answers to a request of ten samples: status, headers of what was written, body.
    fn check(version: Version, is_proven: bool, answers: &[(u16, &[u64], &str)], expected: Expect) {
        let sent = Sent { version, samples: 10, can_change: true, is_proven };
        let mut lines = String::new();
        for &(status, written, detail) in answers {
            let mut headers = HeaderMap::new();
            for (name, count) in WRITTEN.iter().zip(written) {
                headers.insert(*name, (*count).into());
            }
            let mut answer = Answer::new(StatusCode::from_u16(status).unwrap(), &headers, 0);
            answer.detail = detail.to_owned();
            let stuck = answer.judge(Sent { can_change: false, ..sent });
            let verdict = answer.judge(sent);
            lines += &format!("{status} {written:?} {detail}: {verdict:?}");
            lines += &if stuck == verdict { "\n".to_owned() } else { format!(", else {stuck:?}\n") };
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn version_one() {
        let answers: &[(u16, &[u64], &str)] = &[
            (200, &[], ""),
            (204, &[3], ""),
            (302, &[], ""),
            (400, &[], "out of order sample"),
            (400, &[], "failed pushing: user=a: err: out of bounds. timestamp=x, series={}"),
            (400, &[], "the sample is too old (err-mimir-sample-timestamp-too-old)"),
            (401, &[], ""),
            (404, &[], ""),
            (408, &[], ""),
            (409, &[], ""),
            (413, &[], ""),
            (415, &[], ""),
            (422, &[], ""),
            (429, &[], ""),
            (503, &[], ""),
        ];
        check(
            Version::One,
            false,
            answers,
            expect![[r#"
                200 [] : Written
                204 [3] : Written
                302 [] : Reject
                400 [] out of order sample: Split
                400 [] failed pushing: user=a: err: out of bounds. timestamp=x, series={}: Partly { lost: None }
                400 [] the sample is too old (err-mimir-sample-timestamp-too-old): Partly { lost: None }
                401 [] : Reject
                404 [] : Reject
                408 [] : Retry
                409 [] : Partly { lost: None }
                413 [] : Split
                415 [] : OtherVersion(Certain), else Reject
                422 [] : Split
                429 [] : Retry
                503 [] : Retry
            "#]],
        );
    }

    #[test]
    fn version_two() {
        let answers: &[(u16, &[u64], &str)] = &[
            (200, &[], ""),
            (204, &[10], ""),
            (204, &[6, 4, 7], ""),
            (204, &[6, 3], ""),
            (400, &[], ""),
            (400, &[0], ""),
            (400, &[7], ""),
            (409, &[10], ""),
            (415, &[], ""),
            (500, &[7], ""),
        ];
        check(
            Version::Two,
            false,
            answers,
            expect![[r#"
                200 [] : OtherVersion(Certain), else Reject
                204 [10] : Written
                204 [6, 4, 7] : Written
                204 [6, 3] : Partly { lost: Some(1) }
                400 [] : OtherVersion(Likely), else Split
                400 [0] : Split
                400 [7] : Partly { lost: Some(3) }
                409 [10] : Partly { lost: None }
                415 [] : OtherVersion(Certain), else Reject
                500 [7] : Retry
            "#]],
        );
        check(
            Version::Two,
            true,
            &[(400, &[], ""), (200, &[], "")],
            expect![[r#"
            400 [] : Split
            200 [] : OtherVersion(Certain), else Reject
        "#]],
        );
    }
}
