//! The glob dialect of filters: lists of patterns matched against names, keys and tag values, on bytes.

mod parse;
mod token;

use std::collections::HashSet;

use thiserror::Error;

pub(crate) use token::{Token, matches as tokens_match};

/// A pattern that cannot be compiled.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("invalid glob {pattern:?}: {problem} at byte {offset}")]
pub struct GlobError {
    /// The whole pattern, as written.
    pub pattern: String,
    /// Where in the pattern the trouble begins, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// A list of patterns of which one has to match the whole text; the empty list matches nothing.
///
/// If no pattern of the list holds `*`, `?` or `[` and there are no separators, the patterns are plain texts: `{a,b}`
/// and `\` then stand for themselves. Otherwise each pattern is a glob.
///
/// | pattern | matches |
/// |---|---|
/// | `*`, `**` | a run of characters other than separators; any run |
/// | `?` | one character other than a separator; alone as a pattern also the empty text |
/// | `[abc]`, `[a-c]`, `[!abc]`, `[!a-c]` | one character of a list or a range, or not of it |
/// | `{x,y*}` | alternatives, which may nest and be empty |
/// | `\c` | the character `c` |
///
/// A byte that is no UTF-8 counts as one character, which only `*`, `?`, negated classes and the same byte match.
/// Source: the `filter` package of Telegraf; the defects of the library behind it are not copied.
#[derive(Clone, Debug, Default)]
pub struct GlobSet {
    exact: HashSet<Box<[u8]>, foldhash::fast::FixedState>,
    /// The lengths for which `exact` holds a text, as bits; bit 63 stands for all longer ones.
    exact_lengths: u64,
    globs: Vec<Glob>,
    /// Whether the set was built from no pattern at all.
    is_empty: bool,
}

impl GlobSet {
    /// Compiles a list of patterns; every character of `separators` stops `*` and `?`.
    ///
    /// Fails on a malformed class or an unclosed `{`.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>, separators: &str) -> Result<Self, GlobError> {
        let patterns: Vec<S> = patterns.into_iter().collect();
        let plain = separators.is_empty() && !patterns.iter().any(|pattern| has_wildcard(pattern.as_ref()));
        let separators: Vec<char> = separators.chars().collect();
        let mut set = Self { is_empty: patterns.is_empty(), ..Self::default() };
        for pattern in &patterns {
            let pattern = pattern.as_ref();
            if plain {
                set.add_exact(pattern.as_bytes());
                continue;
            }
            for glob in Glob::of_pattern(parse::parse(pattern)?, &separators) {
                match glob {
                    Glob::Exact(text) => set.add_exact(&text),
                    glob => set.globs.push(glob),
                }
            }
        }
        Ok(set)
    }

    /// Whether one of the patterns matches the whole of `text`.
    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.exact_lengths & length_bit(text.len()) != 0 && self.exact.contains(text)
            || self.globs.iter().any(|glob| glob.matches(text))
    }

    /// Whether the set was built from no pattern; it then matches nothing.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    fn add_exact(&mut self, text: &[u8]) {
        self.exact_lengths |= length_bit(text.len());
        self.exact.insert(text.into());
    }
}

/// A pair of lists: what matches `include` (or anything, if that is empty) and does not match `exclude` passes.
#[derive(Clone, Debug, Default)]
pub struct IncludeExclude {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl IncludeExclude {
    /// Compiles both lists without separators; an empty list does not restrict.
    ///
    /// Fails as [`GlobSet::new`].
    pub fn new<S: AsRef<str>>(
        include: impl IntoIterator<Item = S>,
        exclude: impl IntoIterator<Item = S>,
    ) -> Result<Self, GlobError> {
        Self::with_separators(include, "", exclude, "")
    }

    /// Compiles both lists, each with separators of its own.
    ///
    /// Fails as [`GlobSet::new`].
    pub fn with_separators<S: AsRef<str>>(
        include: impl IntoIterator<Item = S>,
        include_separators: &str,
        exclude: impl IntoIterator<Item = S>,
        exclude_separators: &str,
    ) -> Result<Self, GlobError> {
        let list = |set: GlobSet| if set.is_empty() { None } else { Some(set) };
        Ok(Self {
            include: list(GlobSet::new(include, include_separators)?),
            exclude: list(GlobSet::new(exclude, exclude_separators)?),
        })
    }

    /// Whether `text` passes both lists.
    #[inline]
    pub fn passes(&self, text: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|include| include.matches(text))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(text))
    }

    /// Whether everything passes because both lists are empty.
    pub fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// Whether a text would be taken for a pattern: it holds `*`, `?` or `[`.
