//! Counters of the kernel: interrupts, context switches, forks, entropy, same-page merging and pressure.

mod pressure;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::{BoxError, Chain, StartError};
use heliograph_core::model::Kind;
use heliograph_core::number::{NumberError, parse_int10};
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::proc_file::{FileReader, words};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "kernel",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Kernel::new(&section.finish()?, context))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    collect: Vec<String>,
}

/// Fields of same-page merging; the file is the field without its prefix.
const KSM_FIELDS: [&str; 14] = [
    "ksm_full_scans",
    "ksm_max_page_sharing",
    "ksm_merge_across_nodes",
    "ksm_pages_shared",
    "ksm_pages_sharing",
    "ksm_pages_to_scan",
    "ksm_pages_unshared",
    "ksm_pages_volatile",
    "ksm_run",
    "ksm_sleep_millisecs",
    "ksm_stable_node_chains",
    "ksm_stable_node_chains_prune_millisecs",
    "ksm_stable_node_dups",
    "ksm_use_zero_pages",
];

/// Came with Linux 6.1.
const KSM_PROFIT: &str = "ksm_general_profit";

struct Kernel {
    stat: PathBuf,
    entropy: PathBuf,
    ksm: Option<PathBuf>,
    pressure: Option<PathBuf>,
    reader: FileReader,
}

impl Kernel {
    fn new(config: &Config, context: &BuildContext) -> Self {
        let collects = |group: &str| config.collect.iter().any(|name| name == group);
        let host = &context.host;
        Self {
            stat: host.proc("stat"),
            entropy: host.proc("sys/kernel/random/entropy_avail"),
            ksm: collects("ksm").then(|| host.sys("kernel/mm/ksm")),
            pressure: collects("psi").then(|| host.proc("pressure")),
            reader: FileReader::new(),
        }
    }

    /// Everything of the metric `kernel`: one file that fails spoils it whole.
    fn read(&mut self) -> Result<Vec<(&'static str, i64)>, BoxError> {
        let mut fields = parse_stat(self.reader.read(&self.stat)?)?;
        fields.push(("entropy_avail", read_number(&mut self.reader, &self.entropy)?));
        if let Some(ksm) = &self.ksm {
            let file = |field: &'static str| ksm.join(field.trim_start_matches("ksm_"));
            for field in KSM_FIELDS {
                fields.push((field, read_number(&mut self.reader, &file(field))?));
            }
            let profit = self.reader.read(&file(KSM_PROFIT)).ok().map(|text| parse_number(KSM_PROFIT.as_ref(), text));
            if let Some(profit) = profit.transpose()? {
                fields.push((KSM_PROFIT, profit));
            }
        }
        Ok(fields)
    }
}

#[async_trait]
impl Input for Kernel {
    async fn start(&mut self, _accumulator: Accumulator) -> Result<(), StartError> {
        match &self.ksm {
            Some(ksm) if !ksm.exists() => Err(StartError::Fatal(
                format!("{ksm:?} does not exist: this kernel merges no pages, take \"ksm\" out of collect").into(),
            )),
            _ => Ok(()),
        }
    }

    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let fields = self.read()?;
        accumulator.metric("kernel", Kind::Counter).fields(fields).push();
        if let Some(folder) = &self.pressure
            && let Err(error) = pressure::add(accumulator, &mut self.reader, folder)
        {
            accumulator.problem(Chain(error.as_ref()));
        }
        Ok(())
    }
}

/// A figure of the kernel that is no number.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {value:?} of {name:?}")]
struct BadFigure {
    name: String,
    value: String,
    source: NumberError,
}

fn parse_number(name: &OsStr, text: &[u8]) -> Result<i64, BadFigure> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    parse_int10(text).map_err(|source| BadFigure {
        name: name.to_string_lossy().into_owned(),
        value: String::from_utf8_lossy(text).into_owned(),
        source,
    })
}

fn read_number(reader: &mut FileReader, path: &Path) -> Result<i64, BoxError> {
    Ok(parse_number(path.as_os_str(), reader.read(path)?)?)
}

