//! How many CPUs and cores there are.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use heliograph_core::error::BoxError;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Value;
use heliograph_core::number::parse_int10;
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, statfs};

use crate::common::proc_file::{FileReader, lines};

/// The file system of `/sys`, from linux/magic.h.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// Counts CPUs and cores.
///
/// To print `cpuinfo` costs the kernel much (it asks each CPU for its frequency), so that the numbers are kept while the
/// same CPUs are online. That holds where the kernel itself prints both files; what stands in for them elsewhere (a
/// copy, or a file that a container is shown) is read each time.
#[derive(Debug)]
pub(super) struct CpuCounter {
    cpuinfo: PathBuf,
    stat: PathBuf,
    folder: PathBuf,
    online: PathBuf,
    reader: FileReader,
    /// Which CPUs were online when they were counted, and the numbers.
    known: Option<(Vec<u8>, Counts)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    logical: i64,
    physical: i64,
}

impl CpuCounter {
    pub(super) fn new(host: &HostPaths) -> Self {
        let folder = host.sys("devices/system/cpu");
        Self {
            cpuinfo: host.proc("cpuinfo"),
            stat: host.proc("stat"),
            online: folder.join("online"),
            folder,
            reader: FileReader::new(),
            known: None,
        }
    }

    /// The fields with both numbers. Fails if one of them can be read from no file; then there is none.
    pub(super) fn count(&mut self) -> Result<[(&'static str, Value); 2], BoxError> {
        let Counts { logical, physical } = match self.known_counts() {
            Some(counts) => counts,
            None => self.count_anew()?,
        };
        Ok([("n_cpus", logical.into()), ("n_physical_cpus", physical.into())])
    }

    fn known_counts(&mut self) -> Option<Counts> {
        let (online, counts) = self.known.as_ref()?;
        (self.reader.read(&self.online).ok()? == online).then_some(*counts)
    }

    fn count_anew(&mut self) -> Result<Counts, BoxError> {
        let from_kernel = is_on(&self.cpuinfo, PROC_SUPER_MAGIC) && is_on(&self.online, SYSFS_MAGIC);
        let online = self.reader.read(&self.online).ok().filter(|_| from_kernel).map(<[u8]>::to_vec);
        let counts = Counts { logical: self.logical()?, physical: self.physical()? };
        self.known = online.map(|online| (online, counts));
        Ok(counts)
    }

    /// CPUs that `cpuinfo` numbers; where it numbers none (s390, some ARM), those that `stat` has a line for.
    fn logical(&mut self) -> Result<i64, BoxError> {
        let listed = self.reader.read(&self.cpuinfo).map_or(0, count_processors);
        if listed > 0 {
            return Ok(listed);
        }
        let has_line = |line: &&[u8]| line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit);
        Ok(lines(self.reader.read(&self.stat)?).filter(has_line).count() as i64)
    }

    /// Cores: CPUs that name different siblings in sysfs; without sysfs, the cores that each socket has by `cpuinfo`.
    fn physical(&mut self) -> Result<i64, BoxError> {
        for file in ["topology/core_cpus_list", "topology/thread_siblings_list"] {
            let siblings = self.siblings(file);
            if siblings > 0 {
                return Ok(siblings);
            }
        }
        Ok(count_cores(self.reader.read(&self.cpuinfo)?))
    }

    /// Number of different contents of a file of all CPUs.
    fn siblings(&mut self, file: &str) -> i64 {
        let mut contents = HashSet::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.as_encoded_bytes().strip_prefix(b"cpu").and_then(<[u8]>::first);
            if !number.is_some_and(u8::is_ascii_digit) {
                continue;
            }
            let Ok(text) = self.reader.read(&self.folder.join(&name).join(file)) else { continue };
            let mut lines = lines(text);
            if let (Some(line), None) = (lines.next(), lines.next()) {
                contents.insert(line.to_vec());
            }
        }
        contents.len() as i64
    }
}

/// Whether a file lies on the file system of this type.
fn is_on(path: &Path, magic: FsWord) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == magic)
}

/// Lines `processor : <number>`, in letters of either size.
fn count_processors(cpuinfo: &[u8]) -> i64 {
    let is_processor = |line: &&[u8]| {
        let word = b"processor";
        let number = line.splitn(2, |&byte| byte == b':').nth(1).unwrap_or_default().trim_ascii();
        line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && parse_int10(number).is_ok_and(|number| i32::try_from(number).is_ok())
    };
    lines(cpuinfo).filter(is_processor).count() as i64
}

