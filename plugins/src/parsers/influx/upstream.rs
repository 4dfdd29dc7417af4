//! The grammar of the "upstream" implementation: stricter about bytes, laxer about numbers and escapes.

use std::borrow::Cow;

use bstr::ByteSlice;
use heliograph_core::model::{SeriesBuilder, Text, Value};
use heliograph_core::number::{NumberError, parse_bool, parse_float, parse_int10, parse_uint10};
use heliograph_core::parse::ParseOutput;

use super::line::{Cursor, Fault, Lines};
use crate::parsers::quote::Quoted;

#[inline]
fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Blank, carriage return or line feed: what may stand behind a value.
#[inline]
fn is_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\r' | b'\n')
}

/// Skips blank lines and comments; `false` at the end of the payload.
pub(super) fn skip(cursor: &mut Cursor<'_>) -> bool {
    loop {
        let start = cursor.at;
        cursor.skip_while(|byte| byte == b' ');
        match cursor.peek() {
            None => return false,
            Some(b'#') => {
                cursor.skip_while(|byte| !is_control(byte));
                if !line_end(cursor) {
                    cursor.at = start;
                    return true;
                }
            }
            Some(b'\n' | b'\r') if line_end(cursor) => {}
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
            cursor.skip_while(|byte| byte == b' ');
            let start = cursor.at;
            if cursor.peek() == Some(b'#') {
                return Err(Fault::new(start, "invalid character found in comment line"));
            }
            head(cursor, &mut lines.builder)?;
            lines.series(cursor.since(start), out)
        }
    };
    cursor.skip_while(|byte| byte == b' ');
    fields(cursor, lines)?;
    cursor.skip_while(|byte| byte == b' ');
    let time = if line_end(cursor) { None } else { timestamp(cursor, lines.precision)? };
    lines.push(series, time, out);
    Ok(())
}

/// Goes over the end of a line, or of the payload; a carriage return as the very last byte is one.
fn line_end(cursor: &mut Cursor<'_>) -> bool {
    if cursor.peek() == Some(b'\r') && cursor.is_last() {
        cursor.at += 1;
    }
    cursor.at == cursor.text.len() || cursor.newline()
}

/// Reads measurement and tags into the builder, up to the blank behind them.
fn head(cursor: &mut Cursor<'_>, builder: &mut SeriesBuilder) -> Result<(), Fault> {
    let start = cursor.at;
    let name = token(cursor, |byte| byte == b',' || byte == b' ' || is_control(byte), b" ,")?;
    if name.is_empty() {
        return Err(Fault::new(
            start,
            match cursor.peek() {
                Some(found) => {
                    Cow::from(format!("invalid character {} found at start of measurement name", shown(found)))
                }
                None => Cow::from("no measurement name found"),
            },
        ));
    }
    builder.start(&name);
    tag_comma(cursor)?;
    while cursor.peek() != Some(b' ') {
        let start = cursor.at;
        let key = token(cursor, is_key_end, b",= ")?;
        match cursor.peek() {
            None => return Err(Fault::new(start, "empty tag name")),
            Some(b'=') if !key.is_empty() => cursor.at += 1,
            Some(b'=') => return Err(Fault::new(start, "empty tag key")),
            Some(found) if !key.is_empty() => {
                let reason = format!("expected '=' after tag key {}, but got {} instead", Quoted(&key), shown(found));
                return Err(Fault::new(start, reason));
            }
            Some(found) => {
                let reason = format!("expected tag key or field but found {} instead", shown(found));
                return Err(Fault::new(start, reason));
            }
        }
        let start = cursor.at;
        let value = token(cursor, is_key_end, b",= ")?;
        if value.is_empty() {
            let reason = format!("expected tag value after tag key {}, but none found", Quoted(&key));
            return Err(Fault::new(start, reason));
        }
        builder.set_tag(&key, &value);
        if cursor.peek().is_none() {
            return Err(Fault::new(cursor.at, "expected field key but none found"));
        }
        tag_comma(cursor)?;
    }
    Ok(())
}

/// What ends a key or a tag value.
fn is_key_end(byte: u8) -> bool {
    matches!(byte, b',' | b'=' | b' ') || is_control(byte)
}

/// Goes over a comma before a tag, behind which the tag must begin.
fn tag_comma(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    if cursor.peek() != Some(b',') {
        return Ok(());
    }
    cursor.at += 1;
    match cursor.peek() {
        None => Err(Fault::new(cursor.at, "expected tag key after comma; got end of input")),
        Some(byte) if is_end(byte) => {
            Err(Fault::new(cursor.at, "expected tag key after comma; got white space instead"))
        }
        Some(_) => Ok(()),
    }
}

/// A token up to a byte for which `ends` holds; a backslash makes each of `escaped` plain, and stays before others.
fn token<'p>(cursor: &mut Cursor<'p>, ends: impl Fn(u8) -> bool, escaped: &[u8]) -> Result<Cow<'p, [u8]>, Fault> {
    let start = cursor.at;
    let mut meaning: Option<Vec<u8>> = None;
    while let Some(byte) = cursor.peek() {
        let next = cursor.text.get(cursor.at + 1).copied().filter(|next| byte == b'\\' && escaped.contains(next));
        if byte != b'\\' && ends(byte) {
            break;
        }
        if next.is_some() && meaning.is_none() {
            meaning = Some(cursor.since(start).to_vec());
        }
        if let Some(meaning) = &mut meaning {
            meaning.push(next.unwrap_or(byte));
        }
        cursor.at += 1 + usize::from(next.is_some());
    }
    let token = meaning.map_or(Cow::Borrowed(cursor.since(start)), Cow::Owned);
    utf8(start, &token)?;
    Ok(token)
}

