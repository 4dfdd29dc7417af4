//! CPU time and usage, per logical CPU and of the whole machine, from `/proc/stat`.

mod reading;
mod topology;

use std::path::PathBuf;

use async_trait::async_trait;
use heliograph_core::accumulator::{Accumulator, MetricBuilder};
use heliograph_core::error::{BoxError, Chain, StartError};
use heliograph_core::host::HostPaths;
use heliograph_core::model::Kind;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::FileReader;
use reading::{COLUMNS, GUEST, GUEST_NICE, NICE, Reading, Times, USER};
use topology::Topology;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "cpu",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Cpu::new(section.finish()?, context))),
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    percpu: bool,
    totalcpu: bool,
    collect_cpu_time: bool,
    report_active: bool,
    core_tags: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { percpu: true, totalcpu: true, collect_cpu_time: false, report_active: false, core_tags: false }
    }
}

struct Cpu {
    config: Config,
    host: HostPaths,
    stat: PathBuf,
    ticks_per_second: f64,
    /// Which core each CPU belongs to; read once, at the start.
    topology: Option<Topology>,
    reader: FileReader,
    now: Reading,
    previous: Reading,
}

impl Cpu {
    fn new(config: Config, context: &BuildContext) -> Self {
        Self {
            config,
            host: context.host.clone(),
            stat: context.host.proc("stat"),
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            topology: None,
            reader: FileReader::new(),
            now: Reading::default(),
            previous: Reading::default(),
        }
    }

    /// Reads the counters; without a readable file there are none, and the next gather starts anew.
    fn read(&mut self) {
        std::mem::swap(&mut self.now, &mut self.previous);
        let text = self.reader.read(&self.stat).unwrap_or_default();
        reading::parse(text, self.config.percpu, self.config.totalcpu, self.ticks_per_second, &mut self.now);
    }

    fn start_metric<'a>(
        &self,
        accumulator: &'a mut Accumulator,
        kind: Kind,
        cpu: &[u8],
        time: i64,
    ) -> MetricBuilder<'a> {
        let metric = accumulator.metric("cpu", kind).tag("cpu", cpu).time(time);
        match &self.topology {
            Some(topology) => topology.tags(cpu).fold(metric, |metric, (key, value)| metric.tag(key, value)),
            None => metric,
        }
    }

    fn add_times(&self, accumulator: &mut Accumulator, cpu: &[u8], times: &Times, time: i64) {
        let fields = COLUMNS.iter().map(|column| (column.time, times.0[column.index]));
        let metric = self.start_metric(accumulator, Kind::Counter, cpu, time).fields(fields);
        if self.config.report_active { metric.field("time_active", times.active()) } else { metric }.push();
    }

    fn add_usage(&self, accumulator: &mut Accumulator, cpu: &[u8], now: &Times, previous: &Times, time: i64) {
        let elapsed = now.total() - previous.total();
        let usage = |column: usize| {
            let delta = |column: usize| now.0[column] - previous.0[column];
            // The kernel counts guest time a second time as user time.
            let own = match column {
                USER => delta(USER) - delta(GUEST),
                NICE => delta(NICE) - delta(GUEST_NICE),
                _ => delta(column),
            };
            100.0 * own / elapsed
        };
        let fields = COLUMNS.iter().map(|column| (column.usage, usage(column.index)));
        let metric = self.start_metric(accumulator, Kind::Gauge, cpu, time).fields(fields);
        let active = || 100.0 * (now.active() - previous.active()) / elapsed;
        if self.config.report_active { metric.field("usage_active", active()) } else { metric }.push();
    }
}

