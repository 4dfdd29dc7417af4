//! What MQTT 5 adds, and what both versions have beyond Telegraf: retained messages, shared groups, sessions that change.

use rustix::process::Signal;

use crate::kit::{
    Agent, Behaviour, GraphiteServer, Mosquitto, command, free_port, heliograph, number_after, wait_for, wait_for_port,
    wait_until,
};

/// An agent that writes what comes from this port to `out`, and its own figures to `internal`.
pub fn consumer(port: u16, more: &str) -> String {
    format!(
        r#"
[agent]
  interval = "100ms"
  flush_interval = "100ms"
  omit_hostname = true

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{port}"]
  max_reconnect_interval = "1s"
  data_format = "value"
  data_type = "integer"
{more}

[[inputs.internal]]

[[outputs.file]]
  files = ["out"]
  namepass = ["mqtt_consumer"]

[[outputs.file]]
  files = ["internal"]
  namepass = ["internal_*"]
"#
    )
}

pub const V5: &str = "  topics = [\"plant/#\"]\n  protocol = \"5\"\n";

fn start(broker: &Mosquitto, more: &str) -> Agent {
    let agent = heliograph(&consumer(broker.port(), more)).start();
    broker.wait_for_subscriptions(1);
    agent
}

/// The lines of `out` without their times, once there are so many.
pub fn lines(agent: &Agent, count: usize) -> Vec<String> {
    let text = agent.wait_for_text("out", |text| text.lines().count() >= count);
    text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// The newest value of a field among the agent's own figures.
pub fn figure(agent: &Agent, field: &str) -> Option<f64> {
    let text = agent.text("internal");
    let newest = text.lines().rev().find(|line| line.starts_with("internal_mqtt_consumer"))?;
    number_after(newest, &format!("{field}="))
}

/// How often it has told them.
fn figures(agent: &Agent) -> usize {
    agent.text("internal").lines().filter(|line| line.starts_with("internal_mqtt_consumer")).count()
}

#[test]
fn every_quality_of_service() {
    let broker = Mosquitto::start();
    let agent = start(&broker, &format!("{V5}  qos = 2\n"));
    for qos in ["0", "1", "2"] {
        broker.publish("plant/a", format!("1{qos}").as_bytes(), &["-q", qos]);
    }
    broker.publish("plant/last", b"1", &["-q", "1"]);
    let text = agent.wait_for_text("out", |text| text.contains("plant/last"));
    for qos in 0..3 {
        assert_eq!(text.matches(&format!("value=1{qos}i ")).count(), 1, "{text}");
    }
    assert!(broker.server().log().contains("(p5, c1, k60"), "{}", broker.server().log());
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn properties_become_tags_times_and_fields() {
    let broker = Mosquitto::start();
    let more = r#"
  user_properties_as_tags = ["site", "fw*"]
  user_property_timestamp = "ts"
  user_property_timestamp_format = "unix"
  message_expiry_field = "expires_in"
"#;
    let agent = start(&broker, &format!("{V5}{more}"));
    let publish = |payload: &[u8], properties: &[(&str, &str)]| {
        let mut more = vec!["-V", "5", "-q", "1"];
        for (name, value) in properties {
            more.extend(["-D", "publish", "user-property", name, value]);
        }
        broker.publish("plant/a", payload, &more);
    };
    publish(b"1", &[("site", "north"), ("fw", "1.2"), ("other", "x"), ("ts", "1700000000")]);
    publish(b"2", &[("site", "south"), ("topic", "forged"), ("ts", "soon")]);
    publish(b"3", &[]);
    broker.publish("plant/a", b"4", &["-V", "5", "-q", "1", "-D", "publish", "message-expiry-interval", "3600"]);
    let text = agent.wait_for_text("out", |text| text.lines().count() >= 4);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "mqtt_consumer,fw=1.2,site=north,topic=plant/a value=1i 1700000000000000000");
    assert!(lines[1].starts_with("mqtt_consumer,site=south,topic=plant/a value=2i "), "{text}");
    assert!(!lines[1].contains("1700000000000000000"));
    assert!(lines[2].starts_with("mqtt_consumer,topic=plant/a value=3i "), "{text}");
    assert!(lines[3].starts_with("mqtt_consumer,topic=plant/a value=4i,expires_in=3600i "), "{text}");
    agent.wait_for_log("user property \"ts\" is no time");
    agent.wait_for_text("internal", |text| {
        text.lines().any(|line| line.contains("reason=property") && line.contains("problems=1i"))
    });
}

/// A retained message from before, and a live one.
fn with_retained(protocol: &str, retained: &str) -> (Mosquitto, Agent) {
    let broker = Mosquitto::start();
    broker.publish("plant/a", b"1", &["-r", "-q", "1"]);
    let more =
        format!("  topics = [\"plant/#\"]\n  qos = 1\n  protocol = \"{protocol}\"\n  retained = \"{retained}\"\n");
    let agent = start(&broker, &more);
    broker.publish("plant/a", b"2", &["-q", "1"]);
    (broker, agent)
}

#[test]
fn retained_messages_are_dropped() {
    let (_broker, agent) = with_retained("3.1.1", "drop");
    assert_eq!(lines(&agent, 1), ["mqtt_consumer,topic=plant/a value=2i"]);
    wait_until("a count of dropped messages", || figure(&agent, "retained_dropped") == Some(1.0));
}

#[test]
fn retained_messages_are_not_even_sent() {
    let (broker, agent) = with_retained("5", "drop");
    assert_eq!(lines(&agent, 1), ["mqtt_consumer,topic=plant/a value=2i"]);
    assert_eq!(broker.server().log().matches("Sending PUBLISH").count(), 1);
}

#[test]
fn retained_messages_are_marked() {
    for protocol in ["3.1.1", "5"] {
        let (_broker, agent) = with_retained(protocol, "tag");
        let expected = ["mqtt_consumer,retained=true,topic=plant/a value=1i", "mqtt_consumer,topic=plant/a value=2i"];
        assert_eq!(lines(&agent, 2), expected, "{protocol}");
    }
}

/// A session that the broker keeps.
const KEPT: &str = "  qos = 1\n  persistent_session = true\n  client_id = \"keeper\"\n";

#[test]
fn several_connections_share_the_messages() {
    const MESSAGES: usize = 600;
    for protocol in ["3.1.1", "5"] {
        let broker = Mosquitto::start();
        let more = format!("  topics = [\"plant/#\"]\n  protocol = \"{protocol}\"\n{KEPT}  connections = 3\n");
        let agent = heliograph(&consumer(broker.port(), &more)).start();
        broker.wait_for_subscriptions(3);
        let mut publisher = broker.publisher();
        (0..MESSAGES).for_each(|i| publisher.publish("plant/a", i.to_string()));
        publisher.finish();
        let text = agent.wait_for_text("out", |text| text.lines().count() >= MESSAGES);
        let mut numbers: Vec<usize> = text.lines().map(|line| number_after(line, "value=").unwrap() as usize).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{protocol}");
        for name in ["keeper-1", "keeper-2", "keeper-3"] {
            wait_until("each connection acknowledges its share", || {
                let log = broker.server().log();
                log.matches(&format!("Received PUBACK from {name}")).count() == MESSAGES / 3
            });
        }
        assert_eq!(agent.stop().code(), 0);
    }
}

/// A consumer with a kept session that writes to Graphite.
fn keeping(broker: &Mosquitto, graphite: u16, more: &str) -> String {
    let config = consumer(broker.port(), &format!("{V5}{KEPT}{more}"));
    format!(
        "{config}\n[[outputs.graphite]]\n  servers = [\"127.0.0.1:{graphite}\"]\n  namepass = [\"mqtt_consumer\"]\n"
    )
}

/// Waits until the server has the numbers from 1 to this one; tells how many came more than once.
fn wait_for_numbers(server: &GraphiteServer, last: u64) -> usize {
    wait_for("all numbers at the server", || {
        let mut numbers: Vec<u64> =
            server.lines().iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        let missing = (1..=last).filter(|number| numbers.binary_search(number).is_err()).count();
        if missing == 0 { Ok(all - numbers.len()) } else { Err(format!("{missing} missing")) }
    })
}

fn acknowledged(broker: &Mosquitto) -> usize {
    broker.server().log().matches("Received PUBACK from keeper").count()
}

#[test]
fn what_was_acknowledged_from_the_disk_survives_a_kill() {
    let broker = Mosquitto::start();
    let graphite = free_port();
    let disk = "[agent]\n  buffer_strategy = \"disk\"\n  buffer_directory = \"journal\"\n";
    let agent = heliograph(&keeping(&broker, graphite, "").replacen("[agent]\n", disk, 1)).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=500).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    wait_until("every message is acknowledged", || acknowledged(&broker) == 500);
    let setup = agent.kill();
    // The session takes what comes meanwhile.
    let mut publisher = broker.publisher();
    (501..=1000).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();

    let server = GraphiteServer::on(graphite, Behaviour::Reads);
    let agent = setup.start();
    assert_eq!(wait_for_numbers(&server, 1000), 0);
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn a_full_window_does_not_wait_for_the_commit_interval() {
    const WINDOW: usize = 20;
    // With 3.1.1 it is the broker's and has to be learnt; with 5 this broker goes by what it is told.
    for protocol in ["protocol = \"3.1.1\"", "protocol = \"5\"\n  receive_maximum = 20"] {
        let mut broker = Mosquitto::quiet(&format!("log_type all\nmax_inflight_messages {WINDOW}\n"));
        broker.restart();
        let disk = "[agent]\n  buffer_strategy = \"disk\"\n  buffer_directory = \"journal\"\n  buffer_commit_interval = \"1h\"\n";
        let config = keeping(&broker, free_port(), "").replacen("[agent]\n", disk, 1);
        let config = config.replace("protocol = \"5\"", protocol);
        let agent = heliograph(&config).start();
        broker.wait_for_subscriptions(1);
        let mut publisher = broker.publisher();
        (1..=500).for_each(|i| publisher.publish("plant/a", i.to_string()));
        publisher.finish();
        // An interval of an hour would be the end of it at the first full window.
        wait_for("all but the last window is acknowledged", || match acknowledged(&broker) {
            count if count >= 500 - WINDOW => Ok(()),
            count => Err(format!("{count}, {protocol}")),
        });
        assert_eq!(agent.stop().code(), 0);
    }
}

#[test]
fn releases_of_an_earlier_process_are_answered() {
    let broker = Mosquitto::start();
    let graphite = free_port();
    let config = keeping(&broker, graphite, "").replace("  qos = 1\n", "  qos = 2\n");
    let server = GraphiteServer::on(graphite, Behaviour::Reads);
    let agent = heliograph(&config).start();
    broker.wait_for_subscriptions(1);
    let publish = |from: u64, to: u64| {
        (from..=to).for_each(|i| broker.publish("plant/a", i.to_string().as_bytes(), &["-q", "2"]));
    };
    publish(1, 10);
    wait_for_numbers(&server, 10);
    let agent = agent.kill().start();
    publish(11, 20);
    wait_for_numbers(&server, 20);
    wait_until("every message is complete", || {
        broker.server().log().matches("Received PUBCOMP from keeper").count() >= 20
    });
    assert!(!agent.stderr().contains("connection lost"), "{}", agent.stderr());
}

#[test]
fn a_receive_maximum_holds_the_broker_back() {
    let broker = Mosquitto::start();
    let graphite = free_port();
    let agent = heliograph(&keeping(&broker, graphite, "  receive_maximum = 5\n  silence_timeout = \"1s\"\n")).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=200).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    wait_until("what may come has come", || figure(&agent, "messages_received") == Some(5.0));
    // A broker that waits for us is silent for a good reason: two seconds of figures later it is still so.
    let begun = figures(&agent);
    wait_until("further figures", || figures(&agent) >= begun + 20);
    assert_eq!(figure(&agent, "reconnects"), Some(0.0));
    assert_eq!(broker.server().log().matches("Sending PUBLISH to keeper").count(), 5);
    let server = GraphiteServer::on(graphite, Behaviour::Reads);
    assert_eq!(wait_for_numbers(&server, 200), 0);
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn pings_go_on_while_nothing_is_taken() {
    let broker = Mosquitto::start();
    let graphite = free_port();
    let config = keeping(&broker, graphite, "  max_undelivered_messages = 50\n  keepalive = \"2s\"\n");
    let agent = heliograph(&config.replace("protocol = \"5\"", "protocol = \"3.1.1\"")).start();
    broker.wait_for_subscriptions(1);
    let mut publisher = broker.publisher();
    (1..=5000).for_each(|i| publisher.publish("plant/a", i.to_string()));
    publisher.finish();
    // The broker of these tests has no window: all of them are with the agent, which has no place for them.
    wait_until("pings", || broker.server().log().matches("Received PINGREQ from keeper").count() >= 4);
    assert!(!agent.stderr().contains("connection lost"), "{}", agent.stderr());
    let server = GraphiteServer::on(graphite, Behaviour::Reads);
    assert_eq!(wait_for_numbers(&server, 5000), 0);
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn a_session_expires() {
    let broker = Mosquitto::start();
    let agent = start(&broker, &format!("{V5}{KEPT}  session_expiry = \"1s\"\n"));
    drop(agent.kill());
    wait_until("the end of the session", || broker.server().log().contains("Expiring client keeper due to timeout"));
}

/// A kept session with these topics.
fn topics(broker: &Mosquitto, protocol: &str, topics: &str) -> String {
    let config = consumer(broker.port(), &format!("  topics = [{topics}]\n  protocol = \"{protocol}\"\n{KEPT}"));
    config.replacen("[agent]\n", "[agent]\n  statefile = \"state\"\n", 1)
}

/// A message on a topic that is gone does not come, one on a topic that stays does.
fn is_gone(agent: &Agent, broker: &Mosquitto, gone: &str, stays: &str) {
    broker.publish(gone, b"666", &["-q", "1"]);
    broker.publish(stays, b"777", &["-q", "1"]);
    let text = agent.wait_for_text("out", |text| text.contains("value=777i"));
    assert!(!text.contains("value=666i"), "{text}");
}

#[test]
fn topics_that_are_taken_out_are_unsubscribed_at_a_reload() {
    for protocol in ["3.1.1", "5"] {
        let broker = Mosquitto::start();
        let agent = heliograph(&topics(&broker, protocol, "\"a/#\", \"b/#\"")).start();
        broker.wait_for_subscriptions(1);
        agent.configure(&topics(&broker, protocol, "\"b/#\", \"c/#\""));
        agent.signal(Signal::HUP);
        agent.wait_for_log("unsubscribed a filter that is no longer in `topics`");
        is_gone(&agent, &broker, "a/x", "b/x");
        assert_eq!(agent.stop().code(), 0);
    }
}

#[test]
fn topics_that_are_taken_out_are_unsubscribed_after_a_kill() {
    let broker = Mosquitto::start();
    let agent = heliograph(&topics(&broker, "5", "\"a/#\", \"b/#\"")).start();
    broker.wait_for_subscriptions(1);
    agent.wait_for_text("state", |text| text.contains("inputs.mqtt_consumer keeper"));
    let setup = agent.kill().file("telegraf.conf", topics(&broker, "5", "\"b/#\", \"c/#\""));
    let agent = setup.start();
    agent.wait_for_log("filter=a/#");
    is_gone(&agent, &broker, "a/x", "c/x");
}

#[test]
fn filters_to_unsubscribe_can_be_named() {
    let broker = Mosquitto::start();
    let agent = heliograph(&topics(&broker, "3.1.1", "\"a/#\"")).start();
    broker.wait_for_subscriptions(1);
    // With its state file gone nobody knows what the session has.
    drop(agent.kill());
    let more = "\"b/#\"]\n  unsubscribe = [\"a/#\"";
    let agent = heliograph(&topics(&broker, "3.1.1", more)).start();
    agent.wait_for_log("unsubscribed a filter");
    is_gone(&agent, &broker, "a/x", "b/x");
}

#[test]
fn a_wrong_password_is_told_with_its_code() {
    let mut broker = Mosquitto::new("allow_anonymous false\npassword_file @/passwords\n");
    let passwords = broker.server().path("passwords");
    let made = command("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args(["plant", "right"]).status();
    assert!(made.expect("install the Debian package mosquitto").success());
    broker.restart();
    let more = format!("{V5}  username = \"plant\"\n  password = \"wrong\"\n");
    let ended = heliograph(&consumer(broker.port(), &more)).run();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("the broker refuses: not authorized (0x87)"), "{}", ended.stderr);
}

#[test]
fn silence_makes_the_connection_anew() {
    let broker = Mosquitto::start();
    let agent = start(&broker, &format!("{V5}  silence_timeout = \"1s\"\n"));
    agent.wait_for_log("no message within silence_timeout, connecting again");
    broker.wait_for_subscriptions(3);
    wait_until("a count of connections", || figure(&agent, "reconnects").is_some_and(|count| count >= 2.0));
    assert_eq!(agent.stderr().matches("no message within silence_timeout").count(), 1, "{}", agent.stderr());
    broker.publish("plant/a", b"1", &["-q", "1"]);
    lines(&agent, 1);
}

#[test]
fn certificates_are_read_again_for_each_connection() {
    let (mut broker, port) = crate::mqtt::tls_broker("mqtt");
    let server = format!("ssl://localhost:{port}");
    let more = format!("{}  protocol = \"5\"\n", crate::mqtt::tls_options(&broker));
    let config = consumer(0, &more).replace("tcp://127.0.0.1:0", &server);
    let agent = heliograph(&config).start();
    broker.wait_for_subscriptions(1);
    broker.stop();
    agent.wait_for_log("connection lost");
    // Another authority, which the old files know nothing of.
    crate::mqtt::certificates(&broker);
    broker.start_again();
    broker.wait_for_subscriptions(2);
}

#[test]
fn websockets_and_unix_sockets() {
    let web = free_port();
    let mut broker = Mosquitto::new(&format!(
        "allow_anonymous true\nlistener {web} 127.0.0.1\nprotocol websockets\nlistener 0 @/broker.sock\n"
    ));
    broker.restart();
    // This listener opens later than the others.
    wait_for_port(web);
    let unix = format!("unix://{}", broker.server().path("broker.sock").display());
    for server in [format!("ws://127.0.0.1:{web}/mqtt"), unix] {
        let before = broker.server().log().matches("Sending SUBACK").count();
        let agent = heliograph(&consumer(0, V5).replace("tcp://127.0.0.1:0", &server)).start();
        broker.wait_for_subscriptions(before + 1);
        broker.publish("plant/a", b"1", &["-q", "1"]);
        assert_eq!(lines(&agent, 1), ["mqtt_consumer,topic=plant/a value=1i"], "{server}");
    }
}
