//! Parts of a time as text: each function takes what it reads off the front of the rest.

use bstr::ByteSlice;

use super::layout::{OffsetShape, Pad};

/// Skips the literal text; a run of blanks stands for any run of blanks.
pub(super) fn skip(rest: &mut &[u8], mut literal: &[u8]) -> Result<(), &'static str> {
    const MISMATCH: &str = "the text between the parts is another one";
    while let Some((&expected, after)) = literal.split_first() {
        if expected == b' ' {
            if rest.first().is_some_and(|&byte| byte != b' ') {
                return Err(MISMATCH);
            }
            literal = literal.trim_start_with(|character| character == ' ');
            *rest = rest.trim_start_with(|character| character == ' ');
            continue;
        }
        *rest = rest.strip_prefix(&[expected]).ok_or(MISMATCH)?;
        literal = after;
    }
    Ok(())
}

/// A number of one or two digits; exactly two where zeros pad it.
pub(super) fn number(rest: &mut &[u8], pad: Pad) -> Result<i64, &'static str> {
    let count = rest.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || pad == Pad::Zero && count < 2 {
        return Err("a part is no number of that width");
    }
    take_digits(rest, count).ok_or("a part is no number")
}

pub(super) fn take_digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (digits, after) = rest.split_at_checked(count)?;
    let value =
        digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))?;
    *rest = after;
    Some(value)
}

pub(super) fn below(value: i64, bound: i64, problem: &'static str) -> Result<i64, &'static str> {
    if value < bound { Ok(value) } else { Err(problem) }
}

/// The index of the name, or of its first `length` letters, that the text begins with, in any case.
pub(super) fn name(rest: &mut &[u8], names: &[&str], length: Option<usize>) -> Option<u8> {
    for (index, name) in names.iter().enumerate() {
        let name = &name.as_bytes()[..length.unwrap_or(name.len())];
        if let Some((start, after)) = rest.split_at_checked(name.len())
            && start.eq_ignore_ascii_case(name)
        {
            *rest = after;
            return u8::try_from(index).ok();
        }
    }
    None
}

pub(super) fn half_day(rest: &mut &[u8], morning: &[u8], afternoon: &[u8]) -> Result<bool, &'static str> {
    let (word, after) = rest.split_at_checked(2).ok_or("the half of the day is missing")?;
    *rest = after;
    match word {
        _ if word == afternoon => Ok(true),
        _ if word == morning => Ok(false),
        _ => Err("the half of the day is neither of the two"),
    }
}

pub(super) fn offset(rest: &mut &[u8], shape: OffsetShape) -> Result<i64, &'static str> {
    const PROBLEM: &str = "the zone offset has another shape";
    let negative = match rest.split_first().ok_or(PROBLEM)? {
        (b'+', after) => {
            *rest = after;
            false
        }
        (b'-', after) => {
            *rest = after;
            true
        }
        _ => return Err(PROBLEM),
    };
    let colon = matches!(shape, OffsetShape::ColonMinutes | OffsetShape::ColonSeconds);
    let count = match shape {
        OffsetShape::Hours => 1,
        OffsetShape::Minutes | OffsetShape::ColonMinutes => 2,
        OffsetShape::Seconds | OffsetShape::ColonSeconds => 3,
    };
    let mut seconds = 0;
    // Some write offsets of 24 hours or 60 minutes; both bounds are inside.
    for (index, (bound, unit)) in [(24, 3600), (60, 60), (60, 1)].into_iter().take(count).enumerate() {
        if colon && index > 0 {
            *rest = rest.strip_prefix(b":").ok_or(PROBLEM)?;
        }
        let part = take_digits(rest, 2).ok_or(PROBLEM)?;
        seconds += below(part, bound + 1, "the zone offset is out of range")? * unit;
    }
    Ok(if negative { -seconds } else { seconds })
}

/// The digits of a fraction that the text begins with: a mark, then at least one digit.
pub(super) fn fraction_digits(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'.' | b',', digits @ ..] => {
            let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (count > 0).then(|| &digits[..count])
        }
        _ => None,
    }
}

/// Digits behind the decimal mark as nanoseconds; those after the ninth are cut.
pub(super) fn nanoseconds(digits: &[u8]) -> u32 {
    let digit = |index| digits.get(index).map_or(0, |byte| u32::from(byte - b'0'));
    (0..9).fold(0, |value, index| value * 10 + digit(index))
}

/// How many bytes of the text could be a zone abbreviation.
///
/// Three capital letters, four with a `T` at the end (or `WITA`), five with a `T` at the end; `ChST` and `MeST`; `GMT`
/// with a signed hour; a signed hour.
pub(super) fn abbreviation_length(text: &[u8]) -> Option<usize> {
    if text.len() < 3 {
        return None;
    }
    if text.starts_with(b"ChST") || text.starts_with(b"MeST") {
        return Some(4);
    }
    if let Some(after) = text.strip_prefix(b"GMT") {
        return Some(3 + signed_hour_length(after));
    }
    if matches!(text[0], b'+' | b'-') {
        return Some(signed_hour_length(text)).filter(|&length| length > 0);
    }
    match text.iter().take(6).take_while(|byte| byte.is_ascii_uppercase()).count() {
        5 if text[4] == b'T' => Some(5),
        4 if text[3] == b'T' || text.starts_with(b"WITA") => Some(4),
        3 => Some(3),
        _ => None,
    }
}

fn signed_hour_length(text: &[u8]) -> usize {
    let [b'+' | b'-', digits @ ..] = text else {
        return 0;
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match crate::number::parse_uint10(&digits[..count]) {
        Ok(0..=23) => 1 + count,
        _ => 0,
    }
}
