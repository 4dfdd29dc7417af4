//! What topics say: filters that match them, and the patterns of `topic_parsing`.

use heliograph_core::model::{Key, SeriesBuilder, Value};
use heliograph_core::number::{parse_float, parse_int10, parse_uint10};
use serde::Deserialize;
use std::collections::HashMap;

/// One `[[inputs.mqtt_consumer.topic_parsing]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicParsingOptions {
    /// Which topics the entry is for: literals, `+` for one level, one `#` for any number of levels.
    pub topic: String,
    /// At most one named element; its level becomes the measurement.
    pub measurement: String,
    /// Named elements become tags.
    pub tags: String,
    /// Named elements become fields.
    pub fields: String,
    /// `int`, `uint` or `float` for fields that are not to be texts.
    pub types: HashMap<String, String>,
}

/// A compiled entry.
#[derive(Clone, Debug)]
pub struct TopicParsing {
    literals: Vec<(Place, String)>,
    measurement: Option<Place>,
    tags: Vec<(Place, String)>,
    fields: Vec<(Place, String, FieldType)>,
    levels: Levels,
}

/// Where a level stands in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    FromStart(usize),
    /// 0 is the last level.
    FromEnd(usize),
}

#[derive(Clone, Copy, Debug)]
enum Levels {
    Exactly(usize),
    AtLeast(usize),
}

#[derive(Clone, Debug)]
enum FieldType {
    Text,
    Int,
    Uint,
    Float,
    /// Refused at the first message, as Telegraf does.
    Unknown(String),
}

/// An entry that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("topic_parsing: {0}")]
pub struct TopicParsingError(String);

/// A level that cannot become the field it should be.
#[derive(Debug, thiserror::Error)]
#[error("unable to convert field {value:?} to type {kind}: {reason}")]
pub struct TopicFieldError {
    value: String,
    kind: &'static str,
    reason: String,
}

impl TopicParsing {
    /// Compiles an entry. Fails on patterns whose lengths do not fit, naming the part.
    pub fn new(options: &TopicParsingOptions) -> Result<Self, TopicParsingError> {
        let topic: Vec<&str> = options.topic.split('/').collect();
        let any_length = topic.contains(&"#");
        if topic.iter().filter(|level| **level == "#").count() > 1 {
            return Err(TopicParsingError(format!("`topic` {:?} has more than one `#`", options.topic)));
        }
        let measurement = named(&options.measurement);
        if measurement.len() > 1 {
            let second = &measurement[1].1;
            return Err(TopicParsingError(format!(
                "`measurement` {:?} names more than one level: {second:?} is the second",
                options.measurement
            )));
        }
        if !any_length {
            let fits = |part: &str, pattern: &str, wanted: bool| match levels(pattern) == topic.len() {
                false if wanted => Err(TopicParsingError(format!(
                    "`{part}` {pattern:?} has {} levels, but `topic` {:?} has {}",
                    levels(pattern),
                    options.topic,
                    topic.len()
                ))),
                _ => Ok(()),
            };
            fits("measurement", &options.measurement, !measurement.is_empty())?;
            fits("fields", &options.fields, !options.fields.is_empty())?;
            fits("tags", &options.tags, !options.tags.is_empty())?;
        }
        let parts = [&options.measurement, &options.tags, &options.fields];
        let longest = parts.iter().map(|part| if part.is_empty() { 0 } else { levels(part) }).max().unwrap_or(0);
        let levels = if any_length {
            Levels::AtLeast(longest.max(topic.len() - 1))
        } else {
            Levels::Exactly(longest.max(topic.len()))
        };
        let literals = places(&options.topic).filter(|(_, level)| !matches!(*level, "+" | "#")).map(owned).collect();
        let field_type = |name: &str| match options.types.get(name).map(String::as_str) {
            None => FieldType::Text,
            Some("int") => FieldType::Int,
            Some("uint") => FieldType::Uint,
            Some("float") => FieldType::Float,
            Some(other) => FieldType::Unknown(other.to_string()),
        };
        Ok(Self {
            literals,
            measurement: measurement.first().map(|(place, _)| *place),
            tags: named(&options.tags),
            fields: named(&options.fields)
                .into_iter()
                .map(|(place, name)| {
                    let kind = field_type(&name);
                    (place, name, kind)
                })
                .collect(),
            levels,
        })
    }

    /// Whether the entry is for this topic.
    fn matches(&self, levels: &[&str]) -> bool {
        let length_fits = match self.levels {
            Levels::Exactly(n) => levels.len() == n,
            Levels::AtLeast(n) => levels.len() >= n,
        };
        length_fits && self.literals.iter().all(|(place, literal)| place.of(levels) == Some(literal.as_str()))
    }

