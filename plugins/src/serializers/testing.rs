//! What the tests of serializers share: options from JSON, metrics from line protocol.

use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value, WriteBatch};
use serde::de::DeserializeOwned;

/// Options as they would come out of a section; the empty text is no option at all.
pub(crate) fn options<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(if json.is_empty() { "{}" } else { json }).unwrap()
}

/// One metric of any bytes.
pub(crate) fn metric(name: &[u8], tags: &[(&[u8], &[u8])], fields: &[(&[u8], Value)], time: i64) -> WriteBatch {
    let mut builder = SeriesBuilder::new();
    builder.start(name);
    tags.iter().for_each(|(key, value)| {
        builder.set_tag(key, value);
    });
    let mut batch = Batch::new();
    batch.start(builder.build(), time, Kind::Untyped);
    fields.iter().for_each(|(key, value)| batch.set_field(Key::intern(key), value.clone()));
    batch.into()
}

/// A batch of untyped metrics, each a line of line protocol; also `NaN`, `+Inf`, empty tag values and empty keys are read.
pub(crate) fn batch(lines: &[&str]) -> WriteBatch {
    typed(&lines.iter().map(|line| (Kind::Untyped, *line)).collect::<Vec<_>>())
}

/// A batch of metrics with their kinds.
pub(crate) fn typed(lines: &[(Kind, &str)]) -> WriteBatch {
    let mut batch = Batch::new();
    for (kind, line) in lines {
        read_line(*kind, line, &mut batch);
    }
    batch.into()
}

fn read_line(kind: Kind, line: &str, batch: &mut Batch) {
    let parts = split(line, ' ');
    let [series, fields, time] = parts.as_slice() else { panic!("not a line: {line}") };
    let series = split(series, ',');
    let mut builder = SeriesBuilder::new();
    builder.start(plain(&series[0]).as_bytes());
    for tag in &series[1..] {
        let pair = split(tag, '=');
        builder.set_tag(plain(&pair[0]).as_bytes(), plain(&pair[1]).as_bytes());
    }
    batch.start(builder.build(), time.parse().unwrap(), kind);
    for field in split(fields, ',') {
        let pair = split(&field, '=');
        batch.push_field(Key::intern(plain(&pair[0]).as_bytes()), value(&pair[1]));
    }
}

fn value(text: &str) -> Value {
    let integer =
        |suffix| text.strip_suffix(suffix).filter(|digits| digits.bytes().all(|b| b == b'-' || b.is_ascii_digit()));
    if let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Value::from(inner.replace("\\\"", "\"").replace("\\\\", "\\").as_str())
    } else if let Some(digits) = integer('i') {
        Value::Int(digits.parse().unwrap())
    } else if let Some(digits) = integer('u') {
        Value::Uint(digits.parse().unwrap())
    } else if let Ok(truth) = text.parse() {
        Value::Bool(truth)
    } else {
        Value::Float(text.parse().unwrap())
    }
}

/// Splits outside quotes and behind no backslash.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        if c == separator && !quoted && !escaped {
            parts.push(String::new());
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        parts.last_mut().unwrap().push(c);
    }
    parts
}

/// Takes the backslash off `,`, `=` and blanks; `\n` is a newline.
fn plain(text: &str) -> String {
    [("\\,", ","), ("\\=", "="), ("\\ ", " "), ("\\n", "\n")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
