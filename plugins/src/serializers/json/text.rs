//! Strings as Go's JSON encoder writes them: safe inside HTML, and always UTF-8.

/// Appends a string in quotes.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if is_plain(byte) {
            at += 1;
            continue;
        }
        let (c, len) = bstr::decode_utf8(&text[at..]);
        if byte.is_ascii() || matches!(c, None | Some('\u{2028}' | '\u{2029}')) {
            out.extend_from_slice(&text[plain..at]);
            match c {
                Some(c) => write_escape(c, out),
                // One for each byte, as Go does.
                None => out.extend_from_slice(&b"\\ufffd".repeat(len)),
            }
            plain = at + len;
        }
        at += len;
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn write_escape(c: char, out: &mut Vec<u8>) {
    let letter = match c {
        '"' | '\\' => c as u8,
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text with one U+FFFD for each byte that is no UTF-8.
    fn to_utf8(text: &[u8]) -> String {
        text.utf8_chunks().fold(String::with_capacity(text.len()), |mut out, chunk| {
            out.push_str(chunk.valid());
            out.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
            out
        })
    }

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes() {
        for (text, want) in [
            ("q\"<>&", r#""q\"\u003c\u003e\u0026""#),
            ("a\tb\nc\rd\u{8}e\u{c}f\\", r#""a\tb\nc\rd\be\ff\\""#),
            ("\u{1}\u{1f}\u{7f}/", "\"\\u0001\\u001f\u{7f}/\""),
            ("é€\u{2028}😀", "\"é€\\u2028😀\""),
        ] {
            assert_eq!(written(text.as_bytes()), want);
        }
        assert_eq!(written(b"a\xff\xe2\x82b\xe2\x82\xac"), "\"a\\ufffd\\ufffd\\ufffdb€\"");
    }

    proptest! {
        #[test]
        fn another_reader_reads_it_back(text in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(serde_json::from_str::<String>(&written(&text)).unwrap(), to_utf8(&text));
        }
    }
}
