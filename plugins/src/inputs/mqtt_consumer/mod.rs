//! Messages from an MQTT broker (3.1.1), parsed and named after their topics.

mod acks;
mod config;
mod connection;
mod consumer;
mod legacy;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::{BoxError, StartError};
use heliograph_core::parse::ParserBuilder;
use heliograph_core::plugin::{Input, InputSpec};
use heliograph_core::stats::Stats;
use rumqttc::AsyncClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::acks::Acks;
use self::config::{MqttConsumerOptions, Settings};
use self::connection::Connection;
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
    client: AsyncClient,
    stopping: watch::Sender<bool>,
    connection: JoinHandle<()>,
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
        let overload = ConsumerStats::overload(&self.stats, "mqtt_consumer");
        let acks = Arc::new(Acks::default());
        let (connection, client) =
            Connection::first(self.settings.clone(), plugin, lots, acks.clone(), overload).await?;
        let stats = ConsumerStats::new(&self.stats, "mqtt_consumer");
        let (stopping, stop) = watch::channel(false);
        let settings = self.settings.clone();
        let consumer = Consumer::new(settings, parser, accumulator, stats, client.clone(), acks, stop);
        self.running = Some(Running {
            client,
            stopping,
            connection: tokio::spawn(connection.run()),
            consumer: tokio::spawn(consumer.run(received)),
        });
        Ok(())
    }

    /// Messages come by themselves.
    async fn gather(&mut self, _accumulator: &mut Accumulator) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&mut self) {
        let Some(Running { client, stopping, mut connection, consumer }) = self.running.take() else { return };
        stopping.send_replace(true);
        // Fails only if the connection has ended by itself.
        drop(client.try_disconnect());
        if tokio::time::timeout(GOODBYE, &mut connection).await.is_err() {
            connection.abort();
            drop(connection.await);
        }
        drop(consumer.await);
    }
}