pub fn has_wildcard(text: &str) -> bool {
    memchr::memchr3(b'*', b'?', b'[', text.as_bytes()).is_some()
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// One compiled pattern; the usual shapes have a form of their own.
#[derive(Clone, Debug)]
enum Glob {
    /// No wildcard.
    Exact(Box<[u8]>),
    /// `prefix*suffix` without separators, either part possibly empty.
    Around { prefix: Box<[u8]>, suffix: Box<[u8]> },
    /// `*infix*` without separators.
    Contains(Box<memchr::memmem::Finder<'static>>),
    /// Anything else without separators and alternatives.
    Plain(Vec<Token>),
    /// Anything at all.
    General { tokens: Vec<Token>, separators: Box<[char]> },
}

impl Glob {
    /// The globs that a pattern stands for: one for each way to choose among its alternatives.
    ///
    /// So `disk{,io}*` is two prefixes. Too many of them stay one glob of the general form.
    fn of_pattern(tokens: Vec<Token>, separators: &[char]) -> Vec<Self> {
        const MOST_GLOBS: usize = 32;
        match token::expand(&tokens, MOST_GLOBS) {
            Some(sequences) => sequences.into_iter().map(|tokens| Self::of_tokens(tokens, separators)).collect(),
            None => vec![Self::General { tokens, separators: separators.into() }],
        }
    }

    /// The form for tokens without alternatives.
    fn of_tokens(tokens: Vec<Token>, separators: &[char]) -> Self {
        use Token::{AnyRun, Literal, Run};
        let free = separators.is_empty();
        match tokens.as_slice() {
            [] => Self::Exact(Box::default()),
            [Literal(text)] => Self::Exact(text.as_slice().into()),
            [Run] if free => Self::Around { prefix: Box::default(), suffix: Box::default() },
            [AnyRun] => Self::Around { prefix: Box::default(), suffix: Box::default() },
            [Literal(prefix), Run] if free => Self::Around { prefix: prefix.as_slice().into(), suffix: Box::default() },
            [Literal(prefix), AnyRun] => Self::Around { prefix: prefix.as_slice().into(), suffix: Box::default() },
            [Run, Literal(suffix)] if free => Self::Around { prefix: Box::default(), suffix: suffix.as_slice().into() },
            [Literal(prefix), Run, Literal(suffix)] if free => {
                Self::Around { prefix: prefix.as_slice().into(), suffix: suffix.as_slice().into() }
            }
            [Run, Literal(infix), Run] if free => {
                Self::Contains(Box::new(memchr::memmem::Finder::new(infix).into_owned()))
            }
            _ if free => Self::Plain(tokens),
            _ => Self::General { tokens, separators: separators.into() },
        }
    }

    #[inline]
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Around { prefix, suffix } => {
                text.len() >= prefix.len() + suffix.len() && text.starts_with(prefix) && text.ends_with(suffix)
            }
            Self::Contains(infix) => infix.find(text).is_some(),
            Self::Plain(tokens) => token::matches_plainly(tokens, text),
            Self::General { tokens, separators } => token::matches(tokens, separators, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(patterns: &[&str], text: &str) -> bool {
        GlobSet::new(patterns, "").unwrap().matches(text.as_bytes())
    }

    fn check(pattern: &str, separators: &str, hits: &[&str], misses: &[&str]) {
        let set = GlobSet::new([pattern], separators).unwrap();
        for hit in hits {
            assert!(set.matches(hit.as_bytes()), "{pattern} should match {hit:?}");
        }
        for miss in misses {
            assert!(!set.matches(miss.as_bytes()), "{pattern} should not match {miss:?}");
        }
    }

    #[test]
    fn without_wildcards_patterns_are_texts() {
        assert!(matches(&["{cpu,mem}"], "{cpu,mem}"));
        assert!(!matches(&["{cpu,mem}"], "cpu"));
        assert!(matches(&["a\\b"], "a\\b"));
        assert!(matches(&["{cpu,mem}", "x?"], "cpu"));
        assert!(!matches(&["{cpu,mem}", "x?"], "{cpu,mem}"));
    }

    #[test]
    fn separators_alone_make_globs() {
        check("{cpu,mem}", ".", &["cpu", "mem"], &["{cpu,mem}"]);
        check("a.*.c", ".", &["a.b.c", "a..c"], &["a.b.b.c"]);
        check("a.**.c", ".", &["a.b.c", "a.b.b.c"], &["a.c"]);
        check("a?c", ".-", &["abc"], &["a.c", "a-c"]);
        check("a[!x]c", ".", &["a.c"], &["axc"]);
    }

    #[test]
    fn runs() {
        check("*", "", &["", "a", "a\nb", "é"], &[]);
        check("cpu*", "", &["cpu", "cpu0"], &["cp", "xcpu"]);
        check("*cpu", "", &["cpu", "xcpu"], &["cpu0"]);
        check("ab*ba", "", &["abba", "ab-ba"], &["aba"]);
        check("*b*", "", &["b", "abc"], &["", "ac"]);
        check("a*b*c", "", &["abc", "axbxc", "abbc"], &["acb"]);
    }

    #[test]
    fn single_characters() {
        check("?", "", &["", "a", "é"], &["ab"]);
        check("a?", "", &["ab", "aé"], &["a", "abc"]);
        check("??", "", &["ab"], &["", "a"]);
        check("é?x", "", &["éax"], &["éx"]);
    }

    #[test]
    fn classes() {
        check("[abc]", "", &["a", "c"], &["d", ""]);
        check("[a-c]x", "", &["bx"], &["dx"]);
        check("[!a-c]", "", &["d", "é"], &["b"]);
        check("[ab-d]", "", &["a", "b", "-", "d"], &["c"]);
        check("[-a]", "", &["-", "a"], &["b"]);
        check("[^a]", "", &["^", "a"], &["b"]);
    }

    #[test]
    fn alternatives() {
        check("{cpu,mem}*", "", &["cpu", "mem", "memcached"], &["disk"]);
        check("disk{,io}*", "", &["disk", "diskio", "disks"], &["dis"]);
        check("{*,x}a", "", &["ba", "xa", "a"], &["b"]);
        check("{a,{b,c}d}?", "", &["ax", "bdx", "cdx"], &["bx"]);
        check("{}*?", "", &["a"], &[""]);
        check("{a\\,b,c}*", "", &["a,b", "c"], &["b"]);
    }

    #[test]
    fn strays_and_escapes() {
        check("*]},", "", &["x]},"], &["x"]);
        check("\\*?", "", &["*a"], &["aa"]);
        check("?ab\\", "", &["xab"], &["xab\\"]);
    }

    #[test]
    fn invalid_patterns_name_the_place() {
        let error = |pattern: &str| GlobSet::new([pattern], "").unwrap_err().to_string();
        assert_eq!(error("a[b"), "invalid glob \"a[b\": `[` is not closed at byte 1");
        assert_eq!(error("[]"), "invalid glob \"[]\": the class is empty at byte 0");
        assert_eq!(error("[!]"), "invalid glob \"[!]\": the class is empty at byte 0");
        assert_eq!(error("[c-a]"), "invalid glob \"[c-a]\": the range falls at byte 0");
        assert_eq!(error("*{a,b"), "invalid glob \"*{a,b\": `{` is not closed at byte 1");
        assert!(error("[a-cx]").contains("a range has to be all of its class"));
        assert!(error("[a-]").contains("a range has to be all of its class"));
        assert!(error(&format!("*{}", "{".repeat(100))).contains("nested too deeply"));
    }

    #[test]
    fn invalid_utf8_is_one_character_a_byte() {
        let set = GlobSet::new(["a?c"], "").unwrap();
        assert!(set.matches(b"a\xffc"));
        assert!(!set.matches(b"a\xff\xffc"));
        assert!(GlobSet::new(["a*"], "").unwrap().matches(b"a\xff"));
    }

    #[test]
    fn include_and_exclude() {
        let filter = IncludeExclude::new(["bytes_*"], ["bytes_sent"]).unwrap();
        assert!(filter.passes(b"bytes_recv"));
        assert!(!filter.passes(b"bytes_sent"));
        assert!(!filter.passes(b"drop_in"));
        let none = IncludeExclude::new::<&str>([], []).unwrap();
        assert!(none.is_empty() && none.passes(b"x"));
    }

    /// Backtracking over characters, the rules as the table tells them.
    fn naive(tokens: &[Token], separators: &[char], text: &[char], rest: &dyn Fn(&[char]) -> bool) -> bool {
        let Some((token, following)) = tokens.split_first() else {
            return rest(text);
        };
        let go_on = |text: &[char]| naive(following, separators, text, rest);
        match token {
            Token::Literal(literal) => {
                let literal: Vec<char> = str::from_utf8(literal).unwrap().chars().collect();
                text.strip_prefix(literal.as_slice()).is_some_and(go_on)
            }
            Token::One | Token::Class { .. } => {
                text.split_first().is_some_and(|(&first, text)| token.accepts(Some(first), separators) && go_on(text))
            }
            Token::OneOrNone => text.is_empty() || text.len() == 1 && !separators.contains(&text[0]),
            Token::Run | Token::AnyRun => (0..=text.len())
                .take_while(|&at| at == 0 || *token == Token::AnyRun || !separators.contains(&text[at - 1]))
                .any(|at| go_on(&text[at..])),
            Token::Alternatives(alternatives) => {
                alternatives.iter().any(|alternative| naive(alternative, separators, text, &go_on))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_backtracking(pattern in "[ab.é*?,{}!\\[\\]\\\\-]{0,8}", text in "[ab.é,]{0,7}", dot: bool) {
            let separators: &[char] = if dot { &['.'] } else { &[] };
            let Ok(tokens) = parse::parse(&pattern) else { return Ok(()) };
            let characters: Vec<char> = text.chars().collect();
            let want = naive(&tokens, separators, &characters, &|rest| rest.is_empty());
            let general = token::matches(&tokens, separators, text.as_bytes());
            let globs = Glob::of_pattern(tokens, separators);
            prop_assert_eq!(globs.iter().any(|glob| glob.matches(text.as_bytes())), want);
            prop_assert_eq!(general, want);
        }

        #[test]
        fn no_input_panics(pattern: String, separators in "[.a]?", text: Vec<u8>) {
            if let Ok(set) = GlobSet::new([pattern], &separators) {
                let _ = set.matches(&text);
            }
        }
    }
}
