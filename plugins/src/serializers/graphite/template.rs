//! Templates of Graphite paths: which parts of a series come in which order.

use heliograph_core::glob::GlobSet;
use heliograph_core::model::Series;

/// What a template without any other setting is.
const DEFAULT_TEMPLATE: &str = "host.tags.measurement.field";

/// Stands in a bucket where the field key belongs; it is part of what users see when a template has `field` twice.
const FIELD: &[u8] = b"FIELDNAME";
/// Stands in a bucket where the remaining tags belong.
const TAGS: &[u8] = b"TAGS";

/// The templates of a configuration: those for some measurements, and the one for the rest.
#[derive(Debug)]
pub(super) struct Templates {
    filtered: Vec<(GlobSet, Template)>,
    default: Template,
}

/// One template, split at its dots.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Measurement,
    Tags,
    Field,
    Tag(Box<[u8]>),
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is nothing in it.
    #[error("missing template at position: {position}; an entry of `templates` is \"template\" or \"filter template\"")]
    Missing {
        /// Index in the list, from 0.
        position: usize,
    },
    /// There is too much in it.
    #[error("invalid template format {entry:?}; an entry of `templates` is \"template\" or \"filter template\"")]
    Format {
        /// The entry as written.
        entry: String,
    },
    /// The filter is no pattern.
    #[error("invalid filter of template {entry:?}")]
    Filter {
        /// The entry as written.
        entry: String,
        /// What is wrong with it.
        source: heliograph_core::glob::GlobError,
    },
}

impl Templates {
    /// Reads the options `template` and `templates`.
    pub(super) fn new(template: &str, entries: &[String]) -> Result<Self, TemplateError> {
        let mut filtered = Vec::new();
        let mut default = template;
        for (position, entry) in entries.iter().enumerate() {
            let words: Vec<&str> = entry.split_whitespace().collect();
            match words[..] {
                [] => return Err(TemplateError::Missing { position }),
                // Kept with its blanks, which then belong to its first and last part, as Telegraf does.
                [_] => default = entry,
                [filter, template] => {
                    let filter = GlobSet::new([filter], "")
                        .map_err(|source| TemplateError::Filter { entry: entry.clone(), source })?;
                    filtered.push((filter, Template::new(template)));
                }
                _ => return Err(TemplateError::Format { entry: entry.clone() }),
            }
        }
        let default = Template::new(if default.is_empty() { DEFAULT_TEMPLATE } else { default });
        Ok(Self { filtered, default })
    }

    /// The path of a series with a placeholder for the field; `None` if the template yields nothing for it.
    pub(super) fn bucket(&self, series: &Series, prefix: &[u8]) -> Option<Vec<u8>> {
        let name = series.name();
        let filtered = self.filtered.iter().find(|(filter, _)| filter.matches(name));
        let joined = filtered.map_or(&self.default, |(_, template)| template).fill(series);
        match joined {
            Some(joined) if !prefix.is_empty() => Some([prefix, b".", &joined].concat()),
            Some(joined) if !joined.is_empty() => Some(joined),
            _ => None,
        }
    }
}

impl Template {
    fn new(text: &str) -> Self {
        let part = |part: &str| match part {
            "measurement" => Part::Measurement,
            "tags" => Part::Tags,
            "field" => Part::Field,
            tag => Part::Tag(tag.as_bytes().into()),
        };
        Self(text.split('.').map(part).collect())
    }

    /// The segments, joined with dots; `None` if there is none.
    fn fill(&self, series: &Series) -> Option<Vec<u8>> {
        let mut unused: Vec<(&[u8], &[u8])> = series.tags().collect();
        let mut segments: Vec<Vec<u8>> = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            match part {
                Part::Measurement => segments.push(series.name().to_vec()),
                Part::Tags => segments.push(TAGS.to_vec()),
                Part::Field => segments.push(FIELD.to_vec()),
                Part::Tag(wanted) => {
                    if let Some(at) = unused.iter().position(|(key, _)| *key == &**wanted) {
                        segments.push(without_dots(unused.remove(at).1));
                    }
                }
            }
        }
        if segments.is_empty() {
            return None;
        }
        // The first segment of this text, which may well be a measurement or tag of that name.
        if let Some(segment) = segments.iter_mut().find(|segment| *segment == TAGS) {
            let values: Vec<_> = unused.iter().map(|(_, value)| without_dots(value)).collect();
            *segment = values.join(&b'.');
        }
        Some(segments.join(&b'.'))
    }
}

