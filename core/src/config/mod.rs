//! Sections of the configuration, as plugins read them (placeholder of the interface).

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// One plugin's table.
#[derive(Debug)]
pub struct Section(());

impl Section {
    /// Takes the keys that `T` declares and leaves the rest.
    pub fn take_struct<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ConfigError> {
        Err(ConfigError("placeholder".into()))
    }

    /// Takes one key.
    pub fn take<T: serde::de::DeserializeOwned>(&mut self, _key: &str) -> Result<Option<T>, ConfigError> {
        Err(ConfigError("placeholder".into()))
    }

    /// Reads all that is left; an unknown key is an error.
    pub fn finish<T: serde::de::DeserializeOwned>(self) -> Result<T, ConfigError> {
        Err(ConfigError("placeholder".into()))
    }

    /// An error about the value of an option that should be one of `known`.
    pub fn unknown_value<'a>(
        &self,
        option: &str,
        value: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> ConfigError {
        let known: Vec<_> = known.into_iter().collect();
        ConfigError(format!("option `{option}`: {value:?} is none of {}", known.join(", ")))
    }
}
