//! The grammar of the default implementation: it says at which byte a line stops fitting, and what was expected there.

use bstr::ByteSlice;
use heliograph_core::model::{SeriesBuilder, Text, Value};
use heliograph_core::number::{NumberError, parse_float, parse_int10, parse_uint10};
use heliograph_core::parse::ParseOutput;
use memchr::{memchr, memchr3};

use super::line::{Cursor, Fault, Lines};

const NAME: &str = "expected measurement name";
const TAG: &str = "expected tag";
const FIELD: &str = "expected field";
const TIMESTAMP: &str = "expected timestamp";
const OTHER: &str = "parse error";
const RANGE: &str = "value out of range";

#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c)
}

/// What ends every token: blanks, carriage return, line feed.
#[inline]
fn is_end(byte: u8) -> bool {
    is_blank(byte) || byte == b'\r' || byte == b'\n'
}

/// Skips blank lines and comments; `false` at the end of the payload.
pub(super) fn skip(cursor: &mut Cursor<'_>) -> bool {
    loop {
        cursor.skip_while(is_blank);
        match cursor.peek() {
            None => return false,
            Some(b'#') => cursor.skip_line(),
            // A carriage return as the very last byte is let pass.
            Some(b'\r') if cursor.is_last() => return false,
            Some(b'\n' | b'\r') if cursor.newline() => {}
            Some(_) => return true,
        }
    }
}

/// Reads the metric that begins here, up to and with the end of its line.
pub(super) fn line(cursor: &mut Cursor<'_>, lines: &mut Lines, out: &mut ParseOutput<'_>) -> Result<(), Fault> {
    let series = match lines.known_head(cursor) {
        Some((series, end)) => {
            cursor.at = end;
            series
        }
        None => {
            let start = cursor.at;
            head(cursor, &mut lines.builder, &mut lines.scratch)?;
            lines.series(cursor.since(start), out)
        }
    };
    cursor.skip_while(is_blank);
    fields(cursor, lines)?;
    let blanks = cursor.skip_while(is_blank);
    let time = match cursor.peek() {
        Some(b'-' | b'0'..=b'9') => {
            let time = timestamp(cursor)?;
            cursor.skip_while(is_blank);
            Some(time.wrapping_mul(lines.precision))
        }
        _ => None,
    };
    match cursor.peek() {
        None => {}
        Some(b'\r') if cursor.is_last() => cursor.at += 1,
        Some(b'\n' | b'\r') if cursor.newline() => {}
        Some(b'\r') => return Err(Fault::new(cursor.at + 1, OTHER)),
        Some(_) => return Err(Fault::new(cursor.at, if blanks && time.is_none() { TIMESTAMP } else { OTHER })),
    }
    lines.push(series, time, out);
    Ok(())
}

/// Reads measurement and tags into the builder, up to the blank behind them.
fn head(cursor: &mut Cursor<'_>, builder: &mut SeriesBuilder, scratch: &mut Vec<u8>) -> Result<(), Fault> {
    let start = cursor.at;
    token(cursor, b",", Backslashes::Pair, OTHER)?;
    let name = cursor.since(start);
    if name.is_empty() {
        return Err(Fault::new(start, NAME));
    }
    scratch.clear();
    unescape(name, NAME_ESCAPES, scratch);
    builder.start(scratch);
    while cursor.peek() == Some(b',') {
        cursor.at += 1;
        let key = tag_token(cursor)?;
        if cursor.peek() != Some(b'=') {
            return Err(Fault::new(cursor.at, TAG));
        }
        cursor.at += 1;
        let value = tag_token(cursor)?;
        scratch.clear();
        unescape(key, KEY_ESCAPES, scratch);
        let middle = scratch.len();
        unescape(value, KEY_ESCAPES, scratch);
        builder.set_tag(&scratch[..middle], &scratch[middle..]);
    }
    match cursor.peek() {
        Some(byte) if is_blank(byte) => Ok(()),
        _ => Err(Fault::new(cursor.at, TAG)),
    }
}

fn tag_token<'p>(cursor: &mut Cursor<'p>) -> Result<&'p [u8], Fault> {
    let start = cursor.at;
    token(cursor, b",=", Backslashes::Single, TAG)?;
    if cursor.at == start { Err(Fault::new(start, TAG)) } else { Ok(cursor.since(start)) }
}

