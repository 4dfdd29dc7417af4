//! The agent's own process, as Prometheus's client libraries show theirs.

use std::collections::HashMap;
use std::fs;

use heliograph_core::model::Kind;

use super::exposition::{Family, Sample, SampleValue};

/// Ticks of the clock in a second in `/proc`, the same on every platform that Linux runs on.
const TICKS: f64 = 100.0;

/// What can be read of the process; a file that cannot be read leaves its families out.
pub(super) fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
    let mut values = stat.as_deref().map(|text| from_stat(text, boot)).unwrap_or_default();
    if let Ok(folder) = fs::read_dir("/proc/self/fd") {
        // The folder itself is open while it is read.
        values.push((&OPEN_FDS, folder.count().saturating_sub(1) as f64));
    }
    if let Ok(text) = fs::read_to_string("/proc/self/limits") {
        values.extend(limit(&text, "Max open files").map(|value| (&MAX_FDS, value)));
        values.extend(limit(&text, "Max address space").map(|value| (&VIRTUAL_MAX, value)));
    }
    if let Ok(text) = fs::read_to_string("/proc/self/net/netstat") {
        let octets = ip_ext(&text);
        let get = |name: &str| octets.get(name).copied();
        values.extend(get("InOctets").map(|value| (&RECEIVED, value)));
        values.extend(get("OutOctets").map(|value| (&TRANSMITTED, value)));
    }
    values.into_iter().map(|(row, value)| row.family(value)).collect()
}

/// A family of one sample.
struct Row {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

const fn row(name: &'static str, kind: Kind, help: &'static str) -> Row {
    Row { name, help, kind }
}

static CPU: Row = row("process_cpu_seconds_total", Kind::Counter, "Total user and system CPU time spent in seconds.");
static OPEN_FDS: Row = row("process_open_fds", Kind::Gauge, "Number of open file descriptors.");
static MAX_FDS: Row = row("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.");
static VIRTUAL: Row = row("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.");
static VIRTUAL_MAX: Row =
    row("process_virtual_memory_max_bytes", Kind::Gauge, "Maximum amount of virtual memory available in bytes.");
static RESIDENT: Row = row("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.");
static START: Row =
    row("process_start_time_seconds", Kind::Gauge, "Start time of the process since unix epoch in seconds.");
static RECEIVED: Row = row(
    "process_network_receive_bytes_total",
    Kind::Counter,
    "Number of bytes received by the process over the network.",
);
static TRANSMITTED: Row =
    row("process_network_transmit_bytes_total", Kind::Counter, "Number of bytes sent by the process over the network.");

impl Row {
    fn family(&self, value: f64) -> Family {
        let sample = Sample { labels: Vec::new(), time: None, value: SampleValue::Number(value) };
        Family { name: self.name.into(), help: self.help, kind: self.kind, samples: vec![sample] }
    }
}

/// From `/proc/self/stat`, proc(5); the name in parentheses may hold anything.
fn from_stat(text: &str, boot: Option<f64>) -> Vec<(&'static Row, f64)> {
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // Behind the name, field 3 is the first.
    let field = |number: usize| fields.get(number - 3).copied();
    let mut values = Vec::new();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        values.push((&CPU, (user + system) / TICKS));
    }
    if let (Some(start), Some(boot)) = (field(22), boot) {
        values.push((&START, boot + start / TICKS));
    }
    values.extend(field(23).map(|bytes| (&VIRTUAL, bytes)));
    values.extend(field(24).map(|pages| (&RESIDENT, pages * rustix::param::page_size() as f64)));
    values
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of this name; without a limit the largest number.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

fn ip_ext(netstat: &str) -> HashMap<&str, f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return HashMap::new() };
    names.split(' ').zip(values.split(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 4 0 1234 8192 2 0";
        let show = |(row, value): &(&Row, f64)| format!("{} {value}", row.name);
        let page = rustix::param::page_size();
        assert_eq!(
            from_stat(stat, Some(1000.0)).iter().map(show).collect::<Vec<_>>(),
            [
                "process_cpu_seconds_total 3".to_owned(),
                "process_start_time_seconds 1012.34".to_owned(),
                "process_virtual_memory_bytes 8192".to_owned(),
                format!("process_resident_memory_bytes {}", 2 * page),
            ]
        );
        assert!(from_stat("", None).is_empty());
        assert_eq!(limit("Max open files            1024     4096   files\n", "Max open files"), Some(1024.0));
        assert_eq!(limit("Max address space   unlimited  unlimited bytes", "Max address space"), Some(u64::MAX as f64));
        assert_eq!(ip_ext("IpExt: A InOctets\nIpExt: 1 5\n").get("InOctets"), Some(&5.0));
        assert!(boot_time("cpu 1\nbtime 77\n") == Some(77.0));
    }

    #[test]
    fn all_of_this_process() {
        assert_eq!(families().len(), 9);
    }
}
