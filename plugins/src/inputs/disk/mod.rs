//! How full file systems are, per mount point.

mod device;
mod mountinfo;
mod path;
mod probe;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Kind;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use heliograph_core::throttle::Throttle;
use serde::Deserialize;

use crate::common::proc_file::{FileReader, ReadError};
use crate::common::udev::path_of;
use mountinfo::{BadMount, Mount};
use path::join;
use probe::{Answer, Prober, Usage};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "disk",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Disk::new(section.finish()?, context))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    mount_points: Vec<String>,
    ignore_fs: Vec<String>,
    ignore_mount_opts: Vec<String>,
}

/// File systems whose answer the kernel has at hand: asking them in place is cheaper than a thread. Others may hang.
const LOCAL: [&[u8]; 42] = [
    b"bcachefs",
    b"bdev",
    b"binfmt_misc",
    b"bpf",
    b"btrfs",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"cramfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"erofs",
    b"exfat",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"fusectl",
    b"hugetlbfs",
    b"iso9660",
    b"jfs",
    b"mqueue",
    b"msdos",
    b"nsfs",
    b"overlay",
    b"proc",
    b"pstore",
    b"ramfs",
    b"reiserfs",
    b"rootfs",
    b"rpc_pipefs",
    b"securityfs",
    b"selinuxfs",
    b"squashfs",
    b"sysfs",
    b"tmpfs",
    b"tracefs",
    b"udf",
    b"vfat",
    b"xfs",
];

/// The file system of automatic mounts: asking it would make one.
const AUTOFS: &[u8] = b"autofs";

struct Disk {
    plugin: Arc<str>,
    config: Config,
    host: HostPaths,
    /// `HOST_MOUNT_PREFIX`, or empty.
    prefix: Vec<u8>,
    tables: Tables,
    prober: Prober,
    reader: FileReader,
    label_reader: FileReader,
    throttle: Throttle,
}

/// A mount that passed the filters.
struct Candidate<'a> {
    mount: &'a Mount<'a>,
    /// Where its file system can be asked.
    probe: PathBuf,
}

impl Disk {
    fn new(config: Config, context: &BuildContext) -> Self {
        Self {
            plugin: context.name.clone(),
            config,
            host: context.host.clone(),
            prefix: context.host.variable("HOST_MOUNT_PREFIX").unwrap_or_default().into(),
            tables: Tables::new(&context.host),
            prober: Prober::new(),
            reader: FileReader::new(),
            label_reader: FileReader::new(),
            throttle: Throttle::new(),
        }
    }
}

impl Config {
    /// Whether the options select the mount.
    fn selects(&self, mount: &Mount<'_>) -> bool {
        let holds = |list: &[String], text: &[u8]| list.iter().any(|entry| entry.as_bytes() == text);
        let has_ignored_option = || mount.options.iter().any(|option| holds(&self.ignore_mount_opts, option));
        (self.ignore_mount_opts.is_empty() || !has_ignored_option())
            && (self.mount_points.is_empty() || holds(&self.mount_points, &mount.mount_point))
            && mount.fstype != AUTOFS
            && !holds(&self.ignore_fs, mount.fstype)
    }
}

/// The mounts to be reported, in the order of the table.
fn candidates<'a>(mounts: &'a [Mount<'a>], config: &Config, prefix: &[u8]) -> Vec<Candidate<'a>> {
    let mount_points: HashSet<&[u8]> =
        if prefix.is_empty() { HashSet::new() } else { mounts.iter().map(|mount| &*mount.mount_point).collect() };
    let candidate = |mount: &'a Mount<'a>| {
        let mount_point = &*mount.mount_point;
        let probe = if mount_point.starts_with(prefix) {
            mount_point.to_vec()
        } else {
            let below = join(prefix, mount_point);
            // The table is that of the container, which has the host's mount in it a second time, below the prefix.
            if mount_points.contains(&*below) {
                return None;
            }
            below
        };
        Some(Candidate { mount, probe: path_of(&probe).to_path_buf() })
    };
    mounts.iter().filter(|mount| config.selects(mount)).filter_map(candidate).collect()
}

/// Whether asking a mount may hang: its file system may, or one on the way to it.
fn may_hang(mount: &Mount<'_>, mounts: &[Mount<'_>]) -> bool {
    let is_local = |mount: &Mount<'_>| LOCAL.contains(&mount.fstype);
    let is_below = |other: &&Mount<'_>| {
        let rest = mount.mount_point.strip_prefix(&*other.mount_point);
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    !is_local(mount) || mounts.iter().filter(|other| !is_local(other)).any(|other| is_below(&other))
}

