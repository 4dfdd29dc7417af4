//! Memory of the host, from `/proc/meminfo`.

mod meminfo;

use std::path::PathBuf;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::model::Kind;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::FileReader;
use meminfo::{Meminfo, Report};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "mem",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Mem::new(section.finish()?, context))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    collect_extended: bool,
}

struct Mem {
    config: Config,
    meminfo: PathBuf,
    zoneinfo: PathBuf,
    reader: FileReader,
}

impl Mem {
    fn new(config: Config, context: &BuildContext) -> Self {
        let (meminfo, zoneinfo) = (context.host.proc("meminfo"), context.host.proc("zoneinfo"));
        Self { config, meminfo, zoneinfo, reader: FileReader::new() }
    }

    fn read(&mut self) -> Result<Meminfo, BoxError> {
        let mut meminfo = Meminfo::parse(self.reader.read(&self.meminfo)?)?;
        if meminfo.needs_zoneinfo() {
            // Before Linux 3.14 the kernel gave no estimate; what it keeps for itself stands in another file.
            meminfo.estimate_available(self.reader.read(&self.zoneinfo).ok(), rustix::param::page_size() as u64);
        }
        Ok(meminfo)
    }
}

#[async_trait]
impl Input for Mem {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let meminfo = self.read()?;
        let (total, available) = (meminfo.total(), meminfo.available());
        // A container may show more available memory than it says to have; the difference then wraps, as in Telegraf.
        let used = total.wrapping_sub(available);
        let percent = |part: u64| 100.0 * part as f64 / total as f64;
        let mut metric = accumulator
            .metric("mem", Kind::Gauge)
            .field("total", total)
            .field("available", available)
            .field("used", used)
            .field("used_percent", percent(used))
            .field("available_percent", percent(available))
            .fields(meminfo.fields(Report::Always));
        if self.config.collect_extended {
            metric = metric.fields(meminfo.fields(Report::Extended));
        }
        metric.push();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, flag};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// The fields that are not zero.
    fn check(extended: bool, meminfo: &str, zoneinfo: Option<&str>, expected: Expect) {
        let host = TestHost::new(&[("proc/meminfo", meminfo)]);
        zoneinfo.into_iter().for_each(|zoneinfo| host.write("proc/zoneinfo", zoneinfo));
        let shown = host.gather_once(&SPEC, &[("collect_extended", flag(extended))]);
        let kept: Vec<_> = shown.trim_end().split(',').filter(|field| !field.ends_with("=0u")).collect();
        expected.assert_eq(&kept.join(" "));
    }

    #[test]
    fn a_current_kernel() {
        check(
            false,
            "MemTotal: 16384000 kB\nMemFree: 2000000 kB\nMemAvailable: 9011200 kB\nBuffers: 100000 kB\n\
             Cached: 5000000 kB\nSReclaimable: 300000 kB\nHugePages_Total: 4\nHugepagesize: 2048 kB\nFuture: x\n",
            None,
            expect![
                "available=9227468800u available_percent=55 buffered=102400000u cached=5427200000u free=2048000000u huge_page_size=2097152u huge_pages_total=4u sreclaimable=307200000u total=16777216000u used=7549747200u used_percent=45"
            ],
        );
    }

    #[test]
    fn every_field_is_there_without_its_key() {
        let shown = TestHost::new(&[("proc/meminfo", "")]).gather_once(&SPEC, &[]);
        assert_eq!(shown.matches("=0u").count(), 32, "{shown}");
        assert!(shown.contains("used_percent=NaN"), "{shown}");
    }

    #[test]
    fn without_an_estimate_the_cache_counts() {
        check(
            false,
            "MemTotal: 1000 kB\nMemFree: 200 kB\nCached: 300 kB\n",
            None,
            expect![
                "available=512000u available_percent=50 cached=307200u free=204800u total=1024000u used=512000u used_percent=50"
            ],
        );
    }

    const OLD: &str = "MemTotal: 8000000 kB\nMemFree: 1000000 kB\nCached: 3000000 kB\nActive(file): 2000000 kB\n\
                       Inactive(file): 1500001 kB\nSReclaimable: 100001 kB\n";

    #[test]
    fn without_an_estimate_but_with_watermarks() {
        check(
            false,
            OLD,
            Some(
                "Node 0, zone DMA\n  pages free 3976\n\n        low      12\n        low x\n        low\n        low      12500\n",
            ),
            expect![
                "available=4556703232u available_percent=55.62381875 cached=3174401024u free=1024000000u sreclaimable=102401024u total=8192000000u used=3635296768u used_percent=44.37618125"
            ],
        );
        check(
            false,
            OLD,
            None,
            expect![
                "available=4198401024u available_percent=51.2500125 cached=3174401024u free=1024000000u sreclaimable=102401024u total=8192000000u used=3993598976u used_percent=48.7499875"
            ],
        );
    }

    #[test]
    fn more_available_than_there_is() {
        check(
            false,
            "MemAvailable: 1100 kB\nMemTotal: 1000 kB\n",
            None,
            expect![
                "available=1126400u available_percent=110 total=1024000u used=18446744073709449216u used_percent=1801439850948188.5"
            ],
        );
    }

    #[test]
    fn extended_fields() {
        check(
            true,
            "MemTotal: 4 kB\nMemAvailable: 2 kB\nActive(file): 1 kB\nInactive(anon): 2 kB\nUnevictable: 3 kB\nPercpu: 4 kB",
            None,
            expect![
                "active_file=1024u available=2048u available_percent=50 inactive_anon=2048u percpu=4096u total=4096u unevictable=3072u used=2048u used_percent=50"
            ],
        );
    }

    #[test]
    fn a_broken_known_value_is_an_error() {
        check(
            false,
            "MemTotal: 1 kB\nMemFree: lots kB\n",
            None,
            expect![[r#"error: cannot read "lots kB" of "MemFree": invalid number syntax"#]],
        );
        check(
            false,
            "KernelStack: 1.5 kB\n",
            None,
            expect![[r#"error: cannot read "1.5 kB" of "KernelStack": invalid number syntax"#]],
        );
        check(
            false,
            "KernelStack: 1: 2 kB\nOther: x\nMemTotal: 4 kB kB\nMemAvailable: 4 kB",
            None,
            expect!["available=4096u available_percent=100 total=4096u used_percent=0"],
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(meminfo in prop::collection::vec(any::<u8>(), 0..80), lines in "((MemFree|Active\\(file\\)|Inactive\\(file\\)|SReclaimable): {0,2}[0-9]{0,25}( kB)?\n){0,6}") {
            for content in [&meminfo[..], lines.as_bytes()] {
                if let Ok(mut meminfo) = Meminfo::parse(content) {
                    meminfo.estimate_available(Some(content), 4096);
                    meminfo.available();
                }
            }
        }
    }
}
