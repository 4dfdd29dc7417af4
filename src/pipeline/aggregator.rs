//! Aggregators in their windows.

use std::sync::Arc;

use heliograph_core::filter::Filter;
use heliograph_core::model::{Batch, Interner, MetricRef};
use heliograph_core::plugin::{Aggregator, ProcessContext};
use heliograph_core::rounding::{align_up, truncate};
use heliograph_core::stage::Rename;
use heliograph_core::stats::Count;

use super::running::Selection;

/// What an aggregator's table says beside its own options; times in nanoseconds.
#[derive(Debug, Default)]
pub struct AggregatorRules {
    pub name: Arc<str>,
    pub filter: Filter,
    pub period: i64,
    pub delay: i64,
    pub grace: i64,
    pub drop_original: bool,
    pub rename: Rename,
    pub tags: Vec<(String, String)>,
}

/// Counters of an aggregator.
#[derive(Debug, Default, Clone)]
pub struct AggregatorStats {
    pub pushed: Count,
    pub filtered: Count,
    pub dropped: Count,
    pub push_time: Count,
}

/// An aggregator with its filter and its window.
pub struct RunningAggregator {
    name: Arc<str>,
    selection: Selection,
    plugin: Box<dyn Aggregator>,
    rules: AggregatorRules,
    stats: AggregatorStats,
    /// Wall-clock bounds of the window, both inclusive, in nanoseconds.
    start: i64,
    end: i64,
    scratch: Batch,
}

impl RunningAggregator {
    /// With a first window that ends after `now`; at a multiple of the period if `round` says so.
    pub fn new(
        mut rules: AggregatorRules,
        plugin: Box<dyn Aggregator>,
        stats: AggregatorStats,
        now: i64,
        round: bool,
    ) -> Self {
        let end = if round { align_up(now.saturating_add(1), rules.period) } else { now.saturating_add(rules.period) };
        let selection = Selection::new(std::mem::take(&mut rules.filter), Rename::default());
        Self {
            name: rules.name.clone(),
            selection,
            plugin,
            start: end.saturating_sub(rules.period),
            end,
            rules,
            stats,
            scratch: Batch::new(),
        }
    }

    /// When it is to push next: wall clock, nanoseconds.
    pub fn due(&self) -> i64 {
        self.end
    }

    /// Takes a copy of the metric in; tells whether the original ends here.
    pub fn add(&mut self, metric: MetricRef<'_>, interner: &mut Interner, now: i64) -> bool {
        let Some(series) = self.selection.select(metric, interner, now, &self.name) else { return false };
        let mut copy = MetricRef { series: &series, ..metric };
        if self.selection.filter().has_field_rules() {
            self.scratch.clear();
            self.scratch.push_copy(copy);
            let filter = self.selection.filter();
            self.scratch.retain_mut(|metric| metric.retain_fields(|field| filter.keeps_field(field.key.as_bytes())));
            let Some(left) = self.scratch.iter().next() else {
                self.stats.filtered.increment();
                return self.rules.drop_original;
            };
            copy = left;
        }
        let early = copy.time < self.start.saturating_sub(self.rules.grace);
        if early || copy.time > self.end.saturating_add(self.rules.delay) {
            self.stats.dropped.increment();
            tracing::debug!(plugin = &*self.name, time = copy.time, "metric is outside the aggregation window");
        } else {
            self.plugin.add(copy);
        }
        self.rules.drop_original
    }

