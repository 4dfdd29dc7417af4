//! Sends the last metric of a series, once the series has ended or at every period.

use heliograph_core::config::Duration;
use heliograph_core::model::{Field, Kind, MetricRef, SeriesRef};
use heliograph_core::plugin::{Aggregator, AggregatorSpec, ProcessContext};
use serde::Deserialize;

use crate::common::arrival::ArrivalMap;
use crate::common::key_suffix::KeySuffixes;

pub(super) static SPEC: AggregatorSpec = AggregatorSpec {
    name: "final",
    sample: include_str!("sample.conf"),
    build: |section, _| {
        let strategy: Option<String> = section.get("output_strategy")?;
        if let Some(strategy) = strategy.filter(|strategy| !STRATEGIES.contains(&strategy.as_str())) {
            return Err(section.unknown_value("output_strategy", &strategy, STRATEGIES.iter().copied()));
        }
        Ok(Box::new(Final::new(&section.finish()?)))
    },
};

/// The values of `output_strategy`.
const STRATEGIES: &[&str] = &["timeout", "periodic"];

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    output_strategy: Strategy,
    series_timeout: Duration,
    keep_original_field_names: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    #[default]
    Timeout,
    Periodic,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output_strategy: Strategy::default(),
            series_timeout: Duration::from_secs(300),
            keep_original_field_names: false,
        }
    }
}

struct Final {
    strategy: Strategy,
    /// In nanoseconds.
    timeout: i64,
    series: ArrivalMap<u64, Last>,
    /// The ending of keys, unless they are kept.
    keys: Option<KeySuffixes>,
}

/// The metric of a series that was added last.
struct Last {
    series: SeriesRef,
    time: i64,
    fields: Vec<Field>,
}

impl Final {
    fn new(options: &Options) -> Self {
        Self {
            strategy: options.output_strategy,
            timeout: options.series_timeout.as_nanos(),
            series: ArrivalMap::default(),
            keys: (!options.keep_original_field_names).then(|| KeySuffixes::new(["_final"])),
        }
    }
}

impl Aggregator for Final {
    fn add(&mut self, metric: MetricRef<'_>) {
        let last = self.series.get_or_insert(metric.series.fingerprint(), || Last {
            series: metric.series.clone(),
            time: 0,
            fields: Vec::with_capacity(metric.fields.len()),
        });
        last.time = metric.time;
        last.fields.clear();
        last.fields.extend_from_slice(metric.fields);
    }

    fn push(&mut self, context: &mut ProcessContext<'_>) {
        let Self { strategy, timeout, series, keys } = self;
        series.retain(|last| {
            if *strategy == Strategy::Timeout && context.now.saturating_sub(last.time) <= *timeout {
                return true;
            }
            context.emit.start(last.series.clone(), last.time, Kind::Untyped);
            for field in &last.fields {
                let suffixed = keys.as_mut().and_then(|keys| keys.get(&field.key).first().cloned());
                context.emit.set_field(suffixed.unwrap_or_else(|| field.key.clone()), field.value.clone());
            }
            false
        });
        series.report_dropped(context.plugin);
    }

    /// Series live until they are sent, over as many periods as that takes.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{add, push};

    fn aggregator(output_strategy: Strategy, keep_original_field_names: bool) -> Final {
        let series_timeout = Duration::from_nanos(100);
        Final::new(&Options { output_strategy, series_timeout, keep_original_field_names })
    }

    #[test]
    fn a_series_is_sent_once_it_is_older_than_the_timeout() {
        let mut aggregator = aggregator(Strategy::Timeout, false);
        add(&mut aggregator, "m,h=a v=1i,s=\"x\" 10\nm,h=b v=1i 50\nm,h=a v=2u 20");
        assert_eq!(push(&mut aggregator, 120), "");
        assert_eq!(push(&mut aggregator, 121), "m,h=a v_final=2u 20");
        add(&mut aggregator, "m,h=a v=3i 130");
        assert_eq!(push(&mut aggregator, 1000), "m,h=b v_final=1i 50\nm,h=a v_final=3i 130");
        assert_eq!(push(&mut aggregator, 2000), "");
    }

    #[test]
    fn the_metric_added_last_counts_not_the_newest() {
        let mut aggregator = aggregator(Strategy::Periodic, true);
        add(&mut aggregator, "m v=2i,b=true 50\nm v=3i 10\nn w=0.5 1");
        assert_eq!(push(&mut aggregator, 0), "m v=3i 10\nn w=0.5 1");
        assert_eq!(push(&mut aggregator, 0), "");
    }
}
