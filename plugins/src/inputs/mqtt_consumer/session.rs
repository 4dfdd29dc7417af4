//! What the broker's session is subscribed to, as far as this input knows: a broker does not tell.
//!
//! A filter that was taken out of the configuration stays in a session that the broker keeps. So the filters are
//! remembered as a state of the agent, under the client's name, and those that are gone are given back.

use std::collections::VecDeque;

use heliograph_core::states::States;

use super::config::Settings;

/// The session of one connection.
pub struct Session {
    states: States,
    /// Nothing is remembered of a session that ends with the connection.
    key: Option<String>,
    /// What is wanted now.
    filters: Vec<String>,
    /// What `unsubscribe` names.
    unwanted: Vec<String>,
    /// What is still to be given back on this connection; the first has been asked for.
    gone: VecDeque<String>,
    /// What could not be given back.
    stuck: Vec<String>,
}

impl Session {
    pub fn new(settings: &Settings, id: &str, states: States) -> Self {
        let key = settings.options.persistent_session.then(|| format!("inputs.mqtt_consumer {id}"));
        let unwanted = settings.options.unsubscribe.iter().filter(|filter| !settings.filters.contains(filter));
        let (unwanted, filters) = (unwanted.cloned().collect(), settings.filters.clone());
        Self { states, key, filters, unwanted, gone: VecDeque::new(), stuck: Vec::new() }
    }

    /// A connection begins; `kept` if the broker has kept the session.
    pub fn begin(&mut self, kept: bool) {
        self.stuck.clear();
        self.gone.clear();
        if self.key.is_some() && kept {
            let before = self.remembered().into_iter().filter(|filter| !self.filters.contains(filter));
            self.gone = before.collect();
            let unwanted = self.unwanted.iter().filter(|filter| !self.gone.contains(filter));
            let unwanted: Vec<String> = unwanted.cloned().collect();
            self.gone.extend(unwanted);
        }
        // Before it is asked for, so that a kill in between forgets nothing.
        self.remember();
    }

    /// The filter to give back next.
    pub fn next_gone(&self) -> Option<&str> {
        self.gone.front().map(String::as_str)
    }

    /// The answer for that filter has come; tells which it was. One that stays is asked for again on the next connection.
    pub fn given_back(&mut self, stays: bool) -> Option<String> {
        let filter = self.gone.pop_front()?;
        if stays {
            self.stuck.push(filter.clone());
        }
        self.remember();
        Some(filter)
    }

    fn remembered(&self) -> Vec<String> {
        let state = self.key.as_ref().and_then(|key| self.states.get(key));
        // A state that cannot be read is as good as none.
        state.and_then(|state| serde_json::from_str(&state).ok()).unwrap_or_default()
    }

    fn remember(&self) {
        let Some(key) = &self.key else { return };
        let all: Vec<&String> = self.filters.iter().chain(&self.gone).chain(&self.stuck).collect();
        if let Ok(state) = serde_json::to_string(&all) {
            self.states.set(key, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tls::TlsClientOptions;
    use crate::inputs::mqtt_consumer::options::MqttConsumerOptions;

    fn session(states: &States, topics: &[&str], unsubscribe: &[&str]) -> Session {
        let list = |filters: &[&str]| filters.iter().map(|&filter| filter.to_owned()).collect();
        let options = MqttConsumerOptions {
            topics: list(topics),
            unsubscribe: list(unsubscribe),
            persistent_session: true,
            client_id: "me".into(),
            ..MqttConsumerOptions::default()
        };
        Session::new(&Settings::new(options, TlsClientOptions::default()).unwrap(), "me", states.clone())
    }

    fn state(states: &States) -> String {
        states.get("inputs.mqtt_consumer me").unwrap()
    }

    #[test]
    fn what_is_no_longer_wanted_is_given_back() {
        let states = States::default();
        session(&states, &["a", "b"], &[]).begin(false);
        assert_eq!(state(&states), r#"["a","b"]"#);

        let mut next = session(&states, &["b", "c"], &["d", "c"]);
        next.begin(true);
        assert_eq!(state(&states), r#"["b","c","a","d"]"#, "until it is given back");
        assert_eq!(next.next_gone(), Some("a"));
        assert_eq!(next.given_back(false).as_deref(), Some("a"));
        assert_eq!(next.given_back(true).as_deref(), Some("d"));
        assert_eq!(next.next_gone(), None);
        assert_eq!(state(&states), r#"["b","c","d"]"#, "what stays is tried again");
    }

    #[test]
    fn a_new_session_has_nothing_to_give_back() {
        let states = States::default();
        session(&states, &["a"], &[]).begin(true);
        let mut next = session(&states, &["b"], &["c"]);
        next.begin(false);
        assert_eq!(next.next_gone(), None);
        assert_eq!(state(&states), r#"["b"]"#);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_none() {
        let states = States::default();
        states.set("inputs.mqtt_consumer me", "{".into());
        let mut next = session(&states, &["a"], &[]);
        next.begin(true);
        assert_eq!(next.next_gone(), None);
    }
}
