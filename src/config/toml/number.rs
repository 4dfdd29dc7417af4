//! Numbers, booleans and dates.

use heliograph_core::config::tree::{Span, Value};

use super::Mistake;

/// The value that `text` starts with and its length; `None` if it starts with none of these. `at` is the offset of
/// `text`.
///
/// Like Telegraf's grammar this takes as much as fits and leaves the rest to be the next key, so `a=1b=2` is two keys.
pub(super) fn read(text: &str, at: usize) -> Result<Option<(Value, usize)>, Mistake> {
    if text.starts_with("true") {
        return Ok(Some((Value::Boolean(true), 4)));
    }
    if text.starts_with("false") {
        return Ok(Some((Value::Boolean(false), 5)));
    }
    if let Some(length) = datetime(text) {
        return Ok(Some((Value::Datetime(text[..length].to_owned()), length)));
    }
    let Some(whole) = integer(text) else { return Ok(None) };
    let bytes = text.as_bytes();
    let fraction = match bytes.get(whole) {
        Some(b'.') => digits(&bytes[whole + 1..]).map_or(0, |length| length + 1),
        _ => 0,
    };
    let exponent = exponent(&bytes[whole + fraction..]);
    let length = whole + fraction + exponent;
    let plain = text[..length].replace('_', "");
    if fraction + exponent > 0 {
        return match plain.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some((Value::Float(value), length))),
            _ => Err(Mistake::new(Span::new(at, at + length), format!("the number {plain} is out of range"))),
        };
    }
    match plain.parse::<i128>() {
        Ok(value) if value >= i128::from(i64::MIN) && value <= i128::from(u64::MAX) => {
            Ok(Some((Value::Integer(value), length)))
        }
        _ => Err(Mistake::new(Span::new(at, at + length), format!("the number {plain} is out of range"))),
    }
}

/// Length of an optional sign and digits without a leading zero.
fn integer(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    match bytes.get(sign)? {
        b'0' => Some(sign + 1),
        b'1'..=b'9' => digits(&bytes[sign..]).map(|length| sign + length),
        _ => None,
    }
}

/// Length of digits with single `_` between them.
fn digits(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    loop {
        match (bytes.get(length), bytes.get(length + 1)) {
            (Some(digit), _) if digit.is_ascii_digit() => length += 1,
            (Some(b'_'), Some(next)) if length > 0 && next.is_ascii_digit() => length += 2,
            _ => return (length > 0).then_some(length),
        }
    }
}

fn exponent(bytes: &[u8]) -> usize {
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    digits(&bytes[1 + sign..]).map_or(0, |length| 1 + sign + length)
}

/// Length of a date, a time, or both joined with `T`.
fn datetime(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if matches(bytes, b"00:00:00") {
        return Some(8 + subseconds(&bytes[8..]));
    }
    if !matches(bytes, b"0000-00-00") {
        return None;
    }
    if !matches(&bytes[10..], b"T00:00:00") {
        return Some(10);
    }
    let mut length = 19 + subseconds(&bytes[19..]);
    match bytes.get(length) {
        Some(b'Z') => length += 1,
        Some(b'+' | b'-') if matches(&bytes[length + 1..], b"00:00") => length += 6,
        _ => {}
    }
    Some(length)
}

fn subseconds(bytes: &[u8]) -> usize {
    match bytes.split_first() {
        Some((b'.', rest)) => match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => 0,
            count => count + 1,
        },
        _ => 0,
    }
}

/// True if `bytes` starts like `pattern`, where `0` stands for any digit.
fn matches(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.len() >= pattern.len()
        && bytes.iter().zip(pattern).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        })
}
