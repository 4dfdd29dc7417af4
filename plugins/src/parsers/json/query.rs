//! `json_query`: the part of a payload that is parsed.

use heliograph_core::error::BoxError;

/// A path in the language of GJSON.
#[derive(Debug)]
pub(super) struct Query(String);

impl Query {
    /// Takes a path.
    pub(super) fn new(path: String) -> Result<Self, BoxError> {
        Ok(Self(path))
    }

    /// Puts the result into `out`; `false` if there is none, or null.
    ///
    /// The payload is not checked: what the path does not need may be broken.
    pub(super) fn run(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let text = String::from_utf8_lossy(payload);
        let result = gjson::get(&text, &self.0);
        out.extend_from_slice(result.json().as_bytes());
        result.exists() && result.kind() != gjson::Kind::Null
    }
}
