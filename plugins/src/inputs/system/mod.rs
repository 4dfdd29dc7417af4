//! Load, users, CPUs and uptime of the host; on request its operating system and hardware.

mod cpus;
mod dmi;
mod platform;
mod users;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::config::Duration;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::host::HostPaths;
use heliograph_core::model::{Kind, Value};
use heliograph_core::number::parse_float;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::{FileReader, words};
use cpus::CpuCounter;
use users::Users;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "system",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(System::new(section.finish()?, context))),
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    include: Vec<Group>,
    os_cache_ttl: Duration,
    dmi_cache_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let ttl = Duration::from_secs(8 * 3600);
        Self { include: Vec::new(), os_cache_ttl: ttl, dmi_cache_ttl: ttl }
    }
}

/// What can be asked for. All but `legacy` share one metric.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Group {
    Legacy,
    Load,
    Users,
    Cpus,
    Uptime,
    Os,
    Dmi,
}

type Fields = Vec<(&'static str, Value)>;

struct System {
    groups: Vec<Group>,
    host: HostPaths,
    loadavg: PathBuf,
    utmp: PathBuf,
    cpus: CpuCounter,
    os: Cache,
    dmi: Cache,
    reader: FileReader,
}

impl System {
    fn new(config: Config, context: &BuildContext) -> Self {
        let mut groups = if config.include.is_empty() { vec![Group::Legacy] } else { config.include };
        let mut seen = Vec::new();
        groups.retain(|group| !seen.contains(group) && {
            seen.push(*group);
            true
        });
        let host = context.host.clone();
        Self {
            groups,
            loadavg: host.proc("loadavg"),
            utmp: host.var("run/utmp"),
            cpus: CpuCounter::new(&host),
            host,
            os: Cache::new(config.os_cache_ttl),
            dmi: Cache::new(config.dmi_cache_ttl),
            reader: FileReader::new(),
        }
    }

    /// The three metrics that were all there was before groups came.
    fn add_legacy(&mut self, accumulator: &mut Accumulator, now: i64) -> Result<(), BoxError> {
        let mut fields = Fields::with_capacity(7);
        add_load(&mut fields, read_load(&mut self.reader, &self.loadavg));
        fields.extend(self.cpus.count()?);
        match Users::read(&mut self.reader, &self.utmp) {
            Ok(users) => fields.extend(users.fields()),
            Err(error) => tracing::debug!(plugin = &**accumulator.plugin(), error = %Chain(&error), "no users are counted"),
        }
        accumulator.metric("system", Kind::Gauge).fields(fields).time(now).push();
        let uptime = uptime();
        accumulator.metric("system", Kind::Counter).field("uptime", uptime).time(now).push();
        let format = format_uptime(uptime);
        accumulator.metric("system", Kind::Untyped).field("uptime_format", format.as_str()).time(now).push();
        Ok(())
    }

    /// The fields of a group.
    fn read_group(&mut self, group: Group, now: i64, plugin: &str, fields: &mut Fields) -> Result<(), BoxError> {
        match group {
            Group::Legacy => {}
            Group::Load => add_load(fields, read_load(&mut self.reader, &self.loadavg)),
            Group::Cpus => fields.extend(self.cpus.count()?),
            Group::Uptime => fields.push(("uptime", uptime().into())),
            Group::Users => match Users::read(&mut self.reader, &self.utmp) {
                Ok(users) => fields.extend(users.fields()),
                // Containers have no such file, and so have hosts of late: nothing to complain of every time.
                Err(error) if error.is_expected() => {}
                Err(error) => tracing::warn!(plugin, error = %Chain(&error), "cannot count users"),
            },
            Group::Os => {
                let (host, reader) = (&self.host, &mut self.reader);
                fields.extend_from_slice(self.os.get(now, || platform::fields(host, reader)));
            }
            Group::Dmi => {
                let (host, reader) = (&self.host, &mut self.reader);
                fields.extend_from_slice(self.dmi.get(now, || dmi::fields(host, reader)));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Input for System {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let now = accumulator.now();
        let plugin = accumulator.plugin().clone();
        let mut fields = Fields::new();
        for group in self.groups.clone() {
            let result = match group {
                Group::Legacy => self.add_legacy(accumulator, now),
                group => self.read_group(group, now, &plugin, &mut fields),
            };
            if let Err(error) = result {
                accumulator.problem(Chain(error.as_ref()));
            }
        }
        if !fields.is_empty() {
            accumulator.metric("system", Kind::Untyped).fields(fields).time(now).push();
        }
        Ok(())
    }
}

/// Facts that hardly change, read again when they are older than the option says.
struct Cache {
    ttl: i64,
    /// When the facts were read, in nanoseconds since the Unix epoch.
    read_at: Option<i64>,
    fields: Fields,
}

impl Cache {
    fn new(ttl: Duration) -> Self {
        let ttl = i64::try_from(ttl.to_std().as_nanos()).unwrap_or(i64::MAX);
        Self { ttl, read_at: None, fields: Fields::new() }
    }

    fn get(&mut self, now: i64, read: impl FnOnce() -> Fields) -> &[(&'static str, Value)] {
        // A clock that was set back makes the facts old, not young for ever.
        let is_fresh = self.read_at.is_some_and(|at| (0..self.ttl).contains(&now.saturating_sub(at)));
        if !is_fresh {
            self.fields = read();
            self.read_at = Some(now);
        }
        &self.fields
    }
}

/// Load averages of one, five and fifteen minutes; from the kernel itself if there is no file that says them.
fn read_load(reader: &mut FileReader, path: &Path) -> [f64; 3] {
    let parsed = reader.read(path).ok().and_then(parse_load);
    parsed.unwrap_or_else(|| rustix::system::sysinfo().loads.map(|load| load as f64 / 65536.0))
}

fn parse_load(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = words(text);
    let mut load = || parse_float(words.next()?).ok();
    Some([load()?, load()?, load()?])
}

fn add_load(fields: &mut Fields, load: [f64; 3]) {
    fields.extend(["load1", "load5", "load15"].into_iter().zip(load.map(Value::from)));
}

/// Seconds since the start of the machine.
fn uptime() -> u64 {
    rustix::system::sysinfo().uptime as u64
}

/// `2 days, 13:06`; hours without a leading zero.
fn format_uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match days {
        0 => format!("{hours:2}:{minutes:02}"),
        1 => format!("1 day, {hours:2}:{minutes:02}"),
        days => format!("{days} days, {hours:2}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, list, text};
    use proptest::prelude::*;

    const CPUINFO: &str = "processor : 0\nphysical id : 0\ncpu cores : 2\n\nprocessor : 1\nphysical id : 0\ncpu cores : 2\n\n";

    fn host() -> TestHost {
        let host = TestHost::new(&[("proc/loadavg", "0.64 1.02 0.90 2/811 12345\n"), ("proc/cpuinfo", CPUINFO)]);
        host.write("var/run/utmp", users::tests::utmp(&[(7, "alice"), (7, "bob"), (7, "alice")]));
        host
    }

    /// What a gather shows, without the uptime of the machine that runs the test.
    fn check(host: &TestHost, include: &[&str], expected: &[&str]) {
        let shown = host.gather_once(&SPEC, &[("include", list(include))]);
        let without_uptime = |line: &str| line.split("uptime").next().unwrap().trim_end_matches(',').to_string();
        assert_eq!(shown.lines().map(without_uptime).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn three_metrics_by_default() {
        let gauge = "gauge system load1=0.64,load15=0.9,load5=1.02,n_cpus=2i,n_physical_cpus=2i,n_unique_users=2i,n_users=3i";
        check(&host(), &[], &[gauge, "counter system ", "system "]);
    }

    #[test]
    fn groups_share_a_metric() {
        let merged = "system load1=0.64,load15=0.9,load5=1.02,n_cpus=2i,n_physical_cpus=2i,n_unique_users=2i,n_users=3i";
        check(&host(), &["users", "load", "cpus", "load", "uptime"], &[merged]);
    }

    #[test]
    fn without_users() {
        let host = TestHost::new(&[("proc/loadavg", "1 2 3"), ("proc/cpuinfo", CPUINFO)]);
        let gauge = "gauge system load1=1,load15=3,load5=2,n_cpus=2i,n_physical_cpus=2i";
        check(&host, &[], &[gauge, "counter system ", "system "]);
        check(&host, &["users"], &[]);
    }

    #[test]
    fn a_group_that_fails_costs_itself() {
        let host = TestHost::new(&[("proc/loadavg", "1 2 3")]);
        check(&host, &[], &["problems: 1"]);
        check(&host, &["cpus", "load"], &["system load1=1,load15=3,load5=2", "problems: 1"]);
    }

    #[test]
    fn a_group_that_does_not_exist() {
        let error = host().build(&SPEC, &[("include", list(&["load", "weather"]))]).err().unwrap();
        assert!(error.message().contains("\"weather\""), "{error}");
    }

    #[test]
    fn facts_are_read_again_when_they_are_old() {
        let host = host();
        host.write("etc/alpine-release", "3.20.3\n");
        let mut input = host.build(&SPEC, &[("include", list(&["os"])), ("os_cache_ttl", text("1m"))]).unwrap();
        let mut version = |wait| {
            host.advance(wait);
            let shown = host.gather(&mut *input);
            shown.split("platform_version=").nth(1).unwrap().trim_end().to_string()
        };
        assert_eq!(version(0), "\"3.20.3\"");
        host.write("etc/alpine-release", "3.21.0\n");
        assert_eq!([version(59_999), version(1)], ["\"3.20.3\"", "\"3.21.0\""]);
    }

    #[test]
    fn uptimes() {
        let formatted = [59, 3600, 45296, 86400, 93784, 220_000].map(format_uptime);
        assert_eq!(formatted, [" 0:00", " 1:00", "12:34", "1 day,  0:00", "1 day,  2:03", "2 days, 13:06"]);
    }

    #[test]
    fn loads() {
        assert_eq!(parse_load(b"0.64 1.02 0.90 2/811 12345"), Some([0.64, 1.02, 0.9]));
        assert_eq!((parse_load(b"1 2"), parse_load(b"1 x 3")), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            parse_load(&bytes);
        }
    }
}
