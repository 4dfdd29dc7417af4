//! Reads values of the tree into Rust types, with the type rules of Telegraf and the place of every mistake.

use std::{collections::HashSet, fmt};

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{StrDeserializer, StringDeserializer},
    },
};

use super::{
    error::ConfigError,
    general::is_general,
    nearest::did_you_mean,
    secret::SECRET_NAME,
    tree::{Entry, Node, Source, SourceFile, Span, Table, Value},
};

/// A mistake while reading a value; becomes a [`ConfigError`] once it is known whose value it is.
#[derive(Debug)]
pub(super) struct DeError {
    /// What follows `option "x"`; that of a type's own check starts with a colon.
    message: String,
    span: Option<Span>,
    /// Keys from the inside out.
    path: Vec<String>,
    /// True if the message names the option itself; the path is then that of the table around it.
    complete: bool,
}

impl DeError {
    /// The error for the user; `owner` is the plugin, `fallback` the place if none is known.
    pub(super) fn into_config_error(self, source: &Source, owner: &str, fallback: Span) -> ConfigError {
        let DeError { message, span, path, complete } = self;
        let keys: Vec<&str> = path.iter().rev().map(String::as_str).collect();
        let (owner, message) = match (complete, keys.is_empty()) {
            (_, true) => (owner.to_owned(), message.trim_start_matches(": ").to_owned()),
            (true, false) => (format!("{owner}.{}", keys.join(".")), message),
            (false, false) => (
                owner.to_owned(),
                format!("option \"{}\"{}{message}", keys.join("."), if message.starts_with(':') { "" } else { " " }),
            ),
        };
        ConfigError::at(source, span.unwrap_or(fallback), &owner, message)
    }

    /// Adds the place if there is none, and takes back what variables put in.
    fn at(mut self, node: &Node, file: &SourceFile) -> DeError {
        if self.span.is_none() {
            self.span = Some(node.span);
        }
        if node.substituted {
            self.message = hide_substituted(self.message, node, file);
        }
        self
    }

    pub(super) fn under(mut self, key: &str) -> DeError {
        self.path.push(key.to_owned());
        self
    }
}

/// `message` with what variables put into `node` as the file has it.
pub(super) fn hide_substituted(mut message: String, node: &Node, file: &SourceFile) -> String {
    match &node.value {
        Value::String(value) if node.substituted => hide(&message, value, file.written(node.span)),
        Value::Array(array) => {
            for item in &array.items {
                message = hide_substituted(message, item, file);
            }
            message
        }
        Value::Table(table) => {
            for (_, entry) in table.iter() {
                message = hide_substituted(message, &entry.node, file);
            }
            message
        }
        _ => message,
    }
}

