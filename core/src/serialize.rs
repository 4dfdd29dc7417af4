//! What serializers are.

use crate::error::BoxError;
use crate::model::{MetricRef, WriteBatch};

/// Turns metrics into bytes, appended to a buffer that the caller keeps.
pub trait Serializer: Send {
    /// Appends one metric. An error leaves the buffer as it was.
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Appends a whole batch in the format's own framing. Metrics that cannot be written are left out; an error means
    /// that nothing of the batch can.
    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError>;
}

/// Appends every metric by itself, leaving out those that fail: the framing of formats of lines.
pub fn serialize_each(serializer: &mut dyn Serializer, batch: &WriteBatch, out: &mut Vec<u8>) {
    for metric in batch.iter() {
        let before = out.len();
        if let Err(error) = serializer.serialize(metric, out) {
            out.truncate(before);
            tracing::debug!(error = %error, series = %metric.series, "cannot serialize metric");
        }
    }
}