/// The counters of `/proc/stat`; one that it does not name is no field.
fn parse_stat(text: &[u8]) -> Result<Vec<(&'static str, i64)>, BadFigure> {
    let mut fields = Vec::with_capacity(20);
    let mut words = words(text);
    while let Some(label) = words.next() {
        let fields_of_label: &[&'static str] = match label {
            b"intr" => &["interrupts"],
            b"ctxt" => &["context_switches"],
            b"processes" => &["processes_forked"],
            b"btime" => &["boot_time"],
            // Only kernels before 2.6 count pages here.
            b"page" => &["disk_pages_in", "disk_pages_out"],
            _ => continue,
        };
        for &field in fields_of_label {
            let word = words.next().unwrap_or_default();
            fields.push((field, parse_number(field.as_ref(), word)?));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, list};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    const STAT: (&str, &str) =
        ("proc/stat", "cpu 1 2 3\nintr 5000 1 2 3\nctxt 900\nbtime 1700000000\nprocesses 42\nprocs_running 1\n");
    const ENTROPY: (&str, &str) = ("proc/sys/kernel/random/entropy_avail", "256\n");

    fn check(collect: &[&str], files: &[(&str, &str)], expected: Expect) {
        expected.assert_eq(&TestHost::new(files).gather_once(&SPEC, &[("collect", list(collect))]));
    }

    #[test]
    fn counters_and_entropy() {
        check(
            &["weather"],
            &[STAT, ENTROPY],
            expect![[r#"
            counter kernel boot_time=1700000000i,context_switches=900i,entropy_avail=256i,interrupts=5000i,processes_forked=42i
        "#]],
        );
    }

    #[test]
    fn an_old_kernel_counts_pages() {
        check(
            &[],
            &[("proc/stat", "page 5 7\nswap 1 2\n"), ENTROPY],
            expect![[r#"
            counter kernel disk_pages_in=5i,disk_pages_out=7i,entropy_avail=256i
        "#]],
        );
    }

    #[test]
    fn broken_figures() {
        let stat = |text: &str| parse_stat(text.as_bytes()).map_err(|error| format!("{error}: {}", error.source));
        assert_eq!(stat("ctxt"), Err("cannot read \"\" of \"context_switches\": invalid number syntax".into()));
        assert_eq!(
            stat("intr 9223372036854775808"),
            Err("cannot read \"9223372036854775808\" of \"interrupts\": number out of range".into())
        );
    }

    fn ksm_files() -> Vec<(String, &'static str)> {
        KSM_FIELDS.iter().map(|field| (format!("sys/kernel/mm/ksm/{}", &field[4..]), "7\n")).collect()
    }

    #[test]
    fn same_page_merging() {
        let files = ksm_files();
        let mut files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        files.extend([STAT, ENTROPY, ("sys/kernel/mm/ksm/general_profit", "-4096\n")]);
        check(
            &["ksm"],
            &files,
            expect![[r#"
            counter kernel boot_time=1700000000i,context_switches=900i,entropy_avail=256i,interrupts=5000i,ksm_full_scans=7i,ksm_general_profit=-4096i,ksm_max_page_sharing=7i,ksm_merge_across_nodes=7i,ksm_pages_shared=7i,ksm_pages_sharing=7i,ksm_pages_to_scan=7i,ksm_pages_unshared=7i,ksm_pages_volatile=7i,ksm_run=7i,ksm_sleep_millisecs=7i,ksm_stable_node_chains=7i,ksm_stable_node_chains_prune_millisecs=7i,ksm_stable_node_dups=7i,ksm_use_zero_pages=7i,processes_forked=42i
        "#]],
        );
        let shown = TestHost::new(&files[1..]).gather_once(&SPEC, &[("collect", list(&["ksm"]))]);
        assert!(shown.starts_with("error: cannot read ") && shown.contains("full_scans"), "{shown}");
    }

    #[test]
    fn a_kernel_without_merging_cannot_start() {
        let shown = TestHost::new(&[STAT, ENTROPY]).gather_once(&SPEC, &[("collect", list(&["ksm"]))]);
        assert!(shown.starts_with("start error: cannot start: ") && shown.contains("merges no pages"), "{shown}");
    }

    const PRESSURE: &str =
        "some avg10=1.50 avg60=0.30 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=5\n";

    #[test]
    fn pressure_by_resource() {
        check(
            &["psi"],
            &[STAT, ENTROPY, ("proc/pressure/cpu", PRESSURE), ("proc/pressure/memory", PRESSURE)],
            expect![[r#"
                counter kernel boot_time=1700000000i,context_switches=900i,entropy_avail=256i,interrupts=5000i,processes_forked=42i
                counter pressure,resource=cpu,type=some total=123456u
                gauge pressure,resource=cpu,type=some avg10=1.5,avg300=0,avg60=0.3
                counter pressure,resource=memory,type=some total=123456u
                gauge pressure,resource=memory,type=some avg10=1.5,avg300=0,avg60=0.3
                counter pressure,resource=memory,type=full total=5u
                gauge pressure,resource=memory,type=full avg10=0,avg300=0.25,avg60=0
                problems: 1
            "#]],
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "((some|full)( (avg10|avg60|avg300|total)=?[0-9.x]{0,5}){0,4}\n|intr [0-9x]{0,21}|page ){0,4}") {
            for text in [&bytes[..], text.as_bytes()] {
                let _ = parse_stat(text);
                let _ = pressure::parse(text);
            }
        }
    }
}