fn without_dots(value: &[u8]) -> Vec<u8> {
    value.iter().map(|&byte| if byte == b'.' { b'_' } else { byte }).collect()
}

/// Puts the field key into a bucket; the key `value` goes without saying.
pub(super) fn with_field(bucket: &[u8], key: &[u8]) -> Vec<u8> {
    if key == b"value" {
        return without_placeholder(bucket);
    }
    match memchr::memmem::find(bucket, FIELD) {
        Some(at) => [&bucket[..at], key, &bucket[at + FIELD.len()..]].concat(),
        None => bucket.to_vec(),
    }
}

/// Deletes `.FIELDNAME` and `FIELDNAME.` in one pass; a placeholder that is alone remains.
fn without_placeholder(bucket: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bucket.len());
    let mut rest = bucket;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'.' && tail.starts_with(FIELD) {
            rest = &tail[FIELD.len()..];
        } else if rest.starts_with(FIELD) && rest.get(FIELD.len()) == Some(&b'.') {
            rest = &rest[FIELD.len() + 1..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::SeriesBuilder;

    fn check(template: &str, entries: &[&str], series: (&str, &[(&str, &str)]), field: &str, want: &str) {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let mut builder = SeriesBuilder::new();
        builder.start(series.0.as_bytes());
        series.1.iter().for_each(|(key, value)| {
            builder.set_tag(key.as_bytes(), value.as_bytes());
        });
        let got = match Templates::new(template, &entries) {
            Ok(templates) => templates.bucket(&builder.build(), b"").map_or("nothing".to_owned(), |bucket| {
                String::from_utf8(with_field(&bucket, field.as_bytes())).unwrap()
            }),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn the_default_has_an_empty_segment_for_no_tags() {
        check("", &[], ("cpu", &[("host", "h")]), "usage", "h..cpu.usage");
        check("", &[], ("cpu", &[]), "usage", ".cpu.usage");
    }

    #[test]
    fn a_tag_is_used_once() {
        check("host.host.tags", &[], ("m", &[("host", "a.b"), ("x", "1")]), "f", "a_b.1");
    }

    #[test]
    fn the_field_value_vanishes_but_not_alone() {
        check("host.field.measurement", &[], ("temp", &[("host", "a")]), "value", "a.temp");
        check("field", &[], ("temp", &[]), "value", "FIELDNAME");
        check("field.measurement.field", &[], ("m", &[]), "a", "a.m.FIELDNAME");
    }

    #[test]
    fn nothing_fits() {
        check("nosuch.tags", &[], ("m", &[]), "f", "nothing");
        check("nosuch", &[], ("m", &[]), "f", "nothing");
        check("measurement.field.tags", &[], ("temp", &[]), "x", "temp.x.");
    }

    #[test]
    fn names_that_look_like_placeholders_are_taken_for_them() {
        check("measurement.tags", &[], ("TAGS", &[("k", "v")]), "f", "v.TAGS");
        check("measurement.field", &[], ("aFIELDNAMEb", &[]), "f", "afb.FIELDNAME");
    }

    #[test]
    fn entries() {
        check("host", &["cpu  measurement.field", "m*\tfield"], ("mem", &[("host", "h")]), "x", "x");
        check("host", &["measurement", " measurement.field "], ("mem", &[]), "x", "nothing");
        let missing =
            "error: missing template at position: 1; an entry of `templates` is \"template\" or \"filter template\"";
        check("", &["a b", " "], ("m", &[]), "x", missing);
        let format =
            "error: invalid template format \"a b c\"; an entry of `templates` is \"template\" or \"filter template\"";
        check("", &["a b c"], ("m", &[]), "x", format);
        check("", &["[a b"], ("m", &[]), "x", "error: invalid filter of template \"[a b\"");
    }
}
