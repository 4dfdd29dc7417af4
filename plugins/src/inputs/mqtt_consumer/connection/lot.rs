//! Handing messages on, in lots, to a handler that may be busy.

use std::time::Duration;

use rumqttc::QoS;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::super::client::Message;
use super::{Common, Connection, heard};

/// Messages that arrived together, on one connection.
#[derive(Debug)]
pub struct Lot {
    /// Which connection of the input.
    pub connection: usize,
    /// Number of the connection's life, as in [`Acks::epoch`].
    pub epoch: u64,
    pub messages: Vec<Message>,
}

/// Messages in a lot at the most.
pub const LOT: usize = 256;

impl Connection {
    /// Hands what has arrived to the handler; `false` if that is gone.
    ///
    /// While the handler is busy this waits, and with it the reading of the socket: the broker is slowed down. It does not
    /// wait longer than the connection can stand without a ping. Then messages of QoS 0 that find no room are dropped, with
    /// an error and a count. Those that wait for our acknowledgement are bounded by the broker's own window, so reading goes
    /// on and pings with it; others hold the reading up again, for a shorter time.
    pub(super) async fn hand_on(&mut self) -> bool {
        let Self { common: Common { settings, lots, .. }, due, silence_told, .. } = self;
        let lots = lots.clone();
        if self.lot.is_empty() {
            return !lots.is_closed();
        }
        heard(settings, due, silence_told);
        let keepalive = self.client.keepalive().unwrap_or(Duration::from_secs(3600));
        let place = match (self.congested, settings.options.persistent_session) {
            (false, _) => timeout(keepalive / 2, lots.reserve()).await.map_err(drop),
            (true, false) => timeout(keepalive / 8, lots.reserve()).await.map_err(drop),
            // Not even for the moment that the shortest timeout takes.
            (true, true) => match lots.try_reserve() {
                Ok(place) => Ok(Ok(place)),
                Err(TrySendError::Full(())) => Err(()),
                Err(TrySendError::Closed(())) => return false,
            },
        };
        match place {
            Ok(Ok(place)) => {
                let messages = std::mem::replace(&mut self.lot, Vec::with_capacity(LOT));
                place.send(Lot { connection: self.number, epoch: self.acks.epoch(), messages });
                self.congested = false;
                true
            }
            Ok(Err(_)) => false,
            Err(()) => {
                self.drop_unacknowledged();
                true
            }
        }
    }

    /// Drops what nobody will send again. While the handler stays busy only the newest message can be one.
    fn drop_unacknowledged(&mut self) {
        let before = self.lot.len();
        if !std::mem::replace(&mut self.congested, true) {
            self.lot.retain(|message| message.qos != QoS::AtMostOnce);
        } else if self.lot.last().is_some_and(|message| message.qos == QoS::AtMostOnce) {
            self.lot.pop();
        }
        let count = before - self.lot.len();
        self.common.overload.add(count);
        if count > 0
            && let Some(suppressed) = self.dropped.admit()
        {
            let plugin = &*self.common.plugin;
            tracing::error!(plugin, count, suppressed, "messages of QoS 0 dropped: the agent does not keep up");
        }
    }
}
