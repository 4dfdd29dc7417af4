//! One server and the connection to it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use heliograph_core::error::BoxError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Dial;
use super::in_flight::has_arrived;
use super::unread::{Buffer, Unread};

/// A server of the list.
pub(super) struct Server {
    address: String,
    plugin: Arc<str>,
    stream: Option<Box<dyn Stream>>,
    /// What was written to the connection.
    sent: Unread,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// The connection under it.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Server {
    /// `resend_limit` is how many bytes are kept that the server may not have read.
    pub(super) fn new(address: &str, plugin: Arc<str>, resend_limit: usize) -> Self {
        Self { address: address.to_string(), plugin, stream: None, sent: Unread::new(resend_limit) }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Connects if there is no connection, resolving the name anew.
    pub(super) async fn connect(&mut self, dial: &Dial) -> Result<(), BoxError> {
        if self.stream.is_none() {
            let stream = within(dial.timeout, "connect", dial_server(&self.address, dial)).await?;
            tracing::info!(plugin = &*self.plugin, server = self.address, "connected");
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Writes the whole buffer; any error ends the connection.
    pub(super) async fn write(&mut self, buffer: &[u8], timeout: Option<Duration>) -> Result<(), BoxError> {
        let Some(stream) = &mut self.stream else { return Err("not connected".into()) };
        let written = within(timeout, "write", async {
            stream.write_all(buffer).await?;
            stream.flush().await?;
            Ok(())
        })
        .await;
        if let Err(error) = &written {
            tracing::error!(plugin = &*self.plugin, server = self.address, error = %error, "writing to server failed");
            self.stream = None;
        }
        written
    }

    /// Keeps a buffer that was written; returns one that can be used again.
    pub(super) fn keep(&mut self, buffer: Buffer) -> Vec<u8> {
        self.sent.push(buffer)
    }

    /// The oldest write that it may not have read.
    pub(super) fn oldest_unread(&self) -> Option<u64> {
        self.sent.oldest()
    }

    /// The oldest write that it was sent just now, and another connection before.
    pub(super) fn oldest_sent_again(&self) -> Option<u64> {
        self.sent.oldest_sent_again()
    }

    /// After a connection has ended: what the server may not have read of it.
    pub(super) fn unread(&mut self) -> &mut Unread {
        &mut self.sent
    }

    /// Looks whether the server has closed the connection, or sent something, which a Graphite server never does, and
    /// ends it then.
    ///
    /// A server that went away while nothing was written is only noticed by reading: the first write after it still
    /// succeeds. The look costs one system call and does not wait.
    pub(super) fn look(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut answer = [0; 256];
        match stream.read(&mut answer).now_or_never() {
            None => return,
            // It had read all that had arrived: a socket that is closed with something unread is reset.
            Some(Ok(0)) if has_arrived(stream.tcp()) => self.sent.was_read(),
            Some(Ok(0)) => {
                tracing::debug!(plugin = &*self.plugin, server = self.address, "closed while lines were on their way");
            }
            Some(Ok(count)) => {
                let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
                tracing::info!(plugin = &*self.plugin, server = self.address, answer, "unexpected answer, closing");
            }
            Some(Err(error)) => {
                tracing::debug!(plugin = &*self.plugin, server = self.address, error = %error, "connection is broken");
            }
        }
        self.stream = None;
    }

    pub(super) async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            // Nothing can be done about a connection that does not even close.
            drop(tokio::time::timeout(Duration::from_secs(2), stream.shutdown()).await);
        }
    }
}

async fn within<T>(
    timeout: Option<Duration>,
    what: &str,
    work: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    match timeout {
        None => work.await,
        Some(timeout) => match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("could not {what} within {timeout:?}").into()),
        },
    }
}

async fn dial_server(address: &str, dial: &Dial) -> Result<Box<dyn Stream>, BoxError> {
    let tcp = dial_tcp(address, dial).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &dial.tls else { return Ok(Box::new(tcp)) };
    // Read anew for each connection: certificates rotate.
    let config = tls.client_config()?.ok_or("TLS is not configured")?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = tls.server_name(host.trim_start_matches('[').trim_end_matches(']'))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, tcp).await?))
}

async fn dial_tcp(address: &str, dial: &Dial) -> Result<TcpStream, BoxError> {
    let Some(local) = dial.local else { return Ok(TcpStream::connect(address).await?) };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address of the family of `local_address`");
    for remote in tokio::net::lookup_host(address).await?.filter(|remote| remote.is_ipv4() == local.is_ipv4()) {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(local)?;
        match socket.connect(remote).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}
