//! The step between an input and the pipeline: select, rename, tag, trim, round.

use std::sync::Arc;

use crate::filter::Filter;
use crate::memo::SeriesMemo;
use crate::model::{Batch, Interner, MetricMut, SeriesBuilder, SeriesRef};
use crate::rounding::round;

/// New names of measurements: override first, then prefix, then suffix; empty strings change nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rename {
    /// `name_override`.
    pub name_override: String,
    /// `name_prefix`.
    pub name_prefix: String,
    /// `name_suffix`.
    pub name_suffix: String,
}

impl Rename {
    /// Whether names stay as they are.
    pub fn is_empty(&self) -> bool {
        self.name_override.is_empty() && self.name_prefix.is_empty() && self.name_suffix.is_empty()
    }

    /// Renames the series under construction.
    pub fn apply(&self, builder: &mut SeriesBuilder) {
        if self.is_empty() {
            return;
        }
        let middle = if self.name_override.is_empty() { builder.name() } else { self.name_override.as_bytes() };
        let name = [self.name_prefix.as_bytes(), middle, self.name_suffix.as_bytes()].concat();
        builder.set_name(&name);
    }
}

/// What an input's table and the agent's say about the metrics of that input.
#[derive(Debug, Default)]
pub struct InputRules {
    /// Its full name, for log lines.
    pub plugin: Arc<str>,
    /// Which metrics, tags and fields.
    pub filter: Filter,
    /// New names.
    pub rename: Rename,
    /// The input's own `tags`.
    pub tags: Vec<(String, String)>,
    /// `[global_tags]` with `host`.
    pub global_tags: Vec<(String, String)>,
    /// Add the input's own tags again after the tag filter.
    pub always_include_local_tags: bool,
    /// Add the global tags again after the tag filter.
    pub always_include_global_tags: bool,
}

/// Applies [`InputRules`] to batches. What depends on the series alone is decided once a series.
#[derive(Debug)]
pub struct InputStage {
    rules: Arc<InputRules>,
    /// Precision in nanoseconds.
    precision: i64,
    series: SeriesMemo<Option<SeriesRef>>,
}

impl InputStage {
    /// A stage that rounds times to multiples of `precision` nanoseconds.
    pub fn new(rules: Arc<InputRules>, precision: i64) -> Self {
        Self { rules, precision, series: SeriesMemo::default() }
    }

    /// Rounds a time as this stage rounds those of metrics.
    #[inline]
    pub fn round(&self, time: i64) -> i64 {
        if self.precision <= 1 { time } else { round(time, self.precision) }
    }

    /// Whether measurement and tags alone decide what is selected. Then an input may ask [`Self::resolve`] once a series
    /// and put the answer on its metrics itself.
    pub fn decides_by_series(&self) -> bool {
        !self.rules.filter.selects_by_expression()
    }

    /// What becomes of a series; `None` if it is not selected.
    pub fn resolve(&self, series: &SeriesRef, interner: &mut Interner) -> Option<SeriesRef> {
        self.rules.series(series, interner)
    }

    /// Applies what is left of the rules to metrics whose series are resolved.
    pub fn apply_resolved(&mut self, batch: &mut Batch) {
        let Self { rules, precision, .. } = self;
        batch.retain_mut(|metric| rules.trim(metric, *precision));
    }

    /// Applies the rules; what is not selected or has no field left is gone afterwards.
    pub fn apply(&mut self, batch: &mut Batch, interner: &mut Interner, now: i64) {
        let Self { rules, precision, series: memo } = self;
        let by_expression = rules.filter.selects_by_expression();
        batch.retain_mut(|metric| {
            let decided = memo.get(metric.series().fingerprint(), || rules.series(metric.series(), interner));
            let Some(series) = decided else { return false };
            if by_expression && !rules.filter.selects_metric(metric.view(), now, &rules.plugin) {
                return false;
            }
            metric.set_series(series.clone());
            rules.trim(metric, *precision)
        });
    }
}

