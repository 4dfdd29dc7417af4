//! JSON strings on bytes: finding their end, checking their escapes, undoing them.

use bstr::ByteSlice;

use super::scan::{Fault, FaultKind};

/// Bytes from the start of `text` that need no look: neither quote, backslash nor control byte.
#[inline]
pub(super) fn plain_run(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let mut done = 0;
    let (chunks, rest) = text.as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        // Each term flags its bytes by their top bit. A borrow can flag a byte wrongly, but only above a right one, and
        // only the lowest flag is used.
        let flags = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        if flags & HIGHS != 0 {
            return done + (flags & HIGHS).trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    done + rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(rest.len())
}

/// The end of the string whose content begins at `start`: the place of its closing quote.
///
/// Fails on control bytes, unknown escapes and a missing quote. Bytes that are no UTF-8 pass, as they do in Go.
#[inline]
pub(super) fn string_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    loop {
        at += plain_run(&text[at..]);
        match text.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape_end(text, at)?,
            Some(_) => return Err(Fault { at, kind: FaultKind::ControlByte }),
            None => return Err(Fault { at, kind: FaultKind::UnexpectedEnd }),
        }
    }
}

fn escape_end(text: &[u8], at: usize) -> Result<usize, Fault> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') if unit(text, at).is_some() => Ok(at + 6),
        Some(_) => Err(Fault { at, kind: FaultKind::Escape }),
        None => Err(Fault { at: at + 1, kind: FaultKind::UnexpectedEnd }),
    }
}

/// The UTF-16 unit of a `\uXXXX` at this place.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let escape = text.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    escape[2..].iter().try_fold(0, |unit, &byte| Some(unit << 4 | char::from(byte).to_digit(16)?))
}

/// Whether the content of a string is its own meaning: no escapes, and UTF-8.
#[inline]
pub(super) fn is_literal(raw: &[u8]) -> bool {
    !raw.contains(&b'\\') && str::from_utf8(raw).is_ok()
}

/// Appends the meaning of the content of a checked string.
///
/// An unpaired surrogate becomes one U+FFFD, and so does each byte that is no UTF-8.
pub(super) fn decode(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let rest = &raw[at..];
        if rest[0] == b'\\' {
            let (char, length) = unescape(rest);
            push(out, char);
            at += length;
            continue;
        }
        let run = rest.find_byte(b'\\').unwrap_or(rest.len());
        for chunk in rest[..run].utf8_chunks() {
            out.extend_from_slice(chunk.valid().as_bytes());
            chunk.invalid().iter().for_each(|_| push(out, char::REPLACEMENT_CHARACTER));
        }
        at += run;
    }
}

/// The character of the escape that `rest` begins with, and the escape's length.
fn unescape(rest: &[u8]) -> (char, usize) {
    let simple = match rest.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let Some(first) = unit(rest, 0) else { return (char::REPLACEMENT_CHARACTER, 2) };
            if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, unit(rest, 6)) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
            }
            return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
        }
        Some(&byte) => char::from(byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (simple, 2)
}

fn push(out: &mut Vec<u8>, char: char) {
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &[u8], want: &str) {
        let mut text = raw.to_vec();
        text.push(b'"');
        assert_eq!(string_end(&text, 0), Ok(raw.len()), "end of {:?}", raw.as_bstr());
        let mut out = Vec::new();
        decode(raw, &mut out);
        assert_eq!(out.as_bstr(), want);
    }

    #[test]
    fn escapes_are_undone() {
        check(br#"q\"uo\\te \/ \b\f\n\r\t"#, "q\"uo\\te / \u{8}\u{c}\n\r\t");
        check(br"\u00e9\ud83d\ude00!", "é😀!");
    }

    #[test]
    fn unpaired_surrogates_become_replacements() {
        check(br"\ud83dx", "\u{fffd}x");
        check(br"\ude00\ud83d", "\u{fffd}\u{fffd}");
        check(br"\ud83d\ud83d\ude00", "\u{fffd}😀");
        check(br"\ud83d\u0041", "\u{fffd}A");
    }

    #[test]
    fn each_byte_that_is_no_utf8_becomes_a_replacement() {
        check(b"a\xffb", "a\u{fffd}b");
        check(b"\xe2\x82", "\u{fffd}\u{fffd}");
        check(b"\xf0\x9f\x98\\n", "\u{fffd}\u{fffd}\u{fffd}\n");
        check(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_is_no_string_is_found() {
        for bad in [&b"a\nb\""[..], b"a\\x\"", b"a\\u12g4\"", b"a\\u12", b"abc", b"a\\", b"\x00\""] {
            assert!(string_end(bad, 0).is_err(), "{:?} is taken", bad.as_bstr());
        }
    }

    proptest! {
        #[test]
        fn plain_runs_end_where_they_should(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let want = text.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(text.len());
            prop_assert_eq!(plain_run(&text), want);
        }
    }
}
