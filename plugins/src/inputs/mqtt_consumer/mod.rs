//! Messages from an MQTT broker (3.1.1 or 5), parsed and named after their topics.

mod acknowledge;
mod acks;
mod client;
mod config;
mod connection;
mod consumer;
mod deadline;
mod grant;
mod label;
mod legacy;
mod options;
mod properties;
mod server;
mod session;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::parse::ParserBuilder;
use heliograph_core::plugin::{Input, InputSpec};
use heliograph_core::stats::Stats;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::acknowledge::Acknowledge;
use self::client::Requests;
use self::config::{MqttConsumerOptions, Settings};
use self::connection::{Common, Connection};
use self::consumer::{Consumer, ConsumerStats};
use crate::common::tls::TlsClientOptions;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "mqtt_consumer",
    sample: include_str!("sample.conf"),
    build: |mut section, context| {
        let parser = crate::parsers::take(&mut section, "influx", "mqtt_consumer", context)?;
        let tls: TlsClientOptions = section.take_struct()?;
        let position = section.position();
        let options: MqttConsumerOptions = section.finish()?;
        let settings = Settings::new(options, tls).map_err(|error| position.error(error.to_string()))?;
        // A parser whose options cannot be used is found now and not at the first message.
        drop(parser().map_err(|error| position.error(error.to_string()))?);
        let (settings, stats) = (Arc::new(settings), context.stats.clone());
        Ok(Box::new(MqttConsumer { settings, parser, stats, running: None }))
    },
};

/// Lots between connection and handler: enough that neither waits for the other, little enough that messages do not pile
/// up outside the broker.
const LOTS: usize = 4;
/// How long the client may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

struct MqttConsumer {
    settings: Arc<Settings>,
    parser: ParserBuilder,
    stats: Stats,
    running: Option<Running>,
}

struct Running {
    connections: Vec<(Requests, JoinHandle<()>)>,
    stopping: watch::Sender<bool>,
    consumer: JoinHandle<()>,
}

#[async_trait]
impl Input for MqttConsumer {
    async fn start(&mut self, accumulator: Accumulator) -> Result<(), StartError> {
        let parser = (self.parser)().map_err(StartError::Fatal)?;
        let plugin = accumulator.plugin().clone();
        let (lots, received) = mpsc::channel(LOTS);
        if self.settings.options.max_undelivered_messages.is_some() && !self.settings.options.persistent_session {
            tracing::warn!(
                plugin = &*plugin,
                "max_undelivered_messages only counts with persistent_session = true: without it nothing waits for delivery"
            );
        }
        let common = Common {
            settings: self.settings.clone(),
            plugin,
            lots,
            states: accumulator.states().clone(),
            overload: ConsumerStats::overload(&self.stats, "mqtt_consumer"),
            reconnects: ConsumerStats::reconnects(&self.stats),
        };
        let (mut connections, mut handles) = (Vec::new(), Vec::new());
        for number in 0..self.settings.client_ids.len() {
            let (connection, handle) = Connection::first(common.clone(), number).await?;
            connections.push(connection);
            handles.push(handle);
        }
        let stats = ConsumerStats::new(&self.stats, "mqtt_consumer");
        let (stopping, stop) = watch::channel(false);
        let requests = handles.iter().map(|handle| handle.requests.clone()).collect::<Vec<_>>();
        let delivery = accumulator.delivery().filter(|_| self.settings.options.persistent_session);
        let acknowledge = delivery.map(|delivery| Acknowledge::new(&self.settings, delivery, handles, stop));
        let consumer = Consumer::new(self.settings.clone(), parser, accumulator, stats, acknowledge);
        let tasks = connections.into_iter().map(|connection| tokio::spawn(connection.run()));
        self.running = Some(Running {
            connections: requests.into_iter().zip(tasks).collect(),
            stopping,
            consumer: tokio::spawn(consumer.run(received)),
        });
        Ok(())
    }

    /// Messages come by themselves.
    async fn gather(&mut self, _accumulator: &mut Accumulator) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&mut self) {
        let Some(Running { connections, stopping, consumer }) = self.running.take() else { return };
        stopping.send_replace(true);
        connections.iter().for_each(|(requests, _)| requests.disconnect());
        let deadline = tokio::time::Instant::now() + GOODBYE;
        for (_, mut connection) in connections {
            if tokio::time::timeout_at(deadline, &mut connection).await.is_err() {
                connection.abort();
                drop(connection.await);
            }
        }
        drop(consumer.await);
    }
}
