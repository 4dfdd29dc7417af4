//! Gives deprecated options of a file their present names, and leaves the rest of its text as it is.

use std::ops::Range;
use std::sync::Arc;

use heliograph_core::config::{
    ConfigError,
    tree::{Entry, OffsetMap, SourceFile, Span, Table, Value},
};

use super::{comments, load::decode, toml};

/// Options of plugins that have another name now, each with its old ones in the order in which their lists are joined.
const RENAMED: &[(&str, &[&str])] = &[
    ("tls_ca", &["ssl_ca"]),
    ("tls_cert", &["ssl_cert"]),
    ("tls_key", &["ssl_key"]),
    ("fieldinclude", &["pass", "fieldpass"]),
    ("fieldexclude", &["drop", "fielddrop"]),
];

/// Tables whose tables are plugins.
const KINDS: &[&str] = &["inputs", "outputs", "processors", "aggregators", "plugins"];

/// The text of a file with its deprecated options migrated, and how many options that were.
///
/// Variables are not looked at.
///
/// # Errors
/// If the file is not TOML.
pub fn migrated(name: &str, bytes: &[u8]) -> Result<(String, usize), ConfigError> {
    let original = decode(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes));
    let (text, map) = comments::remove(&original);
    let source = Arc::new(SourceFile::prepared(name.to_owned(), original.clone(), text, vec![map.clone()]));
    let tree = toml::parse(&source)?;
    let mut migration = Migration { source: &source, map, original: &original, edits: Vec::new(), count: 0 };
    for (name, entry) in tree.iter() {
        let Some(table) = entry.node.as_table() else { continue };
        if name == "agent" {
            migration.agent(table);
        } else if KINDS.contains(&name) {
            table.iter().for_each(|(_, entry)| migration.plugins(entry));
        }
    }
    let Migration { mut edits, count, .. } = migration;
    // From the end, so that the places of the others stay true.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = original.clone();
    edits.into_iter().for_each(|(range, new)| text.replace_range(range, &new));
    Ok((text, count))
}

struct Migration<'a> {
    source: &'a SourceFile,
    map: OffsetMap,
    original: &'a str,
    /// Places in the original with what they become.
    edits: Vec<(Range<usize>, String)>,
    count: usize,
}

impl Migration<'_> {
    fn agent(&mut self, table: &Table) {
        let Some(entry) = table.get("logtarget") else { return };
        match entry.node.as_str() {
            Some("" | "file") => {}
            // It won over a log file.
            Some("stderr") => table.get("logfile").into_iter().for_each(|logfile| self.remove(logfile)),
            _ => return,
        }
        self.remove(entry);
        self.count += 1;
    }

    /// The tables of one plugin name: a list, or a single one in old files.
    fn plugins(&mut self, entry: &Entry) {
        match &entry.node.value {
            Value::Table(table) => self.plugin(table),
            Value::Array(array) => {
                array.items.iter().filter_map(|item| item.as_table()).for_each(|table| self.plugin(table))
            }
            _ => {}
        }
    }

    fn plugin(&mut self, table: &Table) {
        for (new, olds) in RENAMED {
            let old: Vec<&Entry> = olds.iter().filter_map(|old| table.get(old)).collect();
            let (first, others) = match (old.as_slice(), table.get(new)) {
                ([], _) => continue,
                ([first, others @ ..], None) => {
                    self.edits.push((self.range(first.key_span), (*new).to_owned()));
                    (*first, others.to_vec())
                }
                (old, Some(entry)) => (entry, old.to_vec()),
            };
            self.count += old.len();
            if others.is_empty() {
                continue;
            }
            // Lists add up, in the order of the old names with the new one last; of texts the new one counts.
            let lists: Option<Vec<_>> =
                old.iter().copied().chain(table.get(new)).map(|entry| entry.node.as_array()).collect();
            if let Some(lists) = lists {
                let items: Vec<&str> = lists.into_iter().flatten().map(|item| self.source.slice(item.span)).collect();
                self.edits.push((self.range(first.node.span), format!("[{}]", items.join(", "))));
            }
            others.into_iter().for_each(|entry| self.remove(entry));
        }
    }

    /// Takes a key out, with its line if it stands there alone.
    fn remove(&mut self, entry: &Entry) {
        let (key, value) = (self.range(entry.key_span), self.range(entry.node.span));
        let line = self.original[..key.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.original[value.end..].find('\n').map_or(self.original.len(), |at| value.end + at + 1);
        let after = self.original[value.end..end].trim();
        let alone = self.original[line..key.start].trim().is_empty() && (after.is_empty() || after.starts_with('#'));
        self.edits.push((if alone { line..end } else { key.start..value.end }, String::new()));
    }

    /// The place in the original. Its end is found by the last byte, as a comment may have been cut out right behind.
    fn range(&self, span: Span) -> Range<usize> {
        self.map.original(span.start)..self.map.original(span.end.max(span.start + 1) - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, count: usize, expected: Expect) {
        let (text, found) = migrated("t.conf", text.as_bytes()).unwrap();
        expected.assert_eq(&text);
        assert_eq!(found, count);
    }

    #[test]
    fn renames_and_keeps_the_rest() {
        check(
            "# top pass = 1\n[[inputs.http]]\n  ssl_ca = \"/a\"# why\n\n  pass = [ # one\n    \"a\", # two\n  ]\n  [inputs.http.tags]\n    drop = \"x\"\n",
            2,
            expect![[r##"
                # top pass = 1
                [[inputs.http]]
                  tls_ca = "/a"# why

                  fieldinclude = [ # one
                    "a", # two
                  ]
                  [inputs.http.tags]
                    drop = "x"
            "##]],
        );
    }

    #[test]
    fn joins_lists_and_keeps_the_new_text() {
        check(
            "[[outputs.file]]\n  fieldinclude = [\"c\"] # new\n  pass = ['a', \"b\"] # old\n  fielddrop = []\n  drop = [\"d\"]\n  ssl_key = \"x\"\n  tls_key = \"y\"\n",
            4,
            expect![[r#"
                [[outputs.file]]
                  fieldinclude = ['a', "b", "c"] # new
                  fieldexclude = ["d"]
                  tls_key = "y"
            "#]],
        );
    }

    #[test]
    fn the_log_target() {
        check("[agent]\n  logtarget = \"file\"\n  logfile = \"a\"\n", 1, expect!["[agent]\n  logfile = \"a\"\n"]);
        check("[agent]\n  logtarget = \"stderr\" # x\n  logfile = \"a\"\n", 1, expect!["[agent]\n"]);
        check("[agent]\n  logtarget = \"eventlog\"\n", 0, expect!["[agent]\n  logtarget = \"eventlog\"\n"]);
    }

    proptest::proptest! {
        #[test]
        fn what_is_migrated_stays_toml_and_has_nothing_left_to_migrate(
            lines in proptest::collection::vec(r##"(pass|drop|fieldpass|fieldinclude|ssl_ca|tls_ca|x) = (\[\]|\["é", 'b' \]|\[\n"#" ,\n\]|"y") ?(#[^\n]{0,5})?"##, 0..6)
        ) {
            let text = format!("[[inputs.a]]\n{}", lines.join("\n"));
            // A key that comes twice is no TOML.
            if let Ok((text, _)) = migrated("t.conf", text.as_bytes()) {
                let (again, count) = migrated("t.conf", text.as_bytes()).unwrap();
                assert_eq!((again, count), (text, 0));
            }
        }
    }

    #[test]
    fn what_is_not_toml_is_refused() {
        assert!(migrated("t.conf", b"[[inputs.cpu]\n").is_err());
    }
}
