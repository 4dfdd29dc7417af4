//! What a message says beside topic and payload: that it was retained, and its properties.

use std::hash::BuildHasher;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::model::{SeriesBuilder, Value};

use super::client::{Message, Properties};
use super::config::{Retained, Settings};
use super::consumer::{ConsumerStats, text};
use super::properties::PropertyRules;

/// Tag of metrics from retained messages.
const RETAINED: (&[u8], &[u8]) = (b"retained", b"true");

/// What of it is wanted. Empty for most messages, and free then.
pub struct Labels<'a> {
    retained: bool,
    properties: Option<(&'a PropertyRules, &'a Properties)>,
}

impl<'a> Labels<'a> {
    pub fn of(settings: &'a Settings, message: &'a Message) -> Self {
        Self {
            retained: message.retain && settings.options.retained == Retained::Tag,
            properties: settings.properties.as_ref().zip(message.properties.as_deref()),
        }
    }

    /// A hash of the topic with all that changes the series of its metrics.
    pub fn hash(&self, hasher: &impl BuildHasher, topic: &[u8]) -> u64 {
        let mut hash = hasher.hash_one(topic);
        if self.retained {
            hash = hasher.hash_one((hash, RETAINED));
        }
        if let Some((rules, properties)) = self.properties {
            for tag in rules.tags(properties) {
                hash = hasher.hash_one((hash, tag));
            }
        }
        hash
    }

    /// Adds the tags. The topic comes later and wins: anybody who may publish can send properties.
    pub fn name_series(&self, builder: &mut SeriesBuilder) {
        if let Some((rules, properties)) = self.properties {
            for (name, value) in rules.tags(properties) {
                builder.set_tag(name.as_bytes(), value.as_bytes());
            }
        }
        if self.retained {
            builder.set_tag(RETAINED.0, RETAINED.1);
        }
    }

    pub fn has_properties(&self) -> bool {
        self.properties.is_some()
    }

    /// Sets time and fields that are asked for on the metrics from index `first` on. What is wrong with them is told, and
    /// counted as problem `property`.
    pub fn apply(&self, topic: &[u8], accumulator: &mut Accumulator, first: usize, stats: &mut ConsumerStats) {
        let Some((rules, properties)) = self.properties else { return };
        let time = rules.time(properties).unwrap_or_else(|problem| {
            stats.refused("property");
            accumulator.frequent_problem(format_args!("topic {:?}: {problem}; the time stays", text(topic)));
            None
        });
        let left_out = rules.left_out(properties);
        if left_out > 0 {
            stats.refused("property");
            accumulator.frequent_problem(format_args!(
                "topic {:?}: {left_out} user properties beyond {} that may become tags",
                text(topic),
                super::properties::MAX_TAGS
            ));
        }
        let expiry = rules.expiry.as_ref().zip(properties.expiry);
        let batch = accumulator.batch().0;
        for index in first..batch.len() {
            let mut metric = batch.get_mut(index);
            if let Some(time) = time {
                metric.set_time(time);
            }
            if let Some((key, seconds)) = expiry {
                metric.set_field(key.clone(), Value::Uint(u64::from(seconds)));
            }
        }
    }
}
