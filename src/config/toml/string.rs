//! Strings in their four notations.

use heliograph_core::config::tree::Span;

use super::Mistake;

/// The string that `text` starts with, decoded, and its length in the text; `at` is the offset of `text`.
pub(super) fn read(text: &str, at: usize) -> Result<(String, usize), Mistake> {
    if let Some(body) = text.strip_prefix("\"\"\"") {
        let length = closing(body, "\"\"\"", true).ok_or_else(|| unclosed(at, "\"\"\""))?;
        let raw = &body[..length];
        let start = raw.len() - raw.trim_start_matches(['\r', '\n']).len();
        Ok((unescape(&raw[start..], at + 3 + start, true)?, length + 6))
    } else if let Some(body) = text.strip_prefix("'''") {
        let length = closing(body, "'''", false).ok_or_else(|| unclosed(at, "'''"))?;
        Ok((body[..length].trim_start_matches(['\r', '\n']).to_owned(), length + 6))
    } else if text.starts_with('"') {
        basic(text, at)
    } else {
        literal(text, at)
    }
}

/// Length of `body` up to the closing quotes. One or two more quotes right before them belong to the text.
fn closing(body: &str, quotes: &str, escapes: bool) -> Option<usize> {
    let bytes = body.as_bytes();
    let mut at = 0;
    loop {
        if escapes && *bytes.get(at)? == b'\\' {
            at += 2;
        } else if bytes.get(at..)?.starts_with(quotes.as_bytes()) {
            let more = bytes[at + 3..].iter().take(2).take_while(|byte| **byte == bytes[at]).count();
            return Some(at + more);
        } else {
            at += 1;
        }
        if at >= bytes.len() {
            return None;
        }
    }
}

fn unclosed(at: usize, quotes: &str) -> Mistake {
    Mistake::new(Span::new(at, at + quotes.len()), format!("this string is never closed with {quotes}"))
}

/// `"…"` on one line.
pub(super) fn basic(text: &str, at: usize) -> Result<(String, usize), Mistake> {
    let body = &text[1..];
    let mut escaped = false;
    for (index, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok((unescape(&body[..index], at + 1, false)?, index + 2)),
            '\r' | '\n' => break,
            _ => {}
        }
    }
    Err(Mistake::new(Span::new(at, at + 1), "this string is not closed with \" on its line"))
}

/// `'…'` on one line.
pub(super) fn literal(text: &str, at: usize) -> Result<(String, usize), Mistake> {
    let body = &text[1..];
    match body.find(['\'', '\r', '\n']) {
        Some(end) if body.as_bytes()[end] == b'\'' => Ok((body[..end].to_owned(), end + 2)),
        _ => Err(Mistake::new(Span::new(at, at + 1), "this string is not closed with ' on its line")),
    }
}

fn unescape(raw: &str, at: usize, multi_line: bool) -> Result<String, Mistake> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let place = at + (raw.len() - rest.len()) + backslash;
        let tail = &rest[backslash + 1..];
        let Some(code) = tail.chars().next() else { break };
        let mut length = code.len_utf8();
        match code {
            'b' => text.push('\u{8}'),
            't' => text.push('\t'),
            'n' => text.push('\n'),
            'f' => text.push('\u{c}'),
            'r' => text.push('\r'),
            '"' => text.push('"'),
            '\\' => text.push('\\'),
            'u' | 'U' => {
                let digits = if code == 'u' { 4 } else { 8 };
                let found = tail
                    .get(1..=digits)
                    .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                    .and_then(char::from_u32);
                text.push(found.ok_or_else(|| {
                    let message = format!("invalid escape \"\\{code}\": needs {digits} hex digits of a character");
                    Mistake::new(Span::new(place, place + 2), message)
                })?);
                length += digits;
            }
            '\r' | '\n' if multi_line => {
                length = tail.len() - tail.trim_start_matches([' ', '\t', '\r', '\n']).len();
            }
            ' ' | '\t' if multi_line && ends_line(tail) => {
                length = tail.len() - tail.trim_start_matches([' ', '\t', '\r', '\n']).len();
            }
            _ => {
                let message = format!(
                    "unknown escape \"\\{}\": write \"\\\\\" for a backslash, or use single quotes",
                    code.escape_debug()
                );
                return Err(Mistake::new(Span::new(place, place + 1 + length), message));
            }
        }
        rest = &tail[length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// True if only blanks stand before the end of the line.
fn ends_line(text: &str) -> bool {
    text.trim_start_matches([' ', '\t']).starts_with(['\r', '\n'])
}
