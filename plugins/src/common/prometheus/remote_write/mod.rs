//! Remote-write requests of both versions: samples collected by series, encoded and compressed.
//!
//! A [`Collector`] takes the metrics of a batch in; what does not change from metric to metric, the labels of a series,
//! is worked out once and remembered. An [`Encoder`] then writes any part of what was collected as one request.

mod collector;
mod created;
mod encoder;
mod families;
mod labels;
mod native;
mod series;
mod symbols;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use collector::{Collector, Losses};
pub use encoder::{Encoder, Limits, encode_metadata};
pub use families::{Families, FamilyType, FamilyTypes};
pub use labels::LabelRules;
pub use series::{Dropped, Late, Piece, SeriesSet, StoredLabels, TimeSeries};

/// The versions of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 1.0, `prometheus.WriteRequest`.
    #[default]
    One,
    /// 2.0, `io.prometheus.write.v2.Request`.
    Two,
}
