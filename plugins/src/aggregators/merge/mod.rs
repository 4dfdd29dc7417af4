//! Joins metrics of the same series and time into one.

use heliograph_core::config::Duration;
use heliograph_core::model::{Field, Kind, MetricRef, SeriesRef};
use heliograph_core::plugin::{Aggregator, AggregatorSpec, ProcessContext};
use heliograph_core::rounding::round;
use serde::Deserialize;

use crate::common::arrival::ArrivalMap;

pub(super) static SPEC: AggregatorSpec = AggregatorSpec {
    name: "merge",
    sample: include_str!("sample.conf"),
    build: |section, _| Ok(Box::new(Merge::new(&section.finish()?))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    round_timestamp_to: Duration,
}

struct Merge {
    /// Times are rounded to a multiple of it, in nanoseconds; 0 leaves them.
    unit: i64,
    /// By series and time.
    metrics: ArrivalMap<(u64, i64), Merged>,
}

struct Merged {
    series: SeriesRef,
    time: i64,
    kind: Kind,
    fields: Vec<Field>,
}

impl Merge {
    fn new(options: &Options) -> Self {
        Self { unit: options.round_timestamp_to.as_nanos(), metrics: ArrivalMap::default() }
    }
}

impl Aggregator for Merge {
    fn add(&mut self, metric: MetricRef<'_>) {
        let time = round(metric.time, self.unit);
        let merged = self.metrics.get_or_insert((metric.series.fingerprint(), time), || Merged {
            series: metric.series.clone(),
            time,
            kind: metric.kind,
            fields: Vec::with_capacity(metric.fields.len()),
        });
        for field in metric.fields {
            match merged.fields.iter_mut().find(|known| known.key == field.key) {
                Some(known) => known.value = field.value.clone(),
                None => merged.fields.push(field.clone()),
            }
        }
    }

    fn push(&mut self, context: &mut ProcessContext<'_>) {
        for merged in self.metrics.values() {
            context.emit.push(merged.series.clone(), merged.time, merged.kind, merged.fields.iter().cloned());
        }
        self.metrics.report_dropped(context.plugin);
    }

    fn reset(&mut self) {
        self.metrics.clear();
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::common::testing::{add, push};

    #[track_caller]
    fn check(unit: i64, lines: &str, expected: Expect) {
        let mut aggregator = Merge::new(&Options { round_timestamp_to: Duration::from_nanos(unit) });
        add(&mut aggregator, lines);
        expected.assert_eq(&push(&mut aggregator, 0));
        assert_eq!(push(&mut aggregator, 0), "");
    }

    #[test]
    fn same_series_and_time() {
        check(
            0,
            "cpu,h=a x=1 10\ncpu,h=a y=2i 10\ncpu,h=b x=5 10\ncpu,h=a x=3 11\ncpu,h=a x=9,z=\"s\" 10",
            expect![[r#"
            cpu,h=a x=9,y=2i,z="s" 10
            cpu,h=b x=5 10
            cpu,h=a x=3 11"#]],
        );
    }

    #[test]
    fn halves_of_the_unit_go_up() {
        check(
            10,
            "m a=1i 4\nm b=2i 5\nm c=3i 14\nm d=4i -5",
            expect![[r#"
            m a=1i,d=4i 0
            m b=2i,c=3i 10"#]],
        );
    }

    #[test]
    fn the_first_kind_stays() {
        let mut aggregator = Merge::new(&Options::default());
        let batch = crate::common::testing::batch("m v=1i 1");
        let metric = batch.get(0);
        aggregator.add(MetricRef { kind: Kind::Counter, ..metric });
        aggregator.add(MetricRef { kind: Kind::Gauge, ..metric });
        assert_eq!(aggregator.metrics.values().next().unwrap().kind, Kind::Counter);
    }
}
