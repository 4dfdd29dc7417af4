//! Number of processes by state, from `/proc/<pid>/stat`.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::model::Kind;
use heliograph_core::number::parse_int10;
use heliograph_core::plugin::{BuildContext, Input, InputSpec};
use heliograph_core::throttle::Throttle;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

use crate::common::proc_file::{FileReader, ReadError, words};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "processes",
    sample: include_str!("sample.conf"),
    build: |section, context| Ok(Box::new(Processes::new(section.finish()?, context))),
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    use_sudo: bool,
}

struct Processes {
    plugin: Arc<str>,
    proc: PathBuf,
    path: Vec<u8>,
    reader: FileReader,
    throttle: Throttle,
}

impl Processes {
    fn new(config: Config, context: &BuildContext) -> Self {
        if config.use_sudo {
            tracing::debug!(plugin = &*context.name, "use_sudo has no effect on Linux, where no program is run");
        }
        Self {
            plugin: context.name.clone(),
            proc: context.host.proc(""),
            path: Vec::new(),
            reader: FileReader::new(),
            throttle: Throttle::new(),
        }
    }

    /// Counts every process; one that ends meanwhile is left out. Fails if a file cannot be read or is cut off.
    fn count(&mut self) -> Result<Counts, BoxError> {
        let mut counts = Counts::default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Telegraf looks for a pattern here, and a folder that is missing matches none.
        let Ok(folder) = rustix::fs::open(&self.proc, flags, Mode::empty()) else { return Ok(counts) };
        let Ok(mut entries) = Dir::read_from(&folder) else { return Ok(counts) };
        while let Some(Ok(entry)) = entries.read() {
            let pid = entry.file_name().to_bytes();
            if pid.first().is_some_and(u8::is_ascii_digit) {
                self.count_process(&folder, pid, &mut counts)?;
            }
        }
        Ok(counts)
    }

    fn count_process(&mut self, folder: &OwnedFd, pid: &[u8], counts: &mut Counts) -> Result<(), BoxError> {
        self.path.clear();
        self.path.extend_from_slice(pid);
        self.path.extend_from_slice(b"/stat");
        let text = match self.reader.read_at(folder, self.path.as_slice()) {
            Ok(text) => text,
            Err(error) => {
                // The process ended before its file was opened, or between opening and reading.
                let gone = [Errno::NOENT, Errno::NOTDIR, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
                let path = self.proc.join(OsStr::from_bytes(&self.path));
                return if gone.contains(&error.raw_os_error()) {
                    Ok(())
                } else {
                    Err(ReadError { path, source: error }.into())
                };
            }
        };
        let Some(process) = Process::parse(text)? else { return Ok(()) };
        if !counts.add(&process)
            && let Some(suppressed) = self.throttle.admit()
        {
            let (plugin, state) = (&*self.plugin, char::from(process.state));
            tracing::info!(plugin, suppressed, %state, threads = process.threads, "odd process, counted in part");
        }
        Ok(())
    }
}

#[async_trait]
impl Input for Processes {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let counts = self.count()?;
        let metric = accumulator
            .metric("processes", Kind::Gauge)
            .field("blocked", counts.blocked)
            .field("zombies", counts.zombies)
            .field("stopped", counts.stopped)
            .field("running", counts.running)
            .field("sleeping", counts.sleeping)
            .field("total", counts.total)
            .field("unknown", 0_i64)
            .field("dead", counts.dead)
            .field("paging", counts.paging)
            .field("total_threads", counts.total_threads)
            .field("idle", counts.idle);
        // Not their number: Telegraf sets this one where it adds to the others, and dashboards live with it.
        if counts.has_parked { metric.field("parked", 1_i64) } else { metric }.push();
        Ok(())
    }
}

/// What is counted of a process.
#[derive(Debug, PartialEq)]
struct Process {
    /// The letter of its state.
    state: u8,
    /// `None` if the file does not say.
    threads: Option<i64>,
}

/// A file of a process that ends before its third figure.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the state of a process in {0:?}: too few fields")]
struct CutOff(String);

impl Process {
    /// Reads the file; `None` if it does not name the program, in parentheses, and so tells of no process.
    fn parse(text: &[u8]) -> Result<Option<Self>, CutOff> {
        // The name may hold parentheses and blanks itself.
        let Some(end) = memchr::memrchr(b')', text) else { return Ok(None) };
        let cut_off = || CutOff(String::from_utf8_lossy(text.trim_ascii()).into_owned());
        let mut fields = words(text.get(end + 2..).unwrap_or_default());
        let (Some(state), Some(_), Some(_)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(cut_off());
        };
        let threads = fields.nth(THREADS - 3).and_then(|threads| parse_int10(threads).ok());
        Ok(Some(Self { state: state[0], threads }))
    }
}

