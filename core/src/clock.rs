//! The clock that is handed to everything that needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the wall-clock time. Plugins read no other clock, so that a test or a replay can set it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is set or moved.
    pub fn manual(now: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now))))
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        match &self.0 {
            Some(time) => time.load(Ordering::Relaxed),
            None => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => since.as_nanos() as i64,
                Err(before) => -(before.duration().as_nanos() as i64),
            },
        }
    }

    /// Sets a manual clock, forward or back; the system's clock is not ours to set.
    pub fn set(&self, now: i64) {
        if let Some(time) = &self.0 {
            time.store(now, Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on; the system's clock is not ours to move.
    pub fn advance(&self, by: Duration) {
        if let Some(time) = &self.0 {
            time.fetch_add(by.as_nanos() as i64, Ordering::Relaxed);
        }
    }
}
