//! Character encodings of files.

use serde::Deserialize;

/// The values of `character_encoding`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Bytes pass as they are.
    #[default]
    #[serde(rename = "none", alias = "")]
    None,
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "utf-16le")]
    Utf16Le,
    #[serde(rename = "utf-16be")]
    Utf16Be,
}

/// It is the same three bytes behind every decoding.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

impl Encoding {
    /// The content as UTF-8 with U+FFFD for what is invalid, and in every case without a byte-order mark.
    pub(super) fn decode(self, content: Vec<u8>) -> Vec<u8> {
        let mut text = match self {
            Self::None => content,
            Self::Utf8 => decode_utf8(content),
            Self::Utf16Le => decode_utf16(&content, u16::from_le_bytes),
            Self::Utf16Be => decode_utf16(&content, u16::from_be_bytes),
        };
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        text
    }
}

/// Each invalid byte is replaced by itself, as Go does it.
fn decode_utf8(content: Vec<u8>) -> Vec<u8> {
    if std::str::from_utf8(&content).is_ok() {
        return content;
    }
    let mut text = String::with_capacity(content.len() + 16);
    for chunk in content.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into_bytes()
}

fn decode_utf16(content: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let (pairs, rest) = content.as_chunks::<2>();
    let units = pairs.iter().map(|&pair| unit(pair));
    let mut text: String =
        char::decode_utf16(units).map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    if !rest.is_empty() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(encoding: Encoding, content: &[u8], expected: &str) {
        assert_eq!(String::from_utf8(encoding.decode(content.to_vec())).unwrap(), expected);
    }

    #[test]
    fn utf8() {
        check(Encoding::Utf8, b"K\xf6ln\xf0\x9f.", "K\u{fffd}ln\u{fffd}\u{fffd}.");
        check(Encoding::Utf8, b"\xef\xbb\xbfa", "a");
    }

    #[test]
    fn utf16() {
        check(Encoding::Utf16Le, b"\xff\xfea\0\xfc\0", "aü");
        check(Encoding::Utf16Be, b"\xfe\xff\0a\x20\xac", "a€");
        check(Encoding::Utf16Be, b"\xd8\0\0a\0", "\u{fffd}a\u{fffd}");
    }

    #[test]
    fn raw_bytes_pass() {
        assert_eq!(Encoding::None.decode(b"\xff\xfe".to_vec()), b"\xff\xfe");
    }

    proptest! {
        #[test]
        fn text_survives(text: String) {
            prop_assume!(!text.starts_with('\u{feff}'));
            let units: Vec<u16> = text.encode_utf16().collect();
            let little = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            prop_assert_eq!(Encoding::Utf16Le.decode(little), text.as_bytes());
            prop_assert_eq!(Encoding::Utf16Be.decode(big), text.as_bytes());
            prop_assert_eq!(Encoding::Utf8.decode(text.clone().into_bytes()), text.into_bytes());
        }
    }
}