/// What two backslashes in a row are.
#[derive(Clone, Copy, PartialEq)]
enum Backslashes {
    /// One pair, which ends there.
    Pair,
    /// The second one may escape what follows.
    Single,
}

/// Goes over a token that `delimiters` end, as all blanks and line ends do.
#[inline]
fn token(
    cursor: &mut Cursor<'_>,
    delimiters: &[u8],
    backslashes: Backslashes,
    expected: &'static str,
) -> Result<(), Fault> {
    while let Some(byte) = cursor.peek() {
        if byte == b'\\' {
            match cursor.text.get(cursor.at + 1) {
                Some(b'\\') if backslashes == Backslashes::Single => {}
                Some(&escaped) if escaped == b' ' || !is_end(escaped) => cursor.at += 1,
                _ => return Err(Fault::new(cursor.at + 1, expected)),
            }
        } else if is_end(byte) || delimiters.contains(&byte) {
            break;
        }
        cursor.at += 1;
    }
    Ok(())
}

fn fields(cursor: &mut Cursor<'_>, lines: &mut Lines) -> Result<(), Fault> {
    lines.fields.start();
    loop {
        let start = cursor.at;
        token(cursor, b",=", Backslashes::Pair, FIELD)?;
        let key = cursor.since(start);
        if key.is_empty() || cursor.peek() != Some(b'=') {
            return Err(Fault::new(cursor.at, FIELD));
        }
        cursor.at += 1;
        let value = value(cursor, &mut lines.scratch)?;
        if memchr(b'\\', key).is_some() {
            lines.scratch.clear();
            unescape(key, KEY_ESCAPES, &mut lines.scratch);
            lines.fields.set(&lines.scratch, value);
        } else {
            lines.set(key, value);
        }
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            _ => return Ok(()),
        }
    }
}

