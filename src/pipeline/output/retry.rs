//! When an output tries again after a failed write.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::schedule::Random;

/// How an output stands with its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The last write succeeded, or there was none.
    Idle,
    /// A write is under way, after so many failures in a row.
    Writing {
        /// How many writes before it failed.
        failures: u32,
    },
    /// The last write failed, or the backend asked to be left alone.
    Backoff {
        /// When to try again.
        until: Instant,
        /// How many writes have failed in a row.
        failures: u32,
        /// The backend asked for this pause: nobody but the last flush cuts it short.
        asked: bool,
    },
}

/// What the options say (`retry_initial`, `retry_max`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Longest pause after the first failure; it doubles with each further one.
    pub initial: Duration,
    /// Longest pause of all, but for one that the backend asks for.
    pub max: Duration,
}

/// The state of one output, and how it moves on.
#[derive(Debug)]
pub struct Retry {
    state: State,
    policy: Policy,
    random: Random,
}

/// Longest pause that a backend may ask for; a mistake in its answer is not to stop the output for ever.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

impl Policy {
    /// The options, or what fits an output that flushes as often: first retries come soon, since most failures are
    /// short, and later ones no more rarely than with the default `flush_interval`.
    pub fn new(initial: Option<Duration>, max: Option<Duration>, flush_interval: Duration) -> Self {
        let max = max.unwrap_or(flush_interval.max(Duration::from_secs(10)));
        let initial = initial.unwrap_or(flush_interval.min(Duration::from_secs(1)));
        Self { initial: initial.min(max), max }
    }

    /// The longest pause after so many failures in a row.
    fn longest(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

impl Retry {
    /// Idle.
    pub fn new(policy: Policy) -> Self {
        Self { state: State::Idle, policy, random: Random::new() }
    }

    /// Whether nothing stands in the way of a write as soon as there is enough to write.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// When to try again, after a failure.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Backoff { until, .. } => Some(until),
            State::Idle | State::Writing { .. } => None,
        }
    }

    /// Whether a write may begin now.
    pub fn may_write(&self) -> bool {
        self.due().is_none_or(|until| until <= Instant::now())
    }

    /// Ends a pause that the backend has not asked for: somebody wants a write now.
    pub fn hurry(&mut self) {
        if let State::Backoff { failures, asked: false, .. } = self.state {
            self.state = State::Backoff { until: Instant::now(), failures, asked: false };
        }
    }

    /// Ends any pause: there will be no later chance.
    pub fn last_chance(&mut self) {
        self.state = State::Idle;
    }

    /// A write begins; tells whether the one before it failed.
    pub fn begin(&mut self) -> bool {
        let failures = match self.state {
            State::Idle => 0,
            State::Writing { failures } | State::Backoff { failures, .. } => failures,
        };
        self.state = State::Writing { failures };
        failures > 0
    }

    /// The write succeeded, or there is nothing left to write.
    pub fn succeeded(&mut self) {
        self.state = State::Idle;
    }

    /// Nothing was accepted; gives the pause that follows. What the backend asks for counts in place of our own.
    pub fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let failures = match self.state {
            State::Idle => 1,
            State::Writing { failures } | State::Backoff { failures, .. } => failures.saturating_add(1),
        };
        let pause = asked.map(|pause| pause.min(LONGEST_ASKED)).unwrap_or_else(|| {
            // Half of it is random, so that many agents do not come back to a backend in step.
            let half = self.policy.longest(failures) / 2;
            half + self.random.below(half)
        });
        self.state = State::Backoff { until: Instant::now() + pause, failures, asked: asked.is_some() };
        pause
    }

    /// Something was accepted, but the backend asks for a pause before the rest.
    pub fn pause(&mut self, asked: Duration) {
        let until = Instant::now() + asked.min(LONGEST_ASKED);
        self.state = State::Backoff { until, failures: 0, asked: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn retry() -> Retry {
        Retry::new(Policy { initial: SECOND, max: 10 * SECOND })
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let mut retry = retry();
        for longest in [1, 2, 4, 8, 10, 10] {
            retry.begin();
            let (pause, longest) = (retry.failed(None), longest * SECOND);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
            assert!(!retry.may_write());
            tokio::time::advance(pause).await;
            assert!(retry.may_write());
        }
        assert!(retry.begin());
        retry.succeeded();
        assert!(retry.is_idle() && !retry.begin());
        assert!(retry.failed(None) <= SECOND, "it begins anew after a success");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_is_asked_for_holds() {
        let mut retry = retry();
        retry.begin();
        assert_eq!(retry.failed(Some(90 * SECOND)), 90 * SECOND);
        retry.hurry();
        assert!(!retry.may_write());
        retry.last_chance();
        assert!(retry.may_write());
        retry.pause(Duration::MAX);
        assert_eq!(retry.due(), Some(Instant::now() + LONGEST_ASKED));
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_pause_can_be_cut_short() {
        let mut retry = retry();
        retry.begin();
        retry.failed(None);
        retry.hurry();
        assert!(retry.may_write() && retry.begin());
        assert!(retry.failed(None) >= SECOND, "the failures before still count");
    }

    #[test]
    fn the_options_fit_the_flush() {
        let secs = Duration::from_secs;
        let check = |initial, max, flush, (first, last): (Duration, Duration)| {
            assert_eq!(Policy::new(initial, max, flush), Policy { initial: first, max: last });
        };
        check(None, None, secs(10), (secs(1), secs(10)));
        check(None, None, secs(60), (secs(1), secs(60)));
        check(None, None, SECOND / 10, (SECOND / 10, secs(10)));
        check(Some(secs(5)), None, secs(10), (secs(5), secs(10)));
        check(Some(secs(5)), Some(secs(2)), secs(10), (secs(2), secs(2)));
        check(None, Some(secs(300)), secs(10), (secs(1), secs(300)));
    }

    #[test]
    fn a_thousand_failures_are_no_overflow() {
        let policy = Policy { initial: SECOND, max: Duration::MAX };
        assert_eq!(policy.longest(1000), SECOND * u32::MAX);
    }
}
