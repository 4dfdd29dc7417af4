//! Acknowledgements: what waits for the watermark, and the tasks that send them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heliograph_core::accumulator::Delivery;
use rumqttc::QoS;
use tokio::sync::watch;

use super::client::{Message, Requests};
use super::config::Settings;

/// A window that no broker of note stays below, so that a few messages an hour need no commit of their own.
const LEAST_WINDOW: usize = 10;

/// The connections of an input, seen from the handler.
pub struct Acknowledge {
    pub delivery: Delivery,
    links: Vec<Link>,
    limit: u64,
    /// True once the agent is about to end: what is in flight then is the broker's to send again.
    stopping: watch::Receiver<bool>,
}

/// How to reach a connection.
#[derive(Clone)]
pub struct Handle {
    pub requests: Requests,
    /// Number of the connection's life; it changes when one begins and when it ends.
    pub epochs: watch::Receiver<u64>,
    pub waiting: Queue,
}

/// Messages of a connection that wait for their acknowledgement, in order of arrival.
#[derive(Clone, Default)]
pub struct Queue(Arc<Mutex<VecDeque<Waiting>>>);

struct Link {
    waiting: Queue,
    /// The most that has waited at a time: what the broker sends without an acknowledgement, once it has come to that.
    window: usize,
    epoch: u64,
}

struct Waiting {
    message: u64,
    epoch: u64,
    packet: u16,
    qos: QoS,
}

impl Acknowledge {
    /// Starts a task for each connection; they end with the pipeline.
    pub fn new(settings: &Settings, delivery: Delivery, handles: Vec<Handle>, stopping: watch::Receiver<bool>) -> Self {
        let window = settings.window.map_or(LEAST_WINDOW, usize::from).min(LEAST_WINDOW);
        let start = |handle: Handle| {
            let waiting = handle.waiting.clone();
            tokio::spawn(send(delivery.watermark.clone(), handle));
            Link { waiting, window, epoch: 0 }
        };
        let links = handles.into_iter().map(start).collect();
        Self { links, delivery, limit: settings.max_undelivered, stopping }
    }

    /// Notes a message of this number that came by a connection.
    pub fn note(&mut self, connection: usize, epoch: u64, number: u64, message: &Message) {
        let Some(link) = self.links.get(connection) else { return };
        if message.qos != QoS::AtMostOnce {
            link.waiting.lock().push_back(Waiting { message: number, epoch, packet: message.packet, qos: message.qos });
        }
    }

    /// All messages of a lot are handed on. If they fill the window of their connection no more can come until some are
    /// acknowledged: to wait for company then is no use.
    pub fn handed_on(&mut self, connection: usize, epoch: u64) {
        let Some(link) = self.links.get_mut(connection) else { return };
        let waiting = link.waiting.lock().len();
        if epoch != link.epoch {
            // A broker that was restarted may be another one.
            (link.epoch, link.window) = (epoch, link.window.min(LEAST_WINDOW));
        }
        if waiting >= link.window {
            link.window = waiting;
            self.delivery.hurry.ask();
        }
    }

    /// Waits until few enough messages up to this one are on their way, and lets the broker wait for us.
    pub async fn make_room(&mut self, newest: u64) {
        let Self { delivery, limit, stopping, .. } = self;
        while newest.saturating_sub(*delivery.watermark.borrow_and_update()) >= *limit && !*stopping.borrow() {
            delivery.hurry.ask();
            tokio::select! {
                moved = delivery.watermark.changed() => if moved.is_err() { break },
                told = stopping.changed() => if told.is_err() { break },
            }
        }
    }
}

/// Acknowledges what is safe on one connection, in order of arrival.
///
/// A message of an earlier connection is passed over: its packet number means nothing any more, and the broker sends it
/// again.
async fn send(mut watermark: watch::Receiver<u64>, handle: Handle) {
    let Handle { requests, mut epochs, waiting } = handle;
    while watermark.changed().await.is_ok() {
        let safe = *watermark.borrow_and_update();
        while let Some(next) = waiting.next(safe) {
            if next.epoch != *epochs.borrow() {
                continue;
            }
            tokio::select! {
                biased;
                sent = requests.acknowledge(next.packet, next.qos) => if sent.is_err() { return },
                // The connection has ended while there was no room to ask.
                _ = epochs.wait_for(|&epoch| epoch != next.epoch) => {}
            }
        }
    }
}

impl Queue {
    /// Whether the broker waits for nothing from us.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The next one, if it is safe.
    fn next(&self, safe: u64) -> Option<Waiting> {
        let mut waiting = self.lock();
        if waiting.front()?.message <= safe { waiting.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        waiting: Queue,
        number: u64,
        // Keeps what the tasks listen to.
        _epoch: watch::Sender<u64>,
        _client: Client,
    }

    impl Bench {
        fn new() -> Self {
            let settings = Settings::new(MqttConsumerOptions::default(), TlsClientOptions::default()).unwrap();
            let (client, requests) = Client::new(&settings, "me").unwrap();
            let ((epoch, epochs), (safe, watermark)) = (watch::channel(1), watch::channel(0));
            let hurried = Arc::new(AtomicUsize::new(0));
            let count = hurried.clone();
            let hurry = Hurry::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
            let waiting = Queue::default();
            let handle = Handle { requests, epochs, waiting: waiting.clone() };
            let delivery = Delivery { input: 0, watermark, hurry };
            let acknowledge = Acknowledge::new(&settings, delivery, vec![handle], watch::channel(false).1);
            Self { acknowledge, hurried, safe, waiting, number: 0, _epoch: epoch, _client: client }
        }

        /// A lot of so many messages; true if that made it hurry.
        fn lot(&mut self, messages: usize) -> bool {
            let before = self.hurried.load(Ordering::Relaxed);
            for _ in 0..messages {
                self.number += 1;
                let (topic, payload) = (Bytes::new(), Bytes::new());
                let (packet, qos) = (self.number as u16, QoS::AtLeastOnce);
                let message = Message { topic, payload, packet, qos, retain: false, properties: None };
                self.acknowledge.note(0, 1, self.number, &message);
            }
            self.acknowledge.handed_on(0, 1);
            self.hurried.load(Ordering::Relaxed) > before
        }

        async fn all_safe(&self) {
            self.safe.send_replace(self.number);
            while !self.waiting.is_empty() {
                tokio::task::yield_now().await;
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

    #[tokio::test]
    async fn messages_of_a_connection_that_has_ended_are_passed_over() {
        let mut bench = Bench::new();
        bench.lot(3);
        bench._epoch.send_replace(2);
        bench.all_safe().await;
        assert!(bench.waiting.is_empty());
    }
}
