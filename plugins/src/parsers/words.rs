//! Words of a text, apart by white space as Go's `strings.Fields` sees it.

use bstr::ByteSlice;

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The first `N` words, and how many there are in all (at most one more is counted).
#[inline]
pub(super) fn first_words<const N: usize>(text: &[u8]) -> ([&[u8]; N], usize) {
    let mut words = [&text[..0]; N];
    let mut count = 0;
    let mut add = |word| {
        if let Some(place) = words.get_mut(count) {
            *place = word;
        }
        count += 1;
        count <= N
    };
    if text.is_ascii() {
        let mut rest = text;
        while let Some(start) = rest.iter().position(|&byte| !is_space(byte)) {
            rest = &rest[start..];
            let end = rest.iter().position(|&byte| is_space(byte)).unwrap_or(rest.len());
            if !add(&rest[..end]) {
                break;
            }
            rest = &rest[end..];
        }
    } else {
        text.fields().all(add);
    }
    (words, count)
}

/// The text without outer white space.
#[inline]
pub(super) fn trim(text: &[u8]) -> &[u8] {
    if !text.is_ascii() {
        return text.trim();
    }
    let start = text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|&byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// The last word.
#[inline]
pub(super) fn last_word(text: &[u8]) -> Option<&[u8]> {
    let text = trim(text);
    if text.is_ascii() {
        let start = text.iter().rposition(|&byte| is_space(byte)).map_or(0, |space| space + 1);
        return (start < text.len()).then(|| &text[start..]);
    }
    let start = text.char_indices().rev().find(|(_, _, char)| char.is_whitespace()).map_or(0, |(_, end, _)| end);
    (start < text.len()).then(|| &text[start..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_agree(text in "[ab\u{e9}\u{a0}\u{3000}\u{85} \t\u{b}\r\n]{0,12}") {
            let text = text.as_bytes();
            let all: Vec<&[u8]> = text.fields().collect();
            let (words, count) = first_words::<3>(text);
            prop_assert_eq!(count, all.len().min(4));
            prop_assert_eq!(&words[..count.min(3)], &all[..count.min(3)]);
            prop_assert_eq!(last_word(text), all.last().copied());
            prop_assert_eq!(trim(text), text.trim());
        }
    }
}
