//! Text to number, by the grammar of Go's `strconv`.

use thiserror::Error;

/// Why a text is not a number of the wanted kind.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum NumberError {
    /// The text does not follow the grammar.
    #[error("invalid number syntax")]
    Syntax,
    /// The text is a number, but not one that the type can hold.
    #[error("number out of range")]
    Range,
}

/// A decimal signed integer: an optional `+` or `-`, then digits and nothing else.
///
/// Fails on any other text and outside of `i64`. Source: `ParseInt(text, 10, 64)` of Go.
pub fn parse_int10(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = split_sign(text);
    signed(negative, parse_uint10(digits)?)
}

/// A decimal unsigned integer: digits and nothing else, not even a sign.
///
/// Fails on any other text and outside of `u64`. Source: `ParseUint(text, 10, 64)` of Go.
#[inline]
pub fn parse_uint10(text: &[u8]) -> Result<u64, NumberError> {
    if text.is_empty() {
        return Err(NumberError::Syntax);
    }
    // 19 decimal digits always fit, so that the usual text needs no check for overflow.
    let (safe, rest) = text.split_at(text.len().min(19));
    let mut value = 0u64;
    for &byte in safe {
        value = value * 10 + u64::from(decimal_digit(byte)?);
    }
    for &byte in rest {
        let digit = u64::from(decimal_digit(byte)?);
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(NumberError::Range)?;
    }
    Ok(value)
}

/// A signed integer whose prefix names its base: `0x`, `0o`, `0b`, a leading `0` for octal, else decimal.
///
/// Underscores may stand between digits. Source: `ParseInt(text, 0, 64)` of Go.
pub fn parse_int_auto(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = split_sign(text);
    signed(negative, parse_uint_auto(digits)?)
}

/// An unsigned integer whose prefix names its base, without a sign; see [`parse_int_auto`].
///
/// Source: `ParseUint(text, 0, 64)` of Go.
pub fn parse_uint_auto(text: &[u8]) -> Result<u64, NumberError> {
    let (base, digits) = match text {
        [] => return Err(NumberError::Syntax),
        [b'0', b'x' | b'X', rest @ ..] if !rest.is_empty() => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] if !rest.is_empty() => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] if !rest.is_empty() => (2, rest),
        [b'0', rest @ ..] => (8, rest),
        _ => (10, text),
    };
    let mut value = 0u64;
    let mut underscores = false;
    for &byte in digits {
        if byte == b'_' {
            underscores = true;
            continue;
        }
        let digit = char::from(byte).to_digit(base).ok_or(NumberError::Syntax)?;
        value = value
            .checked_mul(u64::from(base))
            .and_then(|value| value.checked_add(u64::from(digit)))
            .ok_or(NumberError::Range)?;
    }
    if underscores && !underscores_separate_digits(text) {
        return Err(NumberError::Syntax);
    }
    Ok(value)
}

/// A floating point number, correctly rounded: decimal, hexadecimal with `p` exponent, `inf`, `infinity` or `nan`.
///
/// Fails on any other text (a plain `0x10` too) and on overflow; underflow gives zero.
/// Source: `ParseFloat(text, 64)` of Go.
#[inline]
pub fn parse_float(text: &[u8]) -> Result<f64, NumberError> {
    match parse_short_decimal(text) {
        Some(value) => Ok(value),
        None => parse_any_float(text),
    }
}

