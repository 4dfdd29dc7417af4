//! Runs every `testcases/` folder of every plugin: a configuration, its input, and what the agent is to write.
//!
//! A case is a folder with a `telegraf.conf`; a copy of it is where the agent runs, with `--once` unless `case.json` says
//! otherwise. Each `expected.*` beside it is compared with what the run has left: `expected.NAME.ENDING` with the file
//! `NAME`, others with `out.ENDING`, with what a receiver got (`tcp`, `udp`, `http`), or with the log (`stderr-has`: each
//! line occurs in it). `UPDATE_EXPECT=1` writes what came where it differs.

mod compare;
mod receivers;
mod remote_write;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;

use crate::kit::{Agent, Ended, Setup, heliograph};
use receivers::Receivers;

/// `case.json`: how a case runs and how its files are compared.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Case {
    /// Arguments of the agent.
    args: Vec<String>,
    /// More environment; `@CASE@` is the folder of the run.
    env: BTreeMap<String, String>,
    exit: Exit,
    /// Times are not compared.
    ignore_time: bool,
    /// The order of lines counts.
    ordered: bool,
    /// Only the newest metric of each series counts.
    last: bool,
    /// Relative tolerance of floats.
    float_tol: f64,
    steps: Vec<Step>,
    /// `tcp`, `udp`, `http`: listens on a port of its own, `$TCP_PORT` and so on in the configuration.
    receivers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Exit {
    Zero,
    Nonzero,
    Any,
}

/// Something that happens while the agent runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Seconds after the start.
    at: f64,
    /// Files to replace, by the file that takes their place.
    #[serde(default)]
    copy: BTreeMap<String, String>,
    signal: Option<String>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            args: ["--config", "telegraf.conf", "--once"].map(String::from).to_vec(),
            env: BTreeMap::new(),
            exit: Exit::Zero,
            ignore_time: false,
            ordered: false,
            last: false,
            float_tol: 0.0,
            steps: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

#[test]
fn inputs() {
    run_all("inputs");
}

#[test]
fn parsers() {
    run_all("parsers");
}

#[test]
fn processors() {
    run_all("processors");
}

#[test]
fn aggregators() {
    run_all("aggregators");
}

#[test]
fn serializers() {
    run_all("serializers");
}

#[test]
fn outputs() {
    run_all("outputs");
}

/// Runs the cases of a kind of plugin, some at a time, and reports all that fail.
fn run_all(kind: &str) {
    let waiting = Mutex::new(cases(kind));
    assert!(!waiting.lock().unwrap().is_empty(), "no test cases for {kind}");
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else { break };
                    if let Err(problems) = run(&case) {
                        failed.lock().unwrap().push(format!("{}\n  {}", case.display(), problems.join("\n  ")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

/// The folders `plugins/src/<kind>/*/testcases/*`.
fn cases(kind: &str) -> Vec<PathBuf> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/src").join(kind);
    let folders = folders_in(&plugins).into_iter().flat_map(|plugin| folders_in(&plugin.join("testcases")));
    folders.collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

fn run(folder: &Path) -> Result<(), Vec<String>> {
    let case: Case = match fs::read(folder.join("case.json")) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| vec![format!("case.json: {error}")])?,
        Err(_) => Case::default(),
    };
    let receivers = Receivers::start(&case.receivers);
    let ended = run_agent(folder, &case, &receivers);
    receivers.save(ended.path());
    let mut problems = Vec::new();
    match case.exit {
        Exit::Zero if ended.code() != 0 => problems.push(format!("ended with {}, not with 0", ended.code())),
        Exit::Nonzero if ended.code() == 0 => problems.push("ended with 0".into()),
        _ => {}
    }
    let expected: Vec<PathBuf> = expectations(folder);
    if expected.is_empty() {
        problems.push("there is no expected.* to compare with".into());
    }
    for path in expected {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (source, ending) = source(&name);
        let got = ended.text(&source);
        let wanted = fs::read_to_string(&path).unwrap();
        let differences = compare::differences(&case, &ending, &wanted, &got);
        if !differences.is_empty() && ending != "stderr-has" && std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, got).unwrap();
            continue;
        }
        problems.extend(differences.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.extend(ended.stderr.lines().rev().take(6).map(|line| format!("log: {line}")));
    Err(problems)
}

fn expectations(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("expected.")).collect();
    found.sort_by_key(fs::DirEntry::file_name);
    found.into_iter().map(|entry| entry.path()).collect()
}

/// The file that an expectation is about, and the form in which it is compared.
fn source(expected: &str) -> (String, String) {
    let rest = expected.strip_prefix("expected.").unwrap();
    match rest.rsplit_once('.') {
        Some((name, ending)) => (name.into(), ending.into()),
        None if ["tcp", "udp", "http"].contains(&rest) => (format!("received.{rest}"), rest.into()),
        None if rest == "stderr-has" => ("stderr".into(), rest.into()),
        None => (format!("out.{rest}"), rest.into()),
    }
}

fn run_agent(folder: &Path, case: &Case, receivers: &Receivers) -> Ended {
    let mut setup = heliograph("").args(case.args.clone()).env("HOST_NAME", "golden");
    copy_folder(folder, setup.folder());
    let place = setup.folder().to_str().unwrap().to_owned();
    for (name, value) in &case.env {
        setup = setup.env(name, value.replace("@CASE@", &place));
    }
    for (name, port) in receivers.ports() {
        setup = setup.env(name, port.to_string());
    }
    start_with_steps(setup, &case.steps)
}

fn start_with_steps(setup: Setup, steps: &[Step]) -> Ended {
    let began = Instant::now();
    let agent = setup.start();
    for step in steps {
        // The case itself speaks of seconds after the start.
        std::thread::sleep(Duration::from_secs_f64(step.at).saturating_sub(began.elapsed()));
        for (from, to) in &step.copy {
            replace(&agent, from, to);
        }
        if let Some(name) = &step.signal
            && agent.is_running()
        {
            agent.signal(signal(name));
        }
    }
    agent.ended()
}

/// Puts a copy of a file in the place of another at once, so that the agent never sees half of it.
fn replace(agent: &Agent, from: &str, to: &str) {
    let next = agent.path("next");
    fs::copy(agent.path(from), &next).unwrap_or_else(|error| panic!("cannot copy {from:?}: {error}"));
    fs::rename(next, agent.path(to)).unwrap_or_else(|error| panic!("cannot replace {to:?}: {error}"));
}

fn signal(name: &str) -> Signal {
    match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "KILL" => Signal::KILL,
        other => panic!("case.json: unknown signal {other:?}"),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with("expected.") {
            continue;
        }
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
