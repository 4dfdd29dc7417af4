//! Nothing that was acknowledged is lost, whoever is killed and whenever.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::kit::{Behaviour, GraphiteServer, Mosquitto, heliograph, wait_for_at_most, wait_until};

/// Messages that the broker lets be on their way.
const WINDOW: u64 = 1000;
/// For all of it.
const LIMIT: Duration = Duration::from_secs(240);

fn config(broker: u16, graphite: u16) -> String {
    format!(
        r#"
[agent]
  flush_interval = "200ms"
  omit_hostname = true
  buffer_strategy = "disk"
  buffer_directory = "journal"

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker}"]
  topics = ["plant/#"]
  qos = 1
  persistent_session = true
  client_id = "survivor"
  topic_tag = ""
  max_reconnect_interval = "1s"
  data_format = "value"
  data_type = "integer"

[[outputs.graphite]]
  servers = ["127.0.0.1:{graphite}"]
"#
    )
}

/// Random numbers of lines, in order; each kill comes when the backend has so many.
fn moments(count: usize, messages: u64) -> Vec<u64> {
    let random = RandomState::new();
    let mut moments: Vec<u64> = (0..count).map(|i| random.hash_one(i) % (messages * 19 / 20)).collect();
    moments.sort_unstable();
    moments
}

/// The number in a line.
fn number(line: &str) -> u64 {
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Publishes numbered messages while agent and backend are killed this often; returns how many came more than once.
fn kill(messages: u64, agent_kills: usize, backend_kills: usize) -> u64 {
    let mut broker = Mosquitto::quiet(&format!("max_queued_messages 0\nmax_inflight_messages {WINDOW}\n"));
    broker.restart();
    let server = GraphiteServer::start(Behaviour::Reads);
    let mut agent = heliograph(&config(broker.port(), server.port())).start();
    // Whoever has subscribed has a session, for which the broker keeps what is published from now on.
    broker.wait_for_session("survivor");
    let publisher = {
        let mut publisher = broker.publisher();
        std::thread::spawn(move || {
            (1..=messages).for_each(|i| publisher.publish("plant/a", i.to_string()));
            publisher.finish();
        })
    };

    let (of_agent, of_backend) = (moments(agent_kills, messages), moments(backend_kills, messages));
    let told = format!("agent killed at {of_agent:?}, backend at {of_backend:?}");
    let mut kills: Vec<(u64, bool)> = of_agent.into_iter().map(|at| (at, true)).collect();
    kills.extend(of_backend.into_iter().map(|at| (at, false)));
    kills.sort_unstable();
    for (at, kills_agent) in kills {
        wait_for_at_most(LIMIT, "lines at the backend", || match server.count() as u64 {
            count if count >= at => Ok(()),
            count => Err(format!("{count} of {at}; {told}; {}", agent.stderr())),
        });
        if kills_agent {
            agent = agent.kill().start();
        } else {
            server.die();
            let before = server.connections();
            wait_until("an attempt to connect to the dead backend", || server.connections() > before);
            server.behave(Behaviour::Reads);
        }
    }
    publisher.join().unwrap();
    let times = wait_for_at_most(LIMIT, "every number at the backend", || {
        let mut times: HashMap<u64, u64> = HashMap::new();
        server.lines().iter().for_each(|line| *times.entry(number(line)).or_default() += 1);
        match (1..=messages).filter(|i| !times.contains_key(i)).count() {
            0 => Ok(times),
            missing => Err(format!("{missing} of {messages} missing; {told}; {}", agent.stderr())),
        }
    });
    assert_eq!(agent.stop().code(), 0);
    let again = times.values().map(|times| times - 1).sum();
    println!("{again} of {messages} came again; {told}");
    again
}

#[test]
fn an_agent_that_is_killed_again_and_again_loses_nothing_and_repeats_little() {
    const KILLS: usize = 20;
    let again = kill(200_000, KILLS, 0);
    // At each: a window that was not acknowledged in time, and what was written while the cursor was not on the disk yet.
    assert!(again <= KILLS as u64 * 4 * WINDOW, "{again} duplicates");
}

#[test]
fn a_backend_that_is_killed_too_has_everything_in_the_end() {
    // What a backend may not have read is sent again, and may have been read.
    kill(100_000, 10, 5);
}