#[async_trait]
impl Input for Disk {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let mounts = self.tables.read(&mut self.reader)?;
        let candidates = candidates(&mounts, &self.config, &self.prefix);
        let (remote, local): (Vec<_>, Vec<_>) =
            (0..candidates.len()).partition(|&i| may_hang(candidates[i].mount, &mounts));
        let mut answers: Vec<Option<Answer>> = candidates.iter().map(|_| None).collect();
        for i in local {
            answers[i] = Some(Usage::of(&candidates[i].probe).map_or_else(Answer::Failed, Answer::Usage));
        }
        if !remote.is_empty() {
            let paths = remote.iter().map(|&i| candidates[i].probe.clone()).collect();
            for (i, answer) in remote.into_iter().zip(self.prober.ask(paths).await) {
                answers[i] = Some(answer);
            }
        }
        let mut stuck = Vec::new();
        for (candidate, answer) in candidates.iter().zip(answers) {
            match answer {
                Some(Answer::Usage(usage)) if usage.total > 0 => {
                    add(accumulator, candidate.mount, &usage, &self.prefix, &self.host, &mut self.label_reader);
                }
                // Nothing that could be full: `/proc` and its kind.
                Some(Answer::Usage(_)) | None => {}
                Some(Answer::Failed(error)) => {
                    tracing::debug!(plugin = &*self.plugin, path = ?candidate.probe, %error, "cannot ask a file system");
                }
                Some(Answer::Stuck) => stuck.push(candidate.probe.display()),
            }
        }
        if !stuck.is_empty()
            && let Some(suppressed) = self.throttle.admit()
        {
            tracing::warn!(plugin = &*self.plugin, suppressed, paths = ?stuck, "file systems do not answer, left out");
        }
        Ok(())
    }
}

fn add(
    accumulator: &mut Accumulator,
    mount: &Mount<'_>,
    usage: &Usage,
    prefix: &[u8],
    host: &HostPaths,
    reader: &mut FileReader,
) {
    let device = device::resolve(mount, host);
    let mount_point = &*mount.mount_point;
    let mut metric = accumulator
        .metric("disk", Kind::Gauge)
        .tag("path", join(b"/", mount_point.strip_prefix(prefix).unwrap_or(mount_point)))
        .tag("device", device::tag(&device))
        .tag("fstype", mount.fstype)
        .tag("mode", mount.options.mode());
    if let Some(label) = device::label(&device, host, reader) {
        metric = metric.tag("label", label);
    }
    metric
        .field("total", usage.total)
        .field("free", usage.free)
        .field("used", usage.used)
        .field("used_percent", usage.used_percent())
        .field("inodes_total", usage.inodes_total)
        .field("inodes_free", usage.inodes_free)
        .field("inodes_used", usage.inodes_used)
        .field("inodes_used_percent", usage.inodes_used_percent())
        .push();
}

/// Where the table of mounts stands.
struct Tables {
    /// `mountinfo` and `mounts` of one process after the other: the first that can be read counts.
    files: Vec<[PathBuf; 2]>,
}

impl Tables {
    fn new(host: &HostPaths) -> Self {
        let folders = match host.variable("HOST_PROC_MOUNTINFO") {
            Some(file) => vec![PathBuf::from(file).parent().unwrap_or("".as_ref()).to_path_buf()],
            // Process 1 sees the mounts of the host, but may not be ours to look at.
            None => vec![host.proc("1"), host.proc("self")],
        };
        Self { files: folders.iter().map(|folder| ["mountinfo", "mounts"].map(|file| folder.join(file))).collect() }
    }