    /// Sets measurement and tags if the entry is for this topic.
    pub fn name_series(&self, topic: &str, builder: &mut SeriesBuilder) {
        let levels: Vec<&str> = topic.split('/').collect();
        if !self.matches(&levels) {
            return;
        }
        if let Some(level) = self.measurement.and_then(|place| place.of(&levels)) {
            builder.set_name(level.as_bytes());
        }
        for (place, name) in &self.tags {
            if let Some(level) = place.of(&levels) {
                builder.set_tag(name.as_bytes(), level.as_bytes());
            }
        }
    }

    /// Adds the fields that this topic gives to `fields`.
    pub fn add_fields(&self, topic: &str, fields: &mut Vec<(Key, Value)>) -> Result<(), TopicFieldError> {
        let levels: Vec<&str> = topic.split('/').collect();
        if !self.matches(&levels) {
            return Ok(());
        }
        for (place, name, kind) in &self.fields {
            if let Some(level) = place.of(&levels) {
                fields.push((Key::intern(name.as_bytes()), convert(level, kind)?));
            }
        }
        Ok(())
    }
}

impl Place {
    fn of<'a>(self, levels: &[&'a str]) -> Option<&'a str> {
        match self {
            Self::FromStart(i) => levels.get(i),
            Self::FromEnd(i) => levels.len().checked_sub(i + 1).and_then(|at| levels.get(at)),
        }
        .copied()
    }
}

/// Every element with its place: behind a `#` counted from the end.
fn places(pattern: &str) -> impl Iterator<Item = (Place, &str)> {
    let elements: Vec<&str> = pattern.split('/').collect();
    let count = elements.len();
    let mut behind = false;
    elements.into_iter().enumerate().map(move |(i, element)| {
        behind |= element == "#";
        (if behind { Place::FromEnd(count - 1 - i) } else { Place::FromStart(i) }, element)
    })
}

/// The elements that name a level; of two with one name the last.
fn named(pattern: &str) -> Vec<(Place, String)> {
    let mut named: Vec<(Place, String)> = Vec::new();
    for (place, name) in places(pattern).filter(|(_, element)| !matches!(*element, "" | "_" | "#")) {
        named.retain(|(_, earlier)| earlier != name);
        named.push((place, name.to_string()));
    }
    named
}

fn owned((place, text): (Place, &str)) -> (Place, String) {
    (place, text.to_string())
}

/// Number of levels, a `#` not counted.
fn levels(pattern: &str) -> usize {
    pattern.split('/').filter(|element| *element != "#").count()
}

fn convert(level: &str, kind: &FieldType) -> Result<Value, TopicFieldError> {
    let failed = |kind, reason: String| TopicFieldError { value: level.to_string(), kind, reason };
    let bytes = level.as_bytes();
    match kind {
        FieldType::Text => Ok(Value::from(level)),
        FieldType::Int => parse_int10(bytes).map(Value::Int).map_err(|error| failed("int", error.to_string())),
        FieldType::Uint => parse_uint10(bytes).map(Value::Uint).map_err(|error| failed("uint", error.to_string())),
        FieldType::Float => parse_float(bytes).map(Value::Float).map_err(|error| failed("float", error.to_string())),
        FieldType::Unknown(name) => Err(failed("as configured", format!("{name:?} is none of int, uint, float"))),
    }
}

/// Group and filter of a shared subscription.
pub fn shared_group(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/").map(|shared| shared.split_once('/').unwrap_or((shared, "")))
}

/// A subscription filter is well-formed (MQTT 3.1.1, section 4.7.1); the error says what is not.
pub fn check_filter(filter: &str) -> Result<(), &'static str> {
    let filter = match shared_group(filter) {
        None if filter == "$share" => return Err("a shared subscription is written $share/<group>/<filter>"),
        None => filter,
        Some((group, rest)) if !group.is_empty() && !rest.is_empty() && !group.contains(['+', '#']) => rest,
        Some(_) => return Err("a shared subscription is written $share/<group>/<filter>"),
    };
    if filter.is_empty() {
        return Err("it is empty");
    }
    if filter.len() > 65_535 {
        return Err("it is longer than 65,535 bytes");
    }
    if filter.contains('\0') {
        return Err("it holds a NUL character");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        if level.contains('#') && !(level == "#" && last) {
            return Err("`#` must stand alone as the last level");
        }
        if level.contains('+') && level != "+" {
            return Err("`+` must stand alone in its level");
        }
    }
    Ok(())
}

