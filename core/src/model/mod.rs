//! The metric model: series, fields, metrics and the batches that carry them.
//!
//! Names, keys and text values are byte strings: devices send invalid UTF-8, and it passes unchanged.

mod batch;
mod field;
mod interner;
mod key;
mod series;

pub use batch::{Batch, Kind, MetricMut, MetricRef, Origin, WriteBatch};
pub use field::{Field, Text, Value};
pub use interner::{Interner, InternerLimits};
pub use key::Key;
pub use series::{Series, SeriesBuilder, SeriesRef};