    fn read<'a>(&self, reader: &'a mut FileReader) -> Result<Vec<Mount<'a>>, TableError> {
        let mut first_error = None;
        let mut readable = |path| reader.read(path).map(drop).map_err(|error| first_error.get_or_insert(error)).is_ok();
        let found = self.files.iter().flatten().position(|path| readable(path));
        match (found, first_error) {
            // Files stand in pairs, `mountinfo` first.
            (Some(place), _) if place % 2 == 0 => Ok(mountinfo::parse_mountinfo(reader.content())?),
            (Some(_), _) => Ok(mountinfo::parse_mounts(reader.content())),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Parse(#[from] BadMount),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::{TestHost, list};

    /// A file system whose size the test knows: that of its scratch folder, wherever that is.
    fn check(host: &TestHost, options: &[(&str, &[&str])], expected: &[&str]) {
        let options: Vec<_> = options.iter().map(|&(key, values)| (key, list(values))).collect();
        let shown = host.gather_once(&SPEC, &options);
        let series = |line: &str| line.split(" free=").next().unwrap().trim_start_matches("gauge disk,").to_string();
        assert_eq!(shown.lines().map(series).collect::<Vec<_>>(), expected);
    }

    const ROOT: &str = "25 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw,discard\n";
    const BOUND: &str = "90 25 259:1 /var/lib/foo /mnt/my\\040dir rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n";
    const DATA: &str = "31 25 253:0 / /data ro,relatime - xfs /dev/mapper/vg-data rw\n";

    /// A container with the host's root at its `hostfs`, and that of process 1 as its table.
    fn host() -> TestHost {
        let lines = "27 25 0:5 / /dev rw - devtmpfs none rw\n28 25 0:9 / /gone rw - tmpfs tmpfs rw\n\
                     29 25 0:8 / /net rw - autofs systemd-1 rw\n";
        let host = TestHost::new(&[
            ("proc/1/mountinfo", &format!("{ROOT}{BOUND}{DATA}{lines}")),
            ("hostfs/mnt/my dir/x", ""),
            ("hostfs/data/x", ""),
            ("hostfs/dev/x", ""),
            ("hostfs/net/x", ""),
        ]);
        let prefix = host.path("hostfs").to_str().unwrap().to_string();
        host.set("HOST_MOUNT_PREFIX", prefix)
    }

    #[test]
    fn the_mounts_of_the_host_seen_from_a_container() {
        check(
            &host(),
            &[],
            &[
                "device=nvme0n1p1,fstype=ext4,mode=rw,path=/",
                "device=nvme0n1p1,fstype=ext4,mode=rw,path=/mnt/my dir",
                "device=mapper/vg-data,fstype=xfs,mode=ro,path=/data",
                "device=devtmpfs,fstype=devtmpfs,mode=rw,path=/dev",
            ],
        );
    }

    #[test]
    fn filters() {
        let root = "device=nvme0n1p1,fstype=ext4,mode=rw,path=/";
        check(&host(), &[("ignore_mount_opts", &["bind", "ro"]), ("ignore_fs", &["devtmpfs"])], &[root]);
        check(&host(), &[("mount_points", &["/", "/nope"])], &[root]);
    }

    #[test]
    fn labels_and_resolved_devices() {
        let host = host();
        host.write("dev/dm-0", "");
        host.write("sys/block/dm-0/dm/name", "vg-data\n");
        std::fs::create_dir_all(host.path("dev/mapper")).unwrap();
        std::os::unix::fs::symlink("../dm-0", host.path("dev/mapper/vg-data")).unwrap();
        host.write("dev/nvme0n1p1", "");
        host.write("run/udev/data/b0:0", "E:ID_FS_LABEL=a=b\nE:ID_FS_LABEL=cloudimg-rootfs\n");
        let shown = host.gather_once(&SPEC, &[("mount_points", list(&["/", "/data"]))]);
        let dm = host.path("dm-0").to_str().unwrap().replace("/dm-0", "dm-0");
        assert!(shown.contains("device=nvme0n1p1,fstype=ext4,label=cloudimg-rootfs,mode=rw,path=/ "), "{shown}");
        assert!(shown.contains(&format!("device={dm},fstype=xfs")), "{shown}");
    }

    #[test]
    fn the_table_of_the_container_itself() {
        let host = TestHost::new(&[("hostfs/x", "")]);
        let prefix = host.path("hostfs").to_str().unwrap().to_string();
        let table = format!("1 0 0:1 / / rw - overlay overlay rw\n2 1 8:1 / {prefix} rw - ext4 /dev/sda1 rw\n");
        host.write("proc/self/mountinfo", table);
        check(&host.set("HOST_MOUNT_PREFIX", prefix), &[], &["device=sda1,fstype=ext4,mode=rw,path=/"]);
    }

    #[test]
    fn where_the_table_stands() {
        let host = TestHost::new(&[("proc/1/mounts", "/dev/old / ext4 rw 0 0\n"), ("proc/self/mountinfo", ROOT)]);
        check(&host, &[], &["device=old,fstype=ext4,mode=rw,path=/"]);
        host.write("elsewhere/mountinfo", ROOT);
        let named = host.path("elsewhere/any name").to_str().unwrap().to_string();
        let host = host.set("HOST_PROC_MOUNTINFO", named);
        check(&host, &[], &["device=nvme0n1p1,fstype=ext4,mode=rw,path=/"]);
        let shown = host.set("HOST_PROC_MOUNTINFO", "/nowhere/x").gather_once(&SPEC, &[]);
        assert_eq!(shown, "error: cannot read \"/nowhere/mountinfo\": No such file or directory (os error 2)\n");
    }

    #[test]
    fn a_broken_table_is_an_error() {
        let shown = TestHost::new(&[("proc/1/mountinfo", "1 2 3\n")]).gather_once(&SPEC, &[]);
        assert_eq!(shown, "error: cannot read the mount \"1 2 3\": it has no \" - \"\n");
    }

    #[test]
    fn what_may_hang() {
        let text = b"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /nfs rw - nfs4 server:/ rw\n\
                     3 2 0:3 / /nfs/in rw - ext4 /dev/b rw\n4 1 0:4 / /nfsx rw - tmpfs tmpfs rw\n";
        let mounts = mountinfo::parse_mountinfo(text).unwrap();
        assert_eq!(mounts.iter().map(|mount| may_hang(mount, &mounts)).collect::<Vec<_>>(), [false, true, true, false]);
    }

    #[test]
    fn mounts_of_this_machine() {
        let shown = TestHost::new(&[]).set("HOST_PROC", "").gather_once(&SPEC, &[]);
        assert!(shown.contains("path=/ "), "{shown}");
    }
}
