//! Regular expressions as Go has them: RE2 syntax, ASCII classes, `$name` templates, on byte strings.

mod template;
mod translate;

use std::borrow::Cow;
use std::ops::Range;

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

pub use template::Template;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem}")]
pub struct GoRegexError {
    problem: String,
}

/// A compiled pattern with Go's meaning of it.
///
/// What differs from the `regex` crate is translated: `\d \w \s \b` know ASCII only, `\Q…\E`, octal escapes and literal
/// braces are read, a class holds no class and no set operations, `\<` is a plain `<`. Look-around and back-references
/// exist in neither. A byte that is no UTF-8 counts as the character U+FFFD, as in Go, and comes out unchanged.
/// Source: `regexp/syntax` of Go.
#[derive(Debug)]
pub struct GoRegex {
    regex: Regex,
    /// The names of the groups, the whole match first; empty where there is none.
    names: Vec<String>,
    locations: CaptureLocations,
}

/// The pattern as the `regex` crate reads it, for those who compile it themselves; what Go refuses is left for the crate
/// to refuse.
pub fn from_go(pattern: &str) -> String {
    translate::translate(pattern).map_or_else(|_| pattern.to_owned(), |translated| translated.pattern)
}

/// Memory that one compiled pattern may take, in bytes.
const COMPILED_LIMIT: usize = 10 << 20;

impl GoRegex {
    /// Compiles a pattern.
    ///
    /// Fails on what Go refuses, on flags other than `i`, `m`, `s`, `U`, and on patterns that compile to over 10 MiB.
    pub fn new(pattern: &str) -> Result<Self, GoRegexError> {
        let translated = translate::translate(pattern)?;
        let regex = RegexBuilder::new(&translated.pattern).size_limit(COMPILED_LIMIT).build().map_err(|error| {
            // The crate draws a picture of several lines; its last one says what is wrong.
            let text = error.to_string();
            let line = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            GoRegexError { problem: line }
        })?;
        let locations = regex.capture_locations();
        Ok(Self { regex, names: translated.names, locations })
    }

    /// The names of the groups, the whole match first; empty where a group has none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the pattern matches somewhere in `text`.
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(&Subject::new(text).searched)
    }

    /// The groups of the first match, the whole match first; nothing if there is no match.
    pub fn first_match<'t>(&mut self, text: &'t [u8]) -> Option<Vec<Option<&'t [u8]>>> {
        let subject = Subject::new(text);
        self.find_at(&subject, 0)?;
        let group = |i| self.locations.get(i).and_then(|(start, end)| text.get(subject.range(start..end)));
        Some((0..self.names.len()).map(group).collect())
    }

    /// Appends `text` to `out` with every match replaced by the template; `false`, and nothing appended, without a match.
    ///
    /// An empty match right behind another match is passed over. Source: `ReplaceAll` of Go.
    pub fn replace_all(&mut self, text: &[u8], template: &Template, out: &mut Vec<u8>) -> bool {
        let subject = Subject::new(text);
        let (mut copied, mut from, mut found) = (0, 0, false);
        while let Some(matched) = self.find_at(&subject, from) {
            found = true;
            out.extend_from_slice(&text[subject.range(copied..matched.start)]);
            if matched.end > copied || matched.start == 0 {
                template.expand(out, |group| {
                    self.locations.get(group).and_then(|(start, end)| text.get(subject.range(start..end)))
                });
            }
            copied = matched.end;
            // The next search starts at least one character further on.
            from = matched.end.max(subject.next_boundary(from));
            if from > subject.searched.len() {
                break;
            }
        }
        if found {
            out.extend_from_slice(&text[subject.range(copied..subject.searched.len())]);
        }
        found
    }

    /// The next match that begins and ends between characters: `\B` would also match inside of one.
    fn find_at(&mut self, subject: &Subject<'_>, from: usize) -> Option<Range<usize>> {
        let mut from = from;
        while from <= subject.searched.len() {
            let found = self.regex.captures_read_at(&mut self.locations, &subject.searched, from)?.range();
            if subject.is_boundary(found.start) && subject.is_boundary(found.end) {
                return Some(found);
            }
            from = subject.next_boundary(found.start);
        }
        None
    }
}

/// A text as it is searched: with U+FFFD for each byte that is no UTF-8, and the way back to the original.
struct Subject<'t> {
    searched: Cow<'t, [u8]>,
    /// Where the replacements end in `searched`; each stands for one byte of the original.
    replaced: Vec<usize>,
}

const REPLACEMENT: &str = "\u{fffd}";

