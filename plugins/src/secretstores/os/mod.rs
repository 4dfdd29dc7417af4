//! Secrets in the keyring of the operating system: on Linux the one of the kernel.

use std::{fmt::Display, sync::Arc};

use heliograph_core::config::{ConfigError, Secret, SecretError, SecretStore, SecretStoreSpec, Section};
use linux_keyutils::{KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, LinkNode, Permission};
use serde::Deserialize;

/// Most entries of a keyring that are looked at. The kernel gives no user more keys than this by default, and root
/// no more than a million; the library needs room for all of them.
const MAX_KEYS: usize = 1 << 20;

pub(super) static SPEC: SecretStoreSpec = SecretStoreSpec { name: "os", sample: include_str!("sample.conf"), build };

fn build(section: Section) -> Result<Arc<dyn SecretStore>, ConfigError> {
    let place = section.position();
    let options: Options = section.finish()?;
    let keyring = if options.keyring.is_empty() { Options::default().keyring } else { options.keyring };
    let store = Keyring { name: keyring, dynamic: options.dynamic };
    store.open().map_err(|error| place.error(error.to_string()))?;
    Ok(Arc::new(store))
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    keyring: String,
    dynamic: bool,
    /// For keyrings of other systems; that of the Linux kernel has no collections.
    #[serde(rename = "collection")]
    _collection: String,
    /// For keyrings of other systems; that of the Linux kernel needs no password.
    #[serde(rename = "password")]
    _password: Secret,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keyring: "telegraf".to_owned(),
            dynamic: false,
            _collection: String::new(),
            _password: Secret::default(),
        }
    }
}

/// A named keyring below the one of the user.
struct Keyring {
    name: String,
    dynamic: bool,
}

impl Keyring {
    /// Found anew at each use, so that a keyring that was made again is taken up.
    fn open(&self) -> Result<KeyRing, SecretError> {
        let user = KeyRing::from_special_id(KeyRingIdentifier::User, false)
            .map_err(|error| cannot("open the keyring of the user", &self.name, error))?;
        let links =
            user.get_links(MAX_KEYS).map_err(|error| cannot("list the keyring of the user", &self.name, error))?;
        links
            .iter()
            .filter_map(LinkNode::as_ring)
            .find(|ring| ring.metadata().is_ok_and(|found| found.get_description() == self.name))
            .ok_or_else(|| {
                let name = &self.name;
                SecretError::new(format!("no keyring {name:?}: make it with \"keyctl newring {name} @u\""))
            })
    }
}

fn cannot(what: &str, name: &str, error: impl Display) -> SecretError {
    SecretError::new(format!("cannot {what} {name:?}: {error}"))
}

impl SecretStore for Keyring {
    fn get(&self, key: &str) -> Result<Vec<u8>, SecretError> {
        let found = self.open()?.search(key).map_err(|error| cannot("find secret", key, error))?;
        found.read_to_vec().map_err(|error| cannot("read secret", key, error))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), SecretError> {
        let wrong = |error| cannot("set secret", key, error);
        let target = self.open()?;
        // A key can be given its permissions only while the process possesses it, which it does in the keyring of
        // its session; from there the key is linked to its place.
        let session = KeyRing::from_special_id(KeyRingIdentifier::Session, true).map_err(wrong)?;
        let made = session.add_key(key, value).map_err(wrong)?;
        let permissions = KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(Permission::ALL).build();
        let linked = made.set_perms(permissions).and_then(|()| target.link_key(made));
        session.unlink_key(made).map_err(wrong)?;
        linked.map_err(wrong)
    }

    fn remove(&self, key: &str) -> Result<(), SecretError> {
        let ring = self.open()?;
        let found = ring.search(key).map_err(|error| cannot("find secret", key, error))?;
        ring.unlink_key(found).map_err(|error| cannot("remove secret", key, error))
    }

    fn list(&self) -> Result<Vec<String>, SecretError> {
        let links = self.open()?.get_links(MAX_KEYS).map_err(|error| cannot("list keyring", &self.name, error))?;
        let keys = links.iter().filter_map(LinkNode::as_key);
        let mut names: Vec<String> =
            keys.filter_map(|key| key.metadata().ok()).map(|found| found.get_description().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn is_dynamic(&self) -> bool {
        self.dynamic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_keyring_is_named() {
        // Where the kernel's keyrings are out of reach, as in many containers, the error names it as well.
        let store = Keyring { name: "no_such_keyring_of_heliograph".to_owned(), dynamic: false };
        let error = store.get("key").unwrap_err().to_string();
        assert!(error.contains("no_such_keyring_of_heliograph"), "{error}");
        assert!(store.list().is_err() && store.set("key", b"x").is_err() && store.remove("key").is_err());
    }

    #[test]
    fn an_empty_section_is_that_of_the_default_keyring() {
        let options: Options = Section::empty("secretstores.os").finish().unwrap();
        assert_eq!((options.keyring.as_str(), options.dynamic), ("telegraf", false));
    }
}
