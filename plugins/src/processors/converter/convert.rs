//! Conversions between the types of field values, by the rules of Telegraf.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use heliograph_core::model::Value;
use heliograph_core::number::{
    parse_bool, parse_float, parse_int10, parse_uint10, write_i64, write_plain_f64, write_u64,
};

/// To a signed integer; `None` if a text is no number.
pub(super) fn to_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(v) => Some(*v),
        Value::Uint(v) => Some(i64::try_from(*v).unwrap_or(i64::MAX)),
        Value::Float(v) => Some(round_to_integer(*v)),
        Value::Bool(v) => Some((*v).into()),
        Value::Text(text) => match hexadecimal(text) {
            Some(digits) => i64::from_str_radix(digits?, 16).ok(),
            None => parse_int10(text).ok().or_else(|| Some(round_to_integer(parse_float(text).ok()?))),
        },
    }
}

/// To an unsigned integer, negative numbers to zero; `None` if a text is no number.
pub(super) fn to_unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Int(v) => Some(u64::try_from(*v).unwrap_or(0)),
        Value::Uint(v) => Some(*v),
        Value::Float(v) => Some(round_to_unsigned(*v)),
        Value::Bool(v) => Some((*v).into()),
        Value::Text(text) => match hexadecimal(text) {
            Some(digits) => u64::from_str_radix(digits?, 16).ok(),
            None => parse_uint10(text).ok().or_else(|| Some(round_to_unsigned(parse_float(text).ok()?))),
        },
    }
}

/// To a float; `None` if a text is no number or out of range.
pub(super) fn to_float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(v) => Some(*v as f64),
        Value::Uint(v) => Some(*v as f64),
        Value::Float(v) => Some(*v),
        Value::Bool(v) => Some(u8::from(*v).into()),
        Value::Text(text) => match hexadecimal(text) {
            // As a hexadecimal float it may have any number of digits and is rounded correctly.
            Some(digits) => parse_float(format!("0x{}p0", digits?).as_bytes()).ok(),
            None => parse_float(text).ok(),
        },
    }
}

/// To a truth value; `None` if a text is none of Go's words for one.
pub(super) fn to_boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Int(v) => Some(*v > 0),
        Value::Uint(v) => Some(*v > 0),
        Value::Float(v) => Some(*v > 0.0),
        Value::Bool(v) => Some(*v),
        Value::Text(text) => parse_bool(text).ok(),
    }
}

/// Appends the value as text: numbers without an exponent, `true`, `false`.
pub(super) fn write_text(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(v) => write_i64(out, *v),
        Value::Uint(v) => write_u64(out, *v),
        Value::Float(v) => write_plain_f64(out, *v),
        Value::Bool(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Text(text) => out.extend_from_slice(text),
    }
}

/// From base64 of the four bytes of a float, the most significant first; `None` for everything else.
pub(super) fn from_base64_float32(value: &Value) -> Option<f64> {
    // As Go's decoder, this one does not mind bits behind the last byte.
    const BASE64: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let Value::Text(text) = value else { return None };
    let mut bytes = [0; 6];
    let length = BASE64.decode_slice(text.get(..8).filter(|start| start.len() == text.len())?, &mut bytes).ok()?;
    let bytes: [u8; 4] = bytes[..length].try_into().ok()?;
    Some(f32::from_be_bytes(bytes).into())
}

/// The digits behind a lower-case `0x`; the inner `None` if they are none.
fn hexadecimal(text: &[u8]) -> Option<Option<&str>> {
    let digits = text.strip_prefix(b"0x")?;
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    Some(std::str::from_utf8(digits).ok().filter(|_| valid))
}

/// Halves away from zero, clamped; NaN gives the least integer, as Go does on amd64.
fn round_to_integer(value: f64) -> i64 {
    if value.is_nan() { i64::MIN } else { value.round() as i64 }
}

