//! Graphite plaintext over TCP or TLS, to one of several servers.

mod connection;
mod in_flight;
mod unread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heliograph_core::config;
use heliograph_core::error::{BoxError, StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{Output, OutputSpec};
use serde::Deserialize;

use self::connection::Server;
use self::unread::Unread;
use crate::common::tls::TlsClientOptions;
use crate::serializers::graphite::GraphiteSerializer;

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "graphite",
    sample: include_str!("sample.conf"),
    build: |mut section, context| {
        let serializer = GraphiteSerializer::take(&mut section)?;
        let tls: TlsClientOptions = section.take_struct()?;
        let position = section.position();
        let options: GraphiteOutputOptions = section.finish()?;
        let secure = tls.client_config().map_err(|error| position.error(error.to_string()))?.is_some();
        let resend_limit = options.resend_limit.as_usize();
        let server = |address: &str| Server::new(address, context.name.clone(), resend_limit);
        Ok(Box::new(Graphite {
            plugin: context.name.clone(),
            servers: options.servers().map(server).collect(),
            resend: Unread::new(resend_limit),
            local_address: options.local_address.clone(),
            timeout: options.timeout.positive(),
            tls: secure.then_some(tls),
            serializer,
            buffer: Vec::new(),
            next: 0,
        }))
    },
};

/// The options besides those of the serializer and of TLS.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GraphiteOutputOptions {
    /// `host:port` of each server.
    servers: Vec<String>,
    /// IP address, with or without port, to connect from.
    local_address: String,
    /// For connecting, and for each write; zero waits for ever.
    timeout: config::Duration,
    /// What is kept of what was written, to be sent again when a connection breaks.
    resend_limit: config::Size,
}

impl Default for GraphiteOutputOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            local_address: String::new(),
            timeout: config::Duration::from_secs(2),
            resend_limit: config::Size::from_mib(4),
        }
    }
}

impl GraphiteOutputOptions {
    fn servers(&self) -> impl Iterator<Item = &str> {
        let default = self.servers.is_empty().then_some("localhost:2003");
        self.servers.iter().map(String::as_str).chain(default)
    }
}

/// How to reach a server.
#[derive(Debug, Clone)]
struct Dial {
    local: Option<SocketAddr>,
    timeout: Option<Duration>,
    tls: Option<TlsClientOptions>,
}

struct Graphite {
    plugin: Arc<str>,
    servers: Vec<Server>,
    /// What connections that broke may have lost.
    resend: Unread,
    local_address: String,
    timeout: Option<Duration>,
    tls: Option<TlsClientOptions>,
    serializer: GraphiteSerializer,
    buffer: Vec<u8>,
    /// Which server a batch is offered first; they take turns.
    next: usize,
}

