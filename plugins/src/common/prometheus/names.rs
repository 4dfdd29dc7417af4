//! Names of metrics and labels, as Prometheus allows them.

use std::borrow::Cow;

use bstr::ByteSlice;
use heliograph_core::model::Kind;
use serde::Deserialize;

/// Which names are allowed; the option `name_sanitization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameRule {
    /// ASCII letters, digits and `_`, in metric names also `:`.
    #[default]
    Legacy,
    /// Any text that is UTF-8.
    Utf8,
}

/// What a field of a histogram or summary is, by the end of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `…_bucket`
    Bucket,
    /// `…_sum`
    Sum,
    /// `…_count`
    Count,
    /// Anything else: a quantile of a summary.
    Other,
}

impl Role {
    /// The role of a field and what is in front of the ending.
    pub fn split(key: &[u8]) -> (Self, &[u8]) {
        let endings: [(Self, &[u8]); 3] = [(Self::Bucket, b"_bucket"), (Self::Sum, b"_sum"), (Self::Count, b"_count")];
        let found = endings.iter().find_map(|(role, ending)| Some((*role, key.strip_suffix(*ending)?)));
        found.unwrap_or((Self::Other, key))
    }
}

/// The name before it is cleaned: measurement and field, or the field alone of the measurement `prometheus`.
pub fn raw_name(measurement: &[u8], key: &[u8], kind: Kind) -> Vec<u8> {
    let field = match kind {
        Kind::Histogram | Kind::Summary => Role::split(key).1,
        Kind::Counter | Kind::Gauge | Kind::Untyped => key,
    };
    if measurement == b"prometheus" { field.to_vec() } else { [measurement, b"_", field].concat() }
}

impl NameRule {
    /// A legal name of a metric; `None` if nothing of it is left.
    pub fn metric(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.clean(name, is_metric_char)
    }

    /// A legal name of a label; `None` if nothing of it is left.
    pub fn label(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.clean(name, is_label_char)
    }

    fn clean(self, name: &[u8], is_allowed: fn(char) -> bool) -> Option<Cow<'_, [u8]>> {
        if is_legal(name, is_allowed) || self == Self::Utf8 && !name.is_empty() && name.is_utf8() {
            return Some(Cow::Borrowed(name));
        }
        let mut out = Vec::with_capacity(name.len());
        for (i, c) in code_points(name).enumerate() {
            match c {
                _ if i == 0 && is_first(c, is_allowed) => out.push(c as u8),
                _ if i == 0 => {}
                _ if is_allowed(c) => out.push(c as u8),
                _ => out.push(b'_'),
            }
        }
        let stripped = out.trim_with(|c| c == '_');
        (!stripped.is_empty()).then(|| Cow::Owned(stripped.to_vec()))
    }
}

/// Whether a name of a metric is legal by the old rule.
pub fn is_legacy_metric(name: &[u8]) -> bool {
    is_legal(name, is_metric_char)
}

/// Appends a name as the text format can show it: what is not legal there becomes `_`, sign by sign.
pub fn write_underscored(name: &[u8], out: &mut Vec<u8>) {
    if is_legacy_metric(name) {
        out.extend_from_slice(name);
        return;
    }
    for (i, c) in code_points(name).enumerate() {
        let is_kept = if i == 0 { is_first(c, is_metric_char) } else { is_metric_char(c) };
        out.push(if is_kept { c as u8 } else { b'_' });
    }
}

fn is_legal(name: &[u8], is_allowed: fn(char) -> bool) -> bool {
    let Some(&first) = name.first() else { return false };
    is_first(char::from(first), is_allowed) && name.iter().all(|&byte| byte.is_ascii() && is_allowed(char::from(byte)))
}

fn is_first(c: char, is_allowed: fn(char) -> bool) -> bool {
    is_allowed(c) && !c.is_ascii_digit()
}

fn is_metric_char(c: char) -> bool {
    is_label_char(c) || c == ':'
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The code points, with one U+FFFD for each byte that is no text.
fn code_points(text: &[u8]) -> impl Iterator<Item = char> {
    text.utf8_chunks().flat_map(|chunk| {
        chunk.valid().chars().chain(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: NameRule, name: &[u8], metric: &str, label: &str) {
        let show =
            |name: Option<Cow<'_, [u8]>>| name.map_or("skipped".to_owned(), |name| name.to_str_lossy().into_owned());
        assert_eq!(
            (show(rule.metric(name)), show(rule.label(name))),
            (metric.to_owned(), label.to_owned()),
            "{name:?}"
        );
    }

    #[test]
    fn legacy() {
        for name in ["_a", "__", "a_"] {
            check(NameRule::Legacy, name.as_bytes(), name, name);
        }
        for (name, metric, label) in [
            ("9a", "a", "a"),
            ("12", "2", "2"),
            ("1", "skipped", "skipped"),
            ("a-b", "a_b", "a_b"),
            ("a--", "a", "a"),
            ("_a-", "a", "a"),
            ("-:a", ":a", "a"),
            ("a:b", "a:b", "a_b"),
            ("éa", "a", "a"),
            ("a é", "a", "a"),
            ("-", "skipped", "skipped"),
            ("é", "skipped", "skipped"),
            ("", "skipped", "skipped"),
        ] {
            check(NameRule::Legacy, name.as_bytes(), metric, label);
        }
        check(NameRule::Legacy, b"a\xff\xfeb", "a__b", "a__b");
    }

    #[test]
    fn utf8() {
        check(NameRule::Utf8, "é.v".as_bytes(), "é.v", "é.v");
        check(NameRule::Utf8, b"a\xffb-", "a_b", "a_b");
        check(NameRule::Utf8, b"", "skipped", "skipped");
    }

    #[test]
    fn underscores_on_paper() {
        for (name, want) in [("é_v", "__v"), ("9a", "_a"), ("é", "_"), ("a:b", "a:b")] {
            let mut out = Vec::new();
            write_underscored(name.as_bytes(), &mut out);
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn names_of_fields() {
        assert_eq!(raw_name(b"http", b"lat_count", Kind::Histogram), b"http_lat");
        assert_eq!(raw_name(b"prometheus", b"lat_sum_bucket", Kind::Summary), b"lat_sum");
        assert_eq!(raw_name(b"prometheus", b"lat_sum", Kind::Counter), b"lat_sum");
        assert_eq!(raw_name(b"temp", b"value", Kind::Untyped), b"temp_value");
    }
}
