//! Messages at QoS 1 while the broker has little patience or the backend is away: every one arrives.

use std::time::{Duration, Instant};

use crate::kit::{Behaviour, GraphiteServer, Mosquitto, free_port, heliograph, number_after, pause, wait_for_at_most};
use crate::mqtt_delivery::{keeping, keeping_on_disk};

/// For what takes longer than a test usually does.
const LIMIT: Duration = Duration::from_secs(300);

/// The consumer with the journal on disk, with this flush interval; the number in a message is the value of its line.
fn config(broker: &Mosquitto, graphite: u16, flush: &str) -> String {
    with_flush(&keeping_on_disk(broker, graphite), flush)
}

fn with_flush(config: &str, flush: &str) -> String {
    config.replace("flush_interval = \"100ms\"", &format!("flush_interval = \"{flush}\""))
}

fn numbers(server: &GraphiteServer) -> Vec<u64> {
    server.lines().iter().map(|line| number_after(line, " ").unwrap() as u64).collect()
}

/// Two thousand messages a second for half a minute, with defaults on both sides: a window of 20, a queue of 1,000 that drops
/// what is more, a flush every 10 seconds. An agent that acknowledges what its outputs have written by then gets 20 messages
/// in 10 seconds through.
///
/// Such a queue is full after half a second. A machine that stands still for so long, as one with many tests may, is no
/// fault of the agent: it gets three attempts.
fn through_a_broker_with_its_defaults(config: impl Fn(&Mosquitto, u16) -> String) {
    let attempts: Vec<String> = (0..3).map_while(|_| attempt(&config).err()).collect();
    assert!(attempts.len() < 3, "{attempts:?}");
}

fn attempt(config: &impl Fn(&Mosquitto, u16) -> String) -> Result<(), String> {
    const RATE: u64 = 2000;
    const SECONDS: u64 = 30;
    let mut broker = Mosquitto::quiet("");
    broker.restart();
    let server = GraphiteServer::start(Behaviour::Reads);
    let agent = heliograph(&config(&broker, server.port())).start();
    broker.wait_for_session("keeper");
    let mut publisher = broker.publisher();
    let began = Instant::now();
    for i in 0..RATE * SECONDS {
        // The pace of a fleet: what is due by now, and no more.
        let due = began + Duration::from_secs_f64(i as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        publisher.publish("plant/a", i.to_string());
    }
    publisher.finish();
    let finished = Instant::now();
    while (server.count() as u64) < RATE * SECONDS {
        if finished.elapsed() > Duration::from_secs(20) {
            return Err(format!("{} of {} at the backend; {}", server.count(), RATE * SECONDS, agent.stderr()));
        }
        pause();
    }
    assert_eq!(numbers(&server), (0..RATE * SECONDS).collect::<Vec<_>>());
    assert_eq!(agent.stop().code(), 0);
    Ok(())
}

#[test]
fn two_thousand_messages_a_second_from_a_small_window_onto_the_disk() {
    through_a_broker_with_its_defaults(|broker, graphite| config(broker, graphite, "10s"));
}

#[test]
fn two_thousand_messages_a_second_from_a_small_window_through_memory() {
    through_a_broker_with_its_defaults(|broker, graphite| with_flush(&keeping(broker, graphite), "10s"));
}

/// `HELIOGRAPH_MESSAGES=1000000` tries it with more.
#[test]
fn a_backend_that_is_away_for_a_long_time() {
    let messages: u64 =
        std::env::var("HELIOGRAPH_MESSAGES").map_or(100_000, |number| number.parse().expect("a number of messages"));
    let mut broker = Mosquitto::quiet("max_queued_messages 0\nmax_inflight_messages 1000\n");
    broker.restart();
    let port = free_port();
    let agent = heliograph(&config(&broker, port, "1s")).start();
    broker.wait_for_session("keeper");
    let mut publisher = broker.publisher();
    // The first tenth fills what memory may hold; from then on it must not grow.
    let part = messages / 10;
    let mut publish = |numbers: std::ops::Range<u64>| numbers.for_each(|i| publisher.publish("plant/a", i.to_string()));
    let safe = |count: u64| {
        wait_for_at_most(LIMIT, "messages in the journal", || {
            let internal = agent.text("internal");
            let received = internal.lines().rev().find_map(|line| number_after(line, "messages_received="));
            if received == Some(count as f64) { Ok(()) } else { Err(format!("{received:?} of {count}")) }
        });
    };
    publish(0..part);
    safe(part);
    let before = agent.resident();
    publish(part..messages);
    safe(messages);
    let after = agent.resident();
    publisher.finish();
    assert!(after < before + 4096, "resident memory grew from {before} to {after} KiB");
    assert!(agent.text("internal").lines().all(|line| number_after(line, "metrics_dropped=").unwrap_or(0.0) == 0.0));

    let server = GraphiteServer::on(port, Behaviour::Reads);
    let mut publisher = broker.publisher();
    publisher.publish("plant/a", messages.to_string());
    publisher.finish();
    wait_for_at_most(LIMIT, "everything at the backend", || match server.count() as u64 {
        count if count > messages => Ok(()),
        count => Err(format!("{count} of {}; {}", messages + 1, agent.stderr())),
    });
    // Oldest first: what is fresh waits for what is older.
    assert_eq!(numbers(&server), (0..=messages).collect::<Vec<_>>());
    let drained = agent.resident();
    println!(
        "{messages} messages: resident {before} KiB after a tenth, {after} with all, {drained} when they were written"
    );
    assert!(drained < before + 16_384, "resident memory grew from {before} to {drained} KiB");
    assert_eq!(agent.stop().code(), 0);
}
