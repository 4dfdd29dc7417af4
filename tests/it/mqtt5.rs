//! What MQTT 5 adds, and what both versions have beyond Telegraf: retained messages, shared groups, sessions that change.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::Signal;

use crate::kit::{
    Agent, Behaviour, GraphiteServer, Mosquitto, PATIENCE, command, free_port, heliograph, number_after, wait_for,
    wait_until,
};

/// An agent that writes what comes from this port to `out`, and its own figures to `internal`.
fn consumer(port: u16, more: &str) -> String {
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

const V5: &str = "  topics = [\"plant/#\"]\n  protocol = \"5\"\n";

fn start(broker: &Mosquitto, more: &str) -> Agent {
    let agent = heliograph(&consumer(broker.port(), more)).start();
    broker.wait_for_subscriptions(1);
    agent
}

/// The lines of `out` without their times, once there are so many.
fn lines(agent: &Agent, count: usize) -> Vec<String> {
    let text = agent.wait_for_text("out", |text| text.lines().count() >= count);
    text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// The newest value of a field among the agent's own figures.
fn figure(agent: &Agent, field: &str) -> Option<f64> {
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

/// A broker that does as it is told: it answers each packet of a connection with the next answer, and ends the connection
/// when there are no more. In answers to SUBSCRIBE and UNSUBSCRIBE the packet identifier is put in.
struct Script {
    port: u16,
    /// The packets it has got, of all connections.
    packets: Receiver<Vec<u8>>,
}

impl Script {
    fn new(connections: Vec<Vec<Vec<u8>>>, holds: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, packets) = channel();
        thread::spawn(move || {
            let mut open = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for mut answer in answers {
                    let Some(packet) = packet(&mut stream) else { break };
                    if matches!(packet[0] >> 4, 8 | 10) {
                        answer[2..4].copy_from_slice(&packet[2..4]);
                    }
                    if got.send(packet).is_err() {
                        return;
                    }
                    drop(stream.write_all(&answer));
                }
                if holds {
                    open.push(stream);
                }
            }
            // The last one stays open until the test is over.
            open.iter_mut().for_each(|stream| drop(stream.read_to_end(&mut Vec::new())));
        });
        Self { port, packets }
    }

    fn packet(&self) -> Vec<u8> {
        self.packets.recv_timeout(PATIENCE).expect("another packet")
    }
}

/// The next packet of fewer than 128 bytes.
fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut packet = vec![0; usize::from(head[1]) + 2];
    packet[..2].copy_from_slice(&head);
    stream.read_exact(&mut packet[2..]).ok()?;
    Some(packet)
}

/// CONNACK without a session: that of 3.1.1, that of 5 with these properties.
fn connack(properties: Option<&[u8]>) -> Vec<u8> {
    match properties {
        None => vec![0x20, 2, 0, 0],
        Some(properties) => {
            let length = properties.len() as u8;
            [&[0x20, 3 + length, 0, 0, length], properties].concat()
        }
    }
}

const TWO: &str = "  topics = [\"plant/a\", \"plant/b\"]\n";

#[test]
fn a_filter_that_is_refused_is_named() {
    // The second of two filters: 0x80 in 3.1.1, not authorized with a reason string in 5.
    let old = vec![connack(None), vec![0x90, 4, 0, 0, 0, 0x80]];
    let script = Script::new(vec![old], true);
    let agent = heliograph(&consumer(script.port, TWO)).start();
    agent.wait_for_log("the broker refuses the subscription; nothing will arrive for it");
    assert!(agent.stderr().contains("filter=plant/b code=\"failure (0x80)\""), "{}", agent.stderr());
    assert!(!agent.stderr().contains("every subscription"));

    let suback = [&[0x90, 11, 0, 0, 6, 0x1f, 0, 3], &b"why"[..], &[0x87, 0x9e]].concat();
    let script = Script::new(vec![vec![connack(Some(&[])), suback]], true);
    let agent = heliograph(&consumer(script.port, &format!("{TWO}  protocol = \"5\"\n"))).start();
    agent.wait_for_log("the broker refuses every subscription; nothing will arrive at all");
    let log = agent.stderr();
    assert!(log.contains("filter=plant/a code=\"not authorized (0x87)\" reason=why"), "{log}");
    assert!(log.contains("filter=plant/b code=\"shared subscriptions not supported (0x9e)\""), "{log}");
    assert!(agent.is_running());
}

