//! The journal on a disk that really runs full: a small tmpfs in a mount namespace of its own.

use std::process::Stdio;

use crate::kit::{Behaviour, GraphiteServer, Mosquitto, command, free_port, heliograph, wait_for, wait_until};

/// More than twice as many as the disk has space for.
const MESSAGES: u64 = 3000;
/// Bytes of text in each.
const TEXT: usize = 2000;
/// Space of the disk.
const SPACE: usize = 2 << 20;
/// Messages that may be without acknowledgement.
const WINDOW: u64 = 300;

/// The command that mounts a small disk on `journal` in a mount namespace of its own, and becomes what follows it.
///
/// The test fails where nothing of the kind is allowed: it must not pass without having been run.
fn on_a_small_disk() -> Vec<String> {
    let script = format!("mount -t tmpfs -o size={SPACE} journal journal && exec \"$@\"");
    let unshare = command("unshare").get_program().to_str().unwrap().to_owned();
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let mut refusals = Vec::new();
    for way in ways {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("journal")).unwrap();
        let mut whole = vec![unshare.clone()];
        whole.extend(way.iter().map(|arg| (*arg).to_owned()));
        whole.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
        let tried = command(&whole[0])
            .args(&whole[1..])
            .arg("true")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("unshare: {error}: install the Debian package util-linux"));
        if tried.status.success() {
            return whole;
        }
        refusals.push(String::from_utf8_lossy(&tried.stderr).into_owned());
    }
    panic!("cannot mount a tmpfs: run the test as root, or where user namespaces are allowed; {refusals:?}");
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let broker = Mosquitto::start();
    let port = free_port();
    let config = format!(
        r#"
[agent]
  interval = "100ms"
  flush_interval = "100ms"
  omit_hostname = true
  buffer_strategy = "disk"
  buffer_directory = "journal"
  buffer_max_size = "64MiB"
  buffer_segment_size = "256KiB"

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{}"]
  topics = ["plant/#"]
  qos = 1
  persistent_session = true
  max_undelivered_messages = {WINDOW}
  client_id = "keeper"
  topic_tag = ""
  data_format = "json"
  json_string_fields = ["text"]

[[inputs.internal]]

[[outputs.graphite]]
  servers = ["127.0.0.1:{port}"]
  namepass = ["mqtt_consumer"]
  retry_max = "1s"

[[outputs.file]]
  files = ["internal"]
  namepass = ["internal_journal"]
"#,
        broker.port()
    );
    let setup = heliograph(&config);
    std::fs::create_dir(setup.folder().join("journal")).unwrap();
    let agent = setup.behind(on_a_small_disk()).start();
    broker.wait_for_subscriptions(1);
    let text = "x".repeat(TEXT);
    let mut publisher = broker.publisher();
    (1..=MESSAGES).for_each(|i| publisher.publish("plant/a", format!("{{\"n\": {i}, \"text\": \"{text}\"}}")));
    publisher.finish();

    // The disk fills up, and the agent goes on in memory, as far as the broker lets it.
    agent.wait_for_log("cannot write the journal: metrics wait in memory until the disk is back");
    agent.wait_for_text("internal", |text| text.contains("in_memory=1i"));
    let sent = || broker.server().log().matches("Sending PUBLISH to keeper").count() as u64;
    let acknowledged = || broker.server().log().matches("Received PUBACK from keeper").count() as u64;
    wait_until("the window is full", || sent() >= acknowledged() + WINDOW);
    let safe = acknowledged();
    assert!(safe > 100 && safe as usize * TEXT <= SPACE, "{safe} acknowledged on a disk of {SPACE} bytes");

    // The backend comes back, takes all of it, and with that there is space again.
    let server = GraphiteServer::on(port, Behaviour::Reads);
    wait_for("all messages at the server", || {
        let mut numbers: Vec<u64> =
            server.lines().iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        if numbers == (1..=MESSAGES).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{} lines", numbers.len())) }
    });
    agent.wait_for_log("the journal is on the disk again");
    agent.wait_for_text("internal", |text| text.lines().last().is_some_and(|line| line.contains("in_memory=0i")));
    wait_until("every message is acknowledged", || acknowledged() == MESSAGES);
    let ended = agent.stop();
    assert_eq!(ended.code(), 0);
    // It was said once each time that the disk ran full, not at every attempt.
    let count = |part| ended.stderr.matches(part).count();
    assert_eq!(count("cannot write the journal"), count("the journal is on the disk again"), "{}", ended.stderr);
}
