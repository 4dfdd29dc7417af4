//! Messages from a real broker: qualities of service, topics, and every way to connect.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::kit::{Agent, Mosquitto, command, free_port, heliograph, wait_for, wait_for_port};

/// An agent that writes what comes from these servers to `out`, as soon as it comes.
fn consumer(server: &str, more: &str) -> String {
    format!(
        r#"
[agent]
  interval = "100ms"
  flush_interval = "100ms"
  omit_hostname = true

[[outputs.file]]
  files = ["out"]

[[inputs.mqtt_consumer]]
  servers = ["{server}"]
  max_reconnect_interval = "1s"
  data_format = "value"
  data_type = "float"
{more}
"#
    )
}

fn tcp(broker: &Mosquitto) -> String {
    format!("tcp://127.0.0.1:{}", broker.port())
}

/// Starts a consumer of `plant/#` and waits for its subscription.
fn start(config: &str, broker: &Mosquitto) -> Agent {
    let agent = heliograph(config).start();
    broker.wait_for_subscriptions(1);
    agent
}

/// A message comes through.
fn works(agent: &Agent, broker: &Mosquitto, more: &[&str]) {
    broker.publish("plant/a", b"21.5", more);
    agent.wait_for_text("out", |text| text.contains("mqtt_consumer,topic=plant/a value=21.5 "));
}

const ALL: &str = "  topics = [\"plant/#\"]\n";

#[test]
fn every_quality_of_service() {
    let broker = Mosquitto::start();
    let agent = start(&consumer(&tcp(&broker), "  topics = [\"plant/#\"]\n  qos = 2\n"), &broker);
    for qos in ["0", "1", "2"] {
        broker.publish("plant/a", format!("1{qos}").as_bytes(), &["-q", qos]);
    }
    broker.publish("plant/last", b"1", &["-q", "1"]);
    let text = agent.wait_for_text("out", |text| text.contains("plant/last"));
    for qos in 0..3 {
        assert_eq!(text.matches(&format!("value=1{qos} ")).count(), 1, "{text}");
    }
}

#[test]
fn retained_messages_come_at_the_start() {
    let broker = Mosquitto::start();
    broker.publish("plant/a", b"21.5", &["-r"]);
    let agent = start(&consumer(&tcp(&broker), ALL), &broker);
    agent.wait_for_text("out", |text| text.contains("mqtt_consumer,topic=plant/a value=21.5 "));
}

#[test]
fn wildcards_and_names_out_of_topics() {
    let broker = Mosquitto::start();
    let more = r#"
  topics = ["plant/+/temp", "gateway/#"]
  topic_tag = ""
  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "plant/+/temp"
    measurement = "_/_/measurement"
    tags = "site/device/_"
"#;
    let agent = start(&consumer(&tcp(&broker), more), &broker);
    let messages =
        [("plant/a/temp", "1"), ("plant/a/b/temp", "2"), ("plant/temp", "3"), ("gateway", "4"), ("gateway/x/y", "5")];
    for (topic, payload) in messages {
        broker.publish(topic, payload.as_bytes(), &["-q", "1"]);
    }
    let text = agent.wait_for_text("out", |text| text.contains("value=5 "));
    let lines: Vec<&str> = text.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert_eq!(lines, ["temp,device=a,site=plant value=1", "mqtt_consumer value=4", "mqtt_consumer value=5"]);
}

/// Files of a certificate authority, and of a server and a client that it knows.
pub fn certificates(broker: &Mosquitto) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With one name for all, the broker would take each certificate for its own issuer.
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    let key = KeyPair::generate().unwrap();
    broker.server().write("ca.pem", &authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    for (name, host) in [("server", "localhost"), ("client", "agent")] {
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new(vec![host.to_owned()]).unwrap();
        certificate.distinguished_name.push(DnType::CommonName, name);
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        broker.server().write(&format!("{name}.pem"), &certificate.pem());
        broker.server().write(&format!("{name}.key"), &key.serialize_pem());
    }
}

/// A broker with a listener for TLS that wants certificates of clients; its port.
pub fn tls_broker(protocol: &str) -> (Mosquitto, u16) {
    let port = free_port();
    let mut broker = Mosquitto::new(&format!(
        "allow_anonymous true\nlistener {port} 127.0.0.1\nprotocol {protocol}\ncafile @/ca.pem\ncertfile @/server.pem\n\
         keyfile @/server.key\nrequire_certificate true\n"
    ));
    certificates(&broker);
    broker.restart();
    wait_for_port(port);
    (broker, port)
}