fn utf8(start: usize, token: &[u8]) -> Result<(), Fault> {
    match token.is_ascii() || token.to_str().is_ok() {
        true => Ok(()),
        false => Err(Fault::new(start, format!("invalid utf-8 sequence in token {}", Quoted(token)))),
    }
}

fn fields(cursor: &mut Cursor<'_>, lines: &mut Lines) -> Result<(), Fault> {
    lines.fields.start();
    loop {
        let start = cursor.at;
        let key = token(cursor, is_key_end, b",= ")?;
        match cursor.peek() {
            Some(b'=') if !key.is_empty() => cursor.at += 1,
            None if key.is_empty() => return Err(Fault::new(start, "expected field key but none found")),
            Some(found) if key.is_empty() => {
                let reason = format!("invalid character {} found at start of field key", shown(found));
                return Err(Fault::new(start, reason));
            }
            found => {
                let found = found.map_or_else(|| "end of input".to_owned(), shown);
                let reason = format!("want '=' after field key {}, found {found}", Quoted(&key));
                return Err(Fault::new(cursor.at, reason));
            }
        }
        let value = value(cursor, &key, &mut lines.scratch)?;
        lines.set(&key, value);
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            None => return Ok(()),
            Some(byte) if is_end(byte) => return Ok(()),
            Some(found) => {
                return Err(Fault::new(cursor.at, format!("unexpected character {} after field", shown(found))));
            }
        }
    }
}

fn value(cursor: &mut Cursor<'_>, key: &[u8], scratch: &mut Vec<u8>) -> Result<Value, Fault> {
    let start = cursor.at;
    let first = match cursor.peek() {
        None => return Err(Fault::new(start, "expected field value, found end of input")),
        Some(b'"') => return string(cursor, scratch),
        Some(first @ (b't' | b'T' | b'f' | b'F' | b'-' | b'.' | b'0'..=b'9')) => first,
        Some(_) => return Err(Fault::new(start, "field value has unrecognized type")),
    };
    cursor.skip_while(|byte| byte != b',' && !is_end(byte));
    let text = cursor.since(start);
    let value = match text {
        _ if first.is_ascii_alphabetic() => parse_bool(text).map(Value::Bool),
        [digits @ .., b'i'] => parse_int10(digits).map(Value::Int),
        [digits @ .., b'u'] => parse_uint10(digits).map(Value::Uint),
        _ => parse_float(text).and_then(|v| if v.is_finite() { Ok(Value::Float(v)) } else { Err(NumberError::Syntax) }),
    };
    value.map_err(|error| {
        let problem = match error {
            NumberError::Range => "line-protocol value out of range",
            NumberError::Syntax => "invalid value syntax",
        };
        Fault::new(start, format!("cannot parse value for field key {}: {problem}", Quoted(key)))
    })
}

fn string(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<Value, Fault> {
    let opening = cursor.at;
    cursor.at += 1;
    scratch.clear();
    loop {
        let rest = &cursor.text[cursor.at..];
        let Some(run) = rest.find_byteset(b"\"\\") else {
            let reason = "expected closing quote for string field value, found end of input";
            return Err(Fault { unterminated: true, ..Fault::new(opening, reason) });
        };
        scratch.extend_from_slice(&rest[..run]);
        cursor.at += run + 1;
        if rest[run] == b'"' {
            break;
        }
        let meant = match rest.get(run + 1) {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(&byte @ (b'"' | b'\\')) => byte,
            // The backslash stays, and what follows is read as usual.
            _ => {
                scratch.push(b'\\');
                continue;
            }
        };
        scratch.push(meant);
        cursor.at += 1;
    }
    utf8(opening + 1, scratch)?;
    Ok(Value::Text(Text::from(scratch.as_slice())))
}

/// The time at the end of the line, with that end; none if there are only blanks.
fn timestamp(cursor: &mut Cursor<'_>, precision: i64) -> Result<Option<i64>, Fault> {
    let start = cursor.at;
    cursor.skip_while(|byte| byte == b'-' || byte.is_ascii_digit());
    let digits = cursor.since(start);
    if cursor.peek().is_some_and(|byte| !is_end(byte)) {
        cursor.skip_while(|byte| byte != b'\r' && byte != b'\n');
        return Err(Fault::new(start, format!("invalid timestamp ({})", Quoted(cursor.since(start)))));
    }
    cursor.skip_while(|byte| byte == b' ');
    if !line_end(cursor) {
        let start = cursor.at;
        cursor.skip_while(|byte| byte != b'\r' && byte != b'\n');
        return Err(Fault::new(start, format!("unexpected text after timestamp ({})", Quoted(cursor.since(start)))));
    }
    if digits.is_empty() {
        return Ok(None);
    }
    let time = parse_int10(digits).and_then(|time| time.checked_mul(precision).ok_or(NumberError::Range));
    time.map(Some).map_err(|error| {
        let problem = match error {
            NumberError::Range => "line-protocol value out of range",
            NumberError::Syntax => "invalid syntax",
        };
        Fault::new(start, format!("invalid timestamp: {problem}"))
    })
}

/// A byte as Go quotes characters.
fn shown(byte: u8) -> String {
    format!("'{}'", byte.escape_ascii())
}
