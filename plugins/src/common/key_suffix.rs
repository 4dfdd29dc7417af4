//! Field keys with endings: `usage` and `_min` give `usage_min`.

use hashbrown::HashMap;
use heliograph_core::model::Key;

/// The keys that come of a field key and a fixed list of endings, each put together once.
#[derive(Debug)]
pub struct KeySuffixes {
    suffixes: Vec<&'static str>,
    known: HashMap<Key, Box<[Key]>>,
}

/// Field keys remembered; data that invents keys starts the memory anew.
const KNOWN: usize = 4096;

impl KeySuffixes {
    /// For these endings.
    pub fn new(suffixes: impl IntoIterator<Item = &'static str>) -> Self {
        Self { suffixes: suffixes.into_iter().collect(), known: HashMap::new() }
    }

    /// The key with each ending, in the order of the endings.
    pub fn get(&mut self, key: &Key) -> &[Key] {
        let Self { suffixes, known } = self;
        if known.len() >= KNOWN && !known.contains_key(key) {
            known.clear();
        }
        known.entry(key.clone()).or_insert_with(|| {
            suffixes.iter().map(|suffix| Key::intern(&[key.as_bytes(), suffix.as_bytes()].concat())).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_in_their_order() {
        let mut keys = KeySuffixes::new(["_min", "_max"]);
        let key = Key::fixed("v");
        assert_eq!(format!("{:?}", keys.get(&key)), r#"["v_min", "v_max"]"#);
        assert!(keys.get(&key)[0].same(&Key::intern(b"v_min")));
    }
}
