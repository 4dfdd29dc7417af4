//! The guard: keeps the number of series within a budget.
//!
//! The agent runs it last, behind processors and aggregators, wherever it stands in the file: what it counts is what will
//! be stored.

mod fold;
mod offender;

use std::num::NonZeroUsize;
use std::time::Duration;

use heliograph_core::config;
use heliograph_core::guard::{Admission, Budgets, Place, SeriesTable};
use heliograph_core::model::{MetricMut, SeriesRef};
use heliograph_core::plugin::{BuildContext, ProcessContext, Processor, ProcessorSpec, Verdict};
use heliograph_core::stats::{Count, StatSeries, Stats};
use heliograph_core::throttle::Throttle;
use serde::Deserialize;
use std::collections::BTreeMap;

use self::fold::{Fold, FoldStat};
use self::offender::Offenders;

/// The name in `[[processors.cardinality]]`.
pub const NAME: &str = "cardinality";

pub(super) static SPEC: ProcessorSpec = ProcessorSpec {
    name: NAME,
    sample: include_str!("sample.conf"),
    build: |section, context| {
        let position = section.position();
        let options: CardinalityOptions = section.finish()?;
        let guard = Cardinality::new(options, context).map_err(|problem| position.error(problem))?;
        Ok(Box::new(guard))
    },
};

/// The options, as they stand in the file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CardinalityOptions {
    /// Series of the whole agent.
    max_series: NonZeroUsize,
    /// Series of each measurement; zero for no limit but the agent's.
    max_series_per_measurement: usize,
    /// Series of these measurements.
    measurements: BTreeMap<String, NonZeroUsize>,
    /// What happens to series over budget.
    action: Action,
    /// Tags to fold or to drop first, in this order; then those with the most values.
    tags: Vec<String>,
    /// What folded tags read.
    fold_value: String,
    /// How often folded series are written.
    fold_interval: config::Duration,
    /// What is written of them.
    fold_stats: Vec<FoldStat>,
    /// Silence after which a series makes room.
    idle_timeout: config::Duration,
}

impl Default for CardinalityOptions {
    fn default() -> Self {
        Self {
            max_series: NonZeroUsize::new(100_000).expect("not zero"),
            max_series_per_measurement: 0,
            measurements: BTreeMap::new(),
            action: Action::Fold,
            tags: Vec::new(),
            fold_value: "other".into(),
            fold_interval: config::Duration::from_secs(10),
            fold_stats: vec![FoldStat::Count, FoldStat::Sum, FoldStat::Min, FoldStat::Max, FoldStat::Last],
            idle_timeout: config::Duration::from_secs(3600),
        }
    }
}

/// What happens to a metric whose series is over budget.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// It is summed up in a series whose offending tags read `other`.
    Fold,
    /// It goes.
    Drop,
    /// It goes on without the offending tags.
    DropTags,
    /// It goes on, and is only counted.
    Pass,
}

struct Cardinality {
    table: SeriesTable,
    action: Action,
    offenders: Offenders,
    fold: Fold,
    /// Length of a tick in nanoseconds: an idle timeout is 60 of them.
    tick: i64,
    idle: bool,
    last_sweep: i64,
    interval: Duration,
    counts: Counts,
    throttle: Throttle,
}

/// Ticks in an idle timeout.
const IDLE_TICKS: u16 = 60;

struct Counts {
    stats: Stats,
    series: Count,
    budget: Count,
    bytes: Count,
    folded: Count,
    dropped: Count,
    trimmed: Count,
    passed: Count,
    expired: Count,
}

impl Counts {
    fn new(stats: &Stats) -> Self {
        let series = StatSeries::new("cardinality", &[]);
        let count = |field| stats.count(&series, field);
        Self {
            stats: stats.clone(),
            series: count("series"),
            budget: count("max_series"),
            bytes: count("table_bytes"),
            folded: count("metrics_folded"),
            dropped: count("metrics_dropped"),
            trimmed: count("metrics_tags_dropped"),
            passed: count("metrics_passed_over_budget"),
            expired: count("series_expired"),
        }
    }
}

