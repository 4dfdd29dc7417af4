//! The program as systemd and an operator see it: readiness, reloads, the state file, and what a reload keeps.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent with a folder of its own.
struct Agent {
    child: Child,
    log: Receiver<String>,
    manager: UnixDatagram,
}

/// A folder with an input that always has a metric.
fn folder(conf: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("input.influx"), "m v=1i 1\n").unwrap();
    write_conf(folder.path(), conf);
    folder
}

/// Writes `t.conf` as a careful writer does; `FOLDER` in it stands for its folder.
fn write_conf(folder: &Path, conf: &str) {
    const INPUT: &str = "[[inputs.file]]\n  files = [\"FOLDER/input.influx\"]\n";
    let text = format!("{conf}\n{INPUT}").replace("FOLDER", &folder.display().to_string());
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), conf_of(folder)).unwrap();
}

fn conf_of(folder: &Path) -> PathBuf {
    folder.join("t.conf")
}

impl Agent {
    fn command(folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        command.arg("--config").arg(conf_of(folder)).args(args).env_clear().stdin(Stdio::null());
        command
    }

    fn start(folder: &Path, args: &[&str]) -> Self {
        let socket = folder.join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut child =
            Self::command(folder, args).env("NOTIFY_SOCKET", &socket).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, log, manager }
    }

    /// Waits for a line of the log.
    fn logs(&self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => seen = seen + &line + "\n",
                Err(_) => panic!("no {text:?} in:\n{seen}"),
            }
        }
    }

    /// Waits for a notification to the service manager.
    fn notifies(&self, state: &str) {
        let mut buffer = [0; 100];
        let length = self.manager.recv(&mut buffer).unwrap();
        let notified = String::from_utf8_lossy(&buffer[..length]);
        assert_eq!(notified.lines().next(), Some(state));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.notifies("STOPPING=1");
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const DISCARD: &str = "[[outputs.discard]]\n";

#[test]
fn readiness_is_told_around_reloads() {
    let folder = folder(DISCARD);
    let agent = Agent::start(folder.path(), &[]);
    agent.notifies("READY=1");
    agent.signal(Signal::HUP);
    agent.notifies("RELOADING=1");
    agent.notifies("READY=1");
    write_conf(folder.path(), "[[outputs.nope]]");
    agent.signal(Signal::HUP);
    agent.notifies("RELOADING=1");
    agent.logs("cannot reload, going on as before");
    agent.notifies("READY=1");
    assert!(agent.end().success());
}

#[test]
fn a_changed_file_is_loaded() {
    for how in ["notify", "poll"] {
        let folder = folder(DISCARD);
        let agent = Agent::start(folder.path(), &["--watch-config", how]);
        agent.notifies("READY=1");
        write_conf(folder.path(), "[[outputs.nope]]");
        agent.logs("cannot reload, going on as before");
        agent.notifies("RELOADING=1");
        agent.notifies("READY=1");
        for tag in ["first", "second"] {
            write_conf(folder.path(), &format!("{DISCARD}[global_tags]\n  {tag} = \"1\"\n"));
            agent.logs(&format!("{tag}=1"));
            agent.notifies("RELOADING=1");
            agent.notifies("READY=1");
        }
        assert!(agent.end().success());
    }
}

#[test]
fn sources_of_plugins_are_shown() {
    let folder = folder(DISCARD);
    let agent = Agent::start(folder.path(), &["--print-plugin-config-source"]);
    agent.logs("Loaded inputs: file");
    agent.logs(&format!("  file | {}", conf_of(folder.path()).display()));
    agent.notifies("READY=1");
    assert!(agent.end().success());
}

#[test]
fn states_of_unknown_plugins_stay() {
    const STATE: &str = r#"{"unknown": "e30="}"#;
    let folder = folder(&format!("[agent]\n  statefile = \"FOLDER/state\"\n{DISCARD}"));
    let state = folder.path().join("state");
    fs::write(&state, STATE).unwrap();
    assert!(Agent::command(folder.path(), &["--once"]).output().unwrap().status.success());
    assert_eq!(fs::read_to_string(&state).unwrap(), STATE);

    let agent = Agent::start(folder.path(), &[]);
    agent.notifies("READY=1");
    agent.signal(Signal::HUP);
    agent.notifies("RELOADING=1");
    agent.notifies("READY=1");
    assert_eq!(fs::read_to_string(&state).unwrap(), r#"{"unknown":"e30="}"#);
    fs::remove_file(&state).unwrap();
    assert!(agent.end().success());
    assert_eq!(fs::read_to_string(&state).unwrap(), r#"{"unknown":"e30="}"#);
}

#[test]
fn a_malformed_state_file_is_refused() {
    let folder = folder(&format!("[agent]\n  statefile = \"FOLDER/state\"\n{DISCARD}"));
    fs::write(folder.path().join("state"), "no state").unwrap();
    let output = Agent::command(folder.path(), &[]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("malformed state file") && log.contains("/state"), "{log}");
}

/// A server that answers with the status, and the bodies it is sent.
fn server() -> (String, Arc<AtomicU16>, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let status = Arc::new(AtomicU16::new(503));
    let (sender, bodies) = channel();
    let answer = status.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some((_, value)) = line.to_lowercase().split_once("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let head = format!(
                "HTTP/1.1 {} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                answer.load(Ordering::SeqCst)
            );
            stream.get_mut().write_all(head.as_bytes()).unwrap();
            if sender.send(String::from_utf8(body).unwrap()).is_err() {
                break;
            }
        }
    });
    (url, status, bodies)
}

#[test]
fn a_reload_keeps_what_could_not_be_written() {
    let (url, status, bodies) = server();
    let conf = format!(
        "[agent]\n  interval = \"100ms\"\n  flush_interval = \"1h\"\n  omit_hostname = true\n\
         [[outputs.http]]\n  url = \"{url}\"\n  data_format = \"influx\"\n"
    );
    let folder = folder(&conf);
    let agent = Agent::start(folder.path(), &[]);
    agent.notifies("READY=1");
    // Flushes until there is something to write, which the server refuses.
    let mut body = String::new();
    while body.is_empty() {
        agent.signal(Signal::USR1);
        body = bodies.recv_timeout(Duration::from_millis(100)).unwrap_or_default();
    }
    assert!(body.starts_with("m v=1i "), "{body}");
    fs::write(folder.path().join("input.influx"), "m v=2i 2\n").unwrap();
    write_conf(folder.path(), &format!("{conf}[global_tags]\n  new = \"1\"\n"));
    agent.signal(Signal::HUP);
    agent.notifies("RELOADING=1");
    agent.logs("carrying unwritten metrics over");
    agent.notifies("READY=1");
    while bodies.try_recv().is_ok() {}
    status.store(200, Ordering::SeqCst);
    agent.signal(Signal::USR1);
    let body = bodies.recv_timeout(PATIENCE).unwrap();
    assert!(body.starts_with("m v=1i "), "{body}");
    assert!(agent.end().success());

    // An output with other options is another one.
    status.store(503, Ordering::SeqCst);
    let folder = self::folder(&conf);
    let agent = Agent::start(folder.path(), &[]);
    agent.notifies("READY=1");
    while bodies.recv_timeout(Duration::from_millis(100)).is_err() {
        agent.signal(Signal::USR1);
    }
    write_conf(folder.path(), &format!("{conf}  timeout = \"3s\"\n"));
    agent.signal(Signal::HUP);
    agent.logs("metrics that were not written are lost");
    agent.notifies("RELOADING=1");
    agent.notifies("READY=1");
    status.store(200, Ordering::SeqCst);
    assert!(agent.end().success());
}
