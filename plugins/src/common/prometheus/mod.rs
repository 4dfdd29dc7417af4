//! What everything that speaks Prometheus has in common: names, values, and the collection of families.

pub mod names;

pub mod value;
