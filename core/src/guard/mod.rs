//! Cardinality: which series may exist, held in a table of fingerprints.

mod distinct;
mod table;

pub use distinct::Distinct;
pub use table::{Admission, Budgets, Place, SeriesTable};
