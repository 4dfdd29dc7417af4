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
/// How long nothing comes, while messages wait, before that is taken for a window that is full: where outputs would have to
/// write for it. A little more than a system may hold back what is small (delayed acknowledgements of TCP take 40 ms).
const STALLED: Duration = Duration::from_millis(50);

/// The connections of an input, seen from the handler.
pub struct Acknowledge {
    pub delivery: Delivery,
    links: Vec<Link>,
    /// Number of the newest message.
    newest: u64,
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
    /// What the broker sends without an acknowledgement, as far as it has shown. Where to hurry is cheap, the most that has
    /// waited at a time; else what waited when nothing more came.
    window: usize,
    epoch: u64,
}

impl Acknowledge {
    /// Starts a task for each connection; they end with the pipeline.
    pub fn new(settings: &Settings, delivery: Delivery, handles: Vec<Handle>, stopping: watch::Receiver<bool>) -> Self {
        let known = settings.window.map_or(usize::MAX, usize::from);
        let window = if delivery.hurry.is_cheap() { known.min(LEAST_WINDOW) } else { known };
        let start = |handle: Handle| {
            let Handle { requests, acks } = handle;
            tokio::spawn(acknowledge(acks.clone(), delivery.watermark.clone(), requests));
            Link { acks, window, epoch: 0 }
        };
        let links = handles.into_iter().map(start).collect();
        Self { delivery, links, newest: 0, known, limit: settings.max_undelivered, stopping }
    }

    /// Notes a message of this number that came by a connection.
    pub fn note(&mut self, connection: usize, epoch: u64, number: u64, message: &Message) {
        self.newest = number;
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
        let is_cheap = self.delivery.hurry.is_cheap();
        // A broker that was restarted may be another one.
        let is_new = std::mem::replace(&mut link.epoch, epoch) != epoch;
        if is_new {
            link.window = if is_cheap { link.window.min(LEAST_WINDOW) } else { self.known };
        }
        let is_full = if is_cheap {
            waiting >= link.window
        } else if waiting / 2 > link.window {
            // It is much wider than was thought.
            link.window = self.known;
            false
        } else {
            // Brokers do not keep to it exactly, and to wait for the last of them would cost a stall.
            waiting >= link.window - link.window / 4
        };
        if is_full {
            link.window = link.window.max(waiting).min(self.known);
            self.delivery.hurry.ask(self.newest);
        }
    }

    /// Hurries on while no message comes and some wait that may fill a window: what has once waited may be more than the
    /// broker sends now, since some send more than they should.
    pub async fn hurry_on(&mut self) -> Infallible {
        let Self { delivery, links, newest, known, .. } = self;
        let least = LEAST_WINDOW.min(*known);
        while links.iter().any(|link| link.acks.len() >= least) {
            if delivery.hurry.is_cheap() {
                tokio::time::sleep(AGAIN).await;
            } else {
                tokio::time::sleep(STALLED).await;
                links.iter_mut().filter(|link| link.acks.len() >= least).for_each(|link| link.window = link.acks.len());
            }
            delivery.hurry.ask(*newest);
        }
        std::future::pending().await
    }

    /// Waits until few enough messages up to this one are on their way, and lets the broker wait for us.
    pub async fn make_room(&mut self, newest: u64) {
        let Self { delivery, limit, stopping, .. } = self;
        while newest.saturating_sub(*delivery.watermark.borrow_and_update()) >= *limit && !*stopping.borrow() {
            delivery.hurry.ask(newest);
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
        fn new(is_cheap: bool) -> Self {
            // The other version has no socket to write to here.
            let options = MqttConsumerOptions { protocol: "5".into(), ..MqttConsumerOptions::default() };
            let settings = Settings::new(options, TlsClientOptions::default()).unwrap();
            let (client, requests) = Client::new(&settings, "me").unwrap();
            let (safe, watermark) = watch::channel(0);
            let hurried = Arc::new(AtomicUsize::new(0));
            let count = hurried.clone();
            let hurry = Hurry::new(is_cheap, move |_| _ = count.fetch_add(1, Ordering::Relaxed));
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
        let mut bench = Bench::new(true);
        assert!(!bench.lot(1), "one message now and then waits for company");
        bench.all_safe().await;
        assert!(bench.lot(20), "the broker may send no more than these");
        bench.all_safe().await;
        assert!(!bench.lot(15), "it has shown that it can send 20");
        assert!(bench.lot(5));
    }

    #[tokio::test(start_paused = true)]
    async fn where_outputs_must_write_for_it_a_window_is_full_when_nothing_more_comes() {
        let mut bench = Bench::new(false);
        assert!(!bench.lot(30), "more may come");
        let stalled = tokio::time::timeout(Duration::from_secs(1), bench.acknowledge.hurry_on()).await;
        assert!(stalled.is_err() && bench.hurried.load(Ordering::Relaxed) > 0);
        bench.all_safe().await;
        assert!(!bench.lot(20));
        assert!(bench.lot(10), "as many as when it stalled");
        bench.all_safe().await;
        assert!(!bench.lot(62), "the window is wider than it seemed");
    }
}
