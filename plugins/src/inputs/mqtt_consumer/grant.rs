//! What the broker says to the subscriptions: what it cannot do, and what it grants.

use rumqttc::QoS;

use super::client::Terms;
use super::config::Settings;
use super::topic::shared_group;

/// Whether a broker with these terms can serve the filters at all; the error names the filter and what is missing.
pub fn check(terms: &Terms, settings: &Settings) -> Result<(), String> {
    let lacks = |what: &str, filter: Option<&String>| match filter {
        Some(filter) => Err(format!("the broker has no {what}, which filter {filter:?} needs")),
        None => Ok(()),
    };
    if terms.no_shared {
        lacks("shared subscriptions", settings.filters.iter().find(|filter| shared_group(filter).is_some()))?;
    }
    if terms.no_wildcards {
        lacks("wildcard subscriptions", settings.filters.iter().find(|filter| filter.contains(['+', '#'])))?;
    }
    Ok(())
}

/// Tells what the broker does less well than it was asked.
pub fn warn(terms: &Terms, settings: &Settings, plugin: &str) {
    if let Some(max) = terms.max_qos.filter(|&max| max < settings.qos as u8) {
        tracing::warn!(plugin, asked = settings.qos as u8, max, "the broker has a lower maximum quality of service");
    }
    if let (Some(asked), Some(given)) = (settings.session_expiry, terms.session_expiry)
        && given < asked
    {
        tracing::warn!(
            plugin,
            asked = %Seconds(asked),
            given = %Seconds(given),
            "the broker keeps the session for a shorter time than session_expiry"
        );
    }
}

/// Tells what the broker made of the filters. A refusal is an error each time: the connection stays, for the other filters.
pub fn tell(results: &[Result<QoS, String>], reason: Option<&str>, settings: &Settings, plugin: &str) {
    for (result, filter) in results.iter().zip(&settings.filters) {
        match result {
            Err(code) => {
                tracing::error!(
                    plugin,
                    filter,
                    code,
                    reason,
                    "the broker refuses the subscription; nothing will arrive for it"
                );
            }
            Ok(granted) if *granted != settings.qos => {
                let granted = *granted as u8;
                tracing::warn!(plugin, filter, granted, reason, "the broker grants a lower quality of service");
            }
            Ok(_) => {}
        }
    }
    if !results.is_empty() && results.iter().all(Result::is_err) {
        tracing::error!(plugin, "the broker refuses every subscription; nothing will arrive at all");
    }
}

/// A session's time as an operator writes it.
struct Seconds(u32);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            u32::MAX => f.write_str("never"),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tls::TlsClientOptions;
    use crate::inputs::mqtt_consumer::options::MqttConsumerOptions;

    fn checked(terms: Terms, topics: &[&str]) -> String {
        let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
        let options = MqttConsumerOptions { topics, ..MqttConsumerOptions::default() };
        let settings = Settings::new(options, TlsClientOptions::default()).unwrap();
        check(&terms, &settings).err().unwrap_or_default()
    }

    #[test]
    fn what_a_broker_lacks() {
        let no_shared = || Terms { no_shared: true, ..Terms::default() };
        let no_wildcards = || Terms { no_wildcards: true, ..Terms::default() };
        assert_eq!(checked(Terms::default(), &["a/#", "$share/g/b"]), "");
        assert_eq!(
            checked(no_shared(), &["a/#", "$share/g/b"]),
            "the broker has no shared subscriptions, which filter \"$share/g/b\" needs"
        );
        assert_eq!(checked(no_shared(), &["a/#"]), "");
        assert!(checked(no_wildcards(), &["a", "a/#"]).ends_with("which filter \"a/#\" needs"));
        assert_eq!(checked(no_wildcards(), &["a"]), "");
    }
}
