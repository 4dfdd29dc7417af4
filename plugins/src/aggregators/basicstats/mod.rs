//! Count, extremes, mean, deviation and differences of every numeric field in a period.

mod stats;

use heliograph_core::model::{Key, Kind, MetricRef, SeriesRef};
use heliograph_core::plugin::{Aggregator, AggregatorSpec, ProcessContext};
use serde::Deserialize;

use crate::common::arrival::ArrivalMap;
use crate::common::key_suffix::KeySuffixes;
use stats::{Running, Stat};

pub(super) static SPEC: AggregatorSpec = AggregatorSpec {
    name: "basicstats",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(BasicStats::new(&section.finish()?, &context.name))),
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    stats: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { stats: ["count", "min", "max", "mean", "s2", "stdev"].map(String::from).into() }
    }
}

struct BasicStats {
    stats: Vec<Stat>,
    series: ArrivalMap<u64, SeriesStats>,
    /// One ending for each of `stats`.
    keys: KeySuffixes,
}

struct SeriesStats {
    series: SeriesRef,
    fields: Vec<(Key, Running)>,
}

impl BasicStats {
    fn new(options: &Options, plugin: &str) -> Self {
        let mut stats = Vec::new();
        for name in &options.stats {
            match Stat::from_name(name) {
                Some(stat) if !stats.contains(&stat) => stats.push(stat),
                Some(_) => {}
                None => tracing::warn!(
                    plugin,
                    stat = name,
                    known = Stat::names().collect::<Vec<_>>().join(", "),
                    "no such statistic in `stats`, left out"
                ),
            }
        }
        let keys = KeySuffixes::new(stats.iter().map(|stat| stat.suffix()));
        Self { stats, series: ArrivalMap::default(), keys }
    }
}

impl Aggregator for BasicStats {
    fn add(&mut self, metric: MetricRef<'_>) {
        let stats = self.series.get_or_insert(metric.series.fingerprint(), || SeriesStats {
            series: metric.series.clone(),
            fields: Vec::new(),
        });
        for field in metric.fields {
            let Some(value) = field.value.as_number() else { continue };
            match stats.fields.iter_mut().find(|(key, _)| *key == field.key) {
                Some((_, running)) => running.add(value, metric.time),
                None => stats.fields.push((field.key.clone(), Running::new(value, metric.time))),
            }
        }
    }

    fn push(&mut self, context: &mut ProcessContext<'_>) {
        let Self { stats, series, keys } = self;
        for SeriesStats { series, fields } in series.values() {
            let mut started = false;
            for (key, running) in fields {
                for (stat, key) in stats.iter().zip(keys.get(key)) {
                    let Some(value) = running.get(*stat) else { continue };
                    if !std::mem::replace(&mut started, true) {
                        context.emit.start(series.clone(), context.now, Kind::Untyped);
                    }
                    context.emit.set_field(key.clone(), value);
                }
            }
        }
        series.report_dropped(context.plugin);
    }

    fn reset(&mut self) {
        self.series.clear();
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::common::testing::{add, push};

    const ALL: &str = "count min max mean s2 stdev sum diff non_negative_diff rate non_negative_rate percent_change \
                       interval last first";

    #[track_caller]
    fn check(stats: &str, lines: &str, expected: Expect) {
        let options = Options { stats: stats.split_whitespace().map(String::from).collect() };
        let mut aggregator = BasicStats::new(&options, "aggregators.basicstats");
        add(&mut aggregator, lines);
        expected.assert_eq(&push(&mut aggregator, 9));
        assert_eq!(push(&mut aggregator, 9), "");
    }

    #[test]
    fn everything() {
        let lines = "a,h=x v=4i 0\na,h=x v=8i 2000000000\na,h=x v=1i 4000000000\na,h=x v=3i 6000000000";
        check(
            ALL,
            lines,
            expect![
                "a,h=x v_count=4,v_min=1,v_max=8,v_mean=4,v_s2=8.666666666666666,v_stdev=2.943920288775949,v_sum=16,v_diff=-1,v_rate=-0.16666666666666666,v_percent_change=-25,v_interval=6000000000i,v_last=3,v_first=4 9"
            ],
        );
    }

    #[test]
    fn one_value() {
        check(
            ALL,
            "m v=3 1\nn v=-0.0 1",
            expect![[r#"
            m v_count=1,v_min=3,v_max=3,v_mean=3,v_sum=3,v_last=3,v_first=3 9
            n v_count=1,v_min=-0,v_max=-0,v_mean=-0,v_sum=-0,v_last=-0,v_first=-0 9"#]],
        );
    }

    #[test]
    fn equal_times_leave_the_rate() {
        check(
            "rate non_negative_rate interval",
            "n v=3i 5000000000\nn v=4i 7000000000\nn v=5i 5000000000",
            expect!["n v_rate=0.5,v_non_negative_rate=0.5,v_interval=0i 9"],
        );
        check("rate", "n v=3i 5\nn v=4i 5", expect!["n v_rate=0 9"]);
    }

    #[test]
    fn out_of_order() {
        let lines = "m v=10 10000000000\nm v=-5 4000000000\nm v=20 12000000000\nm v=2 6500000000";
        check(
            "s2 stdev rate percent_change sum interval mean",
            lines,
            expect![
                "m v_s2=115.58333333333333,v_stdev=10.750968948580091,v_rate=2.2857142857142856,v_percent_change=-80,v_sum=27,v_interval=-3500000000i,v_mean=6.749999999999999 9"
            ],
        );
    }

    #[test]
    fn a_field_counts_from_its_own_first_value() {
        check(
            "count first interval",
            "m v=1i 1\nm v=2i,w=5i 3\nm v=\"x\",w=6i 7",
            expect!["m v_count=2,v_first=1,v_interval=2i,w_count=2,w_first=5,w_interval=4i 9"],
        );
    }

    #[test]
    fn unknown_names_are_left_out() {
        check("variance sum sum", "m v=1i 1\nm v=2i 2", expect!["m v_sum=3 9"]);
        check("", "m v=1i 1", expect![""]);
        check("diff", "m v=1i 1\nn s=\"x\" 1", expect![""]);
    }

    #[test]
    fn the_default_list() {
        let mut aggregator = BasicStats::new(&Options::default(), "aggregators.basicstats");
        add(&mut aggregator, "m v=3i 1\nm v=5i 1");
        assert_eq!(
            push(&mut aggregator, 9),
            "m v_count=2,v_min=3,v_max=5,v_mean=4,v_s2=2,v_stdev=1.4142135623730951 9"
        );
    }
}