pub fn tls_options(broker: &Mosquitto) -> String {
    let path = |name| broker.server().path(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    format!("{ALL}  tls_ca = \"{ca}\"\n  tls_cert = \"{cert}\"\n  tls_key = \"{key}\"\n")
}

#[test]
fn tls_with_certificates_on_both_sides() {
    let (broker, port) = tls_broker("mqtt");
    let agent = start(&consumer(&format!("ssl://localhost:{port}"), &tls_options(&broker)), &broker);
    works(&agent, &broker, &[]);
}

#[test]
fn tls_of_an_unknown_authority_is_refused() {
    let (broker, port) = tls_broker("mqtt");
    let (other, _) = tls_broker("mqtt");
    let ended = heliograph(&consumer(&format!("ssl://localhost:{port}"), &tls_options(&other))).run();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    drop(broker);
}

#[test]
fn websockets() {
    let port = free_port();
    let mut broker = Mosquitto::new(&format!("allow_anonymous true\nlistener {port} 127.0.0.1\nprotocol websockets\n"));
    broker.restart();
    // This listener opens later than the other.
    wait_for_port(port);
    let agent = start(&consumer(&format!("ws://127.0.0.1:{port}/mqtt"), ALL), &broker);
    works(&agent, &broker, &[]);
}

#[test]
fn websockets_over_tls() {
    let (broker, port) = tls_broker("websockets");
    let agent = start(&consumer(&format!("wss://localhost:{port}/mqtt"), &tls_options(&broker)), &broker);
    works(&agent, &broker, &[]);
}

#[test]
fn unix_socket() {
    let mut broker = Mosquitto::new("allow_anonymous true\nlistener 0 @/broker.sock\n");
    broker.restart();
    let server = format!("unix://{}", broker.server().path("broker.sock").display());
    let agent = start(&consumer(&server, ALL), &broker);
    works(&agent, &broker, &[]);
}

#[test]
fn login() {
    let mut broker = Mosquitto::new("allow_anonymous false\npassword_file @/passwords\n");
    let passwords = broker.server().path("passwords");
    let made = command("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args(["plant", "correct horse"]).status();
    assert!(made.expect("install the Debian package mosquitto").success());
    broker.restart();
    let login = |password: &str| format!("{ALL}  username = \"plant\"\n  password = \"{password}\"\n");
    let agent = start(&consumer(&tcp(&broker), &login("correct horse")), &broker);
    works(&agent, &broker, &["-u", "plant", "-P", "correct horse"]);
    let ended = heliograph(&consumer(&tcp(&broker), &login("battery staple"))).run();
    assert_eq!(ended.code(), 1);
    assert!(
        ended.stderr.contains("bad user name or password") || ended.stderr.contains("not authorized"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("staple"), "{}", ended.stderr);
}

#[test]
fn a_broker_that_restarts_is_found_again() {
    let mut broker = Mosquitto::start();
    let agent = start(&consumer(&tcp(&broker), ALL), &broker);
    works(&agent, &broker, &[]);
    broker.stop();
    agent.wait_for_log("connection lost");
    broker.start_again();
    broker.wait_for_subscriptions(2);
    broker.publish("plant/b", b"3", &["-q", "1"]);
    agent.wait_for_text("out", |text| text.contains("mqtt_consumer,topic=plant/b value=3 "));
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn a_broker_that_is_absent_at_the_start() {
    let port = free_port();
    let server = format!("tcp://127.0.0.1:{port}");
    // Without a word about it the agent does not start, as Telegraf does not.
    let ended = heliograph(&consumer(&server, ALL)).run();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains(&server), "{}", ended.stderr);
    let agent = heliograph(&consumer(&server, &format!("{ALL}  startup_error_behavior = \"retry\"\n"))).start();
    agent.wait_for_log("trying again");
    let mut broker = Mosquitto::new(&format!("allow_anonymous true\nlistener {port} 127.0.0.1\n"));
    broker.restart();
    broker.wait_for_subscriptions(1);
    works(&agent, &broker, &[]);
}

#[test]
fn the_end_says_goodbye_to_the_broker() {
    let broker = Mosquitto::start();
    let config = consumer(&tcp(&broker), &format!("{ALL}  client_id = \"polite\"\n"));
    let agent = start(&config, &broker);
    works(&agent, &broker, &[]);
    assert_eq!(agent.stop().code(), 0);
    wait_for("a goodbye", || {
        let log = broker.server().log();
        if log.contains("Received DISCONNECT from polite") { Ok(()) } else { Err(log) }
    });
}
