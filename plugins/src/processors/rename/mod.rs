//! Renames measurements, tags and fields.

use heliograph_core::memo::SeriesMemo;
use heliograph_core::model::{Key, MetricMut, SeriesBuilder, SeriesRef};
use heliograph_core::plugin::{ProcessContext, Processor, ProcessorSpec, Verdict};
use serde::Deserialize;

pub(super) static SPEC: ProcessorSpec = ProcessorSpec {
    name: "rename",
    sample: include_str!("sample.conf"),
    build: |section, _| Ok(Box::new(Rename::new(section.finish()?))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    replace: Vec<Replace>,
}

/// One entry; the first of `measurement`, `tag`, `field` that is not empty counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Replace {
    measurement: String,
    tag: String,
    field: String,
    dest: String,
}

/// Entries about series and entries about fields cannot see each other, so each kind has a list of its own.
struct Rename {
    of_series: Vec<SeriesStep>,
    of_fields: Vec<(Key, Key)>,
    series: SeriesMemo<SeriesRef>,
}

enum SeriesStep {
    Measurement { from: String, to: String },
    Tag { from: String, to: String },
}

impl Rename {
    fn new(options: Options) -> Self {
        let mut rename = Self { of_series: Vec::new(), of_fields: Vec::new(), series: SeriesMemo::default() };
        for Replace { measurement, tag, field, dest: to } in options.replace {
            if to.is_empty() {
                continue;
            }
            if !measurement.is_empty() {
                rename.of_series.push(SeriesStep::Measurement { from: measurement, to });
            } else if !tag.is_empty() {
                rename.of_series.push(SeriesStep::Tag { from: tag, to });
            } else if !field.is_empty() {
                rename.of_fields.push((Key::intern(field.as_bytes()), Key::intern(to.as_bytes())));
            }
        }
        rename
    }
}

impl SeriesStep {
    fn apply(&self, builder: &mut SeriesBuilder) {
        match self {
            Self::Measurement { from, to } => {
                if builder.name() == from.as_bytes() {
                    builder.set_name(to.as_bytes());
                }
            }
            Self::Tag { from, to } => {
                if let Some(value) = builder.tag(from.as_bytes()).map(<[u8]>::to_vec) {
                    builder.remove_tag(from.as_bytes());
                    builder.set_tag(to.as_bytes(), &value);
                }
            }
        }
    }
}

impl Processor for Rename {
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
        let Self { of_series, of_fields, series } = self;
        if !of_series.is_empty() {
            let renamed = series.get(metric.series().fingerprint(), || {
                context.interner.edit(metric.series(), |builder| of_series.iter().for_each(|step| step.apply(builder)))
            });
            metric.set_series(renamed.clone());
        }
        of_fields.iter().for_each(|(from, to)| rename_field(metric, from, to));
        Verdict::Keep
    }
}

fn rename_field(metric: &mut MetricMut<'_>, from: &Key, to: &Key) {
    if from == to || !metric.view().fields.iter().any(|field| field.key == *from) {
        return;
    }
    if metric.view().field(to.as_bytes()).is_some() {
        metric.remove_field(to.as_bytes());
    }
    if let Some(field) = metric.fields_mut().iter_mut().find(|field| field.key == *from) {
        field.key = to.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::process;

    /// Entries are `kind:from:to`.
    #[track_caller]
    fn check(entries: &[&str], line: &str, expected: &str) {
        let entry = |entry: &&str| {
            let [kind, from, dest] = entry.split(':').collect::<Vec<_>>().try_into().unwrap();
            let mut replace = Replace { dest: dest.into(), ..Replace::default() };
            *match kind {
                "measurement" => &mut replace.measurement,
                "tag" => &mut replace.tag,
                _ => &mut replace.field,
            } = from.into();
            replace
        };
        let mut processor = Rename::new(Options { replace: entries.iter().map(entry).collect() });
        assert_eq!(process(&mut processor, line), expected);
    }

    #[test]
    fn each_kind() {
        check(&["measurement:m:n", "tag:h:host", "field:v:x"], "m,h=a v=1i,w=2i 3", "n,host=a x=1i,w=2i 3");
    }

    #[test]
    fn entries_see_earlier_results() {
        check(&["measurement:m:n", "measurement:n:o", "field:v:x", "field:x:y"], "m v=1i 3", "o y=1i 3");
    }

    #[test]
    fn what_is_in_the_way_is_overwritten() {
        check(&["tag:h:host", "field:v:x"], "m,h=a,host=b x=2i,v=1i 3", "m,host=a x=1i 3");
    }

    #[test]
    fn onto_itself_or_onto_nothing_changes_nothing() {
        check(&["tag:h:h", "field:v:v", "measurement:m:", "field:v:"], "m,h=a v=1i 3", "m,h=a v=1i 3");
    }

    #[test]
    fn names_are_no_patterns() {
        check(&["measurement:k*:n", "field:*:x"], "kk v=1i 3", "kk v=1i 3");
    }
}