#[inline]
fn value(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<Value, Fault> {
    let value = match cursor.peek() {
        Some(b'-' | b'.' | b'0'..=b'9') => return number(cursor),
        Some(b'"') => string(cursor, scratch)?,
        Some(b't' | b'T' | b'f' | b'F') => boolean(cursor)?,
        _ => return Err(Fault::new(cursor.at, FIELD)),
    };
    value_ends(cursor)?;
    Ok(value)
}

/// Behind a value comes a comma, a blank or an end.
#[inline]
fn value_ends(cursor: &Cursor<'_>) -> Result<(), Fault> {
    match cursor.peek() {
        Some(byte) if byte != b',' && !is_end(byte) => Err(Fault::new(cursor.at, FIELD)),
        _ => Ok(()),
    }
}

#[inline]
fn number(cursor: &mut Cursor<'_>) -> Result<Value, Fault> {
    let start = cursor.at;
    let negative = cursor.peek() == Some(b'-');
    cursor.at += usize::from(negative);
    let first = cursor.at;
    let whole = cursor.skip_while(|byte| byte.is_ascii_digit());
    let suffix = cursor.peek();
    if whole && matches!(suffix, Some(b'i' | b'u')) {
        let leading_zero = cursor.text[first] == b'0' && cursor.at - first > 1;
        if leading_zero || (negative && suffix == Some(b'u')) {
            return Err(Fault::new(cursor.at, FIELD));
        }
        let digits = cursor.since(start);
        cursor.at += 1;
        value_ends(cursor)?;
        return in_range(
            cursor,
            match suffix {
                Some(b'i') => parse_int10(digits).map(Value::Int),
                _ => parse_uint10(digits).map(Value::Uint),
            },
        );
    }
    if suffix == Some(b'.') {
        cursor.at += 1;
        if !cursor.skip_while(|byte| byte.is_ascii_digit()) && !whole {
            return Err(Fault::new(cursor.at, FIELD));
        }
    } else if !whole {
        return Err(Fault::new(cursor.at, FIELD));
    }
    if let Some(b'e' | b'E') = cursor.peek() {
        cursor.at += 1;
        cursor.at += usize::from(matches!(cursor.peek(), Some(b'+' | b'-')));
        if !cursor.skip_while(|byte| byte.is_ascii_digit()) {
            return Err(Fault::new(cursor.at, FIELD));
        }
    }
    value_ends(cursor)?;
    in_range(cursor, parse_float(cursor.since(start)).map(Value::Float))
}

#[inline]
fn in_range<T>(cursor: &Cursor<'_>, number: Result<T, NumberError>) -> Result<T, Fault> {
    number.map_err(|_| Fault::new(cursor.at, RANGE))
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<Value, Fault> {
    let (word, value): (&[u8], bool) = match &cursor.text[cursor.at..] {
        [b't', b'r', ..] => (b"true", true),
        [b'T', b'r', ..] => (b"True", true),
        [b'T', b'R', ..] => (b"TRUE", true),
        [b'f', b'a', ..] => (b"false", false),
        [b'F', b'a', ..] => (b"False", false),
        [b'F', b'A', ..] => (b"FALSE", false),
        [b't' | b'T', ..] => (b"t", true),
        _ => (b"f", false),
    };
    for &letter in word {
        if word.len() > 1 && cursor.peek() != Some(letter) {
            return Err(Fault::new(cursor.at, FIELD));
        }
        cursor.at += 1;
    }
    Ok(Value::Bool(value))
}

fn string(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<Value, Fault> {
    cursor.at += 1;
    let (start, mut escapes) = (cursor.at, false);
    loop {
        let rest = &cursor.text[cursor.at..];
        let run = memchr3(b'"', b'\\', b'\r', rest).unwrap_or(rest.len());
        if let Some(form_feed) = memchr(0x0c, &rest[..run]) {
            return Err(Fault::new(cursor.at + form_feed, FIELD));
        }
        cursor.at += run;
        match &rest[run..] {
            [b'"', ..] => break,
            [b'\\', b'"' | b'\\', ..] => {
                escapes = true;
                cursor.at += 2;
            }
            [b'\r', b'\n', ..] => cursor.at += 2,
            [] | [b'\\' | b'\r'] => {
                return Err(Fault { unterminated: true, ..Fault::new(cursor.text.len(), FIELD) });
            }
            _ => return Err(Fault::new(cursor.at + 1, FIELD)),
        }
    }
    let raw = cursor.since(start);
    cursor.at += 1;
    Ok(Value::Text(if escapes {
        scratch.clear();
        unescape(raw, STRING_ESCAPES, scratch);
        Text::from(scratch.as_slice())
    } else {
        Text::from(raw)
    }))
}

/// Digits of a time, up to nineteen; a blank or an end follows.
fn timestamp(cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
    let start = cursor.at;
    cursor.at += usize::from(cursor.peek() == Some(b'-'));
    let first = cursor.at;
    cursor.skip_while(|byte| byte.is_ascii_digit());
    if cursor.at - first > 19 {
        return Err(Fault::new(first + 19, TIMESTAMP));
    }
    match cursor.peek() {
        Some(byte) if !is_end(byte) => return Err(Fault::new(cursor.at, TIMESTAMP)),
        _ if cursor.at == first => return Err(Fault::new(cursor.at, TIMESTAMP)),
        _ => {}
    }
    in_range(cursor, parse_int10(cursor.since(start)))
}

/// What a backslash makes plain in measurements, in keys and tag values, and in strings.
const NAME_ESCAPES: &[u8] = b", ";
const KEY_ESCAPES: &[u8] = b",= \"";
const STRING_ESCAPES: &[u8] = b"\"\\";

/// Appends what a token means: a backslash before one of `escaped` goes, others stay.
///
/// In measurements and keys none goes unless there is a separator: `b\"x` keeps its backslash, `b\"\ x` does not.
fn unescape(raw: &[u8], escaped: &[u8], out: &mut Vec<u8>) {
    if memchr(b'\\', raw).is_none() || (escaped != STRING_ESCAPES && raw.find_byteset(b", =").is_none()) {
        out.extend_from_slice(raw);
        return;
    }
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        let next = raw.get(at + 1).copied().filter(|next| byte == b'\\' && escaped.contains(next));
        out.push(next.unwrap_or(byte));
        at += 1 + usize::from(next.is_some());
    }
}
