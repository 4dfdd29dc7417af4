//! Field keys: cheap to clone, cheap to compare, bounded in memory.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, RwLock};

use bstr::BStr;
use hashbrown::HashSet;

/// A field key.
///
/// Keys of plugins are constants, and the first [`FIXED_KEYS`] distinct keys seen in data are kept for the life of the
/// process; both clone without touching a reference count, which matters since every field of every metric holds one.
/// Whatever comes after that (a hostile device that invents keys) is reference-counted and freed with its last metric.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Fixed(&'static [u8]),
    Shared(Arc<[u8]>),
}

/// Distinct data keys that are kept for ever.
const FIXED_KEYS: usize = 8192;
/// Longest data key that is kept for ever, in bytes; with [`FIXED_KEYS`] it bounds the table to 1 MiB.
const FIXED_KEY_BYTES: usize = 128;

static FIXED: LazyLock<RwLock<HashSet<&'static [u8]>>> = LazyLock::new(Default::default);

impl Key {
    /// A key known at compile time.
    pub const fn fixed(key: &'static str) -> Self {
        Self(Repr::Fixed(key.as_bytes()))
    }

    /// The key of these bytes. Takes a process-wide lock: parsers call it once per new key, not once per field
    /// (see [`KeyCache`](crate::parse::KeyCache)).
    pub fn intern(bytes: &[u8]) -> Self {
        if bytes.len() > FIXED_KEY_BYTES {
            return Self(Repr::Shared(bytes.into()));
        }
        if let Some(key) = FIXED.read().expect("no holder of this lock panics").get(bytes) {
            return Self(Repr::Fixed(key));
        }
        let mut fixed = FIXED.write().expect("no holder of this lock panics");
        if let Some(key) = fixed.get(bytes) {
            return Self(Repr::Fixed(key));
        }
        if fixed.len() >= FIXED_KEYS {
            return Self(Repr::Shared(bytes.into()));
        }
        let key: &'static [u8] = Box::leak(bytes.into());
        fixed.insert(key);
        Self(Repr::Fixed(key))
    }

    /// The bytes of the key.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Fixed(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
        }
    }

    /// Whether both are the very same memory: a quick "equal" that may miss, never lie.
    #[inline]
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.as_bytes(), other.as_bytes())
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<&'static str> for Key {
    fn from(key: &'static str) -> Self {
        Self::fixed(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(BStr::new(self.as_bytes()), f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(BStr::new(self.as_bytes()), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interned_twice_is_the_same_memory() {
        assert!(Key::intern(b"usage").same(&Key::intern(b"usage")));
    }

    #[test]
    fn a_long_key_is_equal_but_not_kept() {
        let long = [b'k'; FIXED_KEY_BYTES + 1];
        let (a, b) = (Key::intern(&long), Key::intern(&long));
        assert!(!a.same(&b));
        assert_eq!(a, b);
    }

    #[test]
    fn constants_equal_data_keys() {
        assert_eq!(Key::fixed("total"), Key::intern(b"total"));
    }
}
