//! A real broker, and a client that publishes to it.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::{PATIENCE, Server, command, free_port};

/// Mosquitto with a plain listener, and what else its configuration says.
pub struct Mosquitto {
    server: Server,
    port: u16,
}

impl Mosquitto {
    /// A broker that lets everybody in.
    pub fn start() -> Self {
        let mut broker = Self::new("allow_anonymous true\n");
        broker.restart();
        broker
    }

    /// A broker with more configuration, not started yet; `@` is its folder. It logs every packet.
    pub fn new(more: &str) -> Self {
        let own = "log_type all\nmax_queued_messages 0\nmax_inflight_messages 0\n";
        Self::with(&format!("{own}{more}"))
    }

    /// A broker for many messages with its own defaults, for which everybody may come in; it logs subscriptions.
    pub fn quiet(more: &str) -> Self {
        Self::with(&format!("log_type error\nlog_type warning\nlog_type subscribe\nallow_anonymous true\n{more}"))
    }

    fn with(more: &str) -> Self {
        let server = Server::new("mosquitto", "mosquitto", &["-c", "@/mosquitto.conf"]);
        let port = free_port();
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let own = "persistence true\npersistence_location @/\n";
        server.write("mosquitto.conf", &format!("{user}{own}listener {port} 127.0.0.1\n{more}"));
        Self { server, port }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, again if it has run; its sessions are kept.
    pub fn restart(&mut self) {
        self.server.stop();
        self.server.start(self.port);
    }

    pub fn stop(&mut self) {
        self.server.stop();
    }

    pub fn start_again(&mut self) {
        self.server.start(self.port);
    }

    /// Publishes one message with `mosquitto_pub`, which gets these further arguments.
    pub fn publish(&self, topic: &str, payload: &[u8], more: &[&str]) {
        let port = self.port.to_string();
        let mut child = command("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-s"])
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto_pub: {error}: install the Debian package mosquitto-clients"));
        child.stdin.take().unwrap().write_all(payload).unwrap();
        assert!(child.wait().unwrap().success(), "mosquitto_pub failed; the broker:\n{}", self.server.log());
    }

    /// A client for many messages.
    pub fn publisher(&self) -> Publisher {
        let mut options = MqttOptions::new("publisher", "127.0.0.1", self.port);
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(1 << 24, 1 << 24);
        let (client, mut connection) = Client::new(options, 100);
        let (acknowledged, acknowledgements) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::PubAck(_))) if acknowledged.send(()).is_err() => return,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        Publisher { client, acknowledgements, open: 0 }
    }

    /// Waits until this many clients have subscribed since the broker's folder was made.
    pub fn wait_for_subscriptions(&self, count: usize) {
        super::wait_for(&format!("{count} subscriptions"), || {
            let log = self.server.log();
            if log.matches("Sending SUBACK").count() >= count { Ok(()) } else { Err(log) }
        });
    }

    /// Waits until this client has subscribed, on a broker that is [`Self::quiet`].
    pub fn wait_for_session(&self, client: &str) {
        super::wait_for(&format!("a subscription of {client}"), || {
            let log = self.server.log();
            if log.lines().any(|line| line.contains(&format!(" {client} "))) { Ok(()) } else { Err(log) }
        });
    }
}

/// Publishes at QoS 1, so that a test knows when the broker has everything.
pub struct Publisher {
    client: Client,
    acknowledgements: std::sync::mpsc::Receiver<()>,
    open: usize,
}

impl Publisher {
    pub fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.into()).unwrap();
        self.open += 1;
    }

    /// Waits until the broker has all that was published.
    pub fn finish(mut self) {
        while self.open > 0 {
            self.acknowledgements.recv_timeout(PATIENCE).expect("the broker acknowledges what is published");
            self.open -= 1;
        }
        self.client.disconnect().unwrap();
    }
}