/// One of the words Go takes for a truth value: `1 t T TRUE true True 0 f F FALSE false False`.
pub fn parse_bool(text: &[u8]) -> Result<bool, NumberError> {
    match text {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The hot path: `[sign] digits [. digits]` whose digits, read as one integer, a double holds exactly.
///
/// One division of two exact numbers is then the correctly rounded result.
#[inline]
fn parse_short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = split_sign(text);
    // With at most 19 digits the integer cannot overflow; a point makes it 20 bytes.
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let fraction = point.map_or(0, |at| digits.len() - 1 - at);
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 19 || mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / EXACT_POWERS[fraction];
    Some(if negative { -value } else { value })
}

fn parse_any_float(text: &[u8]) -> Result<f64, NumberError> {
    let (negative, unsigned) = split_sign(text);
    let signed = unsigned.len() < text.len();
    match unsigned {
        [b'i' | b'I', ..] if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") => {
            Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        [b'n' | b'N', ..] if !signed && unsigned.eq_ignore_ascii_case(b"nan") => Ok(f64::NAN),
        [b'0', b'x' | b'X', ..] => {
            let value = parse_hexadecimal(unsigned)?;
            Ok(if negative { -value } else { value })
        }
        _ => parse_decimal(text),
    }
}

/// Any decimal number; the standard library rounds it, Go's grammar is checked here.
fn parse_decimal(text: &[u8]) -> Result<f64, NumberError> {
    let mut underscores = false;
    for &byte in text {
        match byte {
            b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' => {}
            b'_' => underscores = true,
            _ => return Err(NumberError::Syntax),
        }
    }
    let stripped: Vec<u8>;
    let mut digits = text;
    if underscores {
        if !underscores_separate_digits(split_sign(text).1) {
            return Err(NumberError::Syntax);
        }
        stripped = text.iter().copied().filter(|&byte| byte != b'_').collect();
        digits = &stripped;
    }
    let digits = str::from_utf8(digits).map_err(|_| NumberError::Syntax)?;
    let value: f64 = digits.parse().map_err(|_| NumberError::Syntax)?;
    if value.is_finite() { Ok(value) } else { Err(NumberError::Range) }
}

/// `0x1.8p3`: hexadecimal digits with an optional point and a mandatory binary exponent.
fn parse_hexadecimal(text: &[u8]) -> Result<f64, NumberError> {
    if text.contains(&b'_') && !underscores_separate_digits(text) {
        return Err(NumberError::Syntax);
    }
    let digits = &text[2..];
    let mark = digits.iter().position(|byte| matches!(byte, b'p' | b'P')).ok_or(NumberError::Syntax)?;
    let (digits, exponent_text) = (&digits[..mark], &digits[mark + 1..]);

    // 64 bits of mantissa and a sticky bit are more than rounding needs.
    let (mut mantissa, mut sticky, mut shift) = (0u64, false, 0i64);
    let (mut seen_digit, mut seen_point) = (false, false);
    for &byte in digits {
        match byte {
            b'_' => {}
            b'.' if !seen_point => seen_point = true,
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or(NumberError::Syntax)?;
                seen_digit = true;
                if mantissa >> 60 == 0 {
                    mantissa = mantissa << 4 | u64::from(digit);
                    shift -= if seen_point { 4 } else { 0 };
                } else {
                    sticky |= digit != 0;
                    shift += if seen_point { 0 } else { 4 };
                }
            }
        }
    }
    let (negative, exponent_digits) = split_sign(exponent_text);
    if !seen_digit || !exponent_digits.first().is_some_and(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    let mut exponent = 0i64;
    for &byte in exponent_digits.iter().filter(|&&byte| byte != b'_') {
        // Saturates far beyond any double, so that a long text cannot overflow.
        exponent = (exponent * 10 + i64::from(decimal_digit(byte)?)).min(1_000_000_000);
    }
    let exponent = if negative { -exponent } else { exponent };
    round_binary(mantissa, sticky, exponent.saturating_add(shift))
}

/// `mantissa × 2^exponent` to the nearest double, ties to even; `sticky` says that there is a little more.
fn round_binary(mantissa: u64, sticky: bool, exponent: i64) -> Result<f64, NumberError> {
    if mantissa == 0 {
        return Ok(0.0);
    }
    let zeros = mantissa.leading_zeros();
    let mantissa = mantissa << zeros;
    // The value is now 1.xxx × 2^power, its highest bit at the top.
    let power = exponent.saturating_sub(i64::from(zeros)).saturating_add(63);
    if power > 1023 {
        return Err(NumberError::Range);
    }
    // Subnormal numbers keep fewer bits: every step below the least exponent costs one.
    let kept = if power >= -1022 { 53 } else { (53 + power + 1022).max(-1) };
    if kept < 0 {
        return Ok(0.0);
    }
    let dropped = 64 - kept as u32;
    let (quotient, half, rest) = match dropped {
        64 => (0, 1u64 << 63, mantissa),
        _ => (mantissa >> dropped, 1u64 << (dropped - 1), mantissa & ((1 << dropped) - 1)),
    };
    let up = rest > half || (rest == half && (sticky || quotient & 1 == 1));
    let significand = quotient + u64::from(up);
    // Adding, not joining: a carry out of the significand is the next exponent, as the encoding wants it.
    let bits = if power >= -1022 { ((power + 1022) as u64) << 52 } else { 0 } + significand;
    let value = f64::from_bits(bits);
    if value.is_finite() { Ok(value) } else { Err(NumberError::Range) }
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn decimal_digit(byte: u8) -> Result<u8, NumberError> {
    match byte.wrapping_sub(b'0') {
        digit @ 0..=9 => Ok(digit),
        _ => Err(NumberError::Syntax),
    }
}

fn signed(negative: bool, magnitude: u64) -> Result<i64, NumberError> {
    let value = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    value.ok_or(NumberError::Range)
}

/// Whether each underscore stands between two digits, or between a base prefix and a digit.
pub(crate) fn underscores_separate_digits(unsigned: &[u8]) -> bool {
    #[derive(PartialEq)]
    enum Before {
        Digit,
        Underscore,
        Other,
    }
    let (mut before, hexadecimal, digits) = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => (Before::Digit, true, rest),
        [b'0', b'b' | b'B' | b'o' | b'O', rest @ ..] => (Before::Digit, false, rest),
        _ => (Before::Other, false, unsigned),
    };
    for &byte in digits {
        let digit = byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
        before = match (digit, byte, before) {
            (true, ..) => Before::Digit,
            (false, b'_', Before::Digit) => Before::Underscore,
            (false, b'_', _) | (false, _, Before::Underscore) => return false,
            (false, ..) => Before::Other,
        };
    }
    before != Before::Underscore
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(text: &str) -> String {
        match parse_float(text.as_bytes()) {
            Ok(value) => format!("{value:?}"),
            Err(NumberError::Syntax) => "syntax".to_owned(),
            Err(NumberError::Range) => "range".to_owned(),
        }
    }

    #[test]
    fn floats_of_the_grammar() {
        for (text, want) in [
            ("1", "1.0"),
            ("-0", "-0.0"),
            ("+1.5", "1.5"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("1e3", "1000.0"),
            ("1E+3", "1000.0"),
            ("1.e2", "100.0"),
            (".5e1", "5.0"),
            ("1_000", "1000.0"),
            ("1_0.5_0e1_0", "105000000000.0"),
            ("inf", "inf"),
            ("+INF", "inf"),
            ("-Infinity", "-inf"),
            ("NaN", "NaN"),
            ("0x1p4", "16.0"),
            ("0X1.8P1", "3.0"),
            ("-0x.8p-1", "-0.25"),
            ("0x_1p-1074", "5e-324"),
            ("0x1p-1075", "0.0"),
            ("0x1.8p-1075", "5e-324"),
            ("0x1.fffffffffffff8p1023", "range"),
            ("0x1.fffffffffffff7p1023", "1.7976931348623157e308"),
            ("0x1p-2000000000000000000000", "0.0"),
            ("0x1p2000000000000000000000", "range"),
            ("0x1.00000000000008p0", "1.0"),
            ("0x1.000000000000080000001p0", "1.0000000000000002"),
            ("1e-400", "0.0"),
            ("1e400", "range"),
            ("-1e309", "range"),
            ("0e999999999999999999", "0.0"),
            ("9007199254740993", "9007199254740992.0"),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
            ("0.1", "0.1"),
            ("1700000000.123456789", "1700000000.1234567"),
        ] {
            assert_eq!(float(text), want, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_float() {
        for text in [
            "", "+", "-", ".", "-.", "e1", "1e", "1e+", "1e1.5", "0x10", "0x1p", "0xp1", "+nan", "-nan", "infi",
            "infinit", "1__0", "_1", "1_", "1_.5", "1._5", "1e_5", " 1", "1 ", "1,5", "1.2.3", "--1", "+-1", "1f",
            "0x", "0x_p1", "0x1p_1", "é",
        ] {
            assert_eq!(float(text), "syntax", "{text}");
        }
    }

    #[test]
    fn integers_of_base_ten() {
        assert_eq!(parse_int10(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int10(b"+9223372036854775807"), Ok(i64::MAX));
        assert_eq!(parse_int10(b"9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_int10(b"-9223372036854775809"), Err(NumberError::Range));
        assert_eq!(parse_uint10(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_uint10(b"18446744073709551616"), Err(NumberError::Range));
        assert_eq!(parse_uint10(b"00000000000000000000000007"), Ok(7));
        for text in ["", "-", "+", "1_0", "0x1", "1.0", " 1", "--1"] {
            assert_eq!(parse_int10(text.as_bytes()), Err(NumberError::Syntax), "{text}");
        }
        assert_eq!(parse_uint10(b"+1"), Err(NumberError::Syntax));
    }

    #[test]
    fn integers_with_a_base_prefix() {
        for (text, want) in [
            ("0", Ok(0)),
            ("-0x1F", Ok(-31)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0b101", Ok(5)),
            ("0x_1", Ok(1)),
            ("0_7", Ok(7)),
            ("1_000", Ok(1000)),
            ("08", Err(NumberError::Syntax)),
            ("0x", Err(NumberError::Syntax)),
            ("1__0", Err(NumberError::Syntax)),
            ("0_", Err(NumberError::Syntax)),
            ("-0x8000000000000000", Ok(i64::MIN)),
            ("0x8000000000000000", Err(NumberError::Range)),
            ("", Err(NumberError::Syntax)),
        ] {
            assert_eq!(parse_int_auto(text.as_bytes()), want, "{text}");
        }
        assert_eq!(parse_uint_auto(b"0xffffffffffffffff"), Ok(u64::MAX));
    }

    #[test]
    fn truth_values() {
        assert_eq!(parse_bool(b"True"), Ok(true));
        assert_eq!(parse_bool(b"f"), Ok(false));
        assert_eq!(parse_bool(b"yes"), Err(NumberError::Syntax));
        assert_eq!(parse_bool(b"tRUE"), Err(NumberError::Syntax));
    }

    proptest! {
        #[test]
        fn decimal_agrees_with_the_standard_library(text in "[+-]?[0-9]{0,25}(\\.[0-9]{0,25})?(e[+-]?[0-9]{1,3})?") {
            let want = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(parse_float(text.as_bytes()).ok().map(f64::to_bits), want.map(f64::to_bits));
        }

        #[test]
        fn hexadecimal_agrees_with_exact_scaling(mantissa in 0u64..1 << 53, exponent in -1000i32..900) {
            let want = mantissa as f64 * 2f64.powi(exponent);
            prop_assert_eq!(parse_float(format!("{mantissa:#x}p{exponent}").as_bytes()), Ok(want));
        }

        #[test]
        fn integer_round_trip(value: i64) {
            prop_assert_eq!(parse_int10(value.to_string().as_bytes()), Ok(value));
            prop_assert_eq!(parse_uint10((value as u64).to_string().as_bytes()), Ok(value as u64));
            prop_assert_eq!(parse_uint_auto(format!("{:#x}", value as u64).as_bytes()), Ok(value as u64));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = parse_float(&text);
            let _ = parse_int_auto(&text);
        }
    }
}
