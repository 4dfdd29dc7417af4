//! Puts keys and tables together, and finds what is defined twice.

use heliograph_core::config::tree::{Array, Entry, Node, Origin, Span, Table, Value};

use super::{Mistake, scan::Header};

/// The tree while it is read.
pub(super) struct Builder<'a> {
    text: &'a str,
    root: Table,
    /// The table that keys go to now.
    path: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str) -> Builder<'a> {
        Builder { text, root: Table::default(), path: Vec::new() }
    }

    pub(super) fn finish(self) -> Table {
        self.root
    }

    /// Opens the table of a header.
    pub(super) fn open(&mut self, header: Header) -> Result<(), Mistake> {
        let Header { mut path, span, list } = header;
        let Some((last, last_span)) = path.pop() else {
            return Err(Mistake::new(span, "a table header needs a name"));
        };
        let text = self.text;
        let mut table = &mut self.root;
        for (key, key_span) in &path {
            table = descend(table, key, *key_span, span, text)?;
        }
        if list {
            open_list(table, &last, last_span, span, text)?;
        } else {
            open_table(table, &last, last_span, span, text)?;
        }
        self.path = path.into_iter().map(|(key, _)| key).collect();
        self.path.push(last);
        Ok(())
    }

    /// Sets a key in the table that is open.
    pub(super) fn assign(&mut self, key: String, key_span: Span, node: Node) -> Result<(), Mistake> {
        let text = self.text;
        let mut table = &mut self.root;
        for key in &self.path {
            // The path was made by `open`, so it is there.
            table = descend(table, key, key_span, key_span, text)?;
        }
        insert_unique(table, key, Entry { key_span, node }, text)
    }
}

/// The table of `key`, made if missing; of a list of tables the last element.
fn descend<'t>(
    table: &'t mut Table,
    key: &str,
    key_span: Span,
    header: Span,
    text: &str,
) -> Result<&'t mut Table, Mistake> {
    if table.get(key).is_none() {
        let node = Node::new(Value::Table(Table::default()), header);
        table.insert(key.to_owned(), Entry { key_span, node });
    }
    let not_a_table = |first: Span| {
        let message = format!("{key:?} is not a table, it was set to a value in line {}", line_of(text, first));
        Mistake::new(key_span, message)
    };
    let Some(entry) = table.get_mut(key) else { return Err(not_a_table(key_span)) };
    let first = entry.key_span;
    match &mut entry.node.value {
        Value::Table(table) => Ok(table),
        Value::Array(array) => match array.items.last_mut().map(|node| &mut node.value) {
            Some(Value::Table(table)) => Ok(table),
            _ => Err(not_a_table(first)),
        },
        _ => Err(not_a_table(first)),
    }
}

fn open_table(parent: &mut Table, key: &str, key_span: Span, header: Span, text: &str) -> Result<(), Mistake> {
    let Some(entry) = parent.get_mut(key) else {
        let table = Table::with_origin(Origin::Header);
        parent.insert(key.to_owned(), Entry { key_span, node: Node::new(Value::Table(table), header) });
        return Ok(());
    };
    let line = line_of(text, entry.node.span);
    let Value::Table(table) = &mut entry.node.value else {
        let found = entry.node.value.describe();
        return Err(Mistake::new(header, format!("table {key:?} is {found} in line {line} already")));
    };
    if table.origin == Origin::Header {
        return Err(Mistake::new(header, format!("table {key:?} is defined twice, first in line {line}")));
    }
    table.origin = Origin::Header;
    entry.node.span = header;
    Ok(())
}

fn open_list(parent: &mut Table, key: &str, key_span: Span, header: Span, text: &str) -> Result<(), Mistake> {
    let element = Node::new(Value::Table(Table::with_origin(Origin::Header)), header);
    let Some(entry) = parent.get_mut(key) else {
        let array = Array { items: vec![element], headers: true };
        parent.insert(key.to_owned(), Entry { key_span, node: Node::new(Value::Array(array), header) });
        return Ok(());
    };
    match &mut entry.node.value {
        Value::Array(array) if array.items.iter().all(|item| item.as_table().is_some()) => {
            array.items.push(element);
            Ok(())
        }
        other => {
            let found = other.describe();
            let line = line_of(text, entry.node.span);
            Err(Mistake::new(header, format!("{key:?} is {found} in line {line} already, not a list of tables")))
        }
    }
}

/// Sets a key that must be new; two inline tables become one.
pub(super) fn insert_unique(table: &mut Table, key: String, entry: Entry, text: &str) -> Result<(), Mistake> {
    let Some(first) = table.get_mut(&key) else {
        table.insert(key, entry);
        return Ok(());
    };
    let first_span = first.key_span;
    match (&mut first.node.value, entry.node.value) {
        (Value::Table(old), Value::Table(new)) => {
            for (key, entry) in new {
                insert_unique(old, key, entry, text)?;
            }
            Ok(())
        }
        _ => {
            let line = line_of(text, first_span);
            Err(Mistake::new(entry.key_span, format!("key {key:?} is set twice, first in line {line}")))
        }
    }
}

/// Line of a place, from 1. Neither comments nor most variables change lines, so it is that of the file.
fn line_of(text: &str, span: Span) -> usize {
    text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
