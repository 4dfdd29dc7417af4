//! Options that are secrets: never printed, and read from the secret stores that they refer to.

use std::{cell::RefCell, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};

use super::{error::ConfigError, section::Section};

/// A place that keeps secrets by name.
pub trait SecretStore: Send + Sync {
    /// The content of a secret.
    ///
    /// # Errors
    /// If there is no such secret, or it cannot be read.
    fn get(&self, key: &str) -> Result<Vec<u8>, SecretError>;

    /// Sets a secret.
    ///
    /// # Errors
    /// If it cannot be written; always for a store that can only be read.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), SecretError> {
        let _ = value;
        Err(SecretError::new(format!("cannot set secret {key:?}: the store can only be read")))
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// If it cannot be removed; always for a store that can only be read.
    fn remove(&self, key: &str) -> Result<(), SecretError> {
        Err(SecretError::new(format!("cannot remove secret {key:?}: the store can only be read")))
    }

    /// The names of all secrets, sorted.
    ///
    /// # Errors
    /// If the store cannot be listed.
    fn list(&self) -> Result<Vec<String>, SecretError>;

    /// True if secrets may change while the agent runs and must be read at each use.
    fn is_dynamic(&self) -> bool {
        false
    }
}

/// Why a secret could not be had. It never holds the secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(String);

impl SecretError {
    /// An error with its whole text.
    #[must_use]
    pub fn new(message: impl Into<String>) -> SecretError {
        SecretError(message.into())
    }
}

/// A kind of secret store, as the table of plugins names it.
pub struct SecretStoreSpec {
    /// The `NAME` of `[[secretstores.NAME]]`.
    pub name: &'static str,
    /// The sample configuration.
    pub sample: &'static str,
    /// Builds a store from its table; the store is usable at once.
    pub build: fn(Section) -> Result<Arc<dyn SecretStore>, ConfigError>,
}

impl fmt::Debug for SecretStoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStoreSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The secret stores of a configuration, by their `id`.
#[derive(Default, Clone)]
pub struct SecretStores {
    stores: BTreeMap<String, Arc<dyn SecretStore>>,
}

impl SecretStores {
    /// Adds a store. False, and nothing is added, if the id is taken.
    pub fn insert(&mut self, id: &str, store: Arc<dyn SecretStore>) -> bool {
        match self.stores.entry(id.to_owned()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(store);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// The store with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<dyn SecretStore>> {
        self.stores.get(id)
    }

    /// All stores with their ids, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn SecretStore>)> {
        self.stores.iter().map(|(id, store)| (id.as_str(), store))
    }
}

impl fmt::Debug for SecretStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.stores.keys()).finish()
    }
}

/// An option that is a secret: text that may refer to secret stores as `@{store:key}`, also several times.
///
/// It prints as `***`. Ask for the value with [`Secret::resolve`] at each use, such as every connect: secrets of dynamic
/// stores are read anew then.
#[derive(Clone, Default)]
pub struct Secret {
    parts: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    Text(String),
    Read(Vec<u8>),
    Dynamic { store: Arc<dyn SecretStore>, id: String, key: String },
}

impl Secret {
    /// True if the option is not set or empty. A secret whose store holds an empty value is not empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The value now.
    ///
    /// # Errors
    /// If a dynamic store cannot give its part.
    pub fn resolve(&self) -> Result<SecretValue, SecretError> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Read(value) => bytes.extend_from_slice(value),
                Part::Dynamic { store, id, key } => bytes.extend(read(store.as_ref(), id, key)?),
            }
        }
        Ok(SecretValue { bytes })
    }

    /// A secret from the text of an option, with its references bound to `stores`; static stores are read now.
    ///
    /// # Errors
    /// If a reference names an unknown store, or a static store cannot give the secret.
    pub fn bind(text: &str, stores: &SecretStores) -> Result<Secret, SecretError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("@{") {
            let (before, tail) = rest.split_at(at);
            push_text(&mut parts, before);
            let Some((id, key, length)) = reference(tail) else {
                push_text(&mut parts, "@{");
                rest = &tail[2..];
                continue;
            };
            let store = stores.get(id).ok_or_else(|| {
                let hint = super::nearest::did_you_mean(id, stores.iter().map(|(id, _)| id));
                SecretError::new(format!("unknown secret store for \"@{{{id}:{key}}}\"{hint}"))
            })?;
            parts.push(if store.is_dynamic() {
                Part::Dynamic { store: Arc::clone(store), id: id.to_owned(), key: key.to_owned() }
            } else {
                Part::Read(read(store.as_ref(), id, key)?)
            });
            rest = &tail[length..];
        }
        push_text(&mut parts, rest);
        Ok(Secret { parts })
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn read(store: &dyn SecretStore, id: &str, key: &str) -> Result<Vec<u8>, SecretError> {
    store.get(key).map_err(|error| SecretError::new(format!("cannot resolve \"@{{{id}:{key}}}\": {error}")))
}