impl Cardinality {
    fn new(options: CardinalityOptions, context: &BuildContext) -> Result<Self, String> {
        let total = options.max_series.get();
        let per_measurement = match options.max_series_per_measurement {
            0 => total,
            limit => limit,
        };
        let interval = options
            .fold_interval
            .positive()
            .ok_or("option `fold_interval` must be longer than 0s: folded series are written that often")?;
        if options.idle_timeout.is_negative() {
            return Err("option `idle_timeout` must not be negative; 0 keeps series for ever".into());
        }
        let idle = options.idle_timeout.positive();
        let measurements = options.measurements.into_iter().map(|(name, limit)| (name, limit.get())).collect();
        let counts = Counts::new(&context.stats);
        counts.budget.set(total);
        Ok(Self {
            table: SeriesTable::new(&Budgets { total, per_measurement, measurements }),
            action: options.action,
            offenders: Offenders::new(options.tags),
            fold: Fold::new(options.fold_value.into_bytes(), options.fold_stats),
            tick: idle.map_or(i64::MAX, |idle| (idle.as_nanos() as i64 / i64::from(IDLE_TICKS)).max(1)),
            idle: idle.is_some(),
            last_sweep: 0,
            interval,
            counts,
            throttle: Throttle::new(),
        })
    }

    fn tick(&self, now: i64) -> u16 {
        (now / self.tick) as u16
    }

    /// What becomes of a metric whose series has no room.
    #[cold]
    fn over_budget(
        &mut self,
        metric: &mut MetricMut<'_>,
        answer: Admission,
        context: &mut ProcessContext<'_>,
    ) -> Verdict {
        self.offenders.note(metric.series());
        self.report(metric.series(), answer, context);
        match self.action {
            Action::Pass => {
                self.counts.passed.increment();
                Verdict::Keep
            }
            Action::Drop => {
                self.counts.dropped.increment();
                Verdict::Drop
            }
            Action::DropTags => match self.with_room(metric.series(), None, context) {
                Some(series) => {
                    metric.set_series(series);
                    self.counts.trimmed.increment();
                    Verdict::Keep
                }
                None => {
                    self.counts.dropped.increment();
                    Verdict::Drop
                }
            },
            Action::Fold => {
                let value = self.fold.value().to_vec();
                match self.with_room(metric.series(), Some(&value), context) {
                    Some(series) => {
                        self.fold.add(series, metric.view());
                        self.counts.folded.increment();
                    }
                    None => self.counts.dropped.increment(),
                }
                Verdict::Drop
            }
        }
    }

    /// The series with as few of the worst tags replaced (or taken out) as it takes to find room.
    fn with_room(
        &mut self,
        series: &SeriesRef,
        value: Option<&[u8]>,
        context: &mut ProcessContext<'_>,
    ) -> Option<SeriesRef> {
        let tags = self.offenders.worst_first(series);
        let tick = self.tick(context.now);
        for count in 1..=tags.len() {
            let changed = context.interner.edit(series, |builder| {
                for tag in &tags[..count] {
                    match value {
                        Some(value) => {
                            builder.set_tag(tag, value);
                        }
                        None => {
                            builder.remove_tag(tag);
                        }
                    }
                }
            });
            let place = if count == tags.len() { Place::Last } else { Place::Folded };
            let answer = self.table.admit(changed.fingerprint(), changed.name(), tick, place);
            if matches!(answer, Admission::Known | Admission::Admitted) {
                return Some(changed);
            }
        }
        None
    }

    fn report(&mut self, series: &SeriesRef, answer: Admission, context: &ProcessContext<'_>) {
        let Some(suppressed) = self.throttle.admit() else { return };
        let name = bstr::BStr::new(series.name());
        let (budget, remedy) = self.remedy(series, answer);
        let worst = self.offenders.worst_first(series).into_iter().next().unwrap_or_default();
        tracing::warn!(
            plugin = context.plugin,
            measurement = %name,
            budget,
            tag = %bstr::BStr::new(&worst),
            action = ?self.action,
            suppressed,
            "series budget is used up: new series are not stored as they are; raise {remedy}, or take the tag out with tagexclude"
        );
    }

    /// The budget that is used up, and the option that raises it.
    fn remedy(&self, series: &SeriesRef, answer: Admission) -> (usize, &'static str) {
        let total = self.table.total();
        let usage = self.table.usage().find(|(measurement, ..)| *measurement == series.name());
        match usage {
            // Without a budget of its own a measurement may use the whole one.
            Some((.., limit)) if answer == Admission::OverMeasurement && limit != total => {
                (limit, "its entry in `measurements`, or max_series_per_measurement")
            }
            _ => (total, "max_series"),
        }
    }