#[async_trait]
impl Input for Cpu {
    async fn start(&mut self, _accumulator: Accumulator) -> Result<(), StartError> {
        if self.config.core_tags {
            self.topology = match Topology::read(&self.host, &mut self.reader) {
                Ok(topology) => Some(topology),
                Err(error) => {
                    tracing::warn!(error = %Chain(error.as_ref()), "cannot tell the cores of CPUs, tags are left out");
                    None
                }
            };
        }
        Ok(())
    }

    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        self.read();
        let time = accumulator.now();
        for (place, (cpu, now)) in self.now.iter().enumerate() {
            if self.config.collect_cpu_time {
                self.add_times(accumulator, cpu, now, time);
            }
            let Some(previous) = self.previous.find(place, cpu) else { continue };
            let elapsed = now.total() - previous.total();
            if elapsed < 0.0 {
                let cpu = String::from_utf8_lossy(cpu);
                accumulator.problem(format_args!(
                    "current total CPU time of {cpu:?} is less than previous total CPU time, usage is left out"
                ));
                break;
            }
            if elapsed != 0.0 {
                self.add_usage(accumulator, cpu, now, previous, time);
            }
        }
        Ok(())
    }

    fn needs_two_gathers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, flag};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// Gathers from each content of `/proc/stat` and compares what the last gather gives.
    fn check(options: &[(&str, bool)], contents: &[&str], expected: Expect) {
        let host = TestHost::new(&[]);
        let options: Vec<_> = options.iter().map(|&(key, value)| (key, flag(value))).collect();
        let mut input = host.build(&SPEC, &options).unwrap();
        host.start(&mut *input).unwrap();
        let gather = |content: &&str| {
            host.write("proc/stat", content);
            host.gather(&mut *input)
        };
        expected.assert_eq(contents.iter().map(gather).last().unwrap().as_str());
    }

    const TOTAL_ONLY: (&str, bool) = ("percpu", false);
    const TIMES: (&str, bool) = ("collect_cpu_time", true);

    #[test]
    fn a_first_gather_gives_raw_times_alone() {
        check(
            &[TOTAL_ONLY, TIMES, ("report_active", true)],
            &["cpu  10000 200 3000 80000 500 0 100 0 0 0\n"],
            expect![[r#"
                counter cpu,cpu=cpu-total time_active=138,time_guest=0,time_guest_nice=0,time_idle=800,time_iowait=5,time_irq=0,time_nice=2,time_softirq=1,time_steal=0,time_system=30,time_user=100
            "#]],
        );
    }

    #[test]
    fn usage_between_two_readings() {
        check(
            &[TOTAL_ONLY, TIMES, ("report_active", true)],
            &["cpu  10000 200 3000 80000 500 0 100 0 0 0", "cpu  10100 200 3050 80800 520 0 110 20 40 0"],
            expect![[r#"
                counter cpu,cpu=cpu-total time_active=140,time_guest=0.4,time_guest_nice=0,time_idle=808,time_iowait=5.2,time_irq=0,time_nice=2,time_softirq=1.1,time_steal=0.2,time_system=30.5,time_user=101
                gauge cpu,cpu=cpu-total usage_active=20,usage_guest=4,usage_guest_nice=0,usage_idle=80,usage_iowait=2.0000000000000018,usage_irq=0,usage_nice=0,usage_softirq=1.0000000000000009,usage_steal=2,usage_system=5,usage_user=6
            "#]],
        );
    }

    #[test]
    fn iowait_may_go_backwards() {
        check(
            &[],
            &["cpu 1000 0 500 8000 300 0 10 0 0 0", "cpu 1050 0 520 8240 290 0 10 0 0 0"],
            expect![[r#"
                gauge cpu,cpu=cpu-total usage_guest=0,usage_guest_nice=0,usage_idle=79.99999999999982,usage_iowait=-3.3333333333333206,usage_irq=0,usage_nice=0,usage_softirq=0,usage_steal=0,usage_system=6.666666666666641,usage_user=16.666666666666586
            "#]],
        );
    }

    #[test]
    fn counters_that_stand_still_give_no_usage() {
        check(&[], &["cpu 1 0 5 8 3 0 1 0 0 0", "cpu 1 0 5 8 3 0 1 0 0 0"], expect![""]);
    }

    #[test]
    fn counters_of_another_machine_stop_the_gather_at_that_cpu() {
        let first = "cpu 9 0 0 9 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\ncpu1 8 0 0 8 0 0 0 0\ncpu2 1 0 0 1 0 0 0 0\n";
        let second = "cpu 9 0 0 9 0 0 0 0\ncpu0 1 0 0 3 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0\ncpu2 2 0 0 2 0 0 0 0\n";
        check(
            &[TIMES],
            &[first, second],
            expect![[r#"
                counter cpu,cpu=cpu0 time_guest=0,time_guest_nice=0,time_idle=0.03,time_iowait=0,time_irq=0,time_nice=0,time_softirq=0,time_steal=0,time_system=0,time_user=0.01
                gauge cpu,cpu=cpu0 usage_guest=0,usage_guest_nice=0,usage_idle=99.99999999999999,usage_iowait=0,usage_irq=0,usage_nice=0,usage_softirq=0,usage_steal=0,usage_system=0,usage_user=0
                counter cpu,cpu=cpu1 time_guest=0,time_guest_nice=0,time_idle=0.01,time_iowait=0,time_irq=0,time_nice=0,time_softirq=0,time_steal=0,time_system=0,time_user=0.01
                problems: 1
            "#]],
        );
        check(
            &[("percpu", false)],
            &[first, "cpu 1 0 0 1 0 0 0 0", "cpu 1 0 0 2 0 0 0 0"],
            expect![[r#"
            gauge cpu,cpu=cpu-total usage_guest=0,usage_guest_nice=0,usage_idle=100.00000000000001,usage_iowait=0,usage_irq=0,usage_nice=0,usage_softirq=0,usage_steal=0,usage_system=0,usage_user=0
        "#]],
        );
    }

    #[test]
    fn a_cpu_that_comes_back_has_no_usage_yet() {
        let both = "cpu 2 0 0 2 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0\n";
        let later = "cpu 2 0 0 2 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\ncpu1 1 0 0 5 0 0 0 0\n";
        check(
            &[],
            &[both, "cpu 1 0 0 1 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\n", later],
            expect![[r#"
            gauge cpu,cpu=cpu-total usage_guest=0,usage_guest_nice=0,usage_idle=50,usage_iowait=0,usage_irq=0,usage_nice=0,usage_softirq=0,usage_steal=0,usage_system=0,usage_user=50
        "#]],
        );
    }

    #[test]
    fn without_a_file_there_is_nothing() {
        expect![""].assert_eq(&TestHost::new(&[]).gather_once(&SPEC, &[("collect_cpu_time", flag(true))]));
    }

    #[test]
    fn cores_become_tags() {
        let host = TestHost::new(&[
            ("proc/stat", "cpu 1 0 0 1 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0\n"),
            ("proc/cpuinfo", "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 4\n\nprocessor\t: 1\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_id", "7\n"),
        ]);
        let shown = host.gather_once(&SPEC, &[("core_tags", flag(true)), ("collect_cpu_time", flag(true))]);
        let series: Vec<_> = shown.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(
            series,
            [
                "cpu,core_id=4,cpu=cpu0,physical_id=0",
                "cpu,core_id=7,cpu=cpu1,physical_id=",
                "cpu,core_id=,cpu=cpu-total,physical_id="
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(first in prop::collection::vec(any::<u8>(), 0..80), second in "(cpu[0-9 .x]{0,40}\n){0,4}") {
            let host = TestHost::new(&[]);
            let mut input = host.build(&SPEC, &[("core_tags", flag(true))]).unwrap();
            for content in [&first[..], second.as_bytes(), &first[..]] {
                host.write("proc/stat", content);
                host.write("proc/cpuinfo", content);
                host.start(&mut *input).unwrap();
                host.gather(&mut *input);
            }
        }
    }
}
