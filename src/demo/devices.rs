//! Simulated devices that publish JSON over MQTT.

use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rumqttc::{AsyncClient, ClientError, MqttOptions, QoS};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::agent::Stop;

/// First level of all topics, and the measurement.
pub(super) const MEASUREMENT: &str = "climate";
/// Devices whose payloads cannot be read.
pub(super) const BROKEN: usize = 3;

const SITES: [&str; 4] = ["berlin", "lisbon", "osaka", "quito"];
const HALLS: usize = 5;
/// How often a gateway sends what is due.
const TICK: Duration = Duration::from_millis(20);
/// Messages that wait for a connection that is slow or away.
const WAITING: usize = 1000;

/// What the devices have done so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicU64,
    invented: AtomicU64,
}

impl Sent {
    /// Messages published.
    pub fn messages(&self) -> u64 {
        self.0.messages.load(Ordering::Relaxed)
    }

    /// Ids that the newcomer has invented.
    pub fn invented(&self) -> u64 {
        self.0.invented.load(Ordering::Relaxed)
    }
}

/// Lets all devices publish until `stop`; then returns.
///
/// # Errors
/// Without a runtime.
pub(super) fn run(broker: SocketAddr, devices: usize, rate: u32, sent: &Sent, mut stop: Stop) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime for the devices")?;
    runtime.block_on(async {
        // A site's devices share the connection of its gateway, as they do in the field.
        for (site, name) in SITES.iter().enumerate().take(devices) {
            let gateway = Gateway::connect(broker, name, sent.clone());
            tokio::spawn(gateway.devices(site, devices, rate));
        }
        tokio::spawn(Gateway::connect(broker, "newcomer", sent.clone()).newcomer());
        tokio::spawn(Gateway::connect(broker, "broken", sent.clone()).broken());
        stop.requested().await;
    });
    Ok(())
}

/// A connection to the broker.
struct Gateway {
    client: AsyncClient,
    sent: Sent,
}

impl Gateway {
    fn connect(broker: SocketAddr, name: &str, sent: Sent) -> Self {
        let mut options = MqttOptions::new(format!("gateway-{name}"), broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, WAITING);
        tokio::spawn(async move {
            loop {
                if events.poll().await.is_err() {
                    // The broker is gone; publishing waits meanwhile.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        });
        Self { client, sent }
    }

    /// The devices of a site, one after the other, so that each sends as often as the others.
    async fn devices(self, site: usize, devices: usize, rate: u32) -> Result<(), ClientError> {
        let own: Vec<usize> = (site..devices).step_by(SITES.len()).collect();
        let rate = f64::from(rate) * own.len() as f64 / devices as f64;
        let mut pace = Pace::new(rate);
        let mut next = own.iter().cycle();
        let begun = Instant::now();
        loop {
            let due = pace.tick().await;
            let seconds = begun.elapsed().as_secs_f64();
            for &device in next.by_ref().take(due) {
                self.publish(topic(device), payload(device, seconds)).await?;
            }
        }
    }

    /// The device that comes under a new id every second, and says so.
    async fn newcomer(self) -> Result<(), ClientError> {
        let mut seconds = interval(Duration::from_secs(1));
        for id in 1_u64.. {
            seconds.tick().await;
            let topic = format!("{MEASUREMENT}/berlin/hall-1/new-{id:06}");
            let payload =
                format!("{{\"temperature\":20.5,\"status\":\"my name is new-{id:06}, it will never be seen again\"}}");
            self.publish(topic, payload).await?;
            self.sent.0.invented.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The devices whose payloads cannot be read.
    async fn broken(self) -> Result<(), ClientError> {
        const PAYLOADS: [&str; BROKEN] = ["{\"temperature\":21.", "temperature=21,5", "[{\"temperature\":\"hot\"},"];
        let mut seconds = interval(Duration::from_secs(1));
        for (number, payload) in PAYLOADS.iter().enumerate().cycle() {
            seconds.tick().await;
            self.publish(format!("{MEASUREMENT}/quito/hall-1/broken-{number}"), (*payload).to_owned()).await?;
        }
        Ok(())
    }

    async fn publish(&self, topic: String, payload: String) -> Result<(), ClientError> {
        self.client.publish(topic, QoS::AtMostOnce, false, payload).await?;
        self.sent.0.messages.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// How many messages are due, at a steady rate.
struct Pace {
    ticks: tokio::time::Interval,
    last: Instant,
    rate: f64,
    due: f64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, last: Instant::now(), rate, due: 0.0 }
    }

    /// Waits for the next tick; what a busy broker held up for more than a second is not made up for.
    async fn tick(&mut self) -> usize {
        let now = self.ticks.tick().await.max(Instant::now());
        self.due = (self.due + self.rate * (now - self.last).as_secs_f64()).min(self.rate.max(1.0));
        self.last = now;
        let whole = self.due.floor();
        self.due -= whole;
        whole as usize
    }
}

fn topic(device: usize) -> String {
    let site = SITES[device % SITES.len()];
    let hall = device / SITES.len() % HALLS + 1;
    format!("{MEASUREMENT}/{site}/hall-{hall}/dev-{device:05}")
}

/// A climate that goes up and down within minutes, each device in its own time.
fn payload(device: usize, seconds: f64) -> String {
    let phase = device as f64 * 0.618;
    let wave = |period: f64| (TAU * (seconds / period + phase)).sin();
    let temperature = 21.0 + 4.0 * wave(120.0) + 0.3 * wave(7.0);
    let humidity = 50.0 - 12.0 * wave(120.0) + wave(11.0);
    let battery = 100.0 - (seconds / 60.0 + phase * 10.0) % 80.0;
    let status = if battery < 25.0 { "battery low" } else { "ok" };
    format!(
        "{{\"temperature\":{temperature:.2},\"humidity\":{humidity:.1},\"battery\":{battery:.1},\"status\":\"{status}\"}}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use expect_test::expect;

    use super::*;

    #[test]
    fn each_device_has_a_topic_of_four_levels() {
        let topics: HashSet<String> = (0..1000).map(topic).collect();
        assert_eq!(topics.len(), 1000);
        assert!(topics.iter().all(|topic| topic.split('/').count() == 4));
        expect!["climate/osaka/hall-2/dev-00006"].assert_eq(&topic(6));
    }

    #[test]
    fn payloads_are_json_at_any_time() {
        expect![[r#"{"temperature":21.00,"humidity":50.0,"battery":100.0,"status":"ok"}"#]].assert_eq(&payload(0, 0.0));
        for device in 0..1000 {
            let value: serde_json::Value = serde_json::from_str(&payload(device, device as f64 * 7.7)).unwrap();
            let battery = value["battery"].as_f64().unwrap();
            assert!((20.0..=100.0).contains(&battery), "{battery}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(130.0);
        let mut sent = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            sent += pace.tick().await;
        }
        assert!((1298..=1303).contains(&sent), "{sent}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pace.tick().await <= 130);
    }
}