/// `message` with `value` as the file has it.
fn hide(message: &str, value: &str, written: &str) -> String {
    if value.is_empty() {
        return message.to_owned();
    }
    let inner = written.trim_matches(['"', '\'']);
    let quoted = message.replace(&format!("{value:?}"), &format!("\"{inner}\""));
    let quoted = quoted.replace(&format!("`{value}`"), &format!("`{inner}`"));
    // A short value may be a piece of a word of the message; a long one is cut out wherever it is.
    if value.len() >= 4 { quoted.replace(value, inner) } else { quoted }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        DeError { message: format!(": {message}"), span: None, path: Vec::new(), complete: false }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        must_be(&expected.to_string(), &found.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        must_be(&expected.to_string(), &found.to_string())
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        must_be(&expected.to_string(), &format!("{length} elements"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(variant, expected.iter().copied());
        let names: Vec<String> = expected.iter().map(|name| format!("{name:?}")).collect();
        with_message(format!("is {variant:?}, but must be one of {}{hint}", names.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        with_message(format!("has an unknown key {field:?}{}", did_you_mean(field, expected.iter().copied())))
    }

    fn missing_field(field: &'static str) -> Self {
        DeError { message: format!("missing option {field:?}"), span: None, path: Vec::new(), complete: true }
    }

    fn duplicate_field(field: &'static str) -> Self {
        with_message(format!("is given twice, also under another name: {field:?}"))
    }
}

fn with_message(message: String) -> DeError {
    DeError { message, span: None, path: Vec::new(), complete: false }
}

fn must_be(expected: &str, found: &str) -> DeError {
    with_message(format!("must be {expected}, not {found}"))
}

/// The mistake of keys that nobody knows, at the first of them.
pub(super) fn unknown_keys<K: AsRef<str>>(unknown: &[(&str, &Entry)], known: &[K]) -> Option<DeError> {
    let ((key, entry), rest) = unknown.split_first()?;
    let mut message = format!("unknown option {key:?}");
    if !rest.is_empty() {
        let others: Vec<String> = rest.iter().take(10).map(|(key, _)| format!("{key:?}")).collect();
        message.push_str(&format!(" (and {})", others.join(", ")));
    }
    message.push_str(&did_you_mean(key, known.iter().map(AsRef::as_ref)));
    Some(DeError { message, span: Some(entry.key_span), path: Vec::new(), complete: true })
}

/// Reads one value.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    pub(super) node: &'a Node,
    pub(super) file: &'a SourceFile,
}

impl<'a> NodeDeserializer<'a> {
    /// Adds the place of this value to a mistake.
    fn place(self) -> impl FnOnce(DeError) -> DeError + use<'a> {
        move |error| error.at(self.node, self.file)
    }

    fn mismatch(self, expected: &str) -> DeError {
        let found = match &self.node.value {
            Value::Table(_) | Value::Array(_) => self.node.value.describe().to_owned(),
            value => {
                let written: String = self.file.written(self.node.span).chars().take(60).collect();
                format!("{} ({})", value.describe(), written.replace(['\r', '\n'], " "))
            }
        };
        must_be(expected, &found).at(self.node, self.file)
    }

    fn integer<'de, V: Visitor<'de>, T: TryFrom<i128>>(
        self,
        range: (i128, i128),
        visit: impl FnOnce(T) -> Result<V::Value, DeError>,
    ) -> Result<V::Value, DeError> {
        let Value::Integer(value) = self.node.value else { return Err(self.mismatch("an integer")) };
        let Ok(narrow) = T::try_from(value) else {
            let message = format!("is {value}, but must be from {} to {}", range.0, range.1);
            return Err(with_message(message).at(self.node, self.file));
        };
        visit(narrow).map_err(self.place())
    }

    fn seq<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError>
    where
        'a: 'de,
    {
        let Value::Array(array) = &self.node.value else { return Err(self.mismatch("a list")) };
        let mut kinds = array.items.iter().map(|item| std::mem::discriminant(&item.value));
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            let error = with_message("must be a list of one type: array can't contain multiple types".to_owned());
            return Err(error.at(self.node, self.file));
        }
        let items = Items { items: array.items.iter(), file: self.file };
        visitor.visit_seq(items).map_err(self.place())
    }

    fn table(self, expected: &str) -> Result<&'a Table, DeError> {
        match &self.node.value {
            Value::Table(table) => Ok(table),
            Value::Array(array) if array.headers => {
                Err(must_be("a single table, written [name]", "a list of tables, written [[name]]")
                    .at(self.node, self.file))
            }
            _ => Err(self.mismatch(expected)),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            let range = (i128::from(<$type>::MIN), i128::from(<$type>::MAX));
            self.integer::<V, $type>(range, |value| visitor.$visit(value))
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.value {
            Value::String(text) | Value::Datetime(text) => visitor.visit_borrowed_str(text),
            Value::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => visitor.visit_i128(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Array(_) => return self.seq(visitor),
            Value::Table(table) => visitor.visit_map(Pairs::all(table, self.file)),
        }
        .map_err(self.place())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value {
            Value::Boolean(value) => visitor.visit_bool(value).map_err(self.place()),
            _ => Err(self.mismatch("true or false")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.integer::<V, i128>((i128::MIN, i128::MAX), |value| visitor.visit_i128(value))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(visitor)
    }

    // Telegraf wants `1.0` where a float is meant; taking `1` as well harms nobody.
    #[expect(clippy::cast_precision_loss, reason = "an integer beyond 2^53 for a float option is meant roughly")]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let value = match self.node.value {
            Value::Float(value) => value,
            Value::Integer(value) => value as f64,
            _ => return Err(self.mismatch("a number")),
        };
        visitor.visit_f64(value).map_err(self.place())
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.value {
            Value::String(text) => visitor.visit_borrowed_str(text).map_err(self.place()),
            _ => Err(self.mismatch("a string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DeError> {
        Err(self.mismatch("nothing"))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, DeError> {
        let scalar = !matches!(self.node.value, Value::String(_) | Value::Array(_) | Value::Table(_));
        if name == SECRET_NAME && scalar {
            let text: StrDeserializer<'_, DeError> = self.file.slice(self.node.span).into_deserializer();
            return visitor.visit_newtype_struct(text).map_err(self.place());
        }
        visitor.visit_newtype_struct(self).map_err(self.place())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeError> {
        self.seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let table = self.table("a table")?;
        visitor.visit_map(Pairs::all(table, self.file)).map_err(self.place())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let table = self.table("a table")?;
        let unknown: Vec<_> = table.iter().filter(|(key, _)| !fields.contains(key) && !is_general(key)).collect();
        if let Some(error) = unknown_keys(&unknown, fields) {
            return Err(error);
        }
        let pairs = Pairs::of(table, self.file, |key| fields.contains(&key));
        visitor.visit_map(pairs).map_err(self.place())
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let Value::String(text) = &self.node.value else { return Err(self.mismatch("a string")) };
        let variant: StrDeserializer<'_, DeError> = text.as_str().into_deserializer();
        visitor.visit_enum(variant).map_err(self.place())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    file: &'a SourceFile,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let file = self.file;
        seed.deserialize(NodeDeserializer { node, file }).map(Some).map_err(|error| error.at(node, file))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// Keys and values of a table.
struct Pairs<'a> {
    entries: std::vec::IntoIter<(&'a str, &'a Entry)>,
    value: Option<(&'a str, &'a Entry)>,
    file: &'a SourceFile,
}

impl<'a> Pairs<'a> {
    fn all(table: &'a Table, file: &'a SourceFile) -> Pairs<'a> {
        Pairs::of(table, file, |_| true)
    }

    fn of(table: &'a Table, file: &'a SourceFile, wanted: impl Fn(&str) -> bool) -> Pairs<'a> {
        let entries: Vec<_> = table.iter().filter(|(key, _)| wanted(key)).collect();
        Pairs { entries: entries.into_iter(), value: None, file }
    }
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let Some((key, entry)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, entry));
        // Not a borrowed string: keys of maps may be parsed into other types.
        let key: StringDeserializer<DeError> = key.to_owned().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut error: DeError| {
            error.span.get_or_insert(entry.key_span);
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let (key, entry) = self.value.take().ok_or_else(|| DeError::custom("value asked for before its key"))?;
        let deserializer = NodeDeserializer { node: &entry.node, file: self.file };
        seed.deserialize(deserializer).map_err(|error| error.at(&entry.node, self.file).under(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Reads the top level of a section: a struct gets the keys that it declares, and notes them as used.
pub(super) struct SectionDeserializer<'a> {
    pub(super) table: &'a Table,
    pub(super) file: &'a SourceFile,
    pub(super) used: &'a mut HashSet<String>,
    pub(super) known: &'a mut Vec<String>,
}

impl<'de> Deserializer<'de> for SectionDeserializer<'de> {
    type Error = DeError;

    /// A type without declared keys gets all that nobody used.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let pairs = Pairs::of(self.table, self.file, |key| !self.used.contains(key) && !is_general(key));
        self.used.extend(self.table.iter().map(|(key, _)| key.to_owned()));
        visitor.visit_map(pairs)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.known.extend(fields.iter().map(|field| (*field).to_owned()));
        self.used.extend(fields.iter().map(|field| (*field).to_owned()));
        visitor.visit_map(Pairs::of(self.table, self.file, |key| fields.contains(&key)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct
        map enum identifier ignored_any
    }
}
