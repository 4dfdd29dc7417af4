//! Compares what came with what was expected, in the form that the file's ending asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Case;

/// What differs, as sentences; none if nothing does.
pub fn differences(case: &Case, ending: &str, wanted: &str, got: &str) -> Vec<String> {
    if ending == "stderr-has" {
        let missing = wanted.lines().filter(|line| !line.trim().is_empty() && !got.contains(line));
        return missing.map(|line| format!("the log lacks {line:?}")).collect();
    }
    let rows = |text: &str| rows(case, ending, text);
    match (rows(wanted), rows(got)) {
        (Err(problem), _) => vec![format!("the expectation cannot be read: {problem}")],
        (_, Err(problem)) => vec![format!("cannot be read: {problem}")],
        (Ok(wanted), Ok(got)) => row_differences(case, &wanted, &got),
    }
}

fn row_differences(case: &Case, wanted: &[Value], got: &[Value]) -> Vec<String> {
    let equal = |a: &Value, b: &Value| near(a, b, case.float_tol);
    if wanted.len() == got.len() && wanted.iter().zip(got).all(|(a, b)| equal(a, b)) {
        return Vec::new();
    }
    let without = |these: &[Value], others: &[Value], what: &str| -> Vec<String> {
        let alone = these.iter().filter(|row| !others.iter().any(|other| equal(row, other)));
        alone.take(6).map(|row| format!("{what} {row}")).collect()
    };
    let mut found = without(wanted, got, "missing");
    found.extend(without(got, wanted, "unexpected"));
    if found.is_empty() {
        found.push(format!("the same rows in another order or number ({} and {})", wanted.len(), got.len()));
    }
    found
}

/// The content as rows whose order counts: sorted, unless the case says that the order of the file does.
fn rows(case: &Case, ending: &str, text: &str) -> Result<Vec<Value>, String> {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error} in {text:?}"));
    let mut rows: Vec<Value> = match ending {
        "influx" => {
            let metrics = lines().filter(|line| !line.starts_with('#')).map(metric).collect::<Result<Vec<_>, _>>()?;
            influx_rows(case, metrics)
        }
        "json" => match json(text) {
            Ok(document) => vec![document],
            Err(_) => lines().map(json).collect::<Result<_, _>>()?,
        },
        "http" => lines().map(|line| Ok(request(json(line)?))).collect::<Result<_, String>>()?,
        "graphite" | "tcp" | "udp" if case.ignore_time => {
            lines().map(|line| json!(line.rsplit_once(' ').map_or(line, |(rest, _)| rest))).collect()
        }
        "graphite" | "tcp" | "udp" | "prom" | "csv" | "txt" => lines().map(|line| json!(line)).collect(),
        other => return Err(format!("there is no form {other:?}")),
    };
    rows = rows.into_iter().map(with_sorted_keys).collect();
    if !case.ordered || ending == "http" {
        rows.sort_by_cached_key(Value::to_string);
    }
    Ok(rows)
}

/// A crate in the same build may make objects keep the order of their file.
fn with_sorted_keys(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<String, Value> =
                object.into_iter().map(|(key, value)| (key, with_sorted_keys(value))).collect();
            sorted.into_iter().collect()
        }
        Value::Array(values) => values.into_iter().map(with_sorted_keys).collect(),
        other => other,
    }
}

/// A line of line protocol.
struct Metric {
    name: String,
    tags: Vec<String>,
    fields: Map<String, Value>,
    time: Option<i64>,
}

fn metric(line: &str) -> Result<Metric, String> {
    let malformed = || format!("no line protocol: {line:?}");
    let mut parts = split(line, ' ').into_iter();
    let mut head = split(&parts.next().ok_or_else(malformed)?, ',').into_iter();
    let name = head.next().ok_or_else(malformed)?;
    let mut tags: Vec<String> = head.collect();
    tags.sort();
    let mut fields = Map::new();
    for field in split(&parts.next().ok_or_else(malformed)?, ',') {
        let key = split(&field, '=').swap_remove(0);
        let value = field.get(key.len() + 1..).ok_or_else(malformed)?;
        fields.insert(key, field_value(value).ok_or_else(malformed)?);
    }
    let time = parts.next().map(|time| time.parse().map_err(|_| malformed())).transpose()?;
    Ok(Metric { name, tags, fields, time })
}

/// Floats become numbers; all others stay as they are written, so that their kind counts.
fn field_value(text: &str) -> Option<Value> {
    if text.starts_with('"') || text.ends_with(['i', 'u']) {
        return Some(json!(text));
    }
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Some(json!(true)),
        "f" | "F" | "false" | "False" | "FALSE" => Some(json!(false)),
        number => Some(json!(number.parse::<f64>().ok()?)),
    }
}

fn influx_rows(case: &Case, metrics: Vec<Metric>) -> Vec<Value> {
    let row = |metric: &Metric| {
        let time = metric.time.filter(|_| !case.ignore_time);
        json!({"name": metric.name, "tags": metric.tags, "fields": metric.fields, "time": time})
    };
    if !case.last {
        return metrics.iter().map(row).collect();
    }
    let mut last = BTreeMap::new();
    for metric in &metrics {
        let keys: Vec<&String> = metric.fields.keys().collect();
        last.insert((&metric.name, &metric.tags, keys), row(metric));
    }
    last.into_values().collect()
}

/// Splits where no backslash and no quotes protect the separator.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if c == separator && !quoted && !escaped {
            parts.push(String::new());
            continue;
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        parts.last_mut().unwrap().push(c);
    }
    parts
}

/// A request without what differs from build to build; samples of remote-write as numbers.
fn request(mut request: Value) -> Value {
    if let Some(headers) = request.get_mut("headers").and_then(Value::as_object_mut) {
        headers.remove("user-agent");
    }
    for series in request.get_mut("series").and_then(Value::as_array_mut).into_iter().flatten() {
        for sample in series["samples"].as_array_mut().into_iter().flatten() {
            let number = sample[0].as_str().and_then(|text| text.parse::<f64>().ok());
            if let Some(number) = number.filter(|number| number.is_finite()) {
                sample[0] = json!(number);
            }
        }
    }
    request
}

/// Whether two values are equal, floats within the relative tolerance.
fn near(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b, tolerance)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b, tolerance)))
        }
        _ => a == b,
    }
}