#[async_trait]
impl Output for Graphite {
    /// A server that is away is no reason not to start: what cannot be written waits.
    async fn connect(&mut self) -> Result<(), StartError> {
        let dial = self.dial().await.map_err(StartError::Fatal)?;
        for server in &mut self.servers {
            if let Err(error) = server.connect(&dial).await {
                tracing::debug!(server = server.address(), error = %error, "cannot connect yet");
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        self.buffer.clear();
        for metric in batch.iter() {
            self.serializer.write(metric, &mut self.buffer);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let dial = self.dial().await.map_err(WriteError::retry)?;
        self.send(&dial).await.map_err(WriteError::retry)
    }

    async fn close(&mut self) {
        for server in &mut self.servers {
            server.close().await;
        }
    }
}

impl Graphite {
    /// Resolves the local address anew each time, since it may be a name.
    async fn dial(&self) -> Result<Dial, BoxError> {
        let local = match self.local_address.as_str() {
            "" => None,
            address => Some(resolve_local(address).await?),
        };
        Ok(Dial { local, timeout: self.timeout, tls: self.tls.clone() })
    }

    /// Sends the whole buffer to one server: connected ones first, in turn, then those that can be connected again.
    async fn send(&mut self, dial: &Dial) -> Result<(), BoxError> {
        let count = self.servers.len();
        let mut failures: Vec<String> = Vec::new();
        self.next = (self.next + 1) % count;
        let order: Vec<usize> = (0..count).map(|i| (self.next + i) % count).collect();
        let (up, down): (Vec<_>, Vec<_>) = order.into_iter().partition(|&i| self.servers[i].is_connected());
        // A connection that turns out to be dead is dialled once more: the server may just have restarted.
        for &i in up.iter().chain(&down).chain(&up) {
            match self.send_to(i, dial).await {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(format!("{:?}: {error}", self.servers[i].address())),
            }
        }
        failures.dedup();
        Err(format!("could not write to any server in cluster ({})", failures.join("; ")).into())
    }
}

impl Graphite {
    /// Sends to one server what connections may have lost, and then the buffer.
    async fn send_to(&mut self, server: usize, dial: &Dial) -> Result<(), BoxError> {
        self.servers[server].look();
        self.collect_lost(server);
        let outcome = self.write_to(server, dial).await;
        self.collect_lost(server);
        outcome
    }

    async fn write_to(&mut self, server: usize, dial: &Dial) -> Result<(), BoxError> {
        let Self { servers, resend, buffer, .. } = self;
        let server = &mut servers[server];
        server.connect(dial).await?;
        while let Some(lost) = resend.pop() {
            if let Err(error) = server.write(&lost, dial.timeout).await {
                resend.put_back(lost);
                return Err(error);
            }
            drop(server.keep(lost));
        }
        server.write(buffer, dial.timeout).await?;
        *buffer = server.keep(std::mem::take(buffer));
        Ok(())
    }

    /// If the connection has ended, what the server may not have read of it is to be sent again.
    fn collect_lost(&mut self, server: usize) {
        let server = &mut self.servers[server];
        if server.is_connected() || server.unread().bytes() == 0 {
            return;
        }
        let bytes = self.resend.prepend(server.unread());
        if bytes > 0 {
            tracing::error!(plugin = &*self.plugin, bytes, "more was unread than resend_limit keeps; it may be lost");
        }
    }
}

async fn resolve_local(address: &str) -> Result<SocketAddr, BoxError> {
    let with_port = if address.parse::<std::net::IpAddr>().is_ok() {
        SocketAddr::new(address.parse()?, 0).to_string()
    } else if address.contains(':') {
        address.to_string()
    } else {
        format!("{address}:0")
    };
    let found = tokio::net::lookup_host(&with_port).await.map(|mut found| found.next());
    match found {
        Ok(Some(local)) => Ok(local),
        Ok(None) => Err(format!("option `local_address`: {address:?} has no address").into()),
        Err(error) => Err(format!("option `local_address`: cannot use {address:?}: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializers::graphite::GraphiteOptions;
    use heliograph_core::config::Section;
    use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    fn graphite(servers: Vec<String>) -> Graphite {
        let serializer = GraphiteSerializer::new(GraphiteOptions::default()).unwrap();
        Graphite {
            servers: servers.iter().map(|address| Server::new(address, "outputs.graphite".into(), 4 << 20)).collect(),
            plugin: "outputs.graphite".into(),
            resend: Unread::new(4 << 20),
            local_address: String::new(),
            timeout: Some(Duration::from_secs(2)),
            tls: None,
            serializer,
            buffer: Vec::new(),
            next: 0,
        }
    }

    fn batch(count: i64) -> WriteBatch {
        let mut batch = Batch::new();
        for i in 0..count {
            batch.start(SeriesBuilder::new().start(b"m").set_tag(b"host", b"h").build(), 1_000_000_000, Kind::Untyped);
            batch.push_field(Key::fixed("v"), Value::Int(i));
        }
        batch.into()
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    async fn read_all(mut stream: tokio::net::TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_skipped() {
        let (listener, address) = listen().await;
        let (gone, gone_address) = listen().await;
        drop(gone);
        let mut output = graphite(vec![gone_address, address]);
        output.connect().await.unwrap();
        output.write(&batch(2)).await.unwrap();
        output.close().await;
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\n");
    }

    #[tokio::test]
    async fn a_server_that_closed_is_dialled_again_within_the_same_write() {
        let (listener, address) = listen().await;
        let mut output = graphite(vec![address]);
        output.connect().await.unwrap();
        drop(listener.accept().await.unwrap());
        // The close has to arrive before the write: wait until the connection reports it.
        while output.servers[0].is_connected() {
            output.servers[0].look();
            tokio::task::yield_now().await;
        }
        output.write(&batch(1)).await.unwrap();
        output.close().await;
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(read_all(stream).await, "h.m.v 0 1\n");
    }

    #[tokio::test]
    async fn what_a_server_had_not_read_when_it_broke_is_sent_again() {
        let (listener, address) = listen().await;
        let mut output = graphite(vec![address]);
        output.connect().await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        output.write(&batch(2)).await.unwrap();
        stream.readable().await.unwrap();
        // Closed with something unread, a socket is reset.
        drop(stream);
        while output.servers[0].is_connected() {
            output.servers[0].look();
            tokio::task::yield_now().await;
        }
        output.write(&batch(1)).await.unwrap();
        output.close().await;
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\nh.m.v 0 1\n");
    }

    #[tokio::test]
    async fn what_a_server_has_read_before_it_closed_is_not_sent_again() {
        let (listener, address) = listen().await;
        let mut output = graphite(vec![address]);
        output.connect().await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        output.write(&batch(2)).await.unwrap();
        let mut read = vec![0; "h.m.v 0 1\nh.m.v 1 1\n".len()];
        stream.read_exact(&mut read).await.unwrap();
        drop(stream);
        while output.servers[0].is_connected() {
            output.servers[0].look();
            tokio::task::yield_now().await;
        }
        output.write(&batch(1)).await.unwrap();
        output.close().await;
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(read_all(stream).await, "h.m.v 0 1\n");
    }

    #[tokio::test]
    async fn no_server_at_all_keeps_the_batch_and_names_them() {
        let (gone, address) = listen().await;
        drop(gone);
        let mut output = graphite(vec![address.clone()]);
        output.connect().await.unwrap();
        let error = output.write(&batch(1)).await.unwrap_err();
        assert!(error.rejected.is_empty() && error.written.is_empty());
        assert!(error.source.to_string().contains(&address), "{}", error.source);
    }

    #[tokio::test]
    async fn a_server_that_never_reads_is_given_up_after_the_timeout() {
        let (listener, address) = listen().await;
        let mut output = graphite(vec![address]);
        output.timeout = Some(Duration::from_millis(50));
        output.connect().await.unwrap();
        let _mute = listener.accept().await.unwrap();
        // Again and again, until no socket buffer takes more.
        let large = batch(100_000);
        let error = loop {
            if let Err(error) = output.write(&large).await {
                break error;
            }
        };
        assert!(error.source.to_string().contains("within 50ms"), "{}", error.source);
    }

    #[tokio::test]
    async fn local_addresses() {
        assert_eq!(resolve_local("127.0.0.1").await.unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(resolve_local("127.0.0.1:99").await.unwrap().to_string(), "127.0.0.1:99");
        assert!(resolve_local("no.such.host.invalid").await.unwrap_err().to_string().contains("no.such.host.invalid"));
    }

    #[test]
    fn the_defaults_are_those_of_the_sample() {
        let options: GraphiteOutputOptions = Section::empty("outputs.graphite").finish().unwrap();
        assert_eq!(options.servers().collect::<Vec<_>>(), ["localhost:2003"]);
        assert_eq!(options.timeout.positive(), Some(Duration::from_secs(2)));
    }
}
