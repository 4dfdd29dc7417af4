//! What becomes of messages when something goes wrong: with the agent, with the output, with the messages themselves.

use std::collections::BTreeMap;

use crate::kit::{
    Agent, Behaviour, GraphiteServer, Mosquitto, free_port, heliograph, number_after, wait_for, wait_until,
};

/// Messages of a test that counts them.
const MESSAGES: u64 = 500;

/// A consumer with a session that the broker keeps, which writes to Graphite; its own figures go to `internal`.
pub fn keeping(broker: &Mosquitto, graphite: u16) -> String {
    format!(
        r#"
[agent]
  interval = "100ms"
  flush_interval = "100ms"
  omit_hostname = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{}"]
  topics = ["plant/#"]
  qos = 1
  persistent_session = true
  client_id = "keeper"
  topic_tag = ""
  data_format = "value"
  data_type = "integer"

[[inputs.internal]]

[[outputs.graphite]]
  servers = ["127.0.0.1:{graphite}"]
  namepass = ["mqtt_consumer"]

[[outputs.file]]
  files = ["internal"]
  namepass = ["internal_*"]
"#,
        broker.port()
    )
}

/// Waits until the agent says that it has received so many messages.
fn has_received(agent: &Agent, count: u64) {
    agent.wait_for_text("internal", |text| text.contains(&format!("messages_received={count}i")));
}

/// How often the server has each payload.
fn payloads(server: &GraphiteServer) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for line in server.lines() {
        *found.entry(line.split(' ').nth(1).unwrap().parse().unwrap()).or_default() += 1;
    }
    found
}

fn wait_for_payloads(server: &GraphiteServer, wanted: std::ops::RangeInclusive<u64>) {
    wait_for("all payloads at the server", || {
        let found = payloads(server);
        let missing = wanted.clone().filter(|payload| !found.contains_key(payload)).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} missing")) }
    });
}

#[test]
fn what_was_not_delivered_comes_again_after_a_kill() {
    let broker = Mosquitto::start();
    let port = free_port();
    let agent = heliograph(&keeping(&broker, port)).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    has_received(&agent, MESSAGES);
    assert!(!broker.server().log().contains("Received PUBACK from keeper"), "nothing is safe yet");
    let setup = agent.kill();

    let server = GraphiteServer::on(port, Behaviour::Reads);
    let agent = setup.start();
    wait_for_payloads(&server, 1..=MESSAGES);
    wait_until("every message is acknowledged", || {
        broker.server().log().matches("Received PUBACK from keeper").count() as u64 == MESSAGES
    });

    // Now that they are delivered, they do not come again.
    let setup = agent.kill();
    let agent = setup.start();
    broker.wait_for_subscriptions(3);
    broker.publish("plant/a", b"1000000", &["-q", "1"]);
    wait_for_payloads(&server, 1_000_000..=1_000_000);
    assert!(payloads(&server).values().all(|&times| times == 1), "{:?}", payloads(&server));
    assert_eq!(agent.stop().code(), 0);
}

/// The same with the journal on disk.
pub fn keeping_on_disk(broker: &Mosquitto, graphite: u16) -> String {
    let journal = "[agent]\n  buffer_strategy = \"disk\"\n  buffer_directory = \"journal\"\n";
    keeping(broker, graphite).replacen("[agent]\n", journal, 1)
}

#[test]
fn what_was_acknowledged_from_the_disk_survives_a_kill() {
    let broker = Mosquitto::start();
    let port = free_port();
    let agent = heliograph(&keeping_on_disk(&broker, port)).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    // Nobody takes the metrics: they are safe on the disk alone.
    wait_until("every message is acknowledged", || {
        broker.server().log().matches("Received PUBACK from keeper").count() as u64 == MESSAGES
    });
    let setup = agent.kill();

    let server = GraphiteServer::on(port, Behaviour::Reads);
    let agent = setup.start();
    wait_for_payloads(&server, 1..=MESSAGES);
    assert_eq!(agent.stop().code(), 0);
    assert!(payloads(&server).values().all(|&times| times == 1), "{:?}", payloads(&server));
}

