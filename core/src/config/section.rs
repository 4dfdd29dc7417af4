//! A section: the table of one plugin, with everything needed to read it and to point at mistakes in it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::de::DeserializeOwned;

use super::{
    de::{DeError, NodeDeserializer, SectionDeserializer, hide_substituted, unknown_keys},
    error::ConfigError,
    general::{GENERAL, is_general},
    nearest::did_you_mean,
    secret::{SecretStores, with_stores},
    tree::{Entry, Source, SourceFile, Span, Table, Value},
};

/// The table of one plugin (or of `[agent]`), to be read piece by piece.
///
/// A plugin takes what is not its own first, and finishes with the rest:
///
/// ```text
/// build: |mut section| {
///     let parser = section.take_struct::<JsonOptions>()?; // the keys that this struct declares
///     Ok(Box::new(MqttConsumer::new(section.finish()?, parser)?))
/// },
/// ```
///
/// What was read is marked as used, not removed: two structs may declare the same key, and both get it. `finish`
/// refuses every key that nobody used, save those of the general list ([`super::GENERAL`]), with the nearest known one.
/// Structs derive `Deserialize` with `#[serde(default, deny_unknown_fields)]` and without `flatten`.
#[derive(Clone)]
pub struct Section {
    name: String,
    source: Source,
    span: Span,
    table: Table,
    used: HashSet<String>,
    known: Vec<String>,
    stores: Arc<SecretStores>,
    record: Option<Record>,
}

/// What structs were read from a section, in the form of `Debug`: two ways to write the same options leave the same record.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    /// What was read so far, in order.
    #[must_use]
    pub fn read(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, options: &dyn fmt::Debug) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{options:?}"));
    }
}

impl Section {
    /// The section of a table.
    ///
    /// `name` is the full name of the plugin (`inputs.cpu`), `span` its header.
    #[must_use]
    pub fn new(name: impl Into<String>, source: Source, span: Span, table: Table) -> Section {
        Section {
            name: name.into(),
            source,
            span,
            table,
            used: HashSet::new(),
            known: Vec::new(),
            stores: Arc::default(),
            record: None,
        }
    }

    /// Notes every struct that is read from this section, or from one below it, from now on.
    #[must_use]
    pub fn recorded(mut self, record: &Record) -> Section {
        self.record = Some(record.clone());
        self
    }

    /// An empty section, for tests and for plugins that are built without a file.
    #[must_use]
    pub fn empty(name: &str) -> Section {
        Section::new(name, Arc::new(SourceFile::new("", "")), Span::default(), Table::default())
    }

