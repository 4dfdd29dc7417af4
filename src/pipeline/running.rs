//! The wrappers around processors, aggregators and outputs: filters, names, windows, counts.

use std::sync::Arc;

use heliograph_core::filter::Filter;
use heliograph_core::memo::SeriesMemo;
use heliograph_core::model::{Batch, Interner, MetricRef, Series, SeriesRef};
use heliograph_core::plugin::{ProcessContext, Processor, Verdict};
use heliograph_core::stage::Rename;
use heliograph_core::stats::Count;

/// What a plugin's filter says about a series, remembered.
#[derive(Debug, Default)]
pub struct Selection {
    filter: Filter,
    rename: Rename,
    memo: SeriesMemo<Option<SeriesRef>>,
}

impl Selection {
    /// Selects by `filter`, takes tags out, and renames what is selected.
    pub fn new(filter: Filter, rename: Rename) -> Self {
        Self { filter, rename, memo: SeriesMemo::default() }
    }

    /// The filter, for its rules on fields.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether every metric passes unchanged.
    pub fn is_open(&self) -> bool {
        self.filter.is_open() && self.rename.is_empty()
    }

    /// The series as the plugin sees it, if the metric is selected.
    pub fn select(
        &mut self,
        metric: MetricRef<'_>,
        interner: &mut Interner,
        now: i64,
        plugin: &str,
    ) -> Option<SeriesRef> {
        let Self { filter, rename, memo } = self;
        if filter.is_open() && rename.is_empty() {
            return Some(metric.series.clone());
        }
        let decided = memo.get(metric.series.fingerprint(), || {
            filter.selects_series(metric.series).then(|| {
                if !filter.has_tag_rules() && rename.is_empty() {
                    return metric.series.clone();
                }
                let changed = interner.edit(metric.series, |builder| {
                    builder.retain_tags(|key, _| filter.keeps_tag(key));
                    rename.apply(builder);
                });
                if Series::eq(&changed, metric.series) { metric.series.clone() } else { changed }
            })
        });
        let series = decided.as_ref()?;
        filter.selects_metric(metric, now, plugin).then(|| series.clone())
    }
}

/// A processor with its filter.
pub struct RunningProcessor {
    pub name: Arc<str>,
    pub selection: Selection,
    pub plugin: Box<dyn Processor>,
}

impl RunningProcessor {
    /// Applies the processor to the metrics it selects; the others pass unchanged and in their place.
    pub fn apply(&mut self, batch: &mut Batch, interner: &mut Interner, now: i64) {
        let Self { name, selection, plugin } = self;
        let open = selection.is_open();
        let field_rules = selection.filter.has_field_rules();
        let mut emitted = Batch::new();
        // (index among the metrics kept, metrics emitted behind it)
        let mut insertions: Vec<(usize, usize)> = Vec::new();
        let mut kept = 0;
        batch.retain_mut(|metric| {
            if !open {
                let Some(series) = selection.select(metric.view(), interner, now, name) else {
                    kept += 1;
                    return true;
                };
                metric.set_series(series);
                if field_rules && !metric.retain_fields(|field| selection.filter.keeps_field(field.key.as_bytes())) {
                    return false;
                }
            }
            let before = emitted.len();
            let mut context = ProcessContext { interner, now, emit: &mut emitted, plugin: name };
            // A metric without fields is nothing that could be written.
            let keep = plugin.apply(metric, &mut context) == Verdict::Keep && !metric.view().fields.is_empty();
            kept += usize::from(keep);
            if emitted.len() > before {
                insertions.push((kept, emitted.len() - before));
            }
            keep
        });
        if !insertions.is_empty() {
            merge(batch, &emitted, &insertions);
        }
    }

    /// Lets the processor speak by itself.
    pub fn push(&mut self, emit: &mut Batch, interner: &mut Interner, now: i64) {
        self.plugin.push(&mut ProcessContext { interner, now, emit, plugin: &self.name });
    }
}