/// Store, key and length of the reference that `text` (with its `@{`) starts with.
fn reference(text: &str) -> Option<(&str, &str, usize)> {
    let end = text.find('}')?;
    let (id, key) = text.get(2..end)?.split_once(':')?;
    if is_word(id) && is_word(key) {
        return Some((id, key, end + 1));
    }
    // The parts are left out: what looks like a reference may be a piece of a password.
    tracing::warn!(
        "a secret holds \"@{{…:…}}\" with characters other than letters, digits and \"_\"; it is kept as text"
    );
    None
}

/// True for a text of ASCII letters, digits and `_`, as names of stores and secrets are.
#[must_use]
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl From<&str> for Secret {
    /// A secret without references; `@{…}` stays text.
    fn from(text: &str) -> Secret {
        let mut parts = Vec::new();
        push_text(&mut parts, text);
        Secret { parts }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "***" })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { "***" })
    }
}

/// The value of a secret for the moment of its use; wiped when dropped, and printed as `***`.
pub struct SecretValue {
    bytes: Vec<u8>,
}

impl SecretValue {
    /// The bytes of the value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn as_str(&self) -> Result<&str, SecretError> {
        std::str::from_utf8(&self.bytes).map_err(|_| SecretError::new("the secret is not valid UTF-8"))
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.bytes.fill(0);
        // Keeps the compiler from leaving the wiping out as unseen.
        std::hint::black_box(&self.bytes);
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

thread_local! {
    /// The stores that secrets are bound to while a section is read on this thread.
    static STORES: RefCell<Option<Arc<SecretStores>>> = const { RefCell::new(None) };
}

/// Runs `read` with secrets bound to `stores`.
pub(super) fn with_stores<R>(stores: &Arc<SecretStores>, read: impl FnOnce() -> R) -> R {
    /// Puts the former stores back, also if `read` unwinds.
    struct Restore(Option<Arc<SecretStores>>);

    impl Drop for Restore {
        fn drop(&mut self) {
            STORES.set(self.0.take());
        }
    }

    let _restore = Restore(STORES.replace(Some(Arc::clone(stores))));
    read()
}

/// Name by which the deserializer of sections knows a secret: it then gives any scalar as its source text.
pub(super) const SECRET_NAME: &str = "$heliograph::Secret";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;

        impl<'de> de::Visitor<'de> for SecretVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret (a string)")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
                deserializer.deserialize_str(self)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                let stores = STORES.with_borrow(Clone::clone).unwrap_or_default();
                Secret::bind(text, &stores).map_err(E::custom)
            }
        }

        deserializer.deserialize_newtype_struct(SECRET_NAME, SecretVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Fixed(Mutex<Vec<u8>>, bool);

    impl SecretStore for Fixed {
        fn get(&self, key: &str) -> Result<Vec<u8>, SecretError> {
            if key == "k" { Ok(self.0.lock().unwrap().clone()) } else { Err(SecretError::new("no such secret")) }
        }

        fn list(&self) -> Result<Vec<String>, SecretError> {
            Ok(vec!["k".into()])
        }

        fn is_dynamic(&self) -> bool {
            self.1
        }
    }

    fn stores(dynamic: bool) -> (SecretStores, Arc<Fixed>) {
        let store = Arc::new(Fixed(Mutex::new(b"one".to_vec()), dynamic));
        let mut stores = SecretStores::default();
        stores.insert("s", store.clone());
        (stores, store)
    }

    fn check(text: &str, expected: &str) {
        let found = match Secret::bind(text, &stores(false).0) {
            Ok(secret) => String::from_utf8(secret.resolve().unwrap().as_bytes().to_vec()).unwrap(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn references() {
        check("", "");
        check("plain", "plain");
        check("@{s:k}", "one");
        check("a@{s:k}b@{s:k}", "aonebone");
        check("@{s}", "@{s}");
        check("@{s:k", "@{s:k");
        check("@{s:a-b}", "@{s:a-b}");
        check("@{@{s:k}}", "@{one}");
        check("@{t:k}", "error: unknown secret store for \"@{t:k}\"");
        check("@{s:x}", "error: cannot resolve \"@{s:x}\": no such secret");
    }

    #[test]
    fn dynamic_secrets_are_read_again() {
        for (dynamic, expected) in [(true, "two"), (false, "one")] {
            let (stores, store) = stores(dynamic);
            let secret = Secret::bind("@{s:k}", &stores).unwrap();
            *store.0.lock().unwrap() = b"two".to_vec();
            assert_eq!(secret.resolve().unwrap().as_str().unwrap(), expected);
        }
    }

    #[test]
    fn never_printed() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", secret.resolve()), "*** *** Ok(***)");
    }
}
