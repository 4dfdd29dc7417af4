//! Counters of network interfaces, from `/proc/net/dev`.

mod links;
mod table;

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::glob::{GlobError, GlobSet};
use heliograph_core::model::Kind;
use heliograph_core::number::parse_int10;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::FileReader;
use links::Links;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "net",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Net::new(section.finish()?, context))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    interfaces: Vec<String>,
    ignore_protocol_stats: Option<bool>,
}

/// Which interfaces are reported.
enum Selection {
    /// Those that the option names. A broken pattern is an error of each gather, as in Telegraf.
    Named(Result<GlobSet, GlobError>),
    /// Those of our own network namespace that are up and no loopback.
    Running(Links),
    /// All: with `HOST_PROC` set, what our own namespace knows says nothing about the host's interfaces.
    All,
}

impl Selection {
    fn holds(&self, interface: &[u8]) -> bool {
        match self {
            Self::Named(names) => names.as_ref().is_ok_and(|names| names.matches(interface)),
            Self::Running(links) => links.is_running(interface),
            Self::All => true,
        }
    }
}

/// The path of an interface's `speed`, put together in the same memory for all of them.
struct SpeedPath {
    path: Vec<u8>,
    folder: usize,
}

impl SpeedPath {
    /// Below `class/net/` of sysfs.
    fn new(class: PathBuf) -> Self {
        let path = class.into_os_string().into_vec();
        Self { folder: path.len(), path }
    }

    fn of(&mut self, interface: &[u8]) -> &Path {
        self.path.truncate(self.folder);
        self.path.extend_from_slice(interface);
        self.path.extend_from_slice(b"/speed");
        Path::new(OsStr::from_bytes(&self.path))
    }
}

struct Net {
    selection: Selection,
    dev: PathBuf,
    speed_path: SpeedPath,
    reader: FileReader,
    speed_reader: FileReader,
}

impl Net {
    fn new(config: Config, context: &BuildContext) -> Self {
        if config.ignore_protocol_stats.is_some() {
            let plugin = &*context.name;
            tracing::warn!(plugin, "ignore_protocol_stats has no effect, remove it: protocols are counted by nstat");
        }
        let selection = if !config.interfaces.is_empty() {
            Selection::Named(GlobSet::new(&config.interfaces, ""))
        } else if context.host.variable("HOST_PROC").is_none() {
            Selection::Running(Links::new())
        } else {
            Selection::All
        };
        Self {
            selection,
            dev: context.host.proc("net/dev"),
            speed_path: SpeedPath::new(context.host.sys("class/net/")),
            reader: FileReader::new(),
            speed_reader: FileReader::new(),
        }
    }
}

#[async_trait]
impl Input for Net {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        // One broken line spoils the gather, so that all are read before the first metric is made.
        let interfaces = table::parse(self.reader.read(&self.dev)?)?;
        match &mut self.selection {
            Selection::Running(links) => links.refresh()?,
            Selection::Named(Err(error)) => return Err(error.clone().into()),
            Selection::Named(Ok(_)) | Selection::All => {}
        }
        for interface in interfaces {
            let name = interface.name;
            if self.selection.holds(name) {
                let path = self.speed_path.of(name);
                let speed = self.speed_reader.read(path).map_or(UNKNOWN_SPEED, parse_speed);
                let metric = accumulator.metric("net", Kind::Counter).tag("interface", name);
                metric.fields(interface.counters).field("speed", speed).push();
            }
        }
        Ok(())
    }
}

/// What `speed` says where the kernel does not know one: no link, a virtual interface.
const UNKNOWN_SPEED: i64 = -1;

/// The speed of an interface in Mbit/s.
fn parse_speed(text: &[u8]) -> i64 {
    parse_int10(text.strip_suffix(b"\n").unwrap_or(text)).unwrap_or(UNKNOWN_SPEED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, flag, list};
    use expect_test::{Expect, expect};

    const HEAD: &str = "Inter-|   Receive                            |  Transmit\n face |bytes    packets errs drop\n";

    fn host() -> TestHost {
        let lines = "    lo: 500 5 0 0 0 0 0 0 500 5 0 0 0 0 0 0\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n\
                     eth0:1: 7 7 7 7 7 7 7 7 8 8 8 8 8\n";
        TestHost::new(&[
            ("proc/net/dev", &format!("{HEAD}{lines}")),
            ("sys/class/net/eth0/speed", "10000\n"),
            ("sys/class/net/eth0:1/speed", "fast\n"),
        ])
    }

    fn check(interfaces: &[&str], expected: Expect) {
        expected.assert_eq(&host().gather_once(&SPEC, &[("interfaces", list(interfaces))]));
    }

    #[test]
    fn all_interfaces_of_another_proc() {
        check(
            &[],
            expect![[r#"
                counter net,interface=lo bytes_recv=500u,bytes_sent=500u,drop_in=0u,drop_out=0u,err_in=0u,err_out=0u,packets_recv=5u,packets_sent=5u,speed=-1i
                counter net,interface=eth0 bytes_recv=1000u,bytes_sent=2000u,drop_in=2u,drop_out=4u,err_in=1u,err_out=3u,packets_recv=10u,packets_sent=20u,speed=10000i
                counter net,interface=eth0:1 bytes_recv=7u,bytes_sent=8u,drop_in=7u,drop_out=8u,err_in=7u,err_out=8u,packets_recv=7u,packets_sent=8u,speed=-1i
            "#]],
        );
    }

    #[test]
    fn named_interfaces() {
        let names = |interfaces: &[&str]| {
            let shown = host().gather_once(&SPEC, &[("interfaces", list(interfaces))]);
            shown.lines().map(|line| line.split([' ', '=']).nth(2).unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["lo", "nope"]), ["lo"]);
        assert_eq!(names(&["eth*"]), ["eth0", "eth0:1"]);
    }

    #[test]
    fn a_broken_pattern_is_an_error_of_the_gather() {
        check(
            &["eth[0"],
            expect![[r#"
            error: invalid glob "eth[0": `[` is not closed at byte 3
        "#]],
        );
    }

    #[test]
    fn our_own_namespace_leaves_loopback_out() {
        // `HOST_PROC` unset: the real interfaces of the machine that runs the test, whatever they are.
        let shown = TestHost::new(&[]).set("HOST_PROC", "").gather_once(&SPEC, &[]);
        assert!(!shown.contains("interface=lo ") && !shown.contains("error"), "{shown}");
        let lo = TestHost::new(&[]).set("HOST_PROC", "").gather_once(&SPEC, &[("interfaces", list(&["lo"]))]);
        assert!(lo.starts_with("counter net,interface=lo ") && lo.lines().count() == 1, "{lo}");
    }

    #[test]
    fn one_broken_line_spoils_all() {
        let host = TestHost::new(&[(
            "proc/net/dev",
            &format!("{HEAD}lo: 1 2 3 4 5 6 7 8 9 1 2 3 4\neth0: 1 x 3 4 5 6 7 8 9 1 2 3 4"),
        )]);
        expect![[r#"
            error: cannot read "x" of interface "eth0": invalid number syntax
        "#]]
        .assert_eq(&host.gather_once(&SPEC, &[("ignore_protocol_stats", flag(true))]));
    }
}