    /// The full name of the plugin, such as `inputs.cpu`; of a table below it with the keys, `inputs.cpu.sub`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name without its kind: `cpu`.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(_, plugin)| plugin)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &str {
        self.source.path()
    }

    /// The whole table, with what was used already.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The place of its header.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Sets the stores that secrets of this section refer to.
    pub fn bind_secrets(&mut self, stores: Arc<SecretStores>) {
        self.stores = stores;
    }

    /// True if the key is in the file.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Reads one option and marks it as used; `None` if it is not in the file.
    ///
    /// # Errors
    /// If it has another type or its value is refused by it.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, ConfigError> {
        self.mark(key);
        self.get(key)
    }

    fn mark(&mut self, key: &str) {
        self.known.push(key.to_owned());
        self.used.insert(key.to_owned());
    }

    /// Reads one option without marking it as used.
    ///
    /// # Errors
    /// As [`Section::take`].
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(entry) = self.table.get(key) else { return Ok(None) };
        let deserializer = NodeDeserializer { node: &entry.node, file: &self.source };
        with_stores(&self.stores, || T::deserialize(deserializer))
            .map(Some)
            .map_err(|error| self.convert(error.under(key), entry.node.span))
    }

    /// Takes a table below this one (`[inputs.cpu.key]`) as a section of its own.
    ///
    /// # Errors
    /// If the key holds something else.
    pub fn take_table(&mut self, key: &str) -> Result<Option<Section>, ConfigError> {
        self.mark(key);
        let Some(entry) = self.table.get(key) else { return Ok(None) };
        match &entry.node.value {
            Value::Table(table) => Ok(Some(self.below(key, table, entry.node.span))),
            other => Err(self.error_at(key, format!("option {key:?} must be a table, not {}", other.describe()))),
        }
    }

    /// Takes a list of tables below this one (`[[inputs.cpu.key]]`) as sections; none if it is not in the file.
    ///
    /// # Errors
    /// If the key holds something else.
    pub fn take_tables(&mut self, key: &str) -> Result<Vec<Section>, ConfigError> {
        self.mark(key);
        let Some(entry) = self.table.get(key) else { return Ok(Vec::new()) };
        let tables = entry.node.as_array().and_then(|items| {
            items.iter().map(|node| node.as_table().map(|table| self.below(key, table, node.span))).collect()
        });
        tables.ok_or_else(|| {
            let found = entry.node.value.describe();
            self.error_at(key, format!("option {key:?} must be a list of tables, written [[…]], not {found}"))
        })
    }

    fn below(&self, key: &str, table: &Table, span: Span) -> Section {
        let mut section = Section::new(format!("{}.{key}", self.name), Arc::clone(&self.source), span, table.clone());
        section.stores = Arc::clone(&self.stores);
        section.record.clone_from(&self.record);
        section
    }

    /// Reads the keys that the struct `T` declares and marks them as used; the rest is left for others.
    ///
    /// # Errors
    /// If a value has the wrong type or is refused.
    pub fn take_struct<T: DeserializeOwned + fmt::Debug>(&mut self) -> Result<T, ConfigError> {
        let Section { table, source, used, known, stores, .. } = self;
        let result = with_stores(stores, || T::deserialize(SectionDeserializer { table, file: source, used, known }));
        let options = result.map_err(|error| self.convert(error, self.span))?;
        if let Some(record) = &self.record {
            record.add(&options);
        }
        Ok(options)
    }

    /// Reads the rest into `T`; a key that neither `T` nor an earlier reader knows is an error.
    ///
    /// # Errors
    /// If a key is unknown, or a value has the wrong type or is refused.
    pub fn finish<T: DeserializeOwned + fmt::Debug>(mut self) -> Result<T, ConfigError> {
        let options = self.take_struct()?;
        self.finish_nothing()?;
        Ok(options)
    }

    /// Ends the reading for a plugin without further options: a key that nobody knows is an error.
    ///
    /// # Errors
    /// If a key is unknown.
    pub fn finish_nothing(self) -> Result<(), ConfigError> {
        let unknown: Vec<(&str, &Entry)> =
            self.table.iter().filter(|(key, _)| !self.used.contains(*key) && !is_general(key)).collect();
        // A misspelt common option is found among the general ones.
        let known: Vec<&str> = self.known.iter().map(String::as_str).chain(GENERAL.iter().copied()).collect();
        match unknown_keys(&unknown, &known) {
            Some(error) => Err(self.convert(error, self.span)),
            None => Ok(()),
        }
    }

    /// Renames keys that differ from one of `names` only in case and underscores, for options that Telegraf matches so.
    ///
    /// If several spellings of one option are given, the last one counts.
    pub fn match_loosely(&mut self, names: &[&str]) {
        fn folded(key: &str) -> String {
            key.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
        }

        let found: Vec<(String, &str)> = self
            .table
            .iter()
            .filter_map(|(key, _)| {
                names.iter().find(|name| folded(name) == folded(key)).map(|name| (key.to_owned(), *name))
            })
            .collect();
        for (key, name) in found {
            if let Some(entry) = self.table.remove(&key) {
                self.table.insert(name.to_owned(), entry);
            }
        }
    }

    /// Notes options that others read, so that a misspelt one of them is recognised.
    pub fn also_known(&mut self, keys: &[&str]) {
        self.known.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Marks a key as used that is read without the help of the section.
    pub fn mark_used(&mut self, key: &str) {
        self.mark(key);
    }

    /// The place of a key, to make errors later; of the header if the key is not in the file.
    #[must_use]
    pub fn position_of(&self, key: &str) -> Position {
        let span = self.table.get(key).map_or(self.span, |entry| entry.node.span);
        Position { span, ..self.position() }
    }

    /// The place of the section, to make errors once it is used up.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { source: Arc::clone(&self.source), span: self.span, name: self.name.clone() }
    }

    /// An error at the header of the section.
    #[must_use]
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.source, self.span, &self.name, message)
    }

    /// An error at the value of a key, or at the header if the key is not in the file.
    ///
    /// What variables put into the value is shown as the file has it, since it may be a password.
    #[must_use]
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let Some(entry) = self.table.get(key) else { return self.error(message) };
        let message = hide_substituted(message.into(), &entry.node, &self.source);
        ConfigError::at(&self.source, entry.node.span, &self.name, message)
    }

    /// The error of an option whose value is none of the `known` ones; it names the nearest of them.
    #[must_use]
    pub fn unknown_value<'a>(
        &self,
        option: &str,
        value: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> ConfigError {
        let known: Vec<&str> = known.into_iter().collect();
        let hint = did_you_mean(value, known.iter().copied());
        let names: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
        self.error_at(option, format!("option {option:?} is {value:?}, but must be one of {}{hint}", names.join(", ")))
    }

    fn convert(&self, error: DeError, fallback: Span) -> ConfigError {
        error.into_config_error(&self.source, &self.name, fallback)
    }
}

