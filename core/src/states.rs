//! What plugins know again: after a reload, and with `[agent] statefile` after a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Texts by key, shared by all plugins and kept by the agent beyond a configuration.
///
/// A plugin chooses a key that names it however its options change. There is one entry for each plugin that keeps a state,
/// so the configuration bounds them.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<String, String>>,
    changes: watch::Sender<u64>,
}

impl States {
    /// The state of this key.
    pub fn get(&self, key: &str) -> Option<String> {
        self.entries().get(key).cloned()
    }

    /// Replaces the state of this key; the agent writes it to its state file soon, if it has one.
    pub fn set(&self, key: &str, state: String) {
        let before = self.entries().insert(key.to_owned(), state.clone());
        if before.as_ref() != Some(&state) {
            self.0.changes.send_modify(|change| *change += 1);
        }
    }

    /// Adds a state that was kept outside, unless a newer one is here.
    pub fn restore(&self, key: &str, state: String) {
        self.entries().entry(key.to_owned()).or_insert(state);
    }

    /// All of them, by key.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.entries().clone()
    }

    /// Learns of each change by [`Self::set`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_wins_over_what_is_restored() {
        let states = States::default();
        let changes = states.changes();
        states.restore("a", "old".into());
        assert_eq!(states.get("a").as_deref(), Some("old"));
        assert!(!changes.has_changed().unwrap());
        states.set("a", "new".into());
        assert!(changes.has_changed().unwrap());
        states.restore("a", "old".into());
        assert_eq!(states.get("a").as_deref(), Some("new"));
        assert_eq!(states.get("b"), None);
    }

    #[test]
    fn the_same_again_is_no_change() {
        let states = States::default();
        states.set("a", "1".into());
        let changes = states.changes();
        states.set("a", "1".into());
        assert!(!changes.has_changed().unwrap());
    }
}