/// Whether a subscription filter matches a topic.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    let filter = shared_group(filter).map_or(filter, |(_, rest)| rest);
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        if pattern == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if pattern == "+" || pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(topic: &str, measurement: &str, tags: &str, fields: &str) -> TopicParsingOptions {
        TopicParsingOptions {
            topic: topic.into(),
            measurement: measurement.into(),
            tags: tags.into(),
            fields: fields.into(),
            types: [("seq".to_string(), "int".to_string())].into(),
        }
    }

    fn parse(options: &TopicParsingOptions, topic: &str) -> String {
        let parsing = TopicParsing::new(options).unwrap();
        let mut builder = SeriesBuilder::new();
        builder.start(b"m");
        parsing.name_series(topic, &mut builder);
        let mut fields = Vec::new();
        let outcome = parsing.add_fields(topic, &mut fields);
        let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value:?}")).collect();
        format!("{}{fields}{}", builder.build(), outcome.map_or_else(|error| format!(" ! {error}"), |()| String::new()))
    }

    fn refused(options: &TopicParsingOptions) -> String {
        TopicParsing::new(options).unwrap_err().to_string()
    }

    #[test]
    fn names_and_tags_by_position() {
        let entry = options("telegraf/+/cpu/+", "_/_/measurement/_", "_/host/_/core", "");
        assert_eq!(parse(&entry, "telegraf/h1/cpu/23"), "cpu,core=23,host=h1");
        assert_eq!(parse(&entry, "telegraf/h1/mem/23"), "m");
        assert_eq!(parse(&entry, "telegraf/h1/cpu"), "m");
    }

    #[test]
    fn behind_a_hash_levels_count_from_the_end() {
        let entry = options("plant/#/state", "#/kind/_", "_/line/#", "");
        assert_eq!(parse(&entry, "plant/a/b/temp/state"), "temp,line=a");
        assert_eq!(parse(&entry, "plant/x/state"), "x,line=x");
        assert_eq!(parse(&entry, "plant/state"), "plant,line=state");
        assert_eq!(parse(&entry, "plant"), "m");
    }

    #[test]
    fn fields_get_their_types() {
        let entry = options("s/+/+", "", "", "_/unit/seq");
        assert_eq!(parse(&entry, "s/C/7"), "m unit=Text(\"C\") seq=Int(7)");
        assert!(parse(&entry, "s/C/x7").contains("unable to convert field \"x7\" to type int"));
    }

    #[test]
    fn the_last_of_two_equal_names_wins() {
        assert_eq!(parse(&options("+/+", "", "a/a", ""), "x/y"), "m,a=y");
    }

    #[test]
    fn lengths_must_fit() {
        assert!(refused(&options("a/+", "", "a/b/c", "")).contains("tags"));
        assert!(refused(&options("a/+", "", "", "a")).contains("fields"));
        assert!(refused(&options("a/+", "x", "", "")).contains("measurement"));
        assert!(refused(&options("", "", "a/b", "")).contains("tags"));
        assert!(refused(&options("#/a/#", "", "", "")).contains("more than one"));
        assert!(refused(&options("a/b", "x/y", "", "")).contains("second"));
        assert!(TopicParsing::new(&options("a/#", "", "a/b/c", "")).is_ok());
    }

    #[test]
    fn filters_are_checked() {
        for good in ["#", "a/+/b", "+", "/", "a//b", "$share/g/a/#", "$SYS/#"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a/#/b",
            "a#",
            "a+/b",
            "$share/g",
            "$share//x",
            "$share/+/x",
            "$share/g/",
            "$share/g/a#",
            "$share",
            "a\0",
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_match() {
        for (filter, topic) in [("#", "a/b"), ("a/#", "a"), ("a/#", "a/b/c"), ("+/b", "a/b"), ("$share/g/a/+", "a/b")] {
            assert!(filter_matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [("a", "a/b"), ("a/+", "a"), ("a/b", "a"), ("+", "a/b")] {
            assert!(!filter_matches(filter, topic), "{filter} {topic}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_on_any_topic(topic in "[a+#_/]{0,12}", tags in "[a+#_/]{0,12}", name in "[a+#_/]{0,6}", on in "[a/]{0,14}") {
            let options = options(&topic, &name, &tags, &tags);
            if let Ok(parsing) = TopicParsing::new(&options) {
                let mut builder = SeriesBuilder::new();
                builder.start(b"m");
                parsing.name_series(&on, &mut builder);
                prop_assert!(parsing.add_fields(&on, &mut Vec::new()).is_ok());
            }
        }
    }
}
