//! The fields of the metric being read: the last of equal keys wins, and a known sequence of keys costs comparisons alone.

use std::vec::Drain;

use hashbrown::HashMap;
use heliograph_core::model::{Field, Key, Value};
use heliograph_core::parse::KeyCache;

/// Collects fields in memory that is used again.
///
/// It remembers the keys of the metric before: while the next one brings the same in the same order, each key is found
/// by one comparison, and none can come twice.
#[derive(Debug, Default)]
pub(super) struct FieldList {
    fields: Vec<Field>,
    /// Distinct; begins with the keys of `fields`.
    keys: Vec<Key>,
    cache: KeyCache,
    /// Places of keys, once there are many.
    places: HashMap<Key, usize>,
}

/// Up to this many fields a walk is quicker than a hash.
const FEW: usize = 32;
/// Keys remembered from one metric to the next.
const REMEMBERED: usize = 1024;

impl FieldList {
    /// Forgets the fields of the metric before.
    #[inline]
    pub(super) fn start(&mut self) {
        self.fields.clear();
        if !self.places.is_empty() {
            self.places.clear();
        }
    }

    /// Sets a field, replacing the value of an equal key.
    #[inline]
    pub(super) fn set(&mut self, key: &[u8], value: Value) {
        match self.keys.get(self.fields.len()) {
            Some(expected) if expected.as_bytes() == key => {
                let key = expected.clone();
                self.append(key, value);
            }
            _ => self.set_unexpected(key, value),
        }
    }

    fn set_unexpected(&mut self, key: &[u8], value: Value) {
        let place = if self.fields.len() <= FEW {
            self.fields.iter().position(|field| field.key.as_bytes() == key)
        } else {
            self.places.get(key).copied()
        };
        if let Some(place) = place {
            self.fields[place].value = value;
            return;
        }
        let key = self.cache.get(key);
        self.keys.truncate(self.fields.len());
        self.keys.push(key.clone());
        self.append(key, value);
    }

    fn append(&mut self, key: Key, value: Value) {
        let count = self.fields.len();
        if count >= FEW {
            if count == FEW {
                self.places.extend(self.fields.iter().enumerate().map(|(place, field)| (field.key.clone(), place)));
            }
            self.places.insert(key.clone(), count);
        }
        self.fields.push(Field { key, value });
    }

    /// Takes the fields out.
    #[inline]
    pub(super) fn take(&mut self) -> Drain<'_, Field> {
        if self.keys.len() > REMEMBERED {
            self.keys = Vec::new();
            self.places = HashMap::new();
        }
        self.fields.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_the_last_value_of_each_key_in_order_of_the_first(
            metrics in prop::collection::vec(prop::collection::vec((0u8..50, any::<i64>()), 0..80), 1..5),
        ) {
            let mut list = FieldList::default();
            for metric in metrics {
                list.start();
                let mut model: Vec<(Vec<u8>, i64)> = Vec::new();
                for (key, value) in metric {
                    let key = vec![key];
                    list.set(&key, Value::Int(value));
                    match model.iter_mut().find(|(k, _)| *k == key) {
                        Some(entry) => entry.1 = value,
                        None => model.push((key, value)),
                    }
                }
                let got: Vec<_> = list.take().map(|field| (field.key.as_bytes().to_vec(), field.value)).collect();
                let want: Vec<_> = model.into_iter().map(|(key, value)| (key, Value::Int(value))).collect();
                prop_assert_eq!(got, want);
            }
        }
    }
}
