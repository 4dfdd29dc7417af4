//! The signal that tells tasks to end.

use tokio::sync::watch;

/// The end that tells.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The end that is told; clones are told together.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A pair of ends.
pub fn channel() -> (Stopper, Stop) {
    let (tell, told) = watch::channel(false);
    (Stopper(tell), Stop(told))
}

impl Stopper {
    /// Tells all.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether they were told already.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once told, or once nobody is left who could tell.
    pub async fn requested(&mut self) {
        // An error means that the other end is gone.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