#[test]
fn a_window_that_is_full_does_not_wait_for_the_commit_interval() {
    let broker = Mosquitto::start();
    let config = keeping_on_disk(&broker, free_port())
        .replacen("[agent]\n", "[agent]\n  buffer_commit_interval = \"1h\"\n", 1)
        .replacen("  qos = 1\n", "  qos = 1\n  max_undelivered_messages = 50\n", 1);
    let agent = heliograph(&config).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    wait_until("all but the last window is acknowledged", || {
        broker.server().log().matches("Received PUBACK from keeper").count() as u64 >= MESSAGES - 50
    });
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn two_agents_on_one_folder() {
    let broker = Mosquitto::start();
    let config = keeping_on_disk(&broker, free_port());
    let folder = tempfile::tempdir().unwrap();
    let config = config.replacen("\"journal\"", &format!("{:?}", folder.path()), 1);
    let agent = heliograph(&config).start();
    broker.wait_for_subscriptions(1);
    let second = heliograph(&config).run();
    assert_eq!(second.code(), 1);
    assert!(
        second.stderr.contains("another agent is using it, give each agent a folder of its own"),
        "{}",
        second.stderr
    );
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn a_restart_of_the_broker_loses_nothing_of_a_session() {
    let mut broker = Mosquitto::start();
    let server = GraphiteServer::start(Behaviour::Reads);
    let agent = heliograph(&keeping(&broker, server.port())).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    broker.stop();
    agent.wait_for_log("connection lost");
    broker.start_again();
    let mut publisher = broker.publisher();
    (MESSAGES + 1..=2 * MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    wait_for_payloads(&server, 1..=2 * MESSAGES);
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn a_limit_of_undelivered_messages_holds_the_broker_back() {
    let broker = Mosquitto::start();
    let port = free_port();
    let config = keeping(&broker, port).replace("  qos = 1\n", "  qos = 1\n  max_undelivered_messages = 50\n");
    let agent = heliograph(&config).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=2000).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    agent.wait_for_logs("error writing to outputs.graphite", 3);
    let server = GraphiteServer::on(port, Behaviour::Reads);
    wait_for_payloads(&server, 1..=2000);
    assert_eq!(agent.stop().code(), 0);
    assert!(payloads(&server).values().all(|&times| times == 1));
}

/// A consumer that writes everything, its own figures too, to `out`.
fn writing(broker: &Mosquitto, format: &str) -> String {
    format!(
        r#"
[agent]
  interval = "100ms"
  flush_interval = "100ms"
  omit_hostname = true
  metric_buffer_limit = 100000

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{}"]
  topics = ["plant/#"]
  qos = 1
  client_id = "steady"
  {format}

[[inputs.internal]]

[[outputs.file]]
  files = ["out"]
  namepass = ["mqtt_consumer"]

[[outputs.file]]
  files = ["internal"]
  namepass = ["internal_*"]
"#,
        broker.port()
    )
}

#[test]
fn good_messages_among_as_many_bad_ones() {
    const GOOD: u64 = 10_000;
    let broker = Mosquitto::start();
    let agent = heliograph(&writing(&broker, "data_format = \"json\"")).start();
    broker.wait_for_subscriptions(1);
    let bad: [&[u8]; 4] = [b"{\"number\": 12", b"{\"number\": }", b"hello", b"\xff\xfe\x00\x01"];
    let mut publisher = broker.publisher();
    for i in 1..=GOOD {
        publisher.publish("plant/bad", bad[i as usize % bad.len()]);
        publisher.publish("plant/good", format!("{{\"number\": {i}}}"));
    }
    publisher.finish();
    let text = agent.wait_for_text("out", |text| text.lines().count() as u64 >= GOOD);
    let mut numbers: Vec<u64> = text.lines().map(|line| number_after(line, "number=").unwrap() as u64).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=GOOD).collect::<Vec<_>>());

    // Bad ones are counted by reason …
    wait_for("the count of bad messages", || {
        let internal = agent.text("internal");
        let mut by_reason = BTreeMap::new();
        for line in internal.lines().filter(|line| line.starts_with("internal_parse_problems,")) {
            let (series, fields) = line.split_once(' ').unwrap();
            assert!(series.contains("reason="), "{line}");
            by_reason.insert(series.to_owned(), number_after(fields, "problems=").unwrap_or(0.0) as u64);
        }
        if by_reason.values().sum::<u64>() == GOOD { Ok(()) } else { Err(format!("{by_reason:?}")) }
    });
    // … and told now and then, with topic and cause.
    let log = agent.stderr();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("plant/bad")).collect();
    assert!(!told.is_empty() && told.len() < 20, "{} lines", told.len());
    assert!(told[0].contains(" E! ") && told[0].to_lowercase().contains("json"), "{}", told[0]);
    assert!(!log.contains("connection lost"), "{log}");
}

#[test]
fn odd_messages_leave_the_connection_alone() {
    let broker = Mosquitto::start();
    let agent = heliograph(&writing(&broker, "data_format = \"value\"\n  data_type = \"string\"")).start();
    broker.wait_for_subscriptions(1);
    let deep = format!("plant{}", "/level".repeat(59));
    let mut publisher = broker.publisher();
    publisher.publish("plant/large", vec![b'x'; 1 << 20]);
    publisher.publish("plant/empty", "");
    publisher.publish("plant/nul", b"a\0b\0".to_vec());
    publisher.publish("plant/invalid", b"a\xff\xc3\x28b".to_vec());
    publisher.publish(&deep, "deep");
    publisher.publish("plant/\u{fc}ml\u{e4}ut and blank", "text");
    publisher.publish("plant/last", "last");
    publisher.finish();
    agent.wait_for_text("out", |text| text.contains("value=\"last\""));
    let text = std::fs::read(agent.path("out")).unwrap();
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    assert!(has(format!("topic=plant/large value=\"{}\"", "x".repeat(1 << 20)).as_bytes()));
    // The format cuts zero bytes off at the ends, as devices write with a fixed width.
    assert!(has(b"topic=plant/nul value=\"a\0b\""));
    assert!(
        has(b"topic=plant/invalid value=\"a\xff\xc3\x28b\"") || has("topic=plant/invalid value=\"a\u{fffd}".as_bytes())
    );
    assert!(has(format!("topic={deep} value=\"deep\"").as_bytes()));
    assert!(has("topic=plant/\u{fc}ml\u{e4}ut\\ and\\ blank value=\"text\"".as_bytes()));
    assert!(!agent.stderr().contains("connection lost"), "{}", agent.stderr());
    assert_eq!(broker.server().log().matches("as steady").count(), 1, "the first connection is the only one");
    assert_eq!(agent.stop().code(), 0);
}
