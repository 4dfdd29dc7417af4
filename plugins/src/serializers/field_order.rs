//! Fields in ascending order of their keys, without a list of their own for each metric.

use heliograph_core::model::Field;

/// Sorts fields by key in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct FieldOrder(Vec<u32>);

impl FieldOrder {
    /// The fields in ascending order of keys.
    pub(super) fn sorted<'a>(&'a mut self, fields: &'a [Field]) -> impl Iterator<Item = &'a Field> {
        self.0.clear();
        self.0.extend(0..fields.len() as u32);
        self.0.sort_unstable_by(|&a, &b| fields[a as usize].key.cmp(&fields[b as usize].key));
        self.0.iter().map(|&i| &fields[i as usize])
    }
}
