//! The life of the program: how it starts, what signals do, and what it ends with.

use std::time::Duration;

use rustix::process::Signal;

use crate::kit::{heliograph, wait_until};

/// An agent without waiting: an interval of 100 ms, and flushes as given.
fn config(flush_interval: &str, plugins: &str) -> String {
    format!(
        "[agent]\n  interval = \"100ms\"\n  flush_interval = \"{flush_interval}\"\n  flush_jitter = \"0s\"\n  \
         omit_hostname = true\n{plugins}"
    )
}

/// An input that gives a metric with this name at every gather.
fn input(name: &str) -> String {
    format!(
        "[[inputs.exec]]\n  commands = [[\"/bin/echo\", \"{name} value=1i\"]]\n  data_format = \"influx\"\n  \
         name_suffix = \"\"\n"
    )
}

const FILE: &str = "[[outputs.file]]\n  files = [\"out\"]\n";

#[test]
fn once_writes_one_gather_and_ends_with_zero() {
    let ended = heliograph(&config("1h", &(input("pump") + FILE))).arg("--once").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.text("out").matches("pump value=1i ").count(), 1);
}

#[test]
fn test_prints_and_writes_nothing() {
    let ended = heliograph(&config("1h", &(input("pump") + FILE))).arg("--test").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("> pump value=1i "), "{}", ended.stdout);
    assert_eq!(ended.text("out"), "");
}

#[test]
fn exit_codes() {
    let code = |args: &str, text: &str| {
        let ended = heliograph(text).args(args.split_whitespace().map(String::from).collect()).run();
        ended.code()
    };
    let good = config("1h", &(input("pump") + FILE));
    assert_eq!(code("version", ""), 0);
    assert_eq!(code("help nonsense", ""), 3);
    assert_eq!(code("--nonsense", ""), 1);
    assert_eq!(code("config check --config telegraf.conf", &good), 0);
    assert_eq!(code("config check --config telegraf.conf", "[[inputs.cpu]]\n  percup = true\n"), 1);
    assert_eq!(code("--config missing.conf", ""), 1);
    assert_eq!(code("--config telegraf.conf", &config("1h", FILE)), 1);
    assert_eq!(code("--config telegraf.conf", &config("1h", &input("pump"))), 1);
}

#[test]
fn once_with_a_gather_that_fails_ends_with_one() {
    let failing = "[[inputs.exec]]\n  commands = [[\"/bin/false\"]]\n  data_format = \"influx\"\n";
    let ended = heliograph(&config("1h", &(failing.to_owned() + &input("pump") + FILE))).arg("--once").run();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("input plugins recorded 1 errors"), "{}", ended.stderr);
    assert!(ended.text("out").contains("pump value=1i"), "what the others gathered is written");
}

#[test]
fn signals_to_end_flush_first() {
    for signal in [Signal::TERM, Signal::INT] {
        let config = config("1h", &(input("pump") + &input("valve") + FILE));
        let agent =
            heliograph(&(config + "[[outputs.file]]\n  files = [\"now\"]\n  flush_interval = \"100ms\"\n")).start();
        agent.wait_for_text("now", |text| text.contains("pump") && text.contains("valve"));
        assert_eq!(agent.text("out"), "", "an hour has not passed");
        agent.signal(signal);
        let ended = agent.ended();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(ended.text("out").lines().count(), ended.text("now").lines().count());
        assert!(ended.elapsed < Duration::from_secs(10), "{:?}", ended.elapsed);
    }
}

#[test]
fn a_signal_during_the_start_ends_it_too() {
    // Connecting is tried again after a quarter of a minute; the signal does not wait for that.
    let unreachable = "[[outputs.file]]\n  files = [\"missing/folder/out\"]\n";
    let agent = heliograph(&config("1h", &(input("pump") + unreachable))).start();
    agent.wait_for_log("retrying in 15s");
    let ended = agent.stop();
    assert!(ended.elapsed < Duration::from_secs(10), "{:?}", ended.elapsed);
}

