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
}

struct Link {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
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
            let waiting = Arc::new(Mutex::new(VecDeque::new()));
            tokio::spawn(send(waiting.clone(), delivery.watermark.clone(), handle));
            Link { waiting, window, epoch: 0 }
        };
        let links = handles.into_iter().map(start).collect();
        Self { links, delivery, limit: settings.max_undelivered, stopping }
    }

    /// Notes a message of this number that came by a connection.
    pub fn note(&mut self, connection: usize, epoch: u64, number: u64, message: &Message) {
        let Some(link) = self.links.get(connection) else { return };
        if message.qos != QoS::AtMostOnce {
            lock(&link.waiting).push_back(Waiting { message: number, epoch, packet: message.packet, qos: message.qos });
        }
    }

    /// All messages of a lot are handed on. If they fill the window of their connection no more can come until some are
    /// acknowledged: to wait for company then is no use.
    pub fn handed_on(&mut self, connection: usize, epoch: u64) {
        let Some(link) = self.links.get_mut(connection) else { return };
        let waiting = lock(&link.waiting).len();
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
async fn send(waiting: Arc<Mutex<VecDeque<Waiting>>>, mut watermark: watch::Receiver<u64>, handle: Handle) {
    let Handle { requests, mut epochs } = handle;
    while watermark.changed().await.is_ok() {
        let safe = *watermark.borrow_and_update();
        while let Some(next) = next_safe(&waiting, safe) {
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

fn next_safe(waiting: &Mutex<VecDeque<Waiting>>, safe: u64) -> Option<Waiting> {
    let mut waiting = lock(waiting);
    if waiting.front()?.message <= safe { waiting.pop_front() } else { None }
}

fn lock(waiting: &Mutex<VecDeque<Waiting>>) -> MutexGuard<'_, VecDeque<Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
