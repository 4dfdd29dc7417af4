//! Prometheus remote-write 1.0: one compressed request a batch.

mod labels;
mod native;
mod request;
mod wire;

use std::fmt;

use heliograph_core::error::BoxError;
use heliograph_core::model::{Field, Kind, MetricRef, Value, WriteBatch};
use heliograph_core::plugin::SerializerSpec;
use heliograph_core::serialize::Serializer;
use heliograph_core::throttle::Throttle;
use serde::Deserialize;

use self::labels::{EncodedList, FieldLabels, native_labels};
use self::native::NativeHistogram;
use self::request::{Dropped, Request};
use crate::common::part_memo::PartMemo;
use crate::common::prometheus::labels::identity;
use crate::common::prometheus::names::Role;
use crate::common::prometheus::value::{count, milliseconds, sample};

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
pub struct RemoteWriteSerializer {
    options: RemoteWriteOptions,
    memo: PartMemo,
    request: Request,
    throttle: Throttle,
}

impl fmt::Debug for RemoteWriteSerializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWriteSerializer").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What was left out of a request.
#[derive(Debug, Default)]
struct Losses {
    count: usize,
    last: Option<Dropped>,
}

impl Losses {
    #[inline]
    fn note(&mut self, result: Result<(), Dropped>) {
        if let Err(reason) = result {
            self.count += 1;
            self.last = Some(reason);
        }
    }
}

impl RemoteWriteSerializer {
    /// A serializer with these options.
    pub fn new(options: RemoteWriteOptions) -> Self {
        Self { options, memo: PartMemo::default(), request: Request::new(), throttle: Throttle::new() }
    }

    /// Appends one request with the metrics; fails only beyond 4 GiB.
    pub fn write<'a>(
        &mut self,
        metrics: impl Iterator<Item = MetricRef<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<(), snap::Error> {
        let mut losses = Losses::default();
        metrics.for_each(|metric| self.add(metric, &mut losses));
        if let Some(reason) = losses.last
            && let Some(suppressed) = self.throttle.admit()
        {
            let (count, series) = (losses.count, self.request.len());
            tracing::warn!(error = %reason, count, series, suppressed, "some samples are not in the remote-write request");
        }
        if self.options.prometheus_sort_metrics {
            self.request.sort();
        }
        self.request.finish(out)
    }

    fn add(&mut self, metric: MetricRef<'_>, losses: &mut Losses) {
        let Self { options, memo, request, .. } = self;
        let with_strings = options.prometheus_string_as_label;
        if metric.kind == Kind::Histogram
            && let Some(histogram) = NativeHistogram::read(metric)
        {
            let labels = native_labels(metric, with_strings);
            let labels = EncodedList(&labels).next().expect("native_labels encodes one list");
            losses.note(request.add_histogram(labels, milliseconds(metric.time), &histogram.encode()));
            return;
        }
        let identity = identity(metric, with_strings);
        let mut parts = match memo.get(identity) {
            Some(parts) if parts.knows_all(metric.fields) => parts,
            _ => {
                let keys = metric.fields.iter().map(|field| field.key.clone());
                memo.learn(identity, keys, &mut FieldLabels::new(metric, with_strings))
            }
        };
        let time = milliseconds(metric.time);
        for field in metric.fields {
            let list = EncodedList(parts.get(&field.key).unwrap_or_default());
            let is_label = with_strings && matches!(field.value, Value::Text(_));
            if !is_label {
                losses.note(add_field(request, metric.kind, field, list, time));
            }
        }
    }
}

/// Adds the samples of a field to the series of its `list`, which stand in the order of [`FieldLabels`].
#[inline]
fn add_field(
    request: &mut Request,
    kind: Kind,
    field: &Field,
    mut list: EncodedList<'_>,
    time: i64,
) -> Result<(), Dropped> {
    let Some(first) = list.next() else {
        return Err(if matches!(kind, Kind::Histogram | Kind::Summary) { Dropped::Shape } else { Dropped::Name });
    };
    if !matches!(kind, Kind::Histogram | Kind::Summary) {
        return request.add(first, time, sample(&field.value).ok_or(Dropped::Value)?);
    }
    match (kind, Role::split(field.key.as_bytes()).0) {
        (Kind::Histogram, Role::Bucket) => {
            let mut bucket = Some(first);
            for _ in 0..3 {
                if let Some(labels) = bucket {
                    request.ensure(labels, time);
                }
                bucket = list.next();
            }
            request.add(bucket.ok_or(Dropped::Shape)?, time, count(&field.value).ok_or(Dropped::Value)? as f64)
        }
        (_, Role::Sum) => request.add(first, time, field.value.as_number().ok_or(Dropped::Value)?),
        (_, Role::Count) => {
            let value = count(&field.value).ok_or(Dropped::Value)? as f64;
            let first = request.add(first, time, value);
            list.map(|labels| request.add(labels, time, value)).fold(first, Result::and)
        }
        _ => request.add(first, time, sample(&field.value).ok_or(Dropped::Value)?),
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
