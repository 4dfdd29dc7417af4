//! Which messages wait for their acknowledgement, and who sends it: in order of arrival, once they are safe.
//!
//! The client library writes to the socket for every request that comes through its channel, and that costs more than all else
//! that is done for a small message. So only the first of a group goes that way, since it wakes the poll loop up; the
//! connection writes the others, together, when it sees that the first has gone out. With MQTT 5 the library does not let it,
//! so there they follow one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::QoS;
use tokio::sync::watch;

use super::client::Requests;

/// Shared by handler, acknowledger and connection.
#[derive(Debug, Default)]
pub struct Acks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(u64, Ack)>,
    /// Newest message that is safe.
    safe: u64,
    /// Counts beginnings and ends of connections: an acknowledgement is good only for the one its message came by. A
    /// message of an earlier one is passed over: its packet number means nothing any more, and the broker sends it again.
    epoch: u64,
    /// The first of a group is on its way through the client's channel.
    first_sent: bool,
}

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub epoch: u64,
    pub packet: u16,
    pub qos: QoS,
}

impl Acks {
    /// Number of the connection's life; the first has 1, and what comes after its end has another.
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// A connection has begun or ended. What waits, and what was on its way through the channel of the old one, is void.
    pub fn turn(&self) {
        let mut state = self.lock();
        state.waiting.clear();
        state.epoch += 1;
        state.first_sent = false;
    }

    /// How many wait on the connection at hand.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A message waits; messages come in ascending order.
    pub fn push(&self, message: u64, ack: Ack) {
        let mut state = self.lock();
        if ack.epoch == state.epoch {
            state.waiting.push_back((message, ack));
        }
    }

    /// All up to this message is safe: gives the first of those that wait, to be sent through the client's channel;
    /// nothing if the connection will come by anyhow.
    fn first(&self, safe: u64) -> Option<Ack> {
        let mut state = self.lock();
        state.safe = safe;
        if state.first_sent {
            return None;
        }
        let first = state.next()?;
        state.first_sent = true;
        Some(first)
    }

    /// The next, behind the first. After the last one the acknowledger is in charge again.
    pub fn next(&self) -> Option<Ack> {
        let mut state = self.lock();
        let next = state.next();
        state.first_sent = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Ack> {
        if self.waiting.front()?.0 > self.safe {
            return None;
        }
        self.waiting.pop_front().map(|(_, ack)| ack)
    }
}

/// Has messages acknowledged as they become safe. Ends with the handler.
pub async fn acknowledge(acks: Arc<Acks>, mut watermark: watch::Receiver<u64>, requests: Requests) {
    while watermark.changed().await.is_ok() {
        let safe = *watermark.borrow_and_update();
        let Some(first) = acks.first(safe) else { continue };
        // There is room: nothing else of note goes that way.
        if requests.acknowledge(first).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages 1 to `count` of the connection at hand, packet numbers alike.
    fn waiting(acks: &Acks, messages: std::ops::RangeInclusive<u64>) {
        let epoch = acks.epoch();
        messages.for_each(|i| acks.push(i, Ack { epoch, packet: i as u16, qos: QoS::AtLeastOnce }));
    }

    fn packet(ack: Option<Ack>) -> Option<u16> {
        ack.map(|ack| ack.packet)
    }

    #[test]
    fn the_first_wakes_and_the_rest_follows_in_order() {
        let acks = Acks::default();
        acks.turn();
        waiting(&acks, 1..=4);
        assert_eq!(packet(acks.first(2)), Some(1));
        assert_eq!(packet(acks.first(3)), None, "the first is still on its way");
        assert_eq!([acks.next(), acks.next(), acks.next()].map(packet), [Some(2), Some(3), None]);
        assert_eq!(packet(acks.first(4)), Some(4));
    }

    #[test]
    fn nothing_of_an_earlier_connection_is_acknowledged() {
        let acks = Acks::default();
        acks.turn();
        waiting(&acks, 1..=3);
        assert_eq!(packet(acks.first(1)), Some(1));
        acks.turn();
        assert_eq!(packet(acks.first(2)), None, "the connection is gone");
        let stale = Ack { epoch: acks.epoch() - 1, packet: 9, qos: QoS::AtLeastOnce };
        acks.turn();
        acks.push(3, stale);
        waiting(&acks, 4..=5);
        assert_eq!(acks.len(), 2);
        assert_eq!(packet(acks.first(3)), None);
        assert_eq!(packet(acks.first(5)), Some(4));
        assert_eq!(packet(acks.next()), Some(5));
    }
}