/// Puts emitted metrics behind the ones they came from.
fn merge(batch: &mut Batch, emitted: &Batch, insertions: &[(usize, usize)]) {
    let mut merged = Batch::with_capacity(batch.len() + emitted.len(), batch.field_count() + emitted.field_count());
    let (mut from_batch, mut from_emitted) = (0, 0);
    for &(kept, count) in insertions {
        (from_batch..kept).for_each(|i| merged.push_copy(batch.get(i)));
        (from_emitted..from_emitted + count).for_each(|i| merged.push_copy(emitted.get(i)));
        from_batch = kept;
        from_emitted += count;
    }
    (from_batch..batch.len()).for_each(|i| merged.push_copy(batch.get(i)));
    merged.origin = batch.origin;
    *batch = merged;
}

/// An output's filters and names, as the journal applies them.
pub struct Admission {
    pub name: Arc<str>,
    pub selection: Selection,
    pub filtered: Count,
    pub interner: Interner,
    pub clock: heliograph_core::clock::Clock,
}

impl Admission {
    /// The same batch if every metric passes unchanged, else one with what is left.
    pub fn admit(&mut self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        if self.selection.is_open() {
            return Some(batch.clone());
        }
        let Self { name, selection, filtered, interner, clock } = self;
        let now = clock.now();
        let mut admitted = Batch::with_capacity(batch.len(), batch.field_count());
        for metric in batch.iter() {
            let Some(series) = selection.select(metric, interner, now, name) else { continue };
            admitted.push_copy(MetricRef { series: &series, ..metric });
        }
        if selection.filter.has_field_rules() {
            admitted
                .retain_mut(|metric| metric.retain_fields(|field| selection.filter.keeps_field(field.key.as_bytes())));
        }
        filtered.add(batch.len() - admitted.len());
        admitted.origin = batch.origin;
        (!admitted.is_empty()).then(|| Arc::new(admitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::filter::FilterOptions;
    use heliograph_core::model::{Key, Kind, MetricMut, SeriesBuilder, Value};

    fn batch(names: &[&str]) -> Batch {
        let mut batch = Batch::new();
        for name in names {
            batch.start(SeriesBuilder::new().start(name.as_bytes()).set_tag(b"t", b"1").build(), 0, Kind::Untyped);
            batch.push_field(Key::fixed("v"), Value::Int(1));
        }
        batch
    }

    fn show(batch: &Batch) -> String {
        batch.iter().map(|m| m.series.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn only(name: &str) -> Filter {
        Filter::new(&FilterOptions { namepass: vec![name.into()], tagexclude: vec!["t".into()], ..Default::default() })
            .unwrap()
    }

    /// Emits a copy of each metric and drops those called `drop`.
    struct Echo;
    impl Processor for Echo {
        fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
            let series = context.interner.edit(metric.series(), |b| {
                b.set_name(b"echo");
            });
            context.emit.push_copy(MetricRef { series: &series, ..metric.view() });
            if metric.name() == b"drop" { Verdict::Drop } else { Verdict::Keep }
        }
    }

    fn run(filter: Filter, names: &[&str]) -> String {
        let selection = Selection::new(filter, Rename::default());
        let mut running = RunningProcessor { name: "processors.echo".into(), selection, plugin: Box::new(Echo) };
        let mut batch = batch(names);
        running.apply(&mut batch, &mut Interner::default(), 0);
        show(&batch)
    }

    #[test]
    fn what_a_processor_emits_stands_behind_its_cause() {
        assert_eq!(run(Filter::default(), &["a", "drop", "b"]), "a,t=1 echo,t=1 echo,t=1 b,t=1 echo,t=1");
    }

    #[test]
    fn what_is_not_selected_passes_unchanged() {
        assert_eq!(run(only("b"), &["a", "b", "c"]), "a,t=1 b echo c,t=1");
    }

    #[test]
    fn an_open_output_shares_the_batch_and_a_filtered_one_copies_what_is_left() {
        let admission = |filter| Admission {
            name: "outputs.x".into(),
            selection: Selection::new(filter, Rename::default()),
            filtered: Count::default(),
            interner: Interner::default(),
            clock: heliograph_core::clock::Clock::manual(0),
        };
        let shared = Arc::new(batch(&["a", "b"]));
        assert!(Arc::ptr_eq(&shared, &admission(Filter::default()).admit(&shared).unwrap()));
        let mut filtered = admission(only("b"));
        assert_eq!(show(&filtered.admit(&shared).unwrap()), "b");
        assert_eq!(filtered.filtered.get(), 1);
        assert!(admission(only("z")).admit(&shared).is_none());
    }
}
