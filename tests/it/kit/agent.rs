//! The program, started with a configuration in a folder of its own.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, pause, wait_for};

/// A folder with a configuration, and the command that starts the agent in it.
pub struct Setup {
    folder: TempDir,
    behind: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// The running agent; ends with the value.
pub struct Agent {
    folder: TempDir,
    child: RefCell<Child>,
}

/// How an agent ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// How long it took to end since it was asked to.
    pub elapsed: Duration,
    folder: TempDir,
}

/// The agent with `telegraf.conf` of this text.
pub fn heliograph(config: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("telegraf.conf"), config).unwrap();
    Setup { folder, behind: Vec::new(), args: vec!["--config".into(), "telegraf.conf".into()], env: Vec::new() }
}

impl Setup {
    /// A further argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// These arguments instead of `--config telegraf.conf`.
    pub fn args(mut self, args: Vec<String>) -> Self {
        self.args = args;
        self
    }

    /// Starts it by this command, which becomes the program in its last arguments.
    pub fn behind(mut self, command: Vec<String>) -> Self {
        self.behind = command;
        self
    }

    /// A variable of its environment, in which nothing else is set but the path.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A further file in the folder.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it.
    pub fn start(self) -> Agent {
        let Self { folder, behind, args, env } = self;
        let child = RefCell::new(spawn(folder.path(), behind, &args, &env));
        Agent { folder, child }
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Ended {
        self.start().ended()
    }
}

fn spawn(folder: &Path, mut command: Vec<String>, args: &[String], env: &[(String, String)]) -> Child {
    let inherited = ["PATH", "HOME", "LANG", "TMPDIR"];
    let log = |name| File::options().create(true).append(true).open(folder.join(name)).unwrap();
    // Another build can be put to the test.
    command.push(std::env::var("HELIOGRAPH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_heliograph").to_owned()));
    Command::new(&command[0])
        .args(&command[1..])
        .args(args)
        .env_clear()
        .envs(inherited.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("TZ", "UTC")
        .envs(env.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log("stdout"))
        .stderr(log("stderr"))
        .spawn()
        .unwrap()
}

impl Agent {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a file in its folder; empty while it is not there.
    pub fn text(&self, name: &str) -> String {
        text(self.folder.path(), name)
    }

    /// All it has logged so far.
    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    /// Replaces the configuration as an editor does: at once.
    pub fn configure(&self, config: &str) {
        fs::write(self.path("next.conf"), config).unwrap();
        fs::rename(self.path("next.conf"), self.path("telegraf.conf")).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child.borrow())
    }

    /// Waits until its log has this.
    pub fn wait_for_log(&self, part: &str) {
        self.wait_for_logs(part, 1);
    }

    /// Waits until its log has this so many times.
    pub fn wait_for_logs(&self, part: &str, times: usize) {
        wait_for(&format!("{part:?} in the log"), || {
            // Asked first: what it logs at the very end counts.
            let running = self.is_running();
            let log = self.stderr();
            match log.matches(part).count() >= times {
                true => Ok(()),
                false if running => Err(log),
                false => panic!("the agent has ended without {part:?} in its log:\n{log}"),
            }
        });
    }

    /// Waits until a file that it writes satisfies this; returns its text.
    pub fn wait_for_text(&self, name: &str, holds: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("content of {name}"), || {
            let text = self.text(name);
            if holds(&text) {
                Ok(text)
            } else {
                Err(format!("it has {} bytes; the log:\n{}", text.len(), self.stderr()))
            }
        })
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.borrow().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.child.borrow_mut().try_wait().unwrap().is_none()
    }

    /// Asks it to end, and waits for that.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Kills it as the kernel does when memory is short: at once; then the folder can start another.
    pub fn kill(self) -> Setup {
        self.signal(Signal::KILL);
        let Ended { folder, .. } = self.ended();
        Setup { folder, behind: Vec::new(), args: vec!["--config".into(), "telegraf.conf".into()], env: Vec::new() }
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            match self.child.get_mut().try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > PATIENCE => panic!("the agent does not end; its log:\n{}", self.stderr()),
                None => pause(),
            }
        };
        let (stdout, stderr) = (self.text("stdout"), self.text("stderr"));
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Ended { status, stdout, stderr, elapsed: began.elapsed(), folder }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}

impl Ended {
    /// What it ended with; −1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The text of a file in its folder; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        text(self.folder.path(), name)
    }
}

fn text(folder: &Path, name: &str) -> String {
    fs::read(folder.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