impl fmt::Debug for Section {
    /// Without values, since they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.table.iter().map(|(key, _)| key).collect();
        f.debug_struct("Section").field("name", &self.name).field("path", &self.path()).field("keys", &keys).finish()
    }
}

/// The place of a plugin in its file, kept for errors that are found after its section was read.
#[derive(Debug, Clone)]
pub struct Position {
    source: Source,
    span: Span,
    name: String,
}

impl Position {
    /// An error at this place.
    #[must_use]
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.source, self.span, &self.name, message)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &str {
        self.source.path()
    }

    /// The line of the place, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.line_column(self.span.start).0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::{Expect, expect};
    use serde::Deserialize;

    use super::*;
    use crate::config::{
        Duration, Secret, Size,
        tree::{Array, Node},
    };

    #[derive(Debug, Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Options {
        servers: Vec<String>,
        qos: u8,
        ratio: f64,
        enabled: Option<bool>,
        timeout: Duration,
        limit: Size,
        mode: Mode,
        headers: BTreeMap<String, String>,
        replace: Vec<Replace>,
        password: Secret,
    }

    #[derive(Debug, Deserialize, Default)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        Plain,
        Packed,
    }

    #[derive(Debug, Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Replace {
        dest: String,
    }

    #[derive(Debug, Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct ParserOptions {
        json_query: String,
    }

    /// A section from `key = value` lines; values are scalars, `[…]` and `{…}` of scalars.
    fn section(text: &str) -> Section {
        let source = Arc::new(SourceFile::new("t.conf", text));
        let mut table = Table::default();
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            if let Some((key, value)) = line.trim_end().split_once(" = ") {
                let start = offset + key.len() + 3;
                let node = value_node(value, start);
                table.insert(key.to_owned(), Entry { key_span: Span::new(offset, offset + key.len()), node });
            }
            offset += line.len();
        }
        Section::new("inputs.demo", source, Span::new(0, 1), table)
    }

    fn value_node(text: &str, start: usize) -> Node {
        let inner = |open: char, close: char| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        let value = if let Some(string) = inner('"', '"') {
            Value::String(string.into())
        } else if let Some(items) = inner('[', ']') {
            let items = items.split_terminator(", ").map(|item| value_node(item, start)).collect();
            Value::Array(Array { items, headers: false })
        } else if let Some(pairs) = inner('{', '}') {
            let mut table = Table::default();
            for pair in pairs.split_terminator(", ") {
                let (key, value) = pair.split_once('=').unwrap();
                let entry = Entry { key_span: Span::new(start, start + 1), node: value_node(value, start) };
                table.insert(key.into(), entry);
            }
            Value::Table(table)
        } else if let Ok(value) = text.parse() {
            Value::Integer(value)
        } else if let Ok(value) = text.parse() {
            Value::Float(value)
        } else {
            Value::Boolean(text.parse().unwrap())
        };
        Node::new(value, Span::new(start, start + text.len()))
    }

    fn check(text: &str, expected: Expect) {
        let found = match section(text).finish::<Options>() {
            Ok(options) => format!("{options:?}"),
            Err(error) => error.line(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn reads_every_type() {
        check(
            "servers = [\"a\", \"b\"]\nqos = 2\nratio = 1\nenabled = true\ntimeout = 1.5\nlimit = \"1KiB\"\n\
             mode = \"packed\"\nheaders = {a=\"b\", order=\"c\"}\nreplace = [{dest=\"x\"}]\npassword = 12\n",
            expect![[
                r#"Options { servers: ["a", "b"], qos: 2, ratio: 1.0, enabled: Some(true), timeout: Duration(1500000000), limit: Size(1024), mode: Packed, headers: {"a": "b", "order": "c"}, replace: [Replace { dest: "x" }], password: *** }"#
            ]],
        );
    }

    #[test]
    fn refuses_wrong_types() {
        check(
            "servers = \"a\"",
            expect![[r#"t.conf:1:11: inputs.demo: option "servers" must be a list, not a string ("a")"#]],
        );
        check(
            "servers = [1, 2]",
            expect![[r#"t.conf:1:11: inputs.demo: option "servers" must be a string, not an integer ([)"#]],
        );
        check(
            "servers = [\"a\", 2]",
            expect![[
                r#"t.conf:1:11: inputs.demo: option "servers" must be a list of one type: array can't contain multiple types"#
            ]],
        );
        check("qos = 300", expect![[r#"t.conf:1:7: inputs.demo: option "qos" is 300, but must be from 0 to 255"#]]);
        check("qos = 1.0", expect![[r#"t.conf:1:7: inputs.demo: option "qos" must be an integer, not a float (1.0)"#]]);
        check(
            "qos = \"1\"",
            expect![[r#"t.conf:1:7: inputs.demo: option "qos" must be an integer, not a string ("1")"#]],
        );
        check(
            "enabled = \"true\"",
            expect![[r#"t.conf:1:11: inputs.demo: option "enabled" must be true or false, not a string ("true")"#]],
        );
        check(
            "timeout = true",
            expect![[
                r#"t.conf:1:11: inputs.demo: option "timeout" must be a duration such as "10s" or a number of seconds, not boolean `true`"#
            ]],
        );
        check(
            "timeout = [\"1s\"]",
            expect![[
                r#"t.conf:1:11: inputs.demo: option "timeout" must be a duration such as "10s" or a number of seconds, not sequence"#
            ]],
        );
        check(
            "timeout = \"1w\"",
            expect![[r#"t.conf:1:11: inputs.demo: option "timeout": invalid duration "1w": unknown unit "w""#]],
        );
        check(
            "limit = \"1K\"",
            expect![[
                r#"t.conf:1:9: inputs.demo: option "limit": invalid size "1K": unknown unit "K", write for example "64MiB""#
            ]],
        );
        check(
            "mode = \"pakced\"",
            expect![[
                r#"t.conf:1:8: inputs.demo: option "mode" is "pakced", but must be one of "plain", "packed"; did you mean "packed"?"#
            ]],
        );
        check("mode = 1", expect![[r#"t.conf:1:8: inputs.demo: option "mode" must be a string, not an integer (1)"#]]);
        check(
            "headers = {a=1}",
            expect![[r#"t.conf:1:11: inputs.demo: option "headers.a" must be a string, not an integer ({)"#]],
        );
        check("headers = [1]", expect![[r#"t.conf:1:11: inputs.demo: option "headers" must be a table, not a list"#]]);
        check(
            "replace = {dest=\"x\"}",
            expect![[r#"t.conf:1:11: inputs.demo: option "replace" must be a list, not a table"#]],
        );
        check(
            "password = [\"x\"]",
            expect![[r#"t.conf:1:12: inputs.demo: option "password" must be a string, not a list"#]],
        );
        check(
            "password = \"@{vault:key}\"",
            expect![[r#"t.conf:1:12: inputs.demo: option "password": unknown secret store for "@{vault:key}""#]],
        );
    }

    #[test]
    fn refuses_unknown_keys() {
        check(
            "serverz = 1\nzzz = 2",
            expect![[r#"t.conf:1:1: inputs.demo: unknown option "serverz" (and "zzz"); did you mean "servers"?"#]],
        );
        check(
            "replace = [{dst=\"x\"}]",
            expect![[r#"t.conf:1:11: inputs.demo.replace: unknown option "dst"; did you mean "dest"?"#]],
        );
        // The general list is accepted at any depth.
        check(
            "lvm = 1\nreplace = [{alias=7}]\nid = true",
            expect![[
                r#"Options { servers: [], qos: 0, ratio: 0.0, enabled: None, timeout: Duration(0), limit: Size(0), mode: Plain, headers: {}, replace: [Replace { dest: "" }], password: "" }"#
            ]],
        );
    }

    #[test]
    fn what_a_parser_took_is_not_unknown() {
        let mut one = section("qos = 1\njson_query = \"a\"");
        assert_eq!(one.take_struct::<ParserOptions>().unwrap().json_query, "a");
        assert_eq!(one.finish::<Options>().unwrap().qos, 1);

        let mut two = section("json_qery = \"a\"");
        two.take_struct::<ParserOptions>().unwrap();
        let error = two.finish::<Options>().unwrap_err();
        expect![[r#"t.conf:1:1: inputs.demo: unknown option "json_qery"; did you mean "json_query"?"#]]
            .assert_eq(&error.line());
    }

    #[test]
    fn takes_single_options_and_tables() {
        let mut section = section("data_format = \"json\"\nsub = {a=1}\nlist = [{a=1}, {b=2}]\nqos = 4");
        assert_eq!(section.take::<String>("data_format").unwrap().as_deref(), Some("json"));
        assert_eq!(section.take::<String>("nothing").unwrap(), None);
        let mut below = section.take_table("sub").unwrap().unwrap();
        assert_eq!(below.take::<u8>("a").unwrap(), Some(1));
        assert_eq!(below.name(), "inputs.demo.sub");
        assert_eq!(section.take_tables("list").unwrap().len(), 2);
        assert!(section.take_table("qos").is_err());
        section.finish_nothing().unwrap();
    }

    #[test]
    fn what_variables_put_in_is_not_shown() {
        let mut one = section("mode = \"${PW}\"");
        let table = &mut one.table;
        let node = &mut table.get_mut("mode").unwrap().node;
        node.value = Value::String("hunter2".into());
        node.substituted = true;
        let error = one.finish::<Options>().unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("${PW}"), "{error}");
    }

    #[test]
    fn loose_names() {
        let mut one = section("FlushInterval = 1\nqos = 2");
        one.match_loosely(&["flush_interval"]);
        assert!(one.contains("flush_interval") && !one.contains("FlushInterval"));
    }
}