/// Place of `num_threads` behind the program's name; proc(5) counts from the start of the line and calls it field 20.
const THREADS: usize = 17;

#[derive(Debug, Default)]
struct Counts {
    blocked: i64,
    dead: i64,
    idle: i64,
    paging: i64,
    running: i64,
    sleeping: i64,
    stopped: i64,
    zombies: i64,
    has_parked: bool,
    total: i64,
    total_threads: i64,
}

impl Counts {
    /// Adds a process; tells whether its state and its threads are known.
    fn add(&mut self, process: &Process) -> bool {
        self.total += 1;
        self.total_threads = self.total_threads.wrapping_add(process.threads.unwrap_or(0));
        let count = match process.state {
            b'R' => &mut self.running,
            b'S' => &mut self.sleeping,
            b'D' => &mut self.blocked,
            b'Z' => &mut self.zombies,
            b'X' => &mut self.dead,
            b'T' | b't' => &mut self.stopped,
            b'W' => &mut self.paging,
            b'I' => &mut self.idle,
            b'P' => {
                self.has_parked = true;
                return process.threads.is_some();
            }
            _ => return false,
        };
        *count += 1;
        process.threads.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::TestHost;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// The file of a process with this name and state.
    fn stat(name: &str, state: &str, threads: &str) -> String {
        format!("1 ({name}) {state} 1 1 1 0 -1 4194560 100 0 0 0 5 7 0 0 20 0 {threads} 0 1000 1000000 200\n")
    }

    fn check(files: &[(&str, &str)], expected: Expect) {
        expected.assert_eq(&TestHost::new(files).gather_once(&SPEC, &[]));
    }

    #[test]
    fn processes_and_threads() {
        check(
            &[
                ("proc/1/stat", &stat("init", "S", "1")),
                ("proc/50/stat", &stat("a) b", "R", "4")),
                ("proc/60/stat", &stat("kworker/0:1", "I", "2")),
                ("proc/61/stat", &stat("odd", "Y", "many")),
                ("proc/62/stat", "no name"),
                ("proc/70/comm", "no stat"),
                ("proc/71", "no folder"),
                ("proc/self/stat", &stat("self", "R", "9")),
            ],
            expect![[r#"
                gauge processes blocked=0i,dead=0i,idle=1i,paging=0i,running=1i,sleeping=1i,stopped=0i,total=4i,total_threads=7i,unknown=0i,zombies=0i
            "#]],
        );
    }

    #[test]
    fn parked_is_one_however_many_there_are() {
        check(
            &[("proc/1/stat", &stat("a", "P", "1")), ("proc/2/stat", &stat("b", "P", "1"))],
            expect![[r#"
                gauge processes blocked=0i,dead=0i,idle=0i,paging=0i,parked=1i,running=0i,sleeping=0i,stopped=0i,total=2i,total_threads=2i,unknown=0i,zombies=0i
            "#]],
        );
    }

    #[test]
    fn every_state_has_its_count() {
        let mut counts = Counts::default();
        "RSDZXTtWI".bytes().for_each(|state| assert!(counts.add(&Process { state, threads: Some(1) })));
        let Counts { blocked, dead, idle, paging, running, sleeping, stopped, zombies, .. } = counts;
        assert_eq!([blocked, dead, idle, paging, running, sleeping, stopped, zombies], [1, 1, 1, 1, 1, 1, 2, 1]);
    }

    #[test]
    fn no_proc_is_no_process() {
        check(
            &[],
            expect![[r#"
            gauge processes blocked=0i,dead=0i,idle=0i,paging=0i,running=0i,sleeping=0i,stopped=0i,total=0i,total_threads=0i,unknown=0i,zombies=0i
        "#]],
        );
    }

    #[test]
    fn a_file_that_is_cut_off_spoils_the_gather() {
        let cut_off = |text: &str| Process::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(cut_off("2 (short) S\n"), "cannot read the state of a process in \"2 (short) S\": too few fields");
        assert_eq!(cut_off("2 (short)"), "cannot read the state of a process in \"2 (short)\": too few fields");
        let few = Process::parse(b"2 (short) S 1 2 3").unwrap();
        assert_eq!(few, Some(Process { state: b'S', threads: None }));
    }

    #[test]
    fn our_own_process_is_among_those_of_the_machine() {
        let shown = TestHost::new(&[]).set("HOST_PROC", "").gather_once(&SPEC, &[]);
        assert!(!shown.contains("total=0i") && shown.starts_with("gauge processes "), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "1 \\(a[) ]{0,3}( [A-Z0-9]{0,3}){0,20}") {
            let _ = Process::parse(&bytes);
            let _ = Process::parse(text.as_bytes());
        }
    }
}
