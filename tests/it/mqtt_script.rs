//! Brokers that do what a good one does not: they refuse, keep silent, or say things that few say.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::kit::{PATIENCE, heliograph, wait_until};
use crate::mqtt5::{V5, consumer, figure, lines};

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