    fn publish(&self) {
        self.counts.series.set(self.table.len());
        self.counts.bytes.set(self.table.footprint());
        for (name, used, limit) in self.table.usage().take(1000) {
            let name = String::from_utf8_lossy(name);
            let series = StatSeries::new("cardinality_measurement", &[("measurement", &name)]);
            self.counts.stats.count(&series, "series").set(used);
            self.counts.stats.count(&series, "max_series").set(limit);
        }
    }
}

impl Processor for Cardinality {
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
        let series = metric.series();
        match self.table.admit(series.fingerprint(), series.name(), self.tick(context.now), Place::Real) {
            Admission::Known => Verdict::Keep,
            Admission::Admitted => {
                self.offenders.note(series);
                Verdict::Keep
            }
            answer => self.over_budget(metric, answer, context),
        }
    }

    fn period(&self) -> Option<Duration> {
        Some(self.interval)
    }

    fn push(&mut self, context: &mut ProcessContext<'_>) {
        self.fold.push(context.emit, context.now);
        if self.idle && context.now.saturating_sub(self.last_sweep) >= self.tick {
            self.last_sweep = context.now;
            self.counts.expired.add(self.table.expire(self.tick(context.now), IDLE_TICKS));
        }
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::clock::Clock;
    use heliograph_core::host::HostPaths;
    use heliograph_core::model::{Batch, Interner, Key, Kind, SeriesBuilder, Value};
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    struct Kit {
        guard: Cardinality,
        interner: Interner,
        now: i64,
    }

    fn kit(change: impl FnOnce(&mut CardinalityOptions)) -> Kit {
        let mut options =
            CardinalityOptions { max_series: NonZeroUsize::new(20).unwrap(), ..CardinalityOptions::default() };
        change(&mut options);
        let context = BuildContext {
            name: "processors.cardinality".into(),
            clock: Clock::manual(0),
            host: HostPaths::default(),
            stats: Stats::default(),
            version: "0",
            debug: false,
        };
        Kit { guard: Cardinality::new(options, &context).unwrap(), interner: Interner::default(), now: 1000 * SECOND }
    }

    impl Kit {
        /// One metric through the guard, as line protocol if it passes.
        fn send(&mut self, device: &str, site: &str, v: f64) -> String {
            let mut builder = SeriesBuilder::new();
            builder.start(b"m").set_tag(b"device", device.as_bytes()).set_tag(b"site", site.as_bytes());
            let mut batch = Batch::new();
            batch.start(builder.build(), self.now, Kind::Gauge);
            batch.push_field(Key::fixed("v"), Value::Float(v));
            let mut emit = Batch::new();
            let Self { guard, interner, now } = self;
            batch.retain_mut(|metric| {
                let mut context = ProcessContext { interner, now: *now, emit: &mut emit, plugin: "guard" };
                guard.apply(metric, &mut context) == Verdict::Keep
            });
            show(&batch)
        }

        fn push(&mut self) -> String {
            let mut emit = Batch::new();
            let Self { guard, interner, now } = self;
            guard.push(&mut ProcessContext { interner, now: *now, emit: &mut emit, plugin: "guard" });
            show(&emit)
        }
    }

    fn show(batch: &Batch) -> String {
        let value = |value: &Value| match value {
            Value::Float(v) => v.to_string(),
            other => format!("{other:?}"),
        };
        let metric = |m: heliograph_core::model::MetricRef<'_>| {
            let fields: Vec<_> = m.fields.iter().map(|f| format!("{}={}", f.key, value(&f.value))).collect();
            format!("{} {}", m.series, fields.join(","))
        };
        batch.iter().map(metric).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn over_budget_the_worst_tag_is_folded_and_the_sums_are_exact() {
        let mut kit = kit(|_| {});
        let passed = (0..30).filter(|i| !kit.send(&format!("d{i}"), "s1", f64::from(*i)).is_empty()).count();
        assert_eq!(passed, 18);
        assert_eq!(kit.push(), "m,device=other,site=s1 v_count=12,v_sum=282,v_min=18,v_max=29,v_last=29");
        assert_eq!(kit.push(), "", "a period without folded metrics writes nothing");
        assert_eq!(kit.guard.counts.folded.get(), 12);
    }

    #[test]
    fn the_remedy_is_the_option_whose_budget_is_used_up() {
        let full = |change: fn(&mut CardinalityOptions)| {
            let mut kit = kit(change);
            (0..18).for_each(|i| drop(kit.send(&format!("d{i}"), "s1", 1.0)));
            let series = SeriesBuilder::new().start(b"m").build();
            kit.guard.remedy(&series, Admission::OverMeasurement)
        };
        assert_eq!(full(|_| {}), (20, "max_series"));
        let own = full(|options| options.max_series_per_measurement = 10);
        assert_eq!(own, (10, "its entry in `measurements`, or max_series_per_measurement"));
    }

    #[test]
    fn a_live_series_is_never_thrown_out() {
        let mut kit = kit(|_| {});
        (0..1000).for_each(|i| drop(kit.send(&format!("d{i}"), "s1", 1.0)));
        assert_eq!(kit.send("d0", "s1", 5.0), "m,device=d0,site=s1 v=5");
        assert!(kit.guard.table.len() <= 20);
    }

    #[test]
    fn if_folding_one_tag_finds_no_room_the_next_is_folded_too() {
        let mut kit = kit(|_| {});
        (0..300).for_each(|i| drop(kit.send(&format!("d{i}"), &format!("s{i}"), 1.0)));
        let pushed = kit.push();
        assert!(pushed.contains("m,device=other,site=other v_count="), "{pushed}");
        assert!(kit.guard.table.len() <= 20);
    }

    #[test]
    fn the_other_actions() {
        let over = |action| {
            let mut kit = kit(|options| options.action = action);
            (0..18).for_each(|i| drop(kit.send(&format!("d{i}"), "s1", 1.0)));
            kit.send("new", "s1", 1.0)
        };
        assert_eq!(over(Action::Drop), "");
        assert_eq!(over(Action::DropTags), "m,site=s1 v=1");
        assert_eq!(over(Action::Pass), "m,device=new,site=s1 v=1");
    }

    #[test]
    fn configured_tags_are_folded_instead_of_the_worst() {
        let mut kit = kit(|options| options.tags = vec!["site".into()]);
        (0..18).for_each(|i| drop(kit.send(&format!("d{i}"), "s1", 1.0)));
        kit.send("d0", "s2", 1.0);
        assert_eq!(kit.push(), "m,device=d0,site=other v_count=1,v_sum=1,v_min=1,v_max=1,v_last=1");
    }

    #[test]
    fn idle_series_make_room() {
        let mut kit = kit(|options| options.idle_timeout = config::Duration::from_secs(60));
        (0..18).for_each(|i| drop(kit.send(&format!("d{i}"), "s1", 1.0)));
        assert_eq!(kit.send("new", "s1", 1.0), "");
        kit.now += 200 * SECOND;
        kit.push();
        assert_eq!(kit.send("new", "s1", 1.0), "m,device=new,site=s1 v=1");
    }

    proptest! {
        /// Whatever is sent: never more series than the budget, and not a unit of the sums is lost.
        #[test]
        fn sums_are_kept_and_budgets_too(sent in prop::collection::vec((0u32..60, 0u32..6, -100i32..100), 0..400)) {
            let mut kit = kit(|options| options.max_series = NonZeroUsize::new(10).unwrap());
            let (mut total, mut arrived) = (0.0, 0.0);
            let value = |text: &str, key: &str| -> f64 {
                let of = |line: &str| line.split(key).nth(1).and_then(|rest| rest.split(',').next()?.parse::<f64>().ok());
                text.lines().filter_map(of).sum::<f64>()
            };
            for (device, site, v) in sent {
                total += f64::from(v);
                let out = kit.send(&format!("d{device}"), &format!("s{site}"), f64::from(v));
                arrived += value(&out, " v=");
                prop_assert!(kit.guard.table.len() <= 10);
            }
            arrived += value(&kit.push(), "v_sum=");
            prop_assert_eq!(kit.guard.counts.dropped.get(), 0);
            prop_assert!((total - arrived).abs() < 1e-6, "{} {}", total, arrived);
        }
    }
}
