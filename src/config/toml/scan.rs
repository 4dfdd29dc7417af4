//! Walks through the text: keys, headers, values.

use heliograph_core::config::tree::{Array, Entry, Node, Origin, Span, Table, Value};

use super::{Mistake, build::insert_unique, number, string};

/// Deepest nesting of lists and inline tables; no real file comes near it.
const MAX_DEPTH: usize = 64;

/// `[a.b]` or `[[a.b]]`.
pub(super) struct Header {
    /// The keys, at least one.
    pub(super) path: Vec<(String, Span)>,
    /// The whole header.
    pub(super) span: Span,
    /// True for `[[…]]`.
    pub(super) list: bool,
}

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// The place of the next character.
    pub(super) fn here(&self) -> Span {
        Span::new(self.at, self.at + self.peek().map_or(0, char::len_utf8))
    }

    pub(super) fn unexpected(&self, expected: &str) -> Mistake {
        let found = match self.peek() {
            None => "the end of the file".to_owned(),
            Some('\r' | '\n') => "the end of the line".to_owned(),
            Some(found) => format!("{found:?}"),
        };
        Mistake::new(self.here(), format!("expected {expected}, found {found}"))
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    /// Skips blanks, line ends and comments; true if there was a line end, or if this is the start of the text.
    ///
    /// Comments are gone before a file is read, but variables can bring in new ones.
    pub(super) fn skip_blank_lines(&mut self) -> bool {
        let mut crossed = self.at == 0;
        loop {
            self.skip_blanks();
            match self.peek() {
                Some('\r' | '\n') => {
                    self.at += 1;
                    crossed = true;
                }
                Some('#') => self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => return crossed,
            }
        }
    }

    /// A key: bare or quoted.
    pub(super) fn key(&mut self) -> Result<(String, Span), Mistake> {
        let start = self.at;
        match self.peek() {
            Some('"') => {
                let (text, length) = string::basic(self.rest(), start)?;
                self.at += length;
                Ok((text, Span::new(start, self.at)))
            }
            Some('\'') => {
                let (text, length) = string::literal(self.rest(), start)?;
                self.at += length;
                Ok((text, Span::new(start, self.at)))
            }
            _ => {
                let length = self
                    .rest()
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
                    .unwrap_or(self.rest().len());
                if length == 0 {
                    return Err(self.unexpected("a key or a table header"));
                }
                self.at += length;
                Ok((self.text[start..self.at].to_owned(), Span::new(start, self.at)))
            }
        }
    }

    /// The `=` after a key.
    pub(super) fn assignment(&mut self, key: &str, span: Span) -> Result<(), Mistake> {
        self.skip_blanks();
        if self.peek() == Some('.') {
            let message = format!("dotted keys are not supported: write {key:?} as a table, or quote the whole key");
            return Err(Mistake::new(span, message));
        }
        if !self.take('=') {
            return Err(self.unexpected(&format!("\"=\" after the key {key:?}")));
        }
        self.skip_blanks();
        Ok(())
    }

    pub(super) fn header(&mut self) -> Result<Header, Mistake> {
        let start = self.at;
        self.take('[');
        let list = self.take('[');
        let mut path = Vec::new();
        loop {
            self.skip_blanks();
            path.push(self.key()?);
            self.skip_blanks();
            if !self.take('.') {
                break;
            }
        }
        let close = if list { "]]" } else { "]" };
        if !self.rest().starts_with(close) {
            return Err(self.unexpected(&format!("{close:?} at the end of the header")));
        }
        self.at += close.len();
        Ok(Header { path, span: Span::new(start, self.at), list })
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Node, Mistake> {
        let start = self.at;
        if depth > MAX_DEPTH {
            return Err(Mistake::new(self.here(), "lists or inline tables are nested too deep"));
        }
        let value = match self.peek() {
            Some('[') => self.array(depth)?,
            Some('{') => self.inline_table(depth)?,
            Some('"' | '\'') => {
                let (text, length) = string::read(self.rest(), start)?;
                self.at += length;
                Value::String(text)
            }
            Some('$') => {
                let message = "expected a value, found \"$\": a variable needs quotes (\"${NAME}\"), or the option \
                               --non-strict-env-handling for numbers and booleans";
                return Err(Mistake::new(self.here(), message));
            }
            _ => match number::read(self.rest(), start)? {
                Some((value, length)) => {
                    self.at += length;
                    value
                }
                None => return Err(self.unexpected("a value (text needs quotes)")),
            },
        };
        Ok(Node::new(value, Span::new(start, self.at)))
    }

    fn array(&mut self, depth: usize) -> Result<Value, Mistake> {
        let start = self.here();
        self.take('[');
        let mut items = Vec::new();
        loop {
            self.skip_blank_lines();
            if self.take(']') {
                return Ok(Value::Array(Array { items, headers: false }));
            }
            if self.peek().is_none() {
                return Err(Mistake::new(start, "this list is never closed with \"]\""));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank_lines();
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.unexpected("\",\" or \"]\" in a list"));
            }
        }
    }

    fn inline_table(&mut self, depth: usize) -> Result<Value, Mistake> {
        self.take('{');
        let mut table = Table::with_origin(Origin::Inline);
        loop {
            self.skip_blanks();
            if self.take('}') {
                return Ok(Value::Table(table));
            }
            let (key, key_span) = match self.peek() {
                Some('\r' | '\n') | None => return Err(self.unexpected("\"}\" on the same line as \"{\"")),
                _ => self.key()?,
            };
            self.assignment(&key, key_span)?;
            let node = self.value(depth + 1)?;
            insert_unique(&mut table, key, Entry { key_span, node }, self.text)?;
            self.skip_blanks();
            // The comma may be missing, and one may stand before the brace.
            self.take(',');
        }
    }
}
