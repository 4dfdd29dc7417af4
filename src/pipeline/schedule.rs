//! When an input gathers.

use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::rounding::align_up;
use tokio::time::Instant;

/// The gather times of one input: `first + k·interval + random(0..jitter)`; the jitter does not add up.
///
/// Aligned schedules follow the wall clock, so that all machines gather at the same moment; the others follow the
/// monotonic clock.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    jitter: Duration,
    clock: Clock,
    next: Next,
    random: Random,
}

#[derive(Debug)]
enum Next {
    /// Nanoseconds since the Unix epoch.
    Wall(i64),
    Monotonic(Instant),
}

/// The options that make a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub interval: Duration,
    pub jitter: Duration,
    pub offset: Duration,
    pub round_interval: bool,
}

impl Schedule {
    /// A schedule that starts at or after `start` (wall clock, nanoseconds), the moment before outputs connected.
    pub fn new(timing: Timing, clock: Clock, start: i64) -> Self {
        let Timing { interval, jitter, offset, round_interval } = timing;
        let nanos = interval.as_nanos() as i64;
        let next = if round_interval {
            // The hundredth skips a first interval that would hardly be one.
            Next::Wall(align_up(start.saturating_add(nanos / 100), nanos).saturating_add(offset.as_nanos() as i64))
        } else {
            Next::Monotonic(Instant::now() + offset)
        };
        Self { interval, jitter, clock, next, random: Random::new() }
    }

    /// Waits for the next tick. Ticks missed meanwhile are skipped, but for one.
    pub async fn tick(&mut self) {
        let jitter = self.random.below(self.jitter);
        match self.next {
            Next::Monotonic(at) => {
                tokio::time::sleep_until(at + jitter).await;
                let missed = Instant::now().saturating_duration_since(at).as_nanos() / self.interval.as_nanos();
                self.next = Next::Monotonic(at + self.interval * (missed as u32 + 1));
            }
            Next::Wall(at) => {
                let due = at.saturating_add(jitter.as_nanos() as i64);
                self.sleep_until_wall(due).await;
                let nanos = self.interval.as_nanos() as i64;
                let missed = self.clock.now().saturating_sub(at).max(0) / nanos;
                self.next = Next::Wall(at.saturating_add(nanos.saturating_mul(missed + 1)));
            }
        }
    }

    /// The wall clock may be set while we sleep: it is looked at again at least every interval, and a schedule that
    /// suddenly lies far ahead is laid anew.
    async fn sleep_until_wall(&self, due: i64) {
        let longest = (self.interval + self.jitter).as_nanos() as i64;
        loop {
            let left = due.saturating_sub(self.clock.now());
            if left <= 0 || left > longest.saturating_mul(2) {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(left.min(longest) as u64)).await;
        }
    }
}

/// A small generator of random numbers (SplitMix64); jitter needs no better one.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded from the process's own source of hash seeds.
    pub fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// A duration from zero to below `limit`.
    pub fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        limit.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn first(start: i64, offset: u64) -> i64 {
        let timing = Timing {
            interval: Duration::from_secs(10),
            jitter: Duration::ZERO,
            offset: Duration::from_secs(offset),
            round_interval: true,
        };
        match Schedule::new(timing, Clock::manual(start), start).next {
            Next::Wall(at) => at,
            Next::Monotonic(_) => unreachable!("aligned schedules follow the wall clock"),
        }
    }

    #[test]
    fn the_first_gather_is_at_the_next_multiple_unless_that_is_too_near() {
        assert_eq!(first(9_950_000_000, 0), 20 * SECOND);
        assert_eq!(first(9_850_000_000, 0), 10 * SECOND);
        assert_eq!(first(9_900_000_000, 0), 10 * SECOND);
        assert_eq!(first(9_850_000_000, 3), 13 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn unaligned_schedules_begin_at_once_and_skip_what_they_missed() {
        let timing = Timing {
            interval: Duration::from_secs(10),
            jitter: Duration::ZERO,
            offset: Duration::ZERO,
            round_interval: false,
        };
        let start = Instant::now();
        let mut schedule = Schedule::new(timing, Clock::system(), 0);
        schedule.tick().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(25)).await;
        schedule.tick().await;
        assert_eq!(start.elapsed(), Duration::from_secs(25));
        schedule.tick().await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[test]
    fn jitter_stays_below_its_limit() {
        let mut random = Random::new();
        let limit = Duration::from_millis(7);
        assert!((0..1000).all(|_| random.below(limit) < limit));
        assert_eq!(random.below(Duration::ZERO), Duration::ZERO);
    }
}
