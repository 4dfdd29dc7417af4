//! The tree of a parsed configuration file: values, and where each of them stands in the file.

use std::{fmt, sync::Arc};

use indexmap::IndexMap;

/// A range of bytes in the parsed text of a [`SourceFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` up to, not including, `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }
}

/// How the offsets of a text lead back to the text that it was made from.
///
/// Comments are removed and variables put in before a file is parsed; positions and excerpts in messages are those
/// of the file as its author sees it.
#[derive(Debug, Clone, Default)]
pub struct OffsetMap {
    /// Start in the new text, start in the old text, whether the piece was copied; ascending.
    pieces: Vec<(usize, usize, bool)>,
}

impl OffsetMap {
    /// Notes that the new text goes on at `new` with a copy of the old text from `old`.
    pub fn copied(&mut self, new: usize, old: usize) {
        self.pieces.push((new, old, true));
    }

    /// Notes that the new text goes on at `new` with something that stands for what is at `old`.
    pub fn replaced(&mut self, new: usize, old: usize) {
        self.pieces.push((new, old, false));
    }

    /// The offset in the old text of an offset in the new one.
    #[must_use]
    pub fn original(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|piece| piece.0 <= offset);
        match index.checked_sub(1).map(|index| self.pieces[index]) {
            Some((new, old, true)) => old + (offset - new),
            Some((_, old, false)) => old,
            None => offset,
        }
    }
}

/// A configuration file: its name, its text as written, and the text that was parsed.
pub struct SourceFile {
    path: String,
    original: String,
    parsed: Option<String>,
    /// From the original to the parsed text, one for each step.
    maps: Vec<OffsetMap>,
}

impl SourceFile {
    /// A file that is parsed as it was written.
    #[must_use]
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> SourceFile {
        SourceFile { path: path.into(), original: text.into(), parsed: None, maps: Vec::new() }
    }

    /// A file whose parsed text was made from the original in steps, each with its map.
    #[must_use]
    pub fn prepared(path: String, original: String, parsed: String, maps: Vec<OffsetMap>) -> SourceFile {
        SourceFile { path, original, parsed: Some(parsed), maps }
    }

    /// Path or address of the file, as it was given.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The text that was parsed and that spans point into.
    #[must_use]
    pub fn text(&self) -> &str {
        self.parsed.as_deref().unwrap_or(&self.original)
    }

    /// The piece of the parsed text at `span`; empty if there is none.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text().get(span.start..span.end).unwrap_or("")
    }

    /// The piece of the file as its author wrote it that `span` stems from; empty if there is none.
    #[must_use]
    pub fn written(&self, span: Span) -> &str {
        let (start, end) = (self.to_original(span.start), self.to_original(span.end));
        self.original.get(start..end).unwrap_or("")
    }

    fn to_original(&self, offset: usize) -> usize {
        self.maps.iter().rev().fold(offset, |offset, map| map.original(offset))
    }

    /// Line and column of an offset of the parsed text in the file as written, both from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let (line, column, _) = self.locate(offset);
        (line, column)
    }

    /// Line, column and the line's text (without its line end), as written.
    pub(super) fn locate(&self, offset: usize) -> (usize, usize, &str) {
        let mut at = self.to_original(offset).min(self.original.len());
        while !self.original.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.original[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[start..].chars().count() + 1;
        let rest = &self.original[start..];
        let text = rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r');
        (line, column, text)
    }
}

impl fmt::Debug for SourceFile {
    /// Without the text, since it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceFile").field(&self.path).finish()
    }
}

/// A value and its place in the file.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands; of a table its header.
    pub span: Span,
    /// True if environment variables were put into this string after parsing.
    ///
    /// Messages then show the text of the file instead of the value, which may be a password.
    pub substituted: bool,
}

impl Node {
    /// A value at a place.
    #[must_use]
    pub fn new(value: Value, span: Span) -> Node {
        Node { value, span, substituted: false }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements, if it is an array (of tables or of values).
    #[must_use]
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(array) => Some(&array.items),
            _ => None,
        }
    }
}

/// What a key can hold.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text, with escapes decoded.
    String(String),
    /// From -2^63 to 2^64-1.
    Integer(i128),
    /// A number with a decimal point or an exponent.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time or both, as written.
    Datetime(String),
    /// `[…]`, or the elements of `[[…]]`.
    Array(Array),
    /// `[…]` or `{…}`.
    Table(Table),
}

impl Value {
    /// What it is, for messages: `a string`, `an integer`, …
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::Array(Array { headers: true, .. }) => "a list of tables",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// A list.
#[derive(Debug, Clone, Default)]
pub struct Array {
    /// The elements, in file order.
    pub items: Vec<Node>,
    /// True if it was written with `[[…]]` headers, false if as `[…]`.
    pub headers: bool,
}

/// A table: keys in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: IndexMap<String, Entry>,
    /// How it was written; a table can be opened by a header only once.
    pub origin: Origin,
}

/// How a table came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Only named on the way to another one: `a` in `[a.b]`.
    #[default]
    Implied,
    /// Opened by `[a]` or `[[a]]`.
    Header,
    /// Written as `{…}`.
    Inline,
}

/// A key of a table with what it holds.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key stands.
    pub key_span: Span,
    /// What it holds.
    pub node: Node,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn with_origin(origin: Origin) -> Table {
        Table { entries: IndexMap::new(), origin }
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entry of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// Sets a key; an earlier value goes, its place in the order stays.
    pub fn insert(&mut self, key: String, entry: Entry) {
        self.entries.insert(key, entry);
    }

    /// Takes a key out; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        self.entries.shift_remove(key)
    }

    /// All keys with their entries, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// All keys with their entries to be changed, in the order of the file.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.entries.iter_mut().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl IntoIterator for Table {
    type Item = (String, Entry);
    type IntoIter = indexmap::map::IntoIter<String, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// A shared handle on a file.
pub type Source = Arc<SourceFile>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_lead_back_through_removed_and_inserted_text() {
        // "a # c\nb = $X" -> comment removed -> variable put in.
        let mut comments = OffsetMap::default();
        comments.copied(0, 0);
        comments.copied(2, 5);
        let mut variables = OffsetMap::default();
        variables.copied(0, 0);
        variables.replaced(7, 7);
        variables.copied(12, 9);
        let file = SourceFile::prepared(
            "f".into(),
            "a # c\nb = $X!".into(),
            "a \nb = hello!".into(),
            vec![comments, variables],
        );
        assert_eq!(file.line_column(3), (2, 1));
        assert_eq!(file.line_column(9), (2, 5));
        assert_eq!(file.line_column(12), (2, 7));
        assert_eq!(file.written(Span::new(7, 13)), "$X!");
    }

    #[test]
    fn columns_count_characters() {
        let file = SourceFile::new("f", "é = 1");
        assert_eq!(file.line_column(3), (1, 3));
    }
}
