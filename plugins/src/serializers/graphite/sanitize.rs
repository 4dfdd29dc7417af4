//! What Graphite cannot have in a path is replaced here.

use bstr::ByteSlice;
use regex::Regex;

use crate::common::go_regex::from_go;

/// Matches what is replaced in the last step of the strict rule.
const DEFAULT_STRICT: &str = r"[^a-zA-Z0-9-:._=\p{L}]";

/// The replacement rules of one configuration.
#[derive(Debug)]
pub(super) struct Sanitizer {
    strict: Regex,
    letter: Regex,
}

impl Sanitizer {
    /// Compiles the option `graphite_strict_sanitize_regex`; the empty text means the default.
    pub(super) fn new(strict: &str) -> Result<Self, regex::Error> {
        let strict = if strict.is_empty() { DEFAULT_STRICT } else { strict };
        Ok(Self { strict: Regex::new(&from_go(strict))?, letter: Regex::new(r"^\p{L}$")? })
    }

    /// The strict rule, applied to a whole path or tag.
    pub(super) fn strict(&self, text: &[u8]) -> Vec<u8> {
        let dashed: Vec<u8> = text.iter().map(|&b| if matches!(b, b'/' | b'@' | b'*') { b'-' } else { b }).collect();
        let prepared = without_double_dots(&dashed);
        let mut out = Vec::with_capacity(prepared.len());
        for chunk in prepared.utf8_chunks() {
            out.extend_from_slice(self.strict.replace_all(chunk.valid(), regex::NoExpand("_")).as_bytes());
            // To Go's regular expressions every stray byte is one replacement character.
            let is_replaced = self.strict.is_match("\u{fffd}");
            out.extend(chunk.invalid().iter().map(|&byte| if is_replaced { b'_' } else { byte }));
        }
        out
    }

    /// The loose rule for tag keys.
    pub(super) fn compatible_key(&self, key: &[u8]) -> Vec<u8> {
        self.compatible(key, |c| matches!(c, '!' | ';' | '=' | '^' | '`'))
    }

    /// The loose rule for tag values.
    pub(super) fn compatible_value(&self, value: &[u8]) -> Vec<u8> {
        let mut value = self.compatible(value, |c| c == ';');
        let tildes = value.iter().take_while(|&&byte| byte == b'~').count();
        value.drain(..tildes);
        value
    }

    fn compatible(&self, text: &[u8], is_forbidden: fn(char) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for (start, end, c) in text.char_indices() {
            let is_letter = |c: char| self.letter.is_match(c.encode_utf8(&mut [0; 4]));
            let is_kept = if c.is_ascii() { !c.is_ascii_control() && !is_forbidden(c) } else { is_letter(c) };
            if is_kept {
                out.extend_from_slice(&text[start..end]);
            } else if c == char::REPLACEMENT_CHARACTER {
                // One for each byte that is no text, as Go counts; a true U+FFFD is one as well.
                let stray = &text[start..end] != "\u{fffd}".as_bytes();
                out.resize(out.len() + if stray { end - start } else { 1 }, b'_');
            } else {
                out.push(b'_');
            }
        }
        out
    }
}

/// Removes backslashes and halves runs of dots, both in one pass: `a...b` becomes `a..b`.
fn without_double_dots(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => continue,
            b'.' => {
                bytes.next_if_eq(&b'.');
            }
            _ => {}
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(regex: &str, text: &[u8]) -> String {
        Sanitizer::new(regex).unwrap().strict(text).as_bstr().to_string()
    }

    #[test]
    fn strict_rule() {
        for (text, want) in [
            ("a/b@c*d", "a-b-c-d"),
            ("a...b", "a..b"),
            ("h....i", "h..i"),
            (r"a\.\.b", "a..b"),
            ("é°ü€", "é_ü_"),
            ("a b%;#~+=:", "a_b_____=:"),
            ("日本", "日本"),
        ] {
            assert_eq!(strict("", text.as_bytes()), want);
        }
        assert_eq!(strict("", b"a\xff\xfe\xe2\x82z"), "a____z");
    }

    #[test]
    fn a_regex_of_ones_own() {
        assert_eq!(strict(r"[^a-z./@*\\]", br"h/1@2*3\4.cpuA.x"), "h_______.cpu_.x");
        assert_eq!(strict("[%]", b"a%\xff b"), "a_\u{fffd} b");
        assert_eq!(strict("a+", b"caab$1"), "c_b$1");
    }

    #[test]
    fn compatible_rule() {
        let sanitizer = Sanitizer::new("").unwrap();
        assert_eq!(
            sanitizer.compatible_key(b"na;me^!`=x\x7f\x01"),
            b"na_me___".iter().chain(b"_x__").copied().collect::<Vec<_>>()
        );
        assert_eq!(sanitizer.compatible_value("~~eu;x=é°~".as_bytes()).as_bstr(), "eu_x=é_~");
        assert_eq!(sanitizer.compatible_value(b"a\xff\xfeb"), b"a__b");
        assert_eq!(sanitizer.compatible_value(b"~"), b"");
    }
}