#[test]
fn a_broker_that_says_why_it_disconnects() {
    let taken_over = [&[0x90, 4, 0, 0, 0, 0], &[0xe0, 10, 0x8e, 8, 0x1f, 0, 5][..], b"twins"].concat();
    let script = Script::new(vec![vec![connack(Some(&[])), taken_over]], true);
    let agent = heliograph(&consumer(script.port, V5)).start();
    agent.wait_for_log("disconnected by the broker: session taken over (0x8e): \"twins\"; another client has the same");
}

#[test]
fn a_subscription_that_is_never_answered_is_tried_on_a_new_connection() {
    let granted = vec![connack(None), vec![0x90, 4, 0, 0, 0, 0]];
    let script = Script::new(vec![vec![connack(None)], granted], true);
    let agent = heliograph(&consumer(script.port, &format!("{TWO}  connection_timeout = \"1s\"\n"))).start();
    agent.wait_for_log("no answer to the subscription within 1s");
    let kinds: Vec<u8> = (0..3).map(|_| script.packet()[0] >> 4).collect();
    assert_eq!(kinds, [1, 1, 8], "CONNECT, and again, and SUBSCRIBE");
    wait_until("a count of connections", || figure(&agent, "reconnects") == Some(1.0));
}

#[test]
fn a_broker_without_shared_subscriptions_is_refused() {
    let script = Script::new(vec![vec![connack(Some(&[0x2a, 0])), Vec::new()]], true);
    let more = "  topics = [\"$share/g/plant/#\"]\n  protocol = \"5\"\n";
    let ended = heliograph(&consumer(script.port, more)).run();
    assert_eq!(ended.code(), 1);
    let expected = "the broker has no shared subscriptions, which filter \"$share/g/plant/#\" needs";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn topic_aliases_are_those_of_their_connection() {
    let publish = |topic: &str, alias: Option<u8>, payload: &str| {
        let properties = alias.map_or_else(Vec::new, |alias| vec![0x23, 0, alias]);
        let length = 2 + topic.len() + 1 + properties.len() + payload.len();
        let head = [0x30, length as u8, 0, topic.len() as u8];
        [&head, topic.as_bytes(), &[properties.len() as u8], &properties, payload.as_bytes()].concat()
    };
    let granted = vec![0x90, 5, 0, 0, 0, 0, 0];
    let first = [
        granted.clone(),
        publish("plant/a", Some(1), "1"),
        publish("plant/b", Some(2), "2"),
        publish("", Some(1), "3"),
        publish("plant/b", Some(1), "4"),
        publish("", Some(1), "5"),
    ];
    // The numbers of the first connection mean nothing on the second.
    let second =
        [granted.clone(), publish("plant/c", Some(1), "6"), publish("", Some(1), "7"), publish("", Some(2), "8")];
    let third = [granted, publish("plant/d", None, "9")];
    let connections = [first.concat(), second.concat(), third.concat()];
    let connections = connections.into_iter().map(|answer| vec![connack(Some(&[])), answer]).collect();
    let script = Script::new(connections, false);
    let agent =
        heliograph(&consumer(script.port, &format!("{TWO}  protocol = \"5\"\n  topic_alias_maximum = 2\n"))).start();
    let connect = script.packet();
    assert!(connect.windows(3).any(|bytes| bytes == [0x22, 0, 2]), "topic alias maximum: {connect:x?}");
    agent.wait_for_log("the broker uses topic alias 2 before giving it a topic");
    let expected = [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6), ("c", 7), ("d", 9)];
    let expected = expected.map(|(topic, value)| format!("mqtt_consumer,topic=plant/{topic} value={value}i"));
    assert_eq!(lines(&agent, expected.len()), expected);
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
