//! Pieces of payloads in messages, quoted as Go's `%q` quotes them.

use std::fmt;

/// Shows bytes between quotes, with escapes for what is not printable and for bytes that are no UTF-8.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '"' | '\\' => write!(f, "\\{char}")?,
                    '\u{7}' => f.write_str("\\a")?,
                    '\u{8}' => f.write_str("\\b")?,
                    '\t' => f.write_str("\\t")?,
                    '\n' => f.write_str("\\n")?,
                    '\u{b}' => f.write_str("\\v")?,
                    '\u{c}' => f.write_str("\\f")?,
                    '\r' => f.write_str("\\r")?,
                    '\0'..='\u{1f}' | '\u{7f}' => write!(f, "\\x{:02x}", u32::from(char))?,
                    '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' => {
                        write!(f, "\\u{:04x}", u32::from(char))?;
                    }
                    _ => f.write_char(char)?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted() {
        assert_eq!(Quoted(b"a\"\\\n\x00\x7f\xff\xc3\xbc").to_string(), r#""a\"\\\n\x00\x7f\xffü""#);
    }
}
