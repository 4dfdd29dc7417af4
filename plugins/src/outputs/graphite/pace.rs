//! The rate limit: how many data points go out a second.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use heliograph_core::stats::Count;
use tokio::time::Instant;

/// Lets data points through at a rate, those of one second at once.
pub(super) struct Pace {
    limit: Option<(Limiter, NonZeroU32)>,
    /// Time spent waiting.
    throttled: Count,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Tick>>;

/// There was no room for the data points in time.
#[derive(Debug, thiserror::Error)]
#[error("more data points than {0} a second; those that wait stay, so raise `max_data_points_per_second` or send less")]
pub(super) struct Exhausted(NonZeroU32);

/// The clock of the runtime, which stands still in tests.
struct Ticks;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(Instant);

impl Pace {
    /// At most so many a second; zero is no limit.
    pub(super) fn new(points_per_second: u32, throttled: Count) -> Self {
        let limiter = |most| (RateLimiter::direct_with_clock(Quota::per_second(most), Ticks), most);
        Self { limit: NonZeroU32::new(points_per_second).map(limiter), throttled }
    }

    /// Most data points that may go out at once.
    pub(super) fn burst(&self) -> Option<usize> {
        self.limit.as_ref().map(|(_, most)| most.get() as usize)
    }

    /// Waits until so many may go out; fails without waiting if that is later than `until`.
    pub(super) async fn admit(&self, mut points: usize, until: Instant) -> Result<(), Exhausted> {
        let Some((limiter, most)) = &self.limit else { return Ok(()) };
        while points > 0 {
            // A metric may have more fields than a second has room for.
            let part = u32::try_from(points).ok().and_then(NonZeroU32::new).map_or(*most, |part| part.min(*most));
            match limiter.check_n(part) {
                Ok(Err(not_yet)) => {
                    let now = Instant::now();
                    let wait = not_yet.wait_time_from(Tick(now));
                    if now + wait > until {
                        return Err(Exhausted(*most));
                    }
                    tokio::time::sleep(wait).await;
                    self.throttled.add_time(now.elapsed());
                }
                // More than `most` at once is never asked for.
                Ok(Ok(())) | Err(_) => points -= part.get() as usize,
            }
        }
        Ok(())
    }
}

impl Clock for Ticks {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(Instant::now())
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl std::ops::Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_at_once_and_then_at_the_rate() {
        let pace = Pace::new(100, Count::default());
        let begin = Instant::now();
        let until = begin + Duration::from_secs(4);
        let mut times = Vec::new();
        for points in [60, 40, 50, 0, 250] {
            pace.admit(points, until).await.unwrap();
            times.push(begin.elapsed().as_millis());
        }
        // A timer of the runtime may be a millisecond late.
        assert!(
            times[..2] == [0, 0] && (500..510).contains(&times[2]) && (3000..3020).contains(&times[4]),
            "{times:?}"
        );
        let waited = pace.throttled.get();
        assert!((2_990_000_000..3_020_000_000).contains(&waited), "{waited}");
        assert!(pace.admit(100, until).await.is_ok());
        assert!(pace.admit(1, until).await.is_err());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(pace.admit(100, until).await.is_ok(), "what is allowed at once is so at any time");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit() {
        Pace::new(0, Count::default()).admit(1_000_000, Instant::now()).await.unwrap();
    }
}
