//! Counters of block devices, from `/proc/diskstats`.

mod counters;
mod device;
mod name;
mod selection;

use std::path::PathBuf;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::glob::GlobError;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Kind;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use serde::Deserialize;

use crate::common::named_rows::NamedRows;
use crate::common::proc_file::FileReader;
use counters::Counters;
use device::{PropertyCache, Roots};
use name::Template;
use selection::Selection;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "diskio",
    sample: include_str!("sample.conf"),
    build: |section, context| {
        let position = section.position();
        let diskio = Diskio::new(section.finish()?, context);
        Ok(Box::new(diskio.map_err(|error| position.error(error.to_string()))?))
    },
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    devices: Vec<String>,
    device_tags: Vec<String>,
    name_templates: Vec<String>,
    skip_serial_number: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { devices: Vec::new(), device_tags: Vec::new(), name_templates: Vec::new(), skip_serial_number: true }
    }
}

struct Diskio {
    selection: Selection,
    device_tags: Vec<String>,
    templates: Vec<Template>,
    with_serial: bool,
    host: HostPaths,
    diskstats: PathBuf,
    roots: Roots,
    properties: PropertyCache,
    reader: FileReader,
    now: NamedRows<Counters>,
    previous: NamedRows<Counters>,
    /// When the previous counters were read, in nanoseconds since the Unix epoch.
    previous_time: i64,
}

impl Diskio {
    fn new(config: Config, context: &BuildContext) -> Result<Self, GlobError> {
        let roots = Roots::new(&context.host);
        Ok(Self {
            selection: Selection::new(config.devices)?,
            device_tags: config.device_tags,
            templates: config.name_templates.iter().map(|template| Template::new(template)).collect(),
            with_serial: !config.skip_serial_number,
            host: context.host.clone(),
            diskstats: context.host.proc("diskstats"),
            properties: PropertyCache::new(context.name.clone(), roots.clone()),
            roots,
            reader: FileReader::new(),
            now: NamedRows::default(),
            previous: NamedRows::default(),
            previous_time: 0,
        })
    }
}

