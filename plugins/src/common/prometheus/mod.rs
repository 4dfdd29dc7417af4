//! What everything that speaks Prometheus has in common: names, labels, values, and the collection of families.

pub mod collection;
pub mod labels;
pub mod names;
pub mod remote_write;
pub mod text;
pub mod value;
