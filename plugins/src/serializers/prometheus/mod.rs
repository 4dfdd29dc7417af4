//! The text format of Prometheus: the last value of every series of a batch.

use heliograph_core::config::{ConfigError, Section};
use heliograph_core::error::BoxError;
use heliograph_core::glob::GlobError;
use heliograph_core::model::{MetricRef, WriteBatch};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use serde::Deserialize;

use crate::common::prometheus::collection::{Collection, CollectionOptions, MetricTypes};
use crate::common::prometheus::names::NameRule;
use crate::common::prometheus::text::{self, TextStyle};

pub(super) static SPEC: SerializerSpec = SerializerSpec {
    name: "prometheus",
    sample: include_str!("sample.conf"),
    build: |section| Ok(Box::new(PrometheusSerializer::take(section)?)),
};

/// The options of the format.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusOptions {
    /// Whether each line has the time of its metric.
    pub prometheus_export_timestamp: bool,
    /// Whether families and samples are sorted.
    pub prometheus_sort_metrics: bool,
    /// Whether texts become labels; otherwise they are left out.
    pub prometheus_string_as_label: bool,
    /// Whether the lines `# HELP` are left out.
    pub prometheus_compact_encoding: bool,
    /// Which names are allowed.
    pub prometheus_name_sanitization: NameRule,
    /// Types that are set by name.
    pub prometheus_metric_types: MetricTypes,
}

/// Writes metrics as text exposition, each call a whole one.
#[derive(Debug)]
pub struct PrometheusSerializer {
    collection: Collection,
    style: TextStyle,
}

impl PrometheusSerializer {
    /// A serializer with these options; fails on a malformed pattern.
    pub fn new(options: PrometheusOptions) -> Result<Self, GlobError> {
        let style = TextStyle {
            has_timestamps: options.prometheus_export_timestamp,
            has_help: !options.prometheus_compact_encoding,
            is_sorted: options.prometheus_sort_metrics,
        };
        let collection = Collection::new(&CollectionOptions {
            names: options.prometheus_name_sanitization,
            string_as_label: options.prometheus_string_as_label,
            types: options.prometheus_metric_types,
        })?;
        Ok(Self { collection, style })
    }

    /// Takes the options out of a section.
    fn take(section: &mut Section) -> Result<Self, ConfigError> {
        Self::new(section.take_struct()?)
            .map_err(|error| section.error_at("prometheus_metric_types", error.to_string()))
    }

    /// Appends the exposition of these metrics.
    fn write<'a>(&mut self, metrics: impl Iterator<Item = MetricRef<'a>>, out: &mut Vec<u8>) {
        // Nothing is kept from call to call, so that no time of addition is needed.
        metrics.for_each(|metric| self.collection.add(metric, 0));
        text::write(&self.collection, self.style, out);
        self.collection.clear();
    }
}

impl Serializer for PrometheusSerializer {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.write(std::iter::once(metric), out);
        Ok(())
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.write(batch.iter(), out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
