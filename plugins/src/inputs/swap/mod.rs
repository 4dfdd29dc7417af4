//! Swap space from `sysinfo(2)`, and what moved in and out of it from `/proc/vmstat`.

use std::path::PathBuf;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::model::Kind;
use heliograph_core::number::parse_uint10;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::{FileReader, lines, words};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "swap",
    sample: include_str!("sample.conf"),
    build: |section, context| {
        let Config {} = section.finish()?;
        Ok(Box::new(Swap::new(context)))
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {}

/// Bytes in a page as Telegraf counts them, on kernels with larger pages too.
const PAGE: u64 = 4096;

struct Swap {
    vmstat: PathBuf,
    reader: FileReader,
}

impl Swap {
    fn new(context: &BuildContext) -> Self {
        Self { vmstat: context.host.proc("vmstat"), reader: FileReader::new() }
    }
}

#[async_trait]
impl Input for Swap {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let traffic = Traffic::parse(self.reader.read(&self.vmstat)?);
        let space = Space::read();
        accumulator
            .metric("swap", Kind::Gauge)
            .field("total", space.total)
            .field("used", space.used())
            .field("free", space.free)
            .field("used_percent", space.used_percent())
            .push();
        let metric = accumulator.metric("swap", Kind::Counter);
        metric.field("in", traffic.bytes_in).field("out", traffic.bytes_out).push();
        Ok(())
    }
}

/// Swap space, in bytes.
struct Space {
    total: u64,
    free: u64,
}

impl Space {
    fn read() -> Self {
        let info = rustix::system::sysinfo();
        let bytes = |units: u64| units.wrapping_mul(u64::from(info.mem_unit));
        Self { total: bytes(info.totalswap), free: bytes(info.freeswap) }
    }

    fn used(&self) -> u64 {
        self.total.wrapping_sub(self.free)
    }

    fn used_percent(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.used() as f64 / self.total as f64 * 100.0 }
    }
}

/// What moved between memory and swap since the start of the machine, in bytes.
#[derive(Debug, Default, PartialEq)]
struct Traffic {
    bytes_in: u64,
    bytes_out: u64,
}

impl Traffic {
    /// Reads the lines `pswpin` and `pswpout`; one that is missing or broken counts zero.
    fn parse(vmstat: &[u8]) -> Self {
        let mut traffic = Self::default();
        for line in lines(vmstat) {
            let mut words = words(line);
            let counter = match words.next() {
                Some(b"pswpin") => &mut traffic.bytes_in,
                Some(b"pswpout") => &mut traffic.bytes_out,
                _ => continue,
            };
            if let Some(pages) = words.next().and_then(|pages| parse_uint10(pages).ok()) {
                *counter = pages.wrapping_mul(PAGE);
            }
        }
        traffic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::TestHost;
    use proptest::prelude::*;

    fn check(vmstat: &str, bytes_in: u64, bytes_out: u64) {
        assert_eq!(Traffic::parse(vmstat.as_bytes()), Traffic { bytes_in, bytes_out });
    }

    #[test]
    fn traffic() {
        check("nr_free_pages 1\npswpin 10\npswpout 25\npgpgin 7\n", 40960, 102_400);
        check("pswpin 3\npswpout many\n", 12288, 0);
        check("pswpin\npswpoutx 4\nanything at all\n", 0, 0);
    }

    #[test]
    fn space() {
        let space = Space { total: 4 << 30, free: 3 << 30 };
        assert_eq!((space.used(), space.used_percent()), (1 << 30, 25.0));
        assert_eq!(Space { total: 0, free: 0 }.used_percent(), 0.0);
    }

    #[test]
    fn both_metrics_or_none() {
        let host = TestHost::new(&[("proc/vmstat", "pswpin 1\npswpout 2\n")]);
        let shown = host.gather_once(&SPEC, &[]);
        assert!(shown.starts_with("gauge swap free="), "{shown}");
        assert!(shown.ends_with("\ncounter swap in=4096u,out=8192u\n"), "{shown}");
        let shown = TestHost::new(&[]).gather_once(&SPEC, &[]);
        assert!(shown.starts_with("error: cannot read ") && shown.lines().count() == 1, "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "(pswp(in|out)? {0,2}[0-9x]{0,22}\n){0,4}") {
            Traffic::parse(&bytes);
            Traffic::parse(text.as_bytes());
        }
    }
}
