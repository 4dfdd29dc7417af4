//! What becomes of a message's MQTT 5 properties: tags, its time, a field.
//!
//! They come from the publisher, so they never replace what the topic says, and only so many become tags.

use heliograph_core::glob::GlobSet;
use heliograph_core::model::Key;
use heliograph_core::timestamp::{TimeValue, TimestampError, TimestampFormat};

use super::client::Properties;
use super::config::OptionError;
use super::options::MqttConsumerOptions;

/// Most user properties of a message that become tags; further ones are left out and counted.
pub const MAX_TAGS: usize = 16;

/// The options about properties, checked.
#[derive(Debug)]
pub struct PropertyRules {
    tags: GlobSet,
    time: Option<(String, TimestampFormat)>,
    /// Field for the seconds until the message expires.
    pub expiry: Option<Key>,
}

/// Why a message keeps its own time.
#[derive(Debug, thiserror::Error)]
#[error("user property {name:?} is no time: {problem}")]
pub struct TimeProblem {
    name: String,
    problem: TimestampError,
}

impl PropertyRules {
    /// The rules; `None` if properties are not asked for.
    pub fn new(options: &MqttConsumerOptions) -> Result<Option<Self>, OptionError> {
        let tags = GlobSet::new(&options.user_properties_as_tags, "").map_err(OptionError::UserProperties)?;
        let name = Some(options.user_property_timestamp.clone()).filter(|name| !name.is_empty());
        let time = match name {
            None => None,
            Some(name) => {
                let format = TimestampFormat::new(&options.user_property_timestamp_format, "");
                Some((name, format.map_err(OptionError::TimestampFormat)?))
            }
        };
        let expiry = Some(options.message_expiry_field.as_bytes()).filter(|key| !key.is_empty()).map(Key::intern);
        let rules = Self { tags, time, expiry };
        Ok(Some(rules).filter(|rules| !rules.tags.is_empty() || rules.time.is_some() || rules.expiry.is_some()))
    }

    /// Names and values of the properties that become tags, as many as may; of two with one name the later one counts.
    pub fn tags<'a>(&'a self, properties: &'a Properties) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.selected(properties).take(MAX_TAGS)
    }

    /// How many properties were to become tags beyond those that may.
    pub fn left_out(&self, properties: &Properties) -> usize {
        if properties.user.len() <= MAX_TAGS { 0 } else { self.selected(properties).skip(MAX_TAGS).count() }
    }

    fn selected<'a>(&'a self, properties: &'a Properties) -> impl Iterator<Item = (&'a str, &'a str)> {
        let user = if self.tags.is_empty() { &[] } else { properties.user.as_slice() };
        let pairs = user.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty() && self.tags.matches(name.as_bytes()))
    }

    /// The time that the message carries, in nanoseconds since the Unix epoch; `None` if it carries none.
    pub fn time(&self, properties: &Properties) -> Result<Option<i64>, TimeProblem> {
        let Some((wanted, format)) = &self.time else { return Ok(None) };
        let Some((_, value)) = properties.user.iter().rfind(|(name, _)| name == wanted) else { return Ok(None) };
        match format.parse(TimeValue::Text(value.as_bytes())) {
            Ok(time) => Ok(Some(time)),
            Err(problem) => Err(TimeProblem { name: wanted.clone(), problem }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(tags: &[&str], format: &str) -> PropertyRules {
        let options = MqttConsumerOptions {
            user_properties_as_tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            user_property_timestamp: "ts".into(),
            user_property_timestamp_format: format.into(),
            ..MqttConsumerOptions::default()
        };
        PropertyRules::new(&options).unwrap().unwrap()
    }

    fn properties(user: &[(&str, &str)]) -> Properties {
        let user = user.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Properties { user, expiry: None }
    }

    #[test]
    fn tags_by_name_and_pattern() {
        let rules = rules(&["site", "fw*"], "unix");
        let properties = properties(&[("site", "a"), ("other", "b"), ("fw-major", "3"), ("fw", ""), ("", "x")]);
        assert_eq!(rules.tags(&properties).collect::<Vec<_>>(), [("site", "a"), ("fw-major", "3")]);
        assert_eq!(rules.left_out(&properties), 0);
    }

    #[test]
    fn no_more_tags_than_may_be() {
        let rules = rules(&["*"], "unix");
        let names: Vec<String> = (0..20).map(|i| format!("p{i}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let properties = properties(&pairs);
        assert_eq!(rules.tags(&properties).count(), MAX_TAGS);
        assert_eq!(rules.left_out(&properties), 4);
    }

    #[test]
    fn times() {
        let time = |format, value| rules(&[], format).time(&properties(&[("ts", value)])).map_err(|e| e.to_string());
        assert_eq!(time("unix", "1700000000"), Ok(Some(1_700_000_000_000_000_000)));
        assert_eq!(time("unix_ms", "1700000000123"), Ok(Some(1_700_000_000_123_000_000)));
        assert_eq!(time("RFC3339", "2023-11-14T22:13:20Z"), Ok(Some(1_700_000_000_000_000_000)));
        assert!(time("unix", "soon").unwrap_err().starts_with("user property \"ts\" is no time: "));
        assert_eq!(rules(&[], "unix").time(&properties(&[])).unwrap(), None);
    }

    #[test]
    fn nothing_asked_for() {
        assert!(PropertyRules::new(&MqttConsumerOptions::default()).unwrap().is_none());
    }
}