    /// Adds the aggregates of the window to `emit` and starts the next one.
    ///
    /// `now` is the wall clock, `push_time` the time that aggregates get: the same, rounded.
    pub fn push(&mut self, emit: &mut Batch, interner: &mut Interner, now: i64, push_time: i64) {
        let started = std::time::Instant::now();
        (self.start, self.end) = (self.end, self.end.saturating_add(self.rules.period));
        if now < self.start || now > self.end {
            // The clock jumped, or the machine slept.
            self.start = truncate(now, self.rules.period);
            self.end = self.start.saturating_add(self.rules.period);
        }
        let first = emit.len();
        self.plugin.push(&mut ProcessContext { interner, now: push_time, emit, plugin: &self.name });
        self.plugin.reset();
        let rules = &self.rules;
        if !rules.rename.is_empty() || !rules.tags.is_empty() {
            emit.for_each_from(first, |metric| {
                let series = interner.edit(metric.series(), |builder| {
                    rules.rename.apply(builder);
                    for (key, value) in &rules.tags {
                        builder.set_tag_if_absent(key.as_bytes(), value.as_bytes());
                    }
                });
                metric.set_series(series);
            });
        }
        self.stats.pushed.add(emit.len() - first);
        self.stats.push_time.add_time(started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::filter::FilterOptions;
    use heliograph_core::model::{Key, Kind, SeriesBuilder, Value};

    const SECOND: i64 = 1_000_000_000;

    /// Counts what it was given.
    #[derive(Default)]
    struct Counter(i64);
    impl Aggregator for Counter {
        fn add(&mut self, _: MetricRef<'_>) {
            self.0 += 1;
        }
        fn push(&mut self, context: &mut ProcessContext<'_>) {
            let series = context.interner.build(|b| {
                b.start(b"count");
            });
            context.emit.start(series, context.now, Kind::Untyped);
            context.emit.push_field(Key::fixed("n"), Value::Int(self.0));
        }
        fn reset(&mut self) {
            self.0 = 0;
        }
    }

    fn running(rules: AggregatorRules, options: FilterOptions, now: i64) -> RunningAggregator {
        let filter = Filter::new(&options).unwrap();
        let rules = AggregatorRules { period: 30 * SECOND, delay: SECOND / 10, filter, ..rules };
        RunningAggregator::new(rules, Box::new(Counter::default()), AggregatorStats::default(), now, true)
    }

    fn add(aggregator: &mut RunningAggregator, time: i64) -> bool {
        let series = SeriesBuilder::new().start(b"m").build();
        let mut batch = Batch::new();
        batch.start(series, time, Kind::Untyped);
        batch.push_field(Key::fixed("v"), Value::Int(1));
        aggregator.add(batch.get(0), &mut Interner::default(), time)
    }

    fn push(aggregator: &mut RunningAggregator, now: i64) -> String {
        let mut emit = Batch::new();
        aggregator.push(&mut emit, &mut Interner::default(), now, now);
        emit.iter().map(|m| format!("{} {:?}", m.series, m.fields[0].value)).collect()
    }

    #[test]
    fn the_first_window_ends_strictly_after_the_start() {
        let due = |now| running(AggregatorRules::default(), FilterOptions::default(), now).due();
        assert_eq!((due(5 * SECOND), due(30 * SECOND)), (30 * SECOND, 60 * SECOND));
    }

    #[test]
    fn both_bounds_and_the_delay_are_inside() {
        let mut aggregator = running(AggregatorRules::default(), FilterOptions::default(), 5 * SECOND);
        for time in [0, 30 * SECOND, 30 * SECOND + SECOND / 20, 30 * SECOND + SECOND / 5, -1] {
            add(&mut aggregator, time);
        }
        assert_eq!(push(&mut aggregator, 30 * SECOND), "count Int(3)");
        assert_eq!(aggregator.stats.dropped.get(), 2);
    }

    #[test]
    fn a_late_original_is_dropped_all_the_same() {
        let rules = AggregatorRules { drop_original: true, ..Default::default() };
        let mut aggregator = running(rules, FilterOptions::default(), 5 * SECOND);
        assert!(add(&mut aggregator, -5 * SECOND));
    }

    #[test]
    fn a_jump_of_the_clock_starts_a_window_around_now() {
        let mut aggregator = running(AggregatorRules::default(), FilterOptions::default(), 5 * SECOND);
        push(&mut aggregator, 1000 * SECOND);
        assert_eq!(aggregator.due(), 1020 * SECOND);
    }

    #[test]
    fn a_copy_without_fields_is_counted_as_filtered() {
        let options = FilterOptions { fieldexclude: vec!["v".into()], ..Default::default() };
        let mut aggregator = running(AggregatorRules::default(), options, 5 * SECOND);
        add(&mut aggregator, SECOND);
        assert_eq!((push(&mut aggregator, 30 * SECOND).as_str(), aggregator.stats.filtered.get()), ("count Int(0)", 1));
    }

    #[test]
    fn aggregates_get_the_names_and_tags_of_the_table() {
        let rules = AggregatorRules {
            rename: Rename { name_suffix: "_s".into(), ..Default::default() },
            tags: vec![("t".into(), "1".into())],
            ..Default::default()
        };
        let mut aggregator = running(rules, FilterOptions::default(), 5 * SECOND);
        assert_eq!(push(&mut aggregator, 30 * SECOND), "count_s,t=1 Int(0)");
    }
}
