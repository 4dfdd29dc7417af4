//! Real servers, started for a test and ended with it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait_for;

/// A server process with a folder for its files.
pub struct Server {
    folder: TempDir,
    program: PathBuf,
    args: Vec<String>,
    package: &'static str,
    child: Option<Child>,
}

/// A command of a package; folders of servers are looked at even if `PATH` lacks them.
pub fn command(program: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(program));
    Command::new(found.into_iter().find(|path| path.exists()).unwrap_or_else(|| program.into()))
}

impl Server {
    /// A server of this Debian package; `@` in the arguments is its folder. It is not started yet.
    pub fn new(package: &'static str, program: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args = args.iter().map(|arg| arg.replace('@', folder.path().to_str().unwrap())).collect();
        Self { folder, program: command(program).get_program().into(), args, package, child: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into its folder; `@` in it is the folder.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content.replace('@', self.folder.path().to_str().unwrap())).unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts it and waits until it accepts connections on this port.
    pub fn start(&mut self, port: u16) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let started = Command::new(&self.program)
            .args(&self.args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(started.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                panic!("{} is missing: install the Debian package {}", self.program.display(), self.package)
            }
            _ => panic!("cannot start {}: {error}", self.program.display()),
        }));
        wait_for(&format!("a start of {}", self.program.display()), || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.program.display(), self.log());
            }
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| format!("{error}; {}", self.log()))
        });
    }

    /// Stops it in the middle of its work: its connections stay, and nobody reads them.
    pub fn freeze(&self) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), Signal::STOP).unwrap();
    }

    /// Ends it at once, frozen or not.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it, as its service manager does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            wait_for("the end of a server", || child.try_wait().unwrap().ok_or_else(|| self.log()));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