/// The sum of `cpu cores` over the sockets. A CPU counts at the blank line behind it, if it says both.
fn count_cores(cpuinfo: &[u8]) -> i64 {
    let mut sockets = HashMap::new();
    let (mut socket, mut cores) = (None, None);
    for line in lines(cpuinfo) {
        let line = line.trim_ascii();
        if line.is_empty() {
            if let (Some(socket), Some(cores)) = (socket.take(), cores.take()) {
                sockets.insert(socket, cores);
            }
            // One alone does not count for the next CPU.
            (socket, cores) = (None, None);
            continue;
        }
        let mut parts = line.split(|&byte| byte == b':').map(<[u8]>::trim_ascii);
        let (Some(key), Some(value)) = (parts.next(), parts.next().and_then(|value| parse_int10(value).ok())) else {
            continue;
        };
        if key.eq_ignore_ascii_case(b"physical id") {
            socket = Some(value);
        } else if key.eq_ignore_ascii_case(b"cpu cores") {
            cores = Some(value);
        }
    }
    sockets.into_values().fold(0, i64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::TestHost;
    use proptest::prelude::*;

    fn check(host: &TestHost, expected: Result<(i64, i64), ()>) {
        let counted = CpuCounter::new(&host.context().host).count();
        let expected = expected
            .map(|(logical, physical)| [("n_cpus", Value::Int(logical)), ("n_physical_cpus", Value::Int(physical))]);
        assert_eq!(counted.map_err(|_| ()), expected);
    }

    const CPUINFO: &str =
        "processor : 0\nphysical id : 0\ncpu cores : 2\n\nprocessor : 1\nphysical id : 1\ncpu cores : 2\n";

    #[test]
    fn from_cpuinfo_alone() {
        // The last CPU has no blank line behind it.
        check(&TestHost::new(&[("proc/cpuinfo", CPUINFO)]), Ok((2, 2)));
        check(&TestHost::new(&[("proc/cpuinfo", &format!("{CPUINFO}\n"))]), Ok((2, 4)));
        check(&TestHost::new(&[("proc/cpuinfo", "Processor\t: ARMv7\nprocessor\t: 0\n")]), Ok((1, 0)));
    }

    #[test]
    fn cores_from_sysfs() {
        let host = TestHost::new(&[
            ("proc/cpuinfo", CPUINFO),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
            ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2\n3\n"),
            ("sys/devices/system/cpu/cpufreq/topology/thread_siblings_list", "9\n"),
        ]);
        check(&host, Ok((2, 1)));
        host.write("sys/devices/system/cpu/cpu3/topology/core_cpus_list", "3");
        host.write("sys/devices/system/cpu/cpu4/topology/core_cpus_list", "4");
        check(&host, Ok((2, 2)));
    }

    #[test]
    fn cpus_from_stat() {
        let files = [("proc/stat", "cpu 1\ncpu0 1\ncpu7x 1\nintr 5\n"), ("proc/cpuinfo", "# processors : 3\n")];
        check(&TestHost::new(&files), Ok((2, 0)));
        check(&TestHost::new(&files[..1]), Err(()));
        check(&TestHost::new(&[]), Err(()));
    }

    #[test]
    fn copies_of_the_kernels_files_are_read_each_time() {
        let host = TestHost::new(&[("proc/cpuinfo", "processor : 0\n"), ("sys/devices/system/cpu/online", "0\n")]);
        let mut counter = CpuCounter::new(&host.context().host);
        counter.count().unwrap();
        host.write("proc/cpuinfo", CPUINFO);
        assert_eq!(counter.count().unwrap()[0], ("n_cpus", Value::Int(2)));
    }

    #[test]
    fn this_machine_is_counted_once() {
        let host = TestHost::new(&[]).set("HOST_PROC", "").set("HOST_SYS", "");
        let mut counter = CpuCounter::new(&host.context().host);
        let first = counter.count().unwrap();
        assert_eq!(first, counter.count().unwrap());
        assert!(matches!(first[0].1, Value::Int(cpus) if cpus > 0), "{first:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "((processor|physical id|cpu cores) ?:? ?[0-9]{0,20}\n{1,2}){0,5}") {
            for text in [&bytes[..], text.as_bytes()] {
                count_processors(text);
                count_cores(text);
            }
        }
    }
}
