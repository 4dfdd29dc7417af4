//! The environment expressions run in: the library of the CEL crate, and what cel-go does otherwise.
//!
//! A function of ours that replaces one of the crate has an `@` in front of its name, which no source can write. It
//! sees all arguments and leaves those it does not care about to the function it replaces.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use cel::common::types::{self, CelBool, CelDouble, CelDuration, CelInt, CelString, CelTimestamp, CelUInt};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Env, ExecutionError, extensions};
use chrono::{DateTime, TimeDelta};
use regex::Regex;

use crate::number::{parse_bool, parse_float, parse_uint10, write_general_f64};
use crate::timestamp::{GoLayout, Zone};

type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The library of the crate, with the extensions that `metricpass` has.
static LIBRARY: LazyLock<Env> = LazyLock::new(library);

/// The same with our own functions.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = library();
    let mut add = |name: &str, arguments: Vec<types::Type>, function| {
        env.add_overload(name, name, arguments, function).expect("no other function has an `@` in its name");
    };
    add("@bool", vec![types::DYN_TYPE], to_bool);
    add("@double", vec![types::DYN_TYPE], to_double);
    add("@uint", vec![types::DYN_TYPE], to_uint);
    add("@int", vec![types::DYN_TYPE], to_int);
    add("@string", vec![types::DYN_TYPE], to_string);
    add("@duration", vec![types::DYN_TYPE], to_duration);
    add("@timestamp", vec![types::DYN_TYPE], to_timestamp);
    add("@matches", vec![types::DYN_TYPE, types::DYN_TYPE], matches);
    Arc::new(env)
});

/// Conversions that a function of ours replaces.
pub(super) const REPLACED: [&str; 7] = ["bool", "double", "uint", "int", "string", "duration", "timestamp"];

fn library() -> Env {
    let mut env = Env::stdlib().with_optional_support(false);
    for extension in [extensions::strings, extensions::math, extensions::encoders] {
        extension(&mut env).expect("the extensions have no name in common");
    }
    env
}

/// Leaves a call to the function of the crate.
fn by_library<'b, 'v>(name: &str, arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match LIBRARY.find_overload(name, &arguments) {
        Some(function) => function(arguments),
        None => {
            let types = arguments.iter().map(|argument| argument.get_type().name().to_owned()).collect();
            Err(ExecutionError::no_such_overload(name, types))
        }
    }
}

/// The text of a lone argument, if it is one.
fn text<'a>(arguments: &'a Arguments<'_, '_>) -> Option<&'a str> {
    arguments.first()?.downcast_ref::<CelString<'_>>().map(CelString::inner)
}

fn convert<'b, 'v>(
    name: &'static str,
    arguments: Arguments<'b, 'v>,
    from_text: impl Fn(&str) -> Option<CowVal<'b, 'v>>,
) -> Outcome<'b, 'v> {
    match text(&arguments) {
        Some(text) => from_text(text)
            .ok_or_else(|| ExecutionError::function_error(name, format!("cannot convert {text:?} to {name}"))),
        None => by_library(name, arguments),
    }
}

fn to_bool<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    convert("bool", arguments, |text| Some(CowVal::owned(CelBool::from(parse_bool(text.as_bytes()).ok()?))))
}

fn to_double<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    convert("double", arguments, |text| Some(CowVal::owned(CelDouble::from(parse_float(text.as_bytes()).ok()?))))
}

fn to_uint<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    convert("uint", arguments, |text| Some(CowVal::owned(CelUInt::from(parse_uint10(text.as_bytes()).ok()?))))
}

fn to_int<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    if let Some(duration) = arguments.first().and_then(|argument| argument.downcast_ref::<CelDuration>()) {
        let nanoseconds = duration.inner().num_nanoseconds();
        return nanoseconds
            .map(|nanoseconds| CowVal::owned(CelInt::from(nanoseconds)))
            .ok_or_else(|| ExecutionError::function_error("int", "integer overflow"));
    }
    by_library("int", arguments)
}

fn to_string<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    if let Some(number) = arguments.first().and_then(|argument| argument.downcast_ref::<CelDouble>()) {
        let mut out = Vec::new();
        write_general_f64(&mut out, *number.inner());
        return Ok(CowVal::owned(CelString::from(String::from_utf8_lossy(&out).into_owned())));
    }
    by_library("string", arguments)
}

fn to_duration<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    convert("duration", arguments, |text| {
        Some(CowVal::owned(CelDuration::from(TimeDelta::nanoseconds(go_duration(text)?))))
    })
}

fn to_timestamp<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    static RFC3339: LazyLock<GoLayout> = LazyLock::new(|| GoLayout::named("rfc3339"));
    convert("timestamp", arguments, |text| {
        let (second, nanosecond) = RFC3339.parse_seconds(text.as_bytes(), &Zone::UTC).ok()?;
        let instant = DateTime::from_timestamp(second, nanosecond)?.fixed_offset();
        // The range of CEL: the years 1 to 9999.
        (-62_135_596_800..=253_402_300_799).contains(&second).then(|| CowVal::owned(CelTimestamp::from(instant)))
    })
}

fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match (text(&arguments), arguments.get(1).and_then(|pattern| pattern.downcast_ref::<Pattern>())) {
        (Some(text), Some(pattern)) => Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text)))),
        _ => Err(ExecutionError::no_such_overload(
            "matches",
            arguments.iter().map(|argument| argument.get_type().name().to_owned()).collect(),
        )),
    }
}

/// A time in nanoseconds since the epoch, as CEL has it.
pub(super) fn timestamp(nanoseconds: i64) -> CelTimestamp {
    CelTimestamp::from(DateTime::from_timestamp_nanos(nanoseconds).fixed_offset())
}

/// Bytes as a string value; invalid UTF-8 is replaced.
pub(super) fn string(bytes: &[u8]) -> CelString<'_> {
    CelString::from(String::from_utf8_lossy(bytes))
}

/// A regular expression written in the source, compiled once.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) Regex);

static PATTERN_TYPE: types::Type = types::Type::new_unspecified_type("regex");

impl Val for Pattern {
    fn get_type(&self) -> &types::Type {
        &PATTERN_TYPE
    }

    fn cel_type() -> &'static types::Type {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Nanoseconds of a duration as Go writes it, like `1h30m` or `-1.5ms`; nothing if it is none or too long.
fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let number_end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end =
            after.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = |text: &str| {
            if text.is_empty() { Some(0) } else { parse_uint10(text.as_bytes()).ok() }
        };
        // More than 18 digits of a fraction are less than a nanosecond of any unit.
        let fraction =
            fraction.get(..18.min(fraction.len())).filter(|_| fraction.bytes().all(|b| b.is_ascii_digit()))?;
        let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
        total += i128::from(digits(whole)?) * unit + i128::from(digits(fraction)?) * unit / scale;
        if total > 1 << 63 {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, want) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5ms", Some(-1_500_000)),
            ("+.5s", Some(500_000_000)),
            ("1µs2ns", Some(1_002)),
            ("0", Some(0)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("-2562047h47m16.854775808s", Some(i64::MIN)),
            ("2562047h47m16.854775808s", None),
            ("", None),
            ("-", None),
            ("1", None),
            ("1x", None),
            ("1h x", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
        ] {
            assert_eq!(go_duration(text), want, "{text}");
        }
    }
}