impl<'t> Subject<'t> {
    fn new(text: &'t [u8]) -> Self {
        if std::str::from_utf8(text).is_ok() {
            return Self { searched: Cow::Borrowed(text), replaced: Vec::new() };
        }
        let (mut searched, mut replaced) = (Vec::with_capacity(text.len() + 8), Vec::new());
        for chunk in text.utf8_chunks() {
            searched.extend_from_slice(chunk.valid().as_bytes());
            for _ in chunk.invalid() {
                searched.extend_from_slice(REPLACEMENT.as_bytes());
                replaced.push(searched.len());
            }
        }
        Self { searched: Cow::Owned(searched), replaced }
    }

    /// The same range in the original.
    fn range(&self, range: Range<usize>) -> Range<usize> {
        let original = |at: usize| at - self.replaced.partition_point(|&end| end <= at) * (REPLACEMENT.len() - 1);
        original(range.start)..original(range.end)
    }

    fn is_boundary(&self, at: usize) -> bool {
        self.searched.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
    }

    /// The border of characters that follows `at`; one past the end from the end on.
    fn next_boundary(&self, at: usize) -> usize {
        (at + 1..=self.searched.len()).find(|&at| self.is_boundary(at)).unwrap_or(self.searched.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstr::BStr;
    use proptest::prelude::*;

    fn replaced(pattern: &str, template: &str, text: impl AsRef<[u8]>) -> String {
        let mut regex = GoRegex::new(pattern).unwrap();
        let template = Template::new(template, regex.names());
        let mut out = Vec::new();
        match regex.replace_all(text.as_ref(), &template, &mut out) {
            true => format!("{:?}", BStr::new(&out)),
            false => "no match".into(),
        }
    }

    #[track_caller]
    fn check(pattern: &str, template: &str, text: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(replaced(pattern, template, text), format!("{:?}", BStr::new(expected)), "{pattern}");
    }

    #[test]
    fn every_match_is_replaced() {
        check(r"(\d+)", "<$1>", "a1b22c333", "a<1>b<22>c<333>");
        check("^([a-z]+).*$", "${1}", "web.x.y", "web");
    }

    #[test]
    fn empty_matches_as_in_go() {
        check("a*", "-", "baac", "-b-c-");
        check("a*", "-", "", "-");
        check("x*", "-", "é☃", "-é-☃-");
        check("a|", "-", "aab", "--b-");
        check("$", "-", "ab", "ab-");
    }

    #[test]
    fn classes_are_ascii() {
        assert_eq!(replaced(r"^\w+$", "x", "größe"), "no match");
        check(r"\b", "|", "aé", "|a|é");
        check(r"\B", "|", "aé", "aé|");
        check(r"[^\W_]+", "x", "ab_é1", "x_éx");
        assert_eq!(replaced(r"\s", "x", "\u{b}"), "no match");
    }

    #[test]
    fn bytes_that_are_no_text_count_as_a_character_each() {
        assert_eq!(replaced("^(.)(.)(.)$", "$3$2$1", b"\xffa\xfe"), r#""\xfea\xff""#);
        assert_eq!(replaced("a", "b", b"\xf0\x9fa\xff"), r#""\xf0\x9fb\xff""#);
        assert_eq!(replaced("^.$", "", b"\xe2\x98"), "no match");
    }

    #[test]
    fn groups_of_the_first_match() {
        let mut regex = GoRegex::new(r"^/(?P<verb>\w+)/(?<1st>\d+)?").unwrap();
        assert_eq!(regex.names(), ["", "verb", "1st"]);
        assert_eq!(regex.first_match(b"/get/"), Some(vec![Some(&b"/get/"[..]), Some(b"get"), None]));
        assert_eq!(regex.first_match(b"get"), None);
    }

    #[test]
    fn what_go_refuses() {
        for pattern in
            ["(unclosed", "m(?=x)", r"(a)\1", "([", "a{1001}", r"\Z", "(?P<n>a)(?P<n>b)", "(?x)a", r"\é", "a)"]
        {
            assert!(GoRegex::new(pattern).is_err(), "{pattern} is accepted");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_text_panics(pattern in r"[a(){}\[\]?*+|^$\\.bBdQE<>P:0-9é&~-]{0,12}", template in r"[$a{}0-9é]{0,8}",
                                         text in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(mut regex) = GoRegex::new(&pattern) {
                let template = Template::new(&template, regex.names());
                let mut out = Vec::new();
                let found = regex.replace_all(&text, &template, &mut out);
                prop_assert_eq!(found, regex.first_match(&text).is_some());
            }
        }

        #[test]
        fn replacing_by_the_match_changes_nothing(pattern in "[abé.]?[*+?]?[abé|]?", text in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(mut regex) = GoRegex::new(&pattern) {
                let template = Template::new("$0", regex.names());
                let mut out = Vec::new();
                if regex.replace_all(&text, &template, &mut out) {
                    prop_assert_eq!(out, text);
                }
            }
        }
    }
}
