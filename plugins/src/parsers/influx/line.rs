//! What both grammars share: a place in the payload, the metric being read, and how a fault is told.

use std::borrow::Cow;
use std::fmt;

use bstr::ByteSlice;
use heliograph_core::model::{SeriesBuilder, SeriesRef, Value};
use heliograph_core::parse::ParseOutput;

use crate::parsers::fields::FieldList;
use crate::parsers::known::Known;
use crate::parsers::quote::Quoted;

/// A place in a payload.
#[derive(Debug)]
pub(super) struct Cursor<'p> {
    pub(super) text: &'p [u8],
    pub(super) at: usize,
}

impl<'p> Cursor<'p> {
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Whether there is nothing behind this byte.
    pub(super) fn is_last(&self) -> bool {
        self.at + 1 == self.text.len()
    }

    /// Goes over the bytes for which `skip` holds; tells whether there was any.
    #[inline]
    pub(super) fn skip_while(&mut self, skip: impl Fn(u8) -> bool) -> bool {
        let start = self.at;
        while self.peek().is_some_and(&skip) {
            self.at += 1;
        }
        self.at > start
    }

    /// Goes over a line feed, with or without carriage return; `false` if there is none here.
    #[inline]
    pub(super) fn newline(&mut self) -> bool {
        let length = match &self.text[self.at..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return false,
        };
        self.at += length;
        true
    }

    /// Goes to the start of the next line.
    pub(super) fn skip_line(&mut self) {
        self.at = self.text[self.at..].find_byte(b'\n').map_or(self.text.len(), |length| self.at + length + 1);
    }

    /// The bytes from a place up to here.
    pub(super) fn since(&self, start: usize) -> &'p [u8] {
        &self.text[start..self.at]
    }
}

/// Why a line is no metric, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: Cow<'static, str>,
    /// A string was opened and never closed: its line cannot be told from the ones it swallowed.
    pub(super) unterminated: bool,
}

impl Fault {
    pub(super) fn new(at: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { at, reason: reason.into(), unterminated: false }
    }
}

/// The memory of reading lines, used again for each.
#[derive(Debug)]
pub(super) struct Lines {
    /// Series by measurement and tags as they stand in the line, escapes and all.
    known: Known<SeriesRef>,
    pub(super) fields: FieldList,
    pub(super) builder: SeriesBuilder,
    /// Memory for what an escaped token means.
    pub(super) scratch: Vec<u8>,
    /// The unit of times, in nanoseconds.
    pub(super) precision: i64,
}

impl Lines {
    pub(super) fn new(precision: i64) -> Self {
        Self {
            known: Known::default(),
            fields: FieldList::default(),
            builder: SeriesBuilder::new(),
            scratch: Vec::new(),
            precision,
        }
    }

    /// The series of the head that begins here, if it is known, and the end of the head.
    ///
    /// A head that was good once, and stands before a blank again, is good again. Heads with escapes are left to the
    /// grammars, which differ about where these end.
    #[inline]
    pub(super) fn known_head(&self, cursor: &Cursor<'_>) -> Option<(SeriesRef, usize)> {
        let rest = &cursor.text[cursor.at..];
        let length = rest.iter().position(|&byte| byte <= b' ' || byte == b'\\')?;
        if rest[length] != b' ' {
            return None;
        }
        self.known.get(&rest[..length]).map(|series| (series.clone(), cursor.at + length))
    }

    /// The series of a head, which the builder holds unless it is known.
    pub(super) fn series(&mut self, head: &[u8], out: &mut ParseOutput<'_>) -> SeriesRef {
        let series = out.interner.intern(&mut self.builder);
        if !head.contains(&b'\\') {
            self.known.insert(head, series.clone());
        }
        series
    }

    /// Adds the metric that was read; `time` is in nanoseconds.
    #[inline]
    pub(super) fn push(&mut self, series: SeriesRef, time: Option<i64>, out: &mut ParseOutput<'_>) {
        let time = time.unwrap_or_else(|| out.now - out.now.rem_euclid(self.precision));
        out.start(series, time);
        for field in self.fields.take() {
            out.batch.push_field(field.key, field.value);
        }
    }

    /// Sets a field whose key needs no change.
    #[inline]
    pub(super) fn set(&mut self, key: &[u8], value: Value) {
        self.fields.set(key, value);
    }
}

/// Counts lines up to a place, which only moves on.
#[derive(Debug)]
pub(super) struct LineCount {
    line: usize,
    start: usize,
}

impl LineCount {
    pub(super) fn new() -> Self {
        Self { line: 1, start: 0 }
    }

    /// Number of the line that holds the byte at `at` (from 1), and where the line starts.
    pub(super) fn of(&mut self, text: &[u8], at: usize) -> (usize, usize) {
        let at = at.min(text.len());
        if at < self.start {
            *self = Self::new();
        }
        while let Some(length) = text[self.start..at].find_byte(b'\n') {
            self.line += 1;
            self.start += length + 1;
        }
        (self.line, self.start)
    }
}

/// A fault with its place and line, as it is reported.
pub(super) struct Report<'a> {
    pub(super) text: &'a [u8],
    pub(super) fault: &'a Fault,
    pub(super) line: usize,
    pub(super) start: usize,
}

/// Bytes of a line that are shown.
const SHOWN: usize = 1024;

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, fault, line, start } = *self;
        let column = fault.at - start + 1;
        let rest = &text[start..];
        let shown = rest.find_byte(b'\n').map_or(rest, |end| &rest[..end]);
        let shown = shown.strip_suffix(b"\r").unwrap_or(shown);
        write!(f, "metric parse error: {} at {line}:{column}: ", fault.reason)?;
        if shown.len() <= SHOWN {
            return write!(f, "{}", Quoted(shown));
        }
        let end = fault.at - start;
        let cut = end.saturating_sub(SHOWN);
        let ellipsis = if cut > 0 { "..." } else { "" };
        let shown = [ellipsis.as_bytes(), &rest[cut..end], b"<-- here"].concat();
        write!(f, "{}", Quoted(&shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_before_the_fault() {
        let text = format!("{}\nx", "a".repeat(3000));
        let shown = |at| {
            let fault = Fault::new(at, "expected field");
            Report { text: text.as_bytes(), fault: &fault, line: 1, start: 0 }.to_string()
        };
        assert_eq!(shown(3), "metric parse error: expected field at 1:4: \"aaa<-- here\"");
        let cut = format!("metric parse error: expected field at 1:2001: \"...{}<-- here\"", "a".repeat(1024));
        assert_eq!(shown(2000), cut);
    }

    #[test]
    fn lines_are_counted_on_and_back() {
        let text = b"a\nbb\n\nc";
        let mut count = LineCount::new();
        let places: Vec<_> = [0, 1, 2, 4, 5, 6, 7, 0].iter().map(|&at| count.of(text, at)).collect();
        assert_eq!(places, [(1, 0), (1, 0), (2, 2), (2, 2), (3, 5), (4, 6), (4, 6), (1, 0)]);
    }
}
