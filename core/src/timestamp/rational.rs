//! Numbers of seconds (or parts of them) to nanoseconds, exactly.
//!
//! Every function floors towards minus infinity, and of a result beyond `i64` keeps the low 64 bits.

use crate::number::{parse_int_auto, underscores_separate_digits};

/// `value × unit`.
pub(super) fn of_int(value: i64, unit: i64) -> i64 {
    value.wrapping_mul(unit)
}

/// The exact value of a double times `unit`; nothing if it is not finite.
pub(super) fn of_float(value: f64, unit: i64) -> Option<i64> {
    if !value.is_finite() {
        return None;
    }
    let bits = value.to_bits();
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let (mantissa, power) = if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let mantissa = if value.is_sign_negative() { -mantissa } else { mantissa };
    // 53 bits times 30 bits: far from the end of 128.
    let product = i128::from(mantissa) * i128::from(unit);
    Some(match power {
        0.. => (product as i64).checked_shl(power.unsigned_abs()).unwrap_or(0),
        // A shift to the right of a signed number floors.
        _ => (product >> power.unsigned_abs().min(127)) as i64,
    })
}

/// The exact value of a number as text times `unit`; nothing if the text is no number.
///
/// Blanks are deleted and the first `,` is the decimal mark. The number is decimal with optional fraction and exponent,
/// a fraction of two integers (`5/2`), or an integer with a base prefix (`0x10`); `_` may separate digits.
pub(super) fn of_text(text: &[u8], unit: i64) -> Option<i64> {
    if let Some(value) = of_short_integer(text) {
        return Some(of_int(value, unit));
    }
    let mut cleaned: Vec<u8> = text.iter().copied().filter(|&byte| byte != b' ').collect();
    if let Some(comma) = memchr::memchr(b',', &cleaned) {
        cleaned[comma] = b'.';
    }
    if let Some(slash) = memchr::memchr(b'/', &cleaned) {
        return of_fraction(&cleaned[..slash], &cleaned[slash + 1..], unit);
    }
    let (negative, unsigned) = match cleaned.as_slice() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if let [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..] = unsigned {
        return parse_int_auto(&cleaned).ok().map(|value| of_int(value, unit));
    }
    of_decimal(negative, unsigned, unit)
}

/// What almost every text is: digits alone, few enough not to overflow.
fn of_short_integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn of_fraction(numerator: &[u8], denominator: &[u8], unit: i64) -> Option<i64> {
    let numerator = i128::from(parse_int_auto(numerator).ok()?);
    let denominator = i128::from(parse_int_auto(denominator).ok().filter(|&value| value > 0)?);
    Some((numerator * i128::from(unit)).div_euclid(denominator) as i64)
}

/// The digits before the (moved) decimal point are the result, those behind it only decide on the floor.
fn of_decimal(negative: bool, text: &[u8], unit: i64) -> Option<i64> {
    if memchr::memchr(b'_', text).is_some() && !underscores_separate_digits(text) {
        return None;
    }
    let (mantissa, power) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(mark) => (&text[..mark], exponent(&text[mark + 1..])?),
        None => (text, 0),
    };
    let mut digits = Vec::with_capacity(mantissa.len());
    let mut whole = None;
    for &byte in mantissa {
        match byte {
            b'0'..=b'9' => digits.push(byte - b'0'),
            b'.' if whole.is_none() => whole = Some(digits.len()),
            b'_' => {}
            _ => return None,
        }
    }
    if digits.is_empty() {
        return None;
    }
    let unit_power = i64::from(unit.ilog10());
    let point = whole.unwrap_or(digits.len()) as i64 + power + unit_power;
    let kept = usize::try_from(point).unwrap_or(0).min(digits.len());
    let mut value = 0i64;
    for &digit in &digits[..kept] {
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
    }
    let missing = u32::try_from(point - digits.len() as i64).unwrap_or(0);
    value = value.wrapping_mul(10i64.wrapping_pow(missing));
    if !negative {
        return Some(value);
    }
    let has_rest = digits[kept..].iter().any(|&digit| digit != 0);
    Some(value.wrapping_neg().wrapping_sub(i64::from(has_rest)))
}

/// An exponent of at most a million, the bound of the library whose grammar this is.
fn exponent(text: &[u8]) -> Option<i64> {
    let text: Vec<u8> = text.iter().copied().filter(|&byte| byte != b'_').collect();
    crate::number::parse_int10(&text).ok().filter(|power| power.abs() <= 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    const MILLISECOND: i64 = 1_000_000;

    #[test]
    fn floats_are_exact() {
        assert_eq!(of_float(1_700_000_000.123_456_7, SECOND), Some(1_700_000_000_123_456_716));
        assert_eq!(of_float(-0.5, SECOND), Some(-500_000_000));
        assert_eq!(of_float(-1e-300, SECOND), Some(-1));
        assert_eq!(of_float(1e-300, SECOND), Some(0));
        assert_eq!(of_float(1e300, SECOND), Some(0));
        assert_eq!(of_float(f64::NAN, SECOND), None);
        assert_eq!(of_float(f64::INFINITY, SECOND), None);
    }

    #[test]
    fn texts_are_exact() {
        for (text, want) in [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.123456789", Some(1_700_000_000_123_456_789)),
            ("1 700 000 000,5", Some(1_700_000_000_500_000_000)),
            ("-0.5", Some(-500_000_000)),
            ("-0.0000000001", Some(-1)),
            ("0.0000000009", Some(0)),
            ("1e9", Some(1_000_000_000_000_000_000)),
            ("1.5E-3", Some(1_500_000)),
            ("5/2", Some(2_500_000_000)),
            ("-5/2", Some(-2_500_000_000)),
            ("-1/3000000000", Some(-1)),
            ("0x10", Some(16_000_000_000)),
            ("1_000", Some(1_000_000_000_000)),
            ("+1.", Some(1_000_000_000)),
            (".5", Some(500_000_000)),
            ("010", Some(10_000_000_000)),
            ("18446744073709551616", Some(0)),
            ("1e1000000", Some(0)),
            ("1e-1000000", Some(0)),
            ("", None),
            (" ", None),
            (".", None),
            ("-", None),
            ("1,700,000,000", None),
            ("1.700.000.000,5", None),
            ("1__0", None),
            ("1e", None),
            ("1e1000001", None),
            ("5/0", None),
            ("5/-2", None),
            ("nan", None),
            ("abc", None),
        ] {
            assert_eq!(of_text(text.as_bytes(), SECOND), want, "{text}");
        }
        assert_eq!(of_text(b"1700000000123,5", MILLISECOND), Some(1_700_000_000_123_500_000));
        assert_eq!(of_text(b"1.5", 1), Some(1));
        assert_eq!(of_text(b"-1.5", 1), Some(-2));
    }

    proptest! {
        #[test]
        fn text_and_integer_agree(value: i64, unit in prop::sample::select(vec![1, 1_000, MILLISECOND, SECOND])) {
            prop_assert_eq!(of_text(value.to_string().as_bytes(), unit), Some(of_int(value, unit)));
        }

        #[test]
        fn text_and_float_agree(value in -1e9f64..1e9) {
            // The plain text of a double with all its binary digits is the double.
            prop_assert_eq!(of_text(format!("{value:.60}").as_bytes(), SECOND), of_float(value, SECOND));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = of_text(&text, SECOND);
        }
    }
}