#[test]
fn hang_up_changes_to_a_good_configuration() {
    let agent = heliograph(&config("100ms", &(input("pump") + FILE))).start();
    agent.wait_for_text("out", |text| text.contains("pump"));
    agent.configure(&config("100ms", &(input("valve") + "[[outputs.file]]\n  files = [\"next\"]\n")));
    agent.signal(Signal::HUP);
    let next = agent.wait_for_text("next", |text| text.lines().count() > 2);
    assert!(!next.contains("pump"), "{next}");
    let before = agent.text("out").len();
    agent.wait_for_text("next", |text| text.len() > next.len());
    assert_eq!(agent.text("out").len(), before, "the old output is not written any more");
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn hang_up_with_a_broken_configuration_changes_nothing() {
    let agent = heliograph(&config("100ms", &(input("pump") + FILE))).start();
    agent.wait_for_text("out", |text| text.contains("pump"));
    agent.configure(&config("100ms", &(FILE.to_owned() + "[[inputs.cpu]]\n  percup = true\n")));
    agent.signal(Signal::HUP);
    agent.wait_for_log("percup");
    assert!(agent.stderr().lines().any(|line| line.contains(" E! ") && line.contains("percpu")), "{}", agent.stderr());
    let before = agent.text("out").len();
    agent.wait_for_text("out", |text| text.len() > before);
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn hang_up_flushes_the_old_pipeline_first() {
    let agent = heliograph(&config("1h", &(input("pump") + FILE))).start();
    agent.wait_for_log("Config: Interval");
    agent.configure(&config("100ms", &(input("valve") + FILE)));
    agent.signal(Signal::HUP);
    // The old pipeline is flushed before the new one runs.
    let text = agent.wait_for_text("out", |text| text.contains("valve"));
    let first_valve = text.find("valve").unwrap();
    assert!(!text[first_valve..].contains("pump"), "{text}");
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn user_signal_flushes() {
    let now = "[[outputs.file]]\n  files = [\"now\"]\n  flush_interval = \"100ms\"\n";
    let agent = heliograph(&config("1h", &(input("pump") + FILE + now))).start();
    agent.wait_for_text("now", |text| text.contains("pump"));
    assert_eq!(agent.text("out"), "");
    agent.signal(Signal::USR1);
    agent.wait_for_text("out", |text| text.contains("pump"));
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn secrets_stay_out_of_messages() {
    let output = |line: &str| {
        format!(
            "[[outputs.http]]\n  url = \"http://127.0.0.1:9\"\n  username = \"u\"\n  {line}\n  password = \"correct horse\"\n"
        )
    };
    for mistake in [
        "timout = \"1s\"",
        "timeout = \"1 parsec\"",
        "timeout = ",
        "= 3",
        "pasword = \"horse\"",
        "headers = {a = $SECRET}",
        "metod = \"$SECRET\"",
    ] {
        let ended = heliograph(&config("1h", &(input("pump") + &output(mistake))))
            .env("SECRET", "battery staple")
            .arg("--debug")
            .run();
        assert_eq!(ended.code(), 1, "{mistake}: {}", ended.stderr);
        for secret in ["horse", "staple"] {
            assert!(!(ended.stderr.clone() + &ended.stdout).contains(secret), "{mistake}: {}", ended.stderr);
        }
    }
    // Nor does a server that is away bring the login out.
    let ended = heliograph(&config("1h", &(input("pump") + &output("timeout = \"1s\"")))).arg("--once").run();
    assert_eq!(ended.code(), 1);
    assert!(!ended.stderr.contains("horse"), "{}", ended.stderr);
}

#[test]
fn a_secret_on_the_line_of_a_syntax_error_is_not_shown() {
    let output = "[[outputs.http]]\n  url = \"http://127.0.0.1:9\"\n  password = \"correct horse\n  username = \"u\"\n";
    let ended = heliograph(&config("1h", &(input("pump") + output))).run();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("telegraf.conf:"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("horse"), "{}", ended.stderr);
}

#[test]
fn unknown_plugins_and_options_are_refused_with_place_and_nearest_name() {
    let refused = |text: &str, parts: &[&str]| {
        let ended = heliograph(text).run();
        assert_eq!(ended.code(), 1);
        for part in parts {
            assert!(ended.stderr.contains(part), "{part:?} is not in\n{}", ended.stderr);
        }
    };
    refused("[[inputs.mqtt_consmer]]\n", &["telegraf.conf:1:", "mqtt_consmer", "mqtt_consumer"]);
    refused("[[outputs.graphit]]\n", &["telegraf.conf:1:", "graphit", "\"graphite\""]);
    refused(
        "[[inputs.cpu]]\n  percpu = true\n\n  totlcpu = true\n",
        &["telegraf.conf:4:3", "totlcpu", "totalcpu", "^^^^^^^"],
    );
    refused("[[inputs.cpu]]\n  percpu = \"often\"\n", &["telegraf.conf:2:12", "percpu", "^"]);
    refused("[agent]\n  intervall = \"10s\"\n", &["telegraf.conf:2:3", "intervall", "interval"]);
    refused("[[inputs.file]]\n  files = [\"a\"]\n  data_format = \"jsn\"\n", &["telegraf.conf:3:", "jsn", "\"json\""]);
    refused("[[inputs.cpu]]\n  percpu = tru\n", &["telegraf.conf:2:"]);
}

#[test]
fn more_worker_threads_do_the_same_work() {
    let config = config("100ms", &(input("pump") + &input("valve") + FILE));
    let agent = heliograph(&config.replace("[agent]\n", "[agent]\n  worker_threads = 2\n")).start();
    agent.wait_for_text("out", |text| text.matches("pump").count() > 3 && text.matches("valve").count() > 3);
    agent.signal(Signal::HUP);
    agent.wait_for_log("Reloading configuration");
    let before = agent.text("out").len();
    agent.wait_for_text("out", |text| text.len() > before);
    let ended = agent.stop();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn a_command_that_hangs_does_not_hold_up_the_end() {
    let hanging = "[[inputs.exec]]\n  commands = [[\"./hang\"]]\n  timeout = \"1h\"\n  data_format = \"influx\"\n";
    let setup = heliograph(&config("100ms", &(hanging.to_owned() + &input("pump") + FILE)));
    // The shell ignores the polite signal, and its child keeps the pipe open.
    let setup = setup.file("hang", "#!/bin/sh\ntrap '' TERM\necho started >> started\nsleep 3600 &\nwait\nwait\n");
    let path = setup.folder().join("hang");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let agent = setup.start();
    wait_until("the command runs", || !agent.text("started").is_empty());
    agent.wait_for_text("out", |text| text.contains("pump"));
    let ended = agent.stop();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.elapsed < Duration::from_secs(20), "{:?}", ended.elapsed);
}
