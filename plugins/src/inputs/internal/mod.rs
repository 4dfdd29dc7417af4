//! The agent's figures about itself.

mod memory;

use std::collections::BTreeMap;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::model::{Key, Kind};
use heliograph_core::plugin::{Input, InputSpec};
use heliograph_core::stats::{StatSeries, Stats};
use serde::Deserialize;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "internal",
    sample: include_str!("sample.conf"),
    build: |section, context| {
        Ok(Box::new(Internal { options: section.finish()?, stats: context.stats.clone(), version: context.version }))
    },
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    collect_memstats: bool,
    collect_gostats: bool,
    per_instance: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { collect_memstats: true, collect_gostats: false, per_instance: false }
    }
}

struct Internal {
    options: Options,
    stats: Stats,
    version: &'static str,
}

/// The tag that tells instances of a plugin apart.
const ID: &str = "_id";

#[async_trait]
impl Input for Internal {
    async fn start(&mut self, accumulator: Accumulator) -> Result<(), StartError> {
        if self.options.collect_gostats {
            let plugin = &**accumulator.plugin();
            tracing::warn!(plugin, "there is no Go runtime here, so `collect_gostats` gives no metric; remove it");
        }
        Ok(())
    }

    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let now = accumulator.now();
        for ((series, _), values) in summed(self.stats.read(), self.options.per_instance) {
            let mut metric = accumulator
                .metric(format!("internal_{}", series.measurement), Kind::Untyped)
                .tag("version", self.version);
            for (key, value) in &series.tags {
                metric = metric.tag(key, value);
            }
            metric.fields(values).time(now).push();
        }
        if self.options.collect_memstats {
            let figures = memory::read().map_err(|error| format!("cannot read /proc/self/statm: {error}"));
            match figures {
                Ok(figures) => {
                    let metric = accumulator.metric("internal_memstats", Kind::Untyped);
                    metric.fields(figures.map(|(key, value)| (Key::fixed(key), value))).time(now).push();
                }
                Err(problem) => accumulator.problem(problem),
            }
        }
        Ok(())
    }
}

/// What makes two instances one series: measurement, tags without the instance, and the set of fields.
type Group = (StatSeries, Vec<&'static str>);

/// The series as they are reported: as they are, or with the instances of a plugin added up.
fn summed(
    registry: Vec<(StatSeries, Vec<(&'static str, i64)>)>,
    per_instance: bool,
) -> BTreeMap<Group, BTreeMap<&'static str, i64>> {
    let mut groups: BTreeMap<Group, BTreeMap<&'static str, i64>> = BTreeMap::new();
    for (mut series, values) in registry {
        if !per_instance {
            series.tags.retain(|(key, _)| *key != ID);
        }
        let mut names: Vec<_> = values.iter().map(|&(name, _)| name).collect();
        names.sort_unstable();
        let group = groups.entry((series, names)).or_default();
        for (name, value) in values {
            let sum = group.entry(name).or_default();
            *sum = sum.wrapping_add(value);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use heliograph_core::clock::Clock;

    use super::*;
    use crate::common::testing::{accumulator, show};

    fn stats() -> Stats {
        let stats = Stats::default();
        for (id, alias, count, nanos) in [("1", "", 5, 2000), ("2", "", 7, 3000), ("3", "lab", 1, 10)] {
            let series = StatSeries::new("gather", &[("input", "http"), ("alias", alias), ("_id", id)]);
            stats.count(&series, "metrics_gathered").add(count);
            stats.mean_time(&series, "gather_time_ns").record(Duration::from_nanos(nanos));
        }
        let own = StatSeries::new("write", &[("output", "http"), ("_id", "4")]);
        stats.count(&own, "metrics_written").add(3);
        let more = StatSeries::new("write", &[("output", "http"), ("_id", "5")]);
        stats.count(&more, "metrics_written").add(4);
        stats.count(&more, "bytes_written").add(9);
        stats
    }

    async fn gathered(options: Options) -> String {
        let mut input = Internal { options, stats: stats(), version: "1.2.3" };
        let mut accumulator = accumulator(Clock::manual(7));
        input.gather(&mut accumulator).await.unwrap();
        show(accumulator.batch().0)
    }

    async fn check(options: Options, expected: Expect) {
        expected.assert_eq(&gathered(Options { collect_memstats: false, ..options }).await);
    }

    #[tokio::test]
    async fn instances_are_added_up_if_their_fields_are_the_same() {
        check(
            Options::default(),
            expect![[r#"
            internal_gather,alias=lab,input=http,version=1.2.3 gather_time_ns=10i,metrics_gathered=1i 7
            internal_gather,input=http,version=1.2.3 gather_time_ns=5000i,metrics_gathered=12i 7
            internal_write,output=http,version=1.2.3 bytes_written=9i,metrics_written=4i 7
            internal_write,output=http,version=1.2.3 metrics_written=3i 7"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn instances_stay_apart_on_request() {
        check(
            Options { per_instance: true, ..Options::default() },
            expect![[r#"
            internal_gather,_id=1,input=http,version=1.2.3 gather_time_ns=2000i,metrics_gathered=5i 7
            internal_gather,_id=2,input=http,version=1.2.3 gather_time_ns=3000i,metrics_gathered=7i 7
            internal_gather,_id=3,alias=lab,input=http,version=1.2.3 gather_time_ns=10i,metrics_gathered=1i 7
            internal_write,_id=4,output=http,version=1.2.3 metrics_written=3i 7
            internal_write,_id=5,output=http,version=1.2.3 bytes_written=9i,metrics_written=4i 7"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn memory_has_all_fields_and_no_tags() {
        let shown = gathered(Options::default()).await;
        let line = shown.lines().find(|line| line.starts_with("internal_memstats ")).unwrap();
        assert_eq!(line.matches('=').count(), 13);
        assert!(line.contains("pointer_lookups=0u"), "{line}");
    }
}