/// Halves away from zero, negative numbers to zero, clamped. NaN and exactly 2^64 give 2^63, as Go does on amd64: it
/// compares with the largest integer as a float, which is 2^64 itself.
fn round_to_unsigned(value: f64) -> u64 {
    const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
    if value.is_nan() || value == TWO_TO_64 { 1 << 63 } else { value.round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        text.into()
    }

    #[test]
    fn integers_from_text() {
        let check = |from: &str, expected| assert_eq!(to_integer(&text(from)), expected, "{from:?}");
        check("12.7", Some(13));
        check("0xff", Some(255));
        check("010", Some(10));
        check("1e3", Some(1000));
        check("-0", Some(0));
        check("+5", Some(5));
        check("1_000", Some(1000));
        check("1e30", Some(i64::MAX));
        check("9223372036854775808", Some(i64::MAX));
        check("nan", Some(i64::MIN));
        for bad in ["0XFF", " 5", "", "0x8000000000000000", "0x", "-0x1", "0x1p4", "0x_1", "1e400", "abc"] {
            check(bad, None);
        }
    }

    #[test]
    fn integers_from_the_rest() {
        let check = |from: Value, expected| assert_eq!(to_integer(&from), Some(expected), "{from:?}");
        check(Value::Float(-2.5), -3);
        check(Value::Float(0.49999999999999994), 0);
        check(Value::Float(1e19), i64::MAX);
        check(Value::Float(-1e19), i64::MIN);
        check(Value::Uint(u64::MAX), i64::MAX);
        check(Value::Bool(true), 1);
    }

    #[test]
    fn unsigned_integers() {
        let check = |from: Value, expected| assert_eq!(to_unsigned(&from), expected, "{from:?}");
        check(Value::Float(-0.4), Some(0));
        check(Value::Float(2.5), Some(3));
        check(Value::Float(1e20), Some(u64::MAX));
        check(Value::Int(-7), Some(0));
        check(text("-7"), Some(0));
        check(text("0xFFFFFFFFFFFFFFFF"), Some(u64::MAX));
        check(text("18446744073709551616"), Some(1 << 63));
        check(text("18446744073709551615"), Some(u64::MAX));
        check(text("-0x1"), None);
    }

    #[test]
    fn floats() {
        let check = |from: &str, expected| assert_eq!(to_float(&text(from)), expected, "{from:?}");
        check("0x10", Some(16.0));
        check("0x10000000000000000000000000000000000", Some(2f64.powi(136)));
        check("1_000.5", Some(1000.5));
        check("-.5e1", Some(-5.0));
        check("1e-330", Some(0.0));
        check("0X1p4", Some(16.0));
        check("-Infinity", Some(f64::NEG_INFINITY));
        for bad in ["1e400", "0x1p4", "1__0", "12abc", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn truth_values() {
        assert_eq!(to_boolean(&Value::Float(0.5)), Some(true));
        assert_eq!(to_boolean(&Value::Int(-7)), Some(false));
        assert_eq!(to_boolean(&text("T")), Some(true));
        assert_eq!(to_boolean(&text("tRue")), None);
    }

    #[test]
    fn texts() {
        let check = |from: Value, expected: &str| {
            let mut out = Vec::new();
            write_text(&from, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(Value::Float(1e21), "1000000000000000000000");
        check(Value::Float(2.5), "2.5");
        check(Value::Bool(false), "false");
    }

    #[test]
    fn base64_floats() {
        let check = |from: &str, expected| assert_eq!(from_base64_float32(&text(from)), expected, "{from:?}");
        check("RKeAAA==", Some(1340.0));
        check("PczMzQ==", Some(0.10000000149011612));
        check("AAA=", None);
        check("not base64!", None);
        check("AAAAAAAA", None);
        assert_eq!(from_base64_float32(&Value::Int(1)), None);
    }

    proptest! {
        #[test]
        fn any_integer_survives_its_text(v: i64, u: u64) {
            prop_assert_eq!(to_integer(&text(&v.to_string())), Some(v));
            prop_assert_eq!(to_unsigned(&text(&u.to_string())), Some(u));
            prop_assert_eq!(to_unsigned(&text(&format!("0x{u:x}"))), Some(u));
            prop_assert_eq!(to_integer(&text(&format!("0x{u:X}"))), i64::try_from(u).ok());
        }

        #[test]
        fn rounding_agrees_with_a_naive_model(v in prop_oneof![any::<f64>(), -1e20..1e20, -100.0..100.0f64]) {
            let naive = |low: i128, high: i128| ((v.abs() + 0.5).floor().copysign(v) as i128).clamp(low, high);
            // Adding a half is exact only where doubles still have halves.
            if v.abs() < 1e15 && (v.abs() + 0.5) - 0.5 == v.abs() {
                prop_assert_eq!(i128::from(round_to_integer(v)), naive(i64::MIN.into(), i64::MAX.into()));
                prop_assert_eq!(i128::from(round_to_unsigned(v)), naive(0, u64::MAX.into()));
            }
        }

        #[test]
        fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let value = Value::Text(bytes.into());
            let _ = (to_integer(&value), to_unsigned(&value), to_float(&value), to_boolean(&value), from_base64_float32(&value));
        }
    }
}
