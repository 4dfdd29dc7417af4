//! Keeps a message that repeats itself from filling the log.

use std::time::Duration;

use tokio::time::Instant;

/// Lets a message through at once, then at most once a minute.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

const QUIET: Duration = Duration::from_secs(60);

impl Throttle {
    /// A throttle that has let nothing through yet.
    pub const fn new() -> Self {
        Self { last: None, suppressed: 0 }
    }

    /// `Some(n)` if the message may appear now, `n` having been held back since the last one; else `None`.
    pub fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn once_a_minute_with_the_count_of_the_rest() {
        let mut throttle = Throttle::new();
        let mut admitted = Vec::new();
        for _ in 0..130 {
            admitted.extend(throttle.admit());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(admitted, [0, 59, 59]);
    }
}
