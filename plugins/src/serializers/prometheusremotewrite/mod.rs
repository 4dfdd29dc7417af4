//! Prometheus remote-write 1.0: one compressed request a batch.

use heliograph_core::error::BoxError;
use heliograph_core::model::{MetricRef, WriteBatch};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use heliograph_core::throttle::Throttle;
use serde::Deserialize;

use crate::common::prometheus::remote_write::{Collector, Encoder, LabelRules, Late, Limits, Piece, Version};

pub(super) static SPEC: SerializerSpec = SerializerSpec {
    name: "prometheusremotewrite",
    sample: include_str!("sample.conf"),
    build: |section| Ok(Box::new(RemoteWriteSerializer::new(section.take_struct()?))),
};

/// The options of the format.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteOptions {
    /// Whether series are sorted by their labels.
    pub prometheus_sort_metrics: bool,
    /// Whether texts become labels; otherwise they are left out.
    pub prometheus_string_as_label: bool,
}

/// Writes batches as remote-write requests, encoded and compressed.
#[derive(Debug)]
pub struct RemoteWriteSerializer {
    options: RemoteWriteOptions,
    collector: Collector,
    pieces: Vec<Piece>,
    encoder: Encoder,
    throttle: Throttle,
}

impl RemoteWriteSerializer {
    /// A serializer with these options.
    pub fn new(options: RemoteWriteOptions) -> Self {
        let rules = LabelRules { strings_are_labels: options.prometheus_string_as_label, ..LabelRules::default() };
        Self {
            options,
            collector: Collector::new(rules, Late::Drop),
            pieces: Vec::new(),
            encoder: Encoder::default(),
            throttle: Throttle::new(),
        }
    }

    /// Appends one request with the metrics; fails only beyond 4 GiB.
    pub fn write<'a>(
        &mut self,
        metrics: impl Iterator<Item = MetricRef<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<(), snap::Error> {
        let Self { collector, pieces, encoder, .. } = self;
        collector.start(Version::One);
        metrics.for_each(|metric| collector.add(metric, 0, (0, b"")));
        let losses = collector.losses();
        if let Some(reason) = losses.last
            && let Some(suppressed) = self.throttle.admit()
        {
            let (count, series) = (losses.total(), collector.set().len());
            tracing::warn!(error = %reason, count, series, suppressed, "some samples are not in the remote-write request");
        }
        if self.options.prometheus_sort_metrics {
            collector.sort();
        }
        pieces.clear();
        pieces.extend(collector.set().pieces(u32::MAX));
        encoder.encode(collector, pieces, Limits::default());
        out.extend_from_slice(encoder.compressed()?);
        Ok(())
    }
}

impl Serializer for RemoteWriteSerializer {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(self.write(std::iter::once(metric), out)?)
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(self.write(batch.iter(), out)?)
    }
}

#[cfg(test)]
mod tests;
