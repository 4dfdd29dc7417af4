//! Minimum and maximum of every numeric field in a period.

use heliograph_core::config::Section;
use heliograph_core::model::{Key, Kind, MetricRef, SeriesRef};
use heliograph_core::plugin::{Aggregator, AggregatorSpec, ProcessContext};

use crate::common::arrival::ArrivalMap;
use crate::common::key_suffix::KeySuffixes;

pub(super) static SPEC: AggregatorSpec = AggregatorSpec {
    name: "minmax",
    sample: include_str!("sample.conf"),
    build: |section: Section, _| {
        section.finish_nothing()?;
        Ok(Box::new(MinMax::new()))
    },
};

struct MinMax {
    series: ArrivalMap<u64, Extremes>,
    keys: KeySuffixes,
}

struct Extremes {
    series: SeriesRef,
    fields: Vec<(Key, Extreme)>,
}

struct Extreme {
    min: f64,
    max: f64,
}

impl MinMax {
    fn new() -> Self {
        Self { series: ArrivalMap::default(), keys: KeySuffixes::new(["_min", "_max"]) }
    }
}

impl Aggregator for MinMax {
    fn add(&mut self, metric: MetricRef<'_>) {
        let extremes = self.series.get_or_insert(metric.series.fingerprint(), || Extremes {
            series: metric.series.clone(),
            fields: Vec::new(),
        });
        for field in metric.fields {
            let Some(value) = field.value.as_number() else { continue };
            match extremes.fields.iter_mut().find(|(key, _)| *key == field.key) {
                Some((_, extreme)) => extreme.add(value),
                None => extremes.fields.push((field.key.clone(), Extreme { min: value, max: value })),
            }
        }
    }

    fn push(&mut self, context: &mut ProcessContext<'_>) {
        let Self { series, keys } = self;
        for extremes in series.values().filter(|extremes| !extremes.fields.is_empty()) {
            context.emit.start(extremes.series.clone(), context.now, Kind::Untyped);
            for (key, extreme) in &extremes.fields {
                if let [min, max] = keys.get(key) {
                    context.emit.set_field(min.clone(), extreme.min.into());
                    context.emit.set_field(max.clone(), extreme.max.into());
                }
            }
        }
        series.report_dropped(context.plugin);
    }

    fn reset(&mut self) {
        self.series.clear();
    }
}

impl Extreme {
    /// A NaN is neither below nor above anything: a first one stays, later ones are passed over.
    fn add(&mut self, value: f64) {
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::common::testing::{add, push};

    #[track_caller]
    fn check(lines: &str, expected: Expect) {
        let mut aggregator = MinMax::new();
        add(&mut aggregator, lines);
        expected.assert_eq(&push(&mut aggregator, 9));
    }

    #[test]
    fn numbers_of_all_types() {
        check("m v=3i 1\nm v=-1.5 2\nm s=\"x\",v=7u 3", expect!["m v_min=-1.5,v_max=7 9"]);
    }

    #[test]
    fn series_in_order_of_arrival() {
        check(
            "b v=1i 1\na,t=1 v=2i 2\nb w=3i 3\nn s=\"x\" 4",
            expect![[r#"
            b v_min=1,v_max=1,w_min=3,w_max=3 9
            a,t=1 v_min=2,v_max=2 9"#]],
        );
    }

    #[test]
    fn nothing_stays_after_a_period() {
        let mut aggregator = MinMax::new();
        add(&mut aggregator, "m v=3i 1");
        push(&mut aggregator, 1);
        add(&mut aggregator, "m v=1i 1");
        assert_eq!(push(&mut aggregator, 2), "m v_min=1,v_max=1 2");
    }

    #[test]
    fn only_a_first_nan_counts() {
        check("m v=NaN 1\nm v=1 2", expect!["m v_min=NaN,v_max=NaN 9"]);
        check("m v=1 1\nm v=NaN 2", expect!["m v_min=1,v_max=1 9"]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(values in prop::collection::vec(-1e9..1e9f64, 1..20)) {
            let mut extreme = Extreme { min: values[0], max: values[0] };
            values.iter().for_each(|&value| extreme.add(value));
            prop_assert_eq!(extreme.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(extreme.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
