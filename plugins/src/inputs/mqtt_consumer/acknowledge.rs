//! What the handler does for acknowledgements: it notes what waits, keeps to the limit, and hurries when it must.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use heliograph_core::accumulator::Delivery;
use rumqttc::QoS;
use tokio::sync::watch;

use super::acks::{Ack, Acks, acknowledge};
use super::client::{Message, Requests};
use super::config::Settings;

/// A window that no broker of note stays below, so that a few messages an hour need no commit of their own.
const LEAST_WINDOW: usize = 10;
/// When it is asked again for a watermark to move: a commit that came in between, of another input's metrics, may have taken
/// the first request for its own while ours were still on their way.
const AGAIN: Duration = Duration::from_millis(20);

/// The connections of an input, seen from the handler.
pub struct Acknowledge {
    pub delivery: Delivery,
    links: Vec<Link>,
    /// The window that a broker of MQTT 5 is told; not every one keeps to it.
    known: usize,
    limit: u64,
    /// True once the agent is about to end: what is in flight then is the broker's to send again.
    stopping: watch::Receiver<bool>,
}

/// How to reach a connection.
#[derive(Clone)]
pub struct Handle {
    pub requests: Requests,
    pub acks: Arc<Acks>,
}

struct Link {
    acks: Arc<Acks>,
    /// The most that has waited at a time: what the broker sends without an acknowledgement, once it has come to that.
    window: usize,
    epoch: u64,
}

impl Acknowledge {
    /// Starts a task for each connection; they end with the pipeline.
    pub fn new(settings: &Settings, delivery: Delivery, handles: Vec<Handle>, stopping: watch::Receiver<bool>) -> Self {
        let known = settings.window.map_or(usize::MAX, usize::from);
        let window = known.min(LEAST_WINDOW);
        let start = |handle: Handle| {
            let Handle { requests, acks } = handle;
            tokio::spawn(acknowledge(acks.clone(), delivery.watermark.clone(), requests));
            Link { acks, window, epoch: 0 }
        };
        let links = handles.into_iter().map(start).collect();
        Self { delivery, links, known, limit: settings.max_undelivered, stopping }
    }

    /// Notes a message of this number that came by a connection.
    pub fn note(&mut self, connection: usize, epoch: u64, number: u64, message: &Message) {
        let Some(link) = self.links.get(connection) else { return };
        if message.qos != QoS::AtMostOnce {
            link.acks.push(number, Ack { epoch, packet: message.packet, qos: message.qos });
        }
    }

    /// All messages of a lot are handed on. If they fill the window of their connection no more can come until some are
    /// acknowledged: to wait for company then is no use.
    pub fn handed_on(&mut self, connection: usize, epoch: u64) {
        let Some(link) = self.links.get_mut(connection) else { return };
        let waiting = link.acks.len();
        if epoch != link.epoch {
            // A broker that was restarted may be another one.
            (link.epoch, link.window) = (epoch, link.window.min(LEAST_WINDOW));
        }
        if waiting >= link.window {
            link.window = waiting.min(self.known);
            self.delivery.hurry.ask();
        }
    }

    /// Hurries on while no message comes and some wait that may fill a window: what has once waited may be more than the
    /// broker sends now, since some send more than they should.
    pub async fn hurry_on(&self) -> Infallible {
        let least = LEAST_WINDOW.min(self.known);
        while self.links.iter().any(|link| link.acks.len() >= least) {
            tokio::time::sleep(AGAIN).await;
            self.delivery.hurry.ask();
        }
        std::future::pending().await
    }

    /// Waits until few enough messages up to this one are on their way, and lets the broker wait for us.
    pub async fn make_room(&mut self, newest: u64) {
        let Self { delivery, limit, stopping, .. } = self;
        while newest.saturating_sub(*delivery.watermark.borrow_and_update()) >= *limit && !*stopping.borrow() {
            delivery.hurry.ask();
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                moved = delivery.watermark.changed() => if moved.is_err() { break },
                told = stopping.changed() => if told.is_err() { break },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use heliograph_core::accumulator::Hurry;

    use super::*;
    use crate::common::tls::TlsClientOptions;
    use crate::inputs::mqtt_consumer::client::Client;
    use crate::inputs::mqtt_consumer::options::MqttConsumerOptions;

    /// One connection that lets through what is safe; how often was it in a hurry?
    struct Bench {
        acknowledge: Acknowledge,
        hurried: Arc<AtomicUsize>,
        safe: watch::Sender<u64>,
        acks: Arc<Acks>,
        number: u64,
        client: Client,
    }

    impl Bench {
        fn new() -> Self {
            // The other version has no socket to write to here.
            let options = MqttConsumerOptions { protocol: "5".into(), ..MqttConsumerOptions::default() };
            let settings = Settings::new(options, TlsClientOptions::default()).unwrap();
            let (client, requests) = Client::new(&settings, "me").unwrap();
            let (safe, watermark) = watch::channel(0);
            let hurried = Arc::new(AtomicUsize::new(0));
            let count = hurried.clone();
            let hurry = Hurry::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
            let acks = Arc::new(Acks::default());
            acks.turn();
            let handle = Handle { requests, acks: acks.clone() };
            let delivery = Delivery { input: 0, watermark, hurry };
            let acknowledge = Acknowledge::new(&settings, delivery, vec![handle], watch::channel(false).1);
            Self { acknowledge, hurried, safe, acks, number: 0, client }
        }

        /// A lot of so many messages; true if that made it hurry.
        fn lot(&mut self, messages: usize) -> bool {
            let before = self.hurried.load(Ordering::Relaxed);
            for _ in 0..messages {
                self.number += 1;
                let (topic, payload) = (Bytes::new(), Bytes::new());
                let (packet, qos) = (self.number as u16, QoS::AtLeastOnce);
                let message = Message { topic, payload, packet, qos, retain: false, properties: None };
                self.acknowledge.note(0, self.acks.epoch(), self.number, &message);
            }
            self.acknowledge.handed_on(0, self.acks.epoch());
            self.hurried.load(Ordering::Relaxed) > before
        }

        /// All is safe and acknowledged.
        async fn all_safe(&mut self) {
            self.safe.send_replace(self.number);
            while self.acks.len() > 0 {
                tokio::task::yield_now().await;
                // As the connection does when it has sent the first.
                drop(self.client.acknowledge(&self.acks).await);
            }
        }
    }

    #[tokio::test]
    async fn a_full_window_hurries() {
        let mut bench = Bench::new();
        assert!(!bench.lot(1), "one message now and then waits for company");
        bench.all_safe().await;
        assert!(bench.lot(20), "the broker may send no more than these");
        bench.all_safe().await;
        assert!(!bench.lot(15), "it has shown that it can send 20");
        assert!(bench.lot(5));
    }
}
