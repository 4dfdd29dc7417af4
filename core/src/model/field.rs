//! Field values.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bstr::BStr;

use super::Key;

/// One field of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Unique within its metric.
    pub key: Key,
    /// The value.
    pub value: Value,
}

/// A field value; no other types exist (narrower integers and floats are widened, null is no field).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float; NaN and infinities are legal here, each serializer decides about them.
    Float(f64),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A truth value.
    Bool(bool),
    /// A byte string.
    Text(Text),
}

impl Value {
    /// The value as a float if it is a number; truth values and texts are none.
    #[inline]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Int(v) => Some(*v as f64),
            Self::Uint(v) => Some(*v as f64),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// The name of the type as Telegraf's users know it: `float64`, `int64`, `uint64`, `bool`, `string`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Float(_) => "float64",
            Self::Int(_) => "int64",
            Self::Uint(_) => "uint64",
            Self::Bool(_) => "bool",
            Self::Text(_) => "string",
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value { #[inline] fn from($v: $from) -> Self { $to } })*
    };
}

value_from! {
    f64 => |v| Value::Float(v),
    i64 => |v| Value::Int(v),
    i32 => |v| Value::Int(v.into()),
    u64 => |v| Value::Uint(v),
    u32 => |v| Value::Uint(v.into()),
    bool => |v| Value::Bool(v),
    Text => |v| Value::Text(v),
    &[u8] => |v| Value::Text(v.into()),
    &str => |v| Value::Text(v.as_bytes().into()),
}

/// A shared byte string, the content of a text field.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Arc<[u8]>);

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(BStr::new(&self.0), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(BStr::new(&self.0), f)
    }
}
