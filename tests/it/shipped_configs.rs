//! Every configuration in `config/` loads, as the operator's first `config check` does it.
//!
//! The program itself is run: the files take the API key from the environment, which is that of the process.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The files, sorted.
fn shipped() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let entries = std::fs::read_dir(folder).expect("the folder is part of the tree");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

fn check(file: &PathBuf, handling: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heliograph"))
        .args(["config", "check", handling, "--config"])
        .arg(file)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program was built for this test")
}

#[test]
fn each_loads_with_nothing_but_its_key() {
    assert!(shipped().len() >= 3, "{:?}", shipped());
    for file in shipped() {
        for handling in ["--strict-env-handling", "--non-strict-env-handling"] {
            let output = check(&file, handling, &[("HG_API_KEY", "key"), ("HOSTNAME", "node-1")]);
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {handling}: {log}", file.display());
            assert!(!log.contains(" W! ") && !log.contains(" E! "), "{} {handling}: {log}", file.display());
        }
    }
}

#[test]
fn without_the_key_each_says_where_to_set_it() {
    for file in shipped() {
        let output = check(&file, "--strict-env-handling", &[("HOSTNAME", "node-1")]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {log}", file.display());
        assert!(log.contains("required variable HG_API_KEY is missing a value: set HG_API_KEY"), "{log}");
    }
}
