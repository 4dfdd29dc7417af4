//! Removes comments from the text of a configuration, before variables are looked at.

use heliograph_core::config::tree::OffsetMap;

/// The text without its comments, and the way back to the offsets of `text`. Line breaks stay.
///
/// Comments go first so that a variable in a comment is never evaluated: `# ${TOKEN:?missing}` is harmless.
pub(super) fn remove(text: &str) -> (String, OffsetMap) {
    let bytes = text.as_bytes();
    let mut kept = String::with_capacity(text.len());
    let mut map = OffsetMap::default();
    map.copied(0, 0);
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\'' | b'"' => at = after_string(bytes, at),
            b'#' => {
                let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
                kept.push_str(&text[copied..at]);
                map.copied(kept.len(), end);
                (at, copied) = (end, end);
            }
            _ => at += 1,
        }
    }
    kept.push_str(&text[copied..]);
    (kept, map)
}

/// The offset after the string that starts at `at`. A string on one line also ends with its line.
fn after_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let triple = bytes[at..].starts_with(&[quote; 3]);
    let mut next = at + if triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(next) {
        match byte {
            b'\\' if quote == b'"' => next += 2,
            b'\n' if !triple => return next + 1,
            _ if triple && bytes[next..].starts_with(&[quote; 3]) => return next + 3,
            byte if !triple && *byte == quote => return next + 1,
            _ => next += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(remove(text).0, expected, "{text}");
    }

    #[test]
    fn removes_comments_outside_strings() {
        check("a = 1 # b\nc = 2#d", "a = 1 \nc = 2");
        check("# isn't \"odd\na = 1", "\na = 1");
        check("a = \"#\" # 'x'", "a = \"#\" ");
        check("a = '#' # x", "a = '#' ");
        check("a = \"say \\\"# hi\\\"\" # x", "a = \"say \\\"# hi\\\"\" ");
        check("a = 'c:\\' # x", "a = 'c:\\' ");
        check("a = '''\n# in\n''' # out", "a = '''\n# in\n''' ");
        check("a = \"\"\"\n# \"in\" \\\"\"\" # in\n\"\"\" # out", "a = \"\"\"\n# \"in\" \\\"\"\" # in\n\"\"\" ");
        check("a = \"open # in\nb = 1 # out", "a = \"open # in\nb = 1 ");
        check("\\# kept # gone", "\\# kept ");
    }

    proptest! {
        #[test]
        fn any_text(text in "[#'\"\\\\a\né]{0,30}") {
            let (kept, map) = remove(&text);
            prop_assert_eq!(kept.matches('\n').count(), text.matches('\n').count());
            for (offset, c) in kept.char_indices() {
                prop_assert!(text[map.original(offset)..].starts_with(c));
            }
        }
    }
}
