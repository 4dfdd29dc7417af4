//! Spans of time as options: `"1d12h"`, `"250ms"`, or a number of seconds.

use std::{fmt, time};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// Units of a duration, in nanoseconds. Both signs for "micro" are in use.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", DAY),
];

/// An option that is a span of time, in nanoseconds; it may be negative, since some options give that a meaning.
///
/// In a file: an integer or float is seconds, and so is a string that is a number; other strings are a sum of numbers
/// with the units `ns us µs ms s m h d` (`"1.5d"`, `"1h30m"`); the empty string is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Duration(i64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// A number of seconds.
    ///
    /// # Panics
    /// Beyond about 292 years; it is meant for constants.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Duration {
        match seconds.checked_mul(1_000_000_000) {
            Some(nanos) => Duration(nanos),
            None => panic!("duration out of range"),
        }
    }

    /// A number of milliseconds.
    ///
    /// # Panics
    /// Beyond about 292 years; it is meant for constants.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Duration {
        match millis.checked_mul(1_000_000) {
            Some(nanos) => Duration(nanos),
            None => panic!("duration out of range"),
        }
    }

    /// A number of nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Duration {
        Duration(nanos)
    }

    /// The span in nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// True for exactly no time.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// True if below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// True if above zero.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// As the standard library's type; a negative span becomes zero.
    #[must_use]
    pub fn to_std(self) -> time::Duration {
        time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// As the standard library's type, or `None` if zero or negative: for options where that means "off".
    #[must_use]
    pub fn positive(self) -> Option<time::Duration> {
        self.is_positive().then(|| self.to_std())
    }

    /// Reads a duration option.
    ///
    /// # Errors
    /// If the text is not a duration or too large; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Duration, String> {
        if text.is_empty() {
            return Ok(Duration::ZERO);
        }
        if let Ok(seconds) = text.parse::<i64>() {
            return from_nanos_wide(i128::from(seconds) * SECOND, text);
        }
        if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            && let Ok(seconds) = text.parse::<f64>()
        {
            return from_seconds(seconds, text);
        }
        parse_units(text, true)
    }

    /// Reads a duration of the options common to all plugins: no days, and a unit on every number but a lone `0`.
    ///
    /// # Errors
    /// As [`Duration::parse`].
    pub fn parse_common(text: &str) -> Result<Duration, String> {
        parse_units(text, false)
    }
}

fn parse_units(text: &str, days: bool) -> Result<Duration, String> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(format!("invalid duration {text:?}: no number, write for example \"10s\""));
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale = UNITS.iter().find(|(name, _)| *name == unit && (days || *name != "d"));
        let Some((_, scale)) = scale else {
            return Err(match unit {
                "" => format!("invalid duration {text:?}: missing unit, write for example \"10s\""),
                _ => format!("invalid duration {text:?}: unknown unit {unit:?}"),
            });
        };
        let value =
            scaled(number, *scale).ok_or_else(|| format!("invalid duration {text:?}: invalid number {number:?}"))?;
        total = total.checked_add(value).ok_or_else(|| too_large(text))?;
        rest = tail;
    }
    from_nanos_wide(if negative { -total } else { total }, text)
}

/// `number` (digits with at most one point) times `scale`, cut to whole nanoseconds.
pub(super) fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Twenty digits say more than the result can hold.
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(i128::from(whole).checked_mul(scale)? + part * scale / denominator)
}

fn from_nanos_wide(nanos: i128, text: &str) -> Result<Duration, String> {
    i64::try_from(nanos).map(Duration).map_err(|_| too_large(text))
}

#[expect(clippy::cast_possible_truncation, reason = "checked against the range before")]
fn from_seconds(seconds: f64, text: &str) -> Result<Duration, String> {
    let nanos = seconds * 1e9;
    if nanos.is_finite() && nanos.abs() < 9.2e18 { Ok(Duration(nanos as i64)) } else { Err(too_large(text)) }
}

fn too_large(text: &str) -> String {
    format!("invalid duration {text:?}: more than 292 years")
}

impl From<time::Duration> for Duration {
    /// Spans beyond 292 years become just that.
    fn from(value: time::Duration) -> Duration {
        Duration(i64::try_from(value.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Duration {
    /// As it would be written in a file: `1h30m`, `250ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = i128::from(self.0.unsigned_abs());
        for (unit, scale) in
            [("h", 3_600 * SECOND), ("m", 60 * SECOND), ("s", SECOND), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)]
        {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\" or a number of seconds")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
                from_nanos_wide(i128::from(seconds) * SECOND, &seconds.to_string()).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
                from_nanos_wide(i128::from(seconds) * SECOND, &seconds.to_string()).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
                from_seconds(seconds, &seconds.to_string()).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(DurationVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, seconds: f64) {
        let parsed = Duration::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert!((parsed.as_nanos() as f64 - seconds * 1e9).abs() < 0.01, "{text} is {parsed}");
    }

    fn refused(text: &str) {
        assert!(Duration::parse(text).is_err(), "{text}");
    }

    #[test]
    fn forms() {
        check("10", 10.0);
        check("-90", -90.0);
        check("10.5", 10.5);
        check("1e3", 1000.0);
        check("", 0.0);
        check("0", 0.0);
        check("1d", 86400.0);
        check("1.5d", 129_600.0);
        check(".5d", 43_200.0);
        check("1d12h", 129_600.0);
        check("1h2m3.5s", 3723.5);
        check(".5s", 0.5);
        check("5.s", 5.0);
        check("+1s", 1.0);
        check("-90s", -90.0);
        check("7us", 7e-6);
        check("7µs", 7e-6);
        check("7μs", 7e-6);
        check("15ns", 15e-9);
        check("1500ms", 1.5);
    }

    #[test]
    fn refusals() {
        for text in ["1w", "s", "1 s", "1S", "1s ", "--1s", ".", ".s", "1..5s", "inf", "nan", "1e999", "400y", "-"] {
            refused(text);
        }
        refused("99999999999999999999s");
        refused("9223372037");
    }

    #[test]
    fn common_needs_units_and_knows_no_days() {
        assert_eq!(Duration::parse_common("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(Duration::parse_common("0"), Ok(Duration::ZERO));
        for text in ["", "10", "1d", "1", "10.5"] {
            assert!(Duration::parse_common(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints() {
        assert_eq!(Duration::from_secs(5400).to_string(), "1h30m");
        assert_eq!(Duration::from_millis(-1500).to_string(), "-1s500ms");
        assert_eq!(Duration::ZERO.to_string(), "0s");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.a-zµ ]{0,12}|\\PC{0,8}") {
            let _ = Duration::parse(&text);
            let _ = Duration::parse_common(&text);
        }

        #[test]
        fn what_is_printed_reads_back(nanos in any::<i64>()) {
            prop_assume!(nanos != i64::MIN);
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(Duration::parse_common(&duration.to_string()), Ok(duration));
        }
    }
}
