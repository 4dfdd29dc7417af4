//! Amounts of bytes as options: `"64MiB"`, `"1.5kB"`, or a plain number.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::duration::scaled;

/// Units of a size, in bytes.
const UNITS: &[(&str, i128)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("EB", 1_000_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

/// An option that is an amount of bytes.
///
/// In a file: an integer, or a string with an integer or a sum of numbers with units: `B kB MB …` are powers of 1000,
/// `KiB MiB …` of 1024. Fractions are cut. The empty string is zero, which options take as "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Size(u64);

impl Size {
    /// Nothing.
    pub const ZERO: Size = Size(0);

    /// A number of bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    /// A number of KiB.
    #[must_use]
    pub const fn from_kib(kib: u32) -> Size {
        Size((kib as u64) << 10)
    }

    /// A number of MiB.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Size {
        Size((mib as u64) << 20)
    }

    /// The amount in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The amount in bytes as a length in memory; what does not fit becomes the largest length.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// True for no bytes, or not set.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This size, or `default` if zero.
    #[must_use]
    pub const fn or(self, default: Size) -> Size {
        if self.0 == 0 { default } else { self }
    }

    /// Reads a size option.
    ///
    /// # Errors
    /// If the text is not a size, negative, or too large; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Size, String> {
        if text.is_empty() {
            return Ok(Size::ZERO);
        }
        if let Ok(bytes) = text.parse::<i128>() {
            return from_wide(bytes, text);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(format!("invalid size {text:?}: unknown unit {unit:?}, write for example \"64MiB\""));
            };
            let value =
                scaled(number, *scale).ok_or_else(|| format!("invalid size {text:?}: invalid number {number:?}"))?;
            total = total.saturating_add(value);
            rest = tail;
        }
        from_wide(total, text)
    }
}

fn from_wide(bytes: i128, text: &str) -> Result<Size, String> {
    if bytes < 0 {
        return Err(format!("invalid size {text:?}: below zero"));
    }
    // Telegraf holds sizes in a signed number of 64 bits.
    let bytes = i64::try_from(bytes).map_err(|_| format!("invalid size {text:?}: more than 2^63 bytes"))?;
    Ok(Size(bytes.unsigned_abs()))
}

impl fmt::Display for Size {
    /// As it would be written in a file, in the largest unit without a remainder: `64MiB`, `1500B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut value, mut unit) = (self.0, 0);
        while value != 0 && value.is_multiple_of(1024) && unit + 1 < units.len() {
            value /= 1024;
            unit += 1;
        }
        write!(f, "{value}{}", units[unit])
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\" or a number of bytes")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                from_wide(i128::from(bytes), &bytes.to_string()).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                from_wide(i128::from(bytes), &bytes.to_string()).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, bytes: u64) {
        assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
    }

    #[test]
    fn forms() {
        check("", 0);
        check("1024", 1024);
        check("5B", 5);
        check("1kB", 1000);
        check("1KB", 1000);
        check("2MB", 2_000_000);
        check("1.5KiB", 1536);
        check("64MiB", 64 << 20);
        check("1EiB", 1 << 60);
        check("1.9B", 1);
    }

    #[test]
    fn refusals() {
        for text in ["1kiB", "1K", "1M", "1 MB", "-1", "-1MB", "MB", "9EiB", "1.2.3kB", "1024.5"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.kKMiB ]{0,10}|\\PC{0,8}") {
            let _ = Size::parse(&text);
        }

        #[test]
        fn what_is_printed_reads_back(bytes in 0..(1_u64 << 62)) {
            prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        }
    }
}
