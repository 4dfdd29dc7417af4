//! What a connection waits for, and by when it must be there.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Deadlines of one connection.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// The answer to a ping.
    pub ping: Option<Instant>,
    /// The answer to the subscription.
    pub grant: Option<Instant>,
    /// A message.
    pub message: Option<Instant>,
    /// Any event.
    pub life: Option<Instant>,
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    Ping,
    Grant,
    Message,
    /// Anything at all, even that a ping was sent: something blocks the socket.
    Life,
}

impl Deadlines {
    /// The first to come, if any.
    fn first(&self) -> Option<(Instant, Overdue)> {
        let all = [
            (self.ping, Overdue::Ping),
            (self.grant, Overdue::Grant),
            (self.message, Overdue::Message),
            (self.life, Overdue::Life),
        ];
        all.into_iter().filter_map(|(at, what)| Some((at?, what))).min_by_key(|(at, _)| *at)
    }
}

/// Wakes at the first deadline. It is set once for many waits, since most deadlines move on before they come: a timer for
/// each wait would cost a busy connection more than the wait.
pub struct Alarm(Pin<Box<Sleep>>);

/// An alarm that nobody has set.
const FAR: Duration = Duration::from_secs(86_400);

impl Alarm {
    pub fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now() + FAR)))
    }

    /// Waits for a deadline; for ever without one. May be cancelled.
    pub async fn passed(&mut self, due: &Deadlines) -> Overdue {
        let first = due.first().map_or_else(|| Instant::now() + FAR, |(at, _)| at);
        if first < self.0.deadline() || self.0.is_elapsed() {
            self.0.as_mut().reset(first);
        }
        loop {
            self.0.as_mut().await;
            let next = match due.first() {
                Some((at, what)) if at <= Instant::now() => return what,
                Some((at, _)) => at,
                None => Instant::now() + FAR,
            };
            self.0.as_mut().reset(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_first_counts() {
        let (mut alarm, now) = (Alarm::new(), Instant::now());
        let life = Some(now + 3 * SECOND);
        let mut due = Deadlines { grant: Some(now + 2 * SECOND), life, ..Deadlines::default() };
        assert_eq!(alarm.passed(&due).await, Overdue::Grant);
        due = Deadlines { ping: Some(now + 4 * SECOND), life, ..Deadlines::default() };
        assert_eq!(alarm.passed(&due).await, Overdue::Life);
        due.life = None;
        assert_eq!(alarm.passed(&due).await, Overdue::Ping);
        assert_eq!(now.elapsed(), 4 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_on_is_waited_for_again() {
        let (mut alarm, now) = (Alarm::new(), Instant::now());
        let mut due = Deadlines { message: Some(now + SECOND), ..Deadlines::default() };
        assert!(tokio::time::timeout(SECOND / 2, alarm.passed(&due)).await.is_err());
        due.message = Some(now + 5 * SECOND);
        assert_eq!(alarm.passed(&due).await, Overdue::Message);
        assert_eq!(now.elapsed(), 5 * SECOND);
        // And one that comes earlier than the alarm is set for.
        due = Deadlines { life: Some(now + 9 * SECOND), ..Deadlines::default() };
        assert!(tokio::time::timeout(SECOND, alarm.passed(&due)).await.is_err());
        due.ping = Some(now + 7 * SECOND);
        assert_eq!(alarm.passed(&due).await, Overdue::Ping);
        assert_eq!(now.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_it_waits() {
        let waited = tokio::time::timeout(5 * FAR, Alarm::new().passed(&Deadlines::default())).await;
        assert!(waited.is_err());
    }
}