#[async_trait]
impl Input for Diskio {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let wanted = self.selection.resolve(&self.roots.dev);
        counters::parse(self.reader.read(&self.diskstats)?, wanted.as_deref(), &mut self.now)?;
        let time = accumulator.now();
        let elapsed_ms = time.wrapping_sub(self.previous_time) / 1_000_000;
        let uses_properties = !self.device_tags.is_empty() || !self.templates.is_empty();
        for (place, (device, counters)) in self.now.iter().enumerate() {
            let is_named = self.selection.holds_name(device);
            let properties = if uses_properties || !is_named { self.properties.of(device) } else { None };
            if !is_named && !properties.is_some_and(|properties| self.selection.holds_link(properties)) {
                continue;
            }
            let property = |key: &[u8]| properties.and_then(|properties| properties.get(key));
            let name = self.templates.iter().find_map(|template| template.fill(property));
            let mut metric =
                accumulator.metric("diskio", Kind::Counter).tag("name", name.as_deref().unwrap_or(device));
            if let Some(wwid) = device::wwid(&self.roots, &mut self.reader, device) {
                metric = metric.tag("wwid", wwid);
            }
            for key in &self.device_tags {
                if let Some(value) = property(key.as_bytes()) {
                    metric = metric.tag(key, value);
                }
            }
            if self.with_serial {
                metric = metric.tag("serial", device::serial(&self.host, &mut self.reader, device));
            }
            metric = metric.fields(counters.fields());
            if let Some(previous) = self.previous.find(place, device) {
                metric = metric.fields(counters.since(previous, elapsed_ms));
            }
            metric.push();
        }
        // Devices that are left out have a history all the same: the option may match their link tomorrow.
        std::mem::swap(&mut self.now, &mut self.previous);
        self.previous_time = time;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, flag, list};
    use expect_test::{Expect, expect};

    /// Gathers from each content of `/proc/diskstats`, ten seconds apart, and compares what the last gather gives.
    fn check(contents: &[&str], expected: Expect) {
        let host = TestHost::new(&[]);
        let mut input = host.build(&SPEC, &[]).unwrap();
        let gather = |content: &&str| {
            host.write("proc/diskstats", content);
            host.advance(10_000);
            host.gather(&mut *input)
        };
        expected.assert_eq(contents.iter().map(gather).last().unwrap().as_str());
    }

    const FIRST: &str = "259 0 nvme0n1 1000 10 80000 500 2000 20 160000 900 0 700 1400 0 0 0 0\n7 0 loop0 0 0 0 0 0 0 0 0 0 0 0";
    const SECOND: &str = "259 0 nvme0n1 1010 10 80800 510 2020 20 161600 940 1 740 1450 0 0 0 0";

    #[test]
    fn a_first_gather_gives_counters_alone() {
        check(&[FIRST], expect![[r#"
            counter diskio,name=nvme0n1 io_time=700u,iops_in_progress=0u,merged_reads=10u,merged_writes=20u,read_bytes=40960000u,read_time=500u,reads=1000u,weighted_io_time=1400u,write_bytes=81920000u,write_time=900u,writes=2000u
        "#]]);
    }

    #[test]
    fn derived_fields() {
        check(&[FIRST, SECOND], expect![[r#"
            counter diskio,name=nvme0n1 io_await=1.6666666666666667,io_svctm=1.3333333333333333,io_time=740u,io_util=0.4,iops_in_progress=1u,merged_reads=10u,merged_writes=20u,read_bytes=41369600u,read_time=510u,reads=1010u,weighted_io_time=1450u,write_bytes=82739200u,write_time=940u,writes=2020u
        "#]]);
        check(&[SECOND, SECOND], expect![[r#"
            counter diskio,name=nvme0n1 io_time=740u,io_util=0,iops_in_progress=1u,merged_reads=10u,merged_writes=20u,read_bytes=41369600u,read_time=510u,reads=1010u,weighted_io_time=1450u,write_bytes=82739200u,write_time=940u,writes=2020u
        "#]]);
    }

    #[test]
    fn counters_that_start_anew_give_no_derived_fields() {
        check(&[SECOND, FIRST], expect![[r#"
            counter diskio,name=nvme0n1 io_time=700u,iops_in_progress=0u,merged_reads=10u,merged_writes=20u,read_bytes=40960000u,read_time=500u,reads=1000u,weighted_io_time=1400u,write_bytes=81920000u,write_time=900u,writes=2000u
        "#]]);
    }

    /// The tags of each device.
    fn tags(host: &TestHost, options: &[(&str, heliograph_core::config::tree::Value)]) -> Vec<String> {
        host.write("proc/diskstats", "8 0 sda 1 1 1 1 1 1 1 1 1 1 1\n8 16 sdb 1 1 1 1 1 1 1 1 1 1 1\n");
        let shown = host.gather_once(&SPEC, options);
        let series = |line: &str| line.split(" io_time").next().unwrap().trim_start_matches("counter diskio,").to_string();
        shown.lines().map(series).collect()
    }

    /// Without root no test can make device nodes; a plain file has the numbers 0:0.
    fn udev_host() -> TestHost {
        TestHost::new(&[
            ("dev/sda", ""),
            ("run/udev/data/b0:0", "S:disk/by-path/p\nS:disk/by-id/ata-TEST\nN:sda\nE:ID_MODEL=TEST\nE:ID_BUS=ata\nE:ID_SERIAL=T_42\nE:ID_PATH=pci=1\nE:DM=\nE:NO\n"),
            ("sys/class/block/sda/uevent", "MAJOR=8\nDEVNAME=sda\nDEVTYPE=disk\n"),
            ("sys/block/sda/wwid", "naa.5000\n"),
            ("sys/block/sdb/wwid", "\n"),
        ])
    }

    #[test]
    fn tags_from_udev() {
        let options = [
            ("device_tags", list(&["ID_PATH", "DEVTYPE", "DEVNAME", "ID_NONE"])),
            ("name_templates", list(&["$ID_FS_LABEL", "${ID_BUS}/$ID_MODEL-x"])),
            ("skip_serial_number", flag(false)),
        ];
        assert_eq!(
            tags(&udev_host(), &options),
            [
                "DEVNAME=/dev/sda,DEVTYPE=disk,ID_PATH=pci=1,name=ata/TEST-x,serial=T_42,wwid=naa.5000",
                "name=sdb,serial=unknown"
            ]
        );
    }

    #[test]
    fn devices_by_name_glob_and_link() {
        let host = udev_host();
        let names = |devices: &[&str]| tags(&host, &[("devices", list(devices))]);
        assert_eq!(names(&["sdb"]), ["name=sdb"]);
        assert_eq!(names(&["/dev/sdb", "nope"]), ["name=sdb"]);
        assert_eq!(names(&["sd[b-z]"]), ["name=sdb"]);
        assert_eq!(names(&["disk/by-id/ata-*"]), ["name=sda,wwid=naa.5000"]);
        std::fs::create_dir_all(host.path("dev/disk/by-id")).unwrap();
        std::os::unix::fs::symlink("../../sda", host.path("dev/disk/by-id/x")).unwrap();
        assert_eq!(names(&["disk/by-id/x"]), ["name=sda,wwid=naa.5000"]);
        assert_eq!(names(&["sd[b"]), ["configuration error: invalid glob \"sd[b\": `[` is not closed at byte 2"]);
    }

    #[test]
    fn the_serial_of_the_disk_behind_sysfs() {
        let host = TestHost::new(&[
            ("dev/sda", ""),
            ("sys/dev/block/0:0/device/model", "MODEL  \n"),
            ("sys/dev/block/0:0/device/serial", " S1\r\n"),
        ]);
        assert_eq!(tags(&host, &[("skip_serial_number", flag(false))])[0], "name=sda,serial=MODEL  _ S1");
    }

    #[test]
    fn roots_follow_the_variables() {
        let dev = |host: TestHost| Roots::new(&host.context().host).dev;
        let host = || TestHost::new(&[]).set("HOST_DEV", "");
        assert_eq!(dev(host()), PathBuf::from("/dev"));
        assert_eq!(dev(host().set("HOST_MOUNT_PREFIX", "/hostfs")), PathBuf::from("/hostfs/dev"));
        assert_eq!(dev(host().set("HOST_MOUNT_PREFIX", "/hostfs").set("HOST_ROOT", "/r")), PathBuf::from("/r/dev"));
        assert_eq!(dev(host().set("HOST_ROOT", "/r").set("HOST_DEV", "/d")), PathBuf::from("/d"));
    }
}
