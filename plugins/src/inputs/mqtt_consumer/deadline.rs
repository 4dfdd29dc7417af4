//! What a connection waits for, and by when it must be there.

use tokio::time::Instant;

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
    pub fn first(&self) -> Option<(Instant, Overdue)> {
        let all = [
            (self.ping, Overdue::Ping),
            (self.grant, Overdue::Grant),
            (self.message, Overdue::Message),
            (self.life, Overdue::Life),
        ];
        all.into_iter().filter_map(|(at, what)| Some((at?, what))).min_by_key(|(at, _)| *at)
    }
}

/// Waits for a deadline; for ever without one.
pub async fn passed(deadline: Option<(Instant, Overdue)>) -> Overdue {
    match deadline {
        Some((at, what)) => {
            tokio::time::sleep_until(at).await;
            what
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_counts() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let life = Some(now + 3 * second);
        let mut due = Deadlines { grant: Some(now + 2 * second), life, ..Deadlines::default() };
        assert_eq!(passed(due.first()).await, Overdue::Grant);
        due = Deadlines { ping: Some(now + 4 * second), life, ..Deadlines::default() };
        assert_eq!(passed(due.first()).await, Overdue::Life);
        due.life = None;
        assert_eq!(passed(due.first()).await, Overdue::Ping);
        assert_eq!(now.elapsed(), 4 * second);
        assert!(Deadlines::default().first().is_none());
    }
}
