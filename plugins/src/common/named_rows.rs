//! Rows of a table by name, as one reading of a file gives them, in memory that is used again for the next reading.

use std::ops::Range;

/// Rows in the order in which they were read. Names are unique in the files this is made for.
#[derive(Debug)]
pub struct NamedRows<T> {
    names: Vec<u8>,
    rows: Vec<(Range<usize>, T)>,
}

impl<T> Default for NamedRows<T> {
    fn default() -> Self {
        Self { names: Vec::new(), rows: Vec::new() }
    }
}

impl<T> NamedRows<T> {
    /// Forgets all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.names.clear();
        self.rows.clear();
    }

    /// Adds a row.
    pub fn push(&mut self, name: &[u8], row: T) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.rows.push((start..self.names.len(), row));
    }

    /// Name and content of each row.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.rows.iter().map(|(name, row)| (&self.names[name.clone()], row))
    }

    /// The row of this name. It is looked for at `place` first: there it was in the reading before, unless rows came or
    /// went.
    pub fn find(&self, place: usize, name: &[u8]) -> Option<&T> {
        let is_wanted = |row: &&(Range<usize>, T)| self.names[row.0.clone()] == *name;
        let found = self.rows.get(place).filter(is_wanted).or_else(|| self.rows.iter().rev().find(is_wanted));
        found.map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_at_its_place_and_elsewhere() {
        let mut rows = NamedRows::default();
        rows.push(b"cpu0", 0);
        rows.push(b"cpu2", 2);
        let find = |place, name: &[u8]| rows.find(place, name).copied();
        assert_eq!((find(1, b"cpu2"), find(7, b"cpu2"), find(0, b"cpu1")), (Some(2), Some(2), None));
        rows.clear();
        assert_eq!((rows.find(0, b"cpu0"), rows.iter().count()), (None, 0));
    }
}