impl InputRules {
    /// Rounds the time and takes fields out; `false` if none is left.
    #[inline]
    fn trim(&self, metric: &mut MetricMut<'_>, precision: i64) -> bool {
        if precision > 1 {
            metric.set_time(round(metric.time(), precision));
        }
        if self.filter.has_field_rules() {
            metric.retain_fields(|field| self.filter.keeps_field(field.key.as_bytes()))
        } else {
            !metric.view().fields.is_empty()
        }
    }

    /// What becomes of a series; `None` if it is not selected.
    fn series(&self, series: &SeriesRef, interner: &mut Interner) -> Option<SeriesRef> {
        if !self.filter.selects_series(series) {
            return None;
        }
        Some(interner.edit(series, |builder| {
            self.rename.apply(builder);
            add_absent(builder, &self.tags);
            add_absent(builder, &self.global_tags);
            if self.filter.has_tag_rules() {
                builder.retain_tags(|key, _| self.filter.keeps_tag(key));
                if self.always_include_local_tags {
                    add_absent(builder, &self.tags);
                }
                if self.always_include_global_tags {
                    add_absent(builder, &self.global_tags);
                }
            }
        }))
    }
}

fn add_absent(builder: &mut SeriesBuilder, tags: &[(String, String)]) {
    for (key, value) in tags {
        builder.set_tag_if_absent(key.as_bytes(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FilterOptions;
    use crate::model::{Key, Kind, Value};

    fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
        tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn run(rules: InputRules, name: &str, tags: &[(&str, &str)], field: &'static str) -> String {
        let mut builder = SeriesBuilder::new();
        builder.start(name.as_bytes());
        tags.iter().for_each(|(k, v)| {
            builder.set_tag(k.as_bytes(), v.as_bytes());
        });
        let mut batch = Batch::new();
        batch.start(builder.build(), 1_600_000_000, Kind::Untyped);
        batch.push_field(Key::fixed(field), Value::Int(1));
        InputStage::new(Arc::new(rules), 1_000_000_000).apply(&mut batch, &mut Interner::default(), 0);
        batch.iter().map(|m| format!("{} {} {}", m.series, m.fields[0].key, m.time)).collect()
    }

    fn filter(options: FilterOptions) -> Filter {
        Filter::new(&options).unwrap()
    }

    #[test]
    fn names_are_selected_before_they_are_changed() {
        let rename = Rename { name_override: "x".into(), name_prefix: "p_".into(), name_suffix: "_s".into() };
        let filter = filter(FilterOptions { namepass: vec!["cpu".into()], ..Default::default() });
        let rules = InputRules { rename, filter, ..Default::default() };
        assert_eq!(run(rules, "cpu", &[], "v"), "p_x_s v 2000000000");
    }

    #[test]
    fn the_metric_wins_over_the_input_and_the_input_over_the_globals() {
        let rules = InputRules {
            tags: pairs(&[("a", "input"), ("b", "input")]),
            global_tags: pairs(&[("a", "global"), ("b", "global"), ("c", "global")]),
            ..Default::default()
        };
        assert_eq!(run(rules, "m", &[("a", "")], "v"), "m,a=,b=input,c=global v 2000000000");
    }

    #[test]
    fn excluded_tags_come_back_if_always_included() {
        let rules = |local, global| InputRules {
            filter: filter(FilterOptions { tagexclude: vec!["*".into()], ..Default::default() }),
            tags: pairs(&[("l", "1")]),
            global_tags: pairs(&[("g", "1")]),
            always_include_local_tags: local,
            always_include_global_tags: global,
            ..Default::default()
        };
        assert_eq!(run(rules(false, false), "m", &[("t", "1")], "v"), "m v 2000000000");
        assert_eq!(run(rules(true, true), "m", &[("t", "1")], "v"), "m,g=1,l=1 v 2000000000");
    }

    #[test]
    fn a_metric_without_fields_is_gone() {
        let rules = InputRules {
            filter: filter(FilterOptions { fieldexclude: vec!["v".into()], ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(run(rules, "m", &[], "v"), "");
    }
}
