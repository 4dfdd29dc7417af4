//! Gives metrics another name and sets tags.

use std::collections::BTreeMap;

use heliograph_core::memo::SeriesMemo;
use heliograph_core::model::{MetricMut, SeriesRef};
use heliograph_core::plugin::{ProcessContext, Processor, ProcessorSpec, Verdict};
use heliograph_core::stage::Rename;
use serde::Deserialize;

pub(super) static SPEC: ProcessorSpec = ProcessorSpec {
    name: "override",
    sample: include_str!("sample.conf"),
    build: |section, _| Ok(Box::new(Override::new(section.finish()?))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    name_override: String,
    name_prefix: String,
    name_suffix: String,
    tags: BTreeMap<String, String>,
}

struct Override {
    rename: Rename,
    tags: BTreeMap<String, String>,
    series: SeriesMemo<SeriesRef>,
}

impl Override {
    fn new(options: Options) -> Self {
        let Options { name_override, name_prefix, name_suffix, tags } = options;
        let rename = Rename { name_override, name_prefix, name_suffix };
        Self { rename, tags, series: SeriesMemo::default() }
    }
}

impl Processor for Override {
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
        let Self { rename, tags, series } = self;
        let changed = series.get(metric.series().fingerprint(), || {
            context.interner.edit(metric.series(), |builder| {
                rename.apply(builder);
                for (key, value) in tags.iter() {
                    builder.set_tag(key.as_bytes(), value.as_bytes());
                }
            })
        });
        metric.set_series(changed.clone());
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::process;

    #[track_caller]
    fn check(names: [&str; 3], tags: &[(&str, &str)], line: &str, expected: &str) {
        let [name_override, name_prefix, name_suffix] = names.map(String::from);
        let tags = tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut processor = Override::new(Options { name_override, name_prefix, name_suffix, tags });
        assert_eq!(process(&mut processor, line), expected);
    }

    #[test]
    fn override_then_prefix_then_suffix() {
        check(["n", "p_", "_s"], &[], "m v=1i 10", "p_n_s v=1i 10");
    }

    #[test]
    fn tags_are_overwritten() {
        check(["", "", ""], &[("host", "fixed"), ("x", "y")], "m,host=a v=1i 1", "m,host=fixed,x=y v=1i 1");
    }

    #[test]
    fn empty_options_change_nothing() {
        check(["", "", ""], &[], "m,a=b v=1i 1\nm,a=b v=2i 2\nn v=3i 3", "m,a=b v=1i 1\nm,a=b v=2i 2\nn v=3i 3");
    }
}
