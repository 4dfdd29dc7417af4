//! One bare value a payload, as devices send that have a topic for each value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heliograph_core::model::{Key, SeriesRef, Value};
use heliograph_core::number::{parse_bool, parse_float, parse_int10};
use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::plugin::ParserSpec;
use serde::Deserialize;

use super::quote::Quoted;
use super::words::{last_word, trim};

pub(super) static SPEC: ParserSpec = ParserSpec {
    name: "value",
    sample: include_str!("sample.conf"),
    build: |section, metric_name| {
        let options: Options = section.take_struct()?;
        let measurement = metric_name.to_owned();
        Ok(Box::new(move || {
            let data_type = DataType::named(&options.data_type).ok_or_else(|| {
                format!(
                    "option \"data_type\" is {:?}, but must be one of \"int\", \"float\", \"string\", \"bool\", \
                     \"base64\", \"auto_integer\", \"auto_float\"",
                    options.data_type
                )
            })?;
            Ok(Box::new(Bare::new(data_type, &options.value_field_name, measurement.clone())))
        }))
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    data_type: String,
    value_field_name: String,
}

/// What the payload is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum DataType {
    Int,
    Float,
    Text,
    Bool,
    Base64,
    AutoInt,
    AutoFloat,
}

impl DataType {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" | "int" | "integer" => Self::Int,
            "float" | "long" => Self::Float,
            "str" | "string" => Self::Text,
            "bool" | "boolean" => Self::Bool,
            "base64" => Self::Base64,
            "auto_integer" => Self::AutoInt,
            "auto_float" => Self::AutoFloat,
            _ => return None,
        })
    }

    /// The value of a payload; none if it holds no word.
    fn read(self, payload: &[u8]) -> Result<Option<Value>, String> {
        let text = trim(without_nul(payload));
        if self == Self::Text {
            return Ok(Some(text.into()));
        }
        let Some(word) = last_word(text) else { return Ok(None) };
        let wrong = |kind, error| format!("cannot parse value {} as {kind}: {error}", Quoted(word));
        Ok(Some(match self {
            Self::Int => parse_int10(word).map(Value::Int).map_err(|error| wrong("int", error))?,
            Self::Float => parse_float(word).map(Value::Float).map_err(|error| wrong("float", error))?,
            Self::Bool => parse_bool(word)
                .map(Value::Bool)
                .map_err(|_| format!("cannot parse value {} as bool: use true or false", Quoted(word)))?,
            Self::AutoInt => parse_int10(word).map_or_else(|_| word.into(), Value::Int),
            Self::AutoFloat => parse_float(word).map_or_else(|_| word.into(), Value::Float),
            Self::Base64 => STANDARD.encode(payload).as_str().into(),
            Self::Text => text.into(),
        }))
    }
}

/// The payload without NUL bytes at its ends.
fn without_nul(mut payload: &[u8]) -> &[u8] {
    while let [0, rest @ ..] | [rest @ .., 0] = payload {
        payload = rest;
    }
    payload
}

#[derive(Debug)]
struct Bare {
    data_type: DataType,
    key: Key,
    measurement: String,
    series: Option<SeriesRef>,
}

impl Bare {
    fn new(data_type: DataType, field_name: &str, measurement: String) -> Self {
        let key = if field_name.is_empty() { Key::fixed("value") } else { Key::intern(field_name.as_bytes()) };
        Self { data_type, key, measurement, series: None }
    }
}

impl Parser for Bare {
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
        let value = match self.data_type.read(payload) {
            Ok(Some(value)) => value,
            Ok(None) => return,
            Err(message) => return out.problem("type", message),
        };
        let series = self.series.get_or_insert_with(|| {
            out.interner.build(|builder| {
                builder.start(self.measurement.as_bytes());
            })
        });
        let (series, now) = (series.clone(), out.now);
        out.start(series, now);
        out.batch.push_field(self.key.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parsers::testing::run;

    fn parser(data_type: &str) -> Bare {
        Bare::new(DataType::named(data_type).unwrap(), "", "mq".into())
    }

    #[track_caller]
    fn check(data_type: &str, payload: &[u8], want: &str) {
        assert_eq!(run(&mut parser(data_type), payload), want);
    }

    #[test]
    fn numbers_are_the_last_word() {
        check("", b"1 2 3\n", "mq value=3i now");
        check("", b"\0\x007\0", "mq value=7i now");
        check("integer", b"\t+8\r\n", "mq value=8i now");
        check("float", b"T:\xc2\xa021.5\xe3\x80\x80", "mq value=21.5 now");
        check("long", b"0x1p4", "mq value=16 now");
        check("float", b"NaN", "mq value=NaN now");
    }

    #[test]
    fn no_word_is_no_metric() {
        for data_type in ["int", "float", "bool", "base64", "auto_integer", "auto_float"] {
            check(data_type, b"", "");
            check(data_type, b"\0 \n\0", "");
        }
        check("string", b"", "mq value=\"\" now");
    }

    #[test]
    fn text_is_trimmed_and_kept() {
        check("string", b" a b \n", "mq value=\"a b\" now");
        check("str", b" \0 ", "mq value=\"\0\" now");
        check("base64", b" a b \n", "mq value=\"IGEgYiAK\" now");
    }

    #[test]
    fn truth_values_are_those_of_go() {
        check("bool", b"T", "mq value=true now");
        check("boolean", b"0", "mq value=false now");
        check("bool", b"on", "! cannot parse value \"on\" as bool: use true or false");
    }

    #[test]
    fn what_does_not_fit_is_told() {
        check("", b"5.5", "! cannot parse value \"5.5\" as int: invalid number syntax");
        check("", b"9223372036854775808", "! cannot parse value \"9223372036854775808\" as int: number out of range");
        check("float", b"21,5", "! cannot parse value \"21,5\" as float: invalid number syntax");
    }

    #[test]
    fn automatic_types_fall_back_to_text() {
        check("auto_integer", b"12", "mq value=12i now");
        check("auto_integer", b"12.5", "mq value=\"12.5\" now");
        check("auto_float", b"valve is open", "mq value=\"open\" now");
        check("auto_float", b"9223372036854775808", "mq value=9223372036854776000 now");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..20)) {
            for data_type in ["int", "float", "str", "bool", "base64", "auto_integer", "auto_float"] {
                run(&mut parser(data_type), &payload);
            }
        }
    }
}
