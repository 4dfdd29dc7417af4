//! A small HTTP server with limits, and an end that lets requests finish.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// Largest head of a request, in bytes.
const HEAD_LIMIT: usize = 64 << 10;
/// How long requests may take to finish at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which most often means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers a request, on a thread that may compute.
pub(super) trait Handler: Send + Sync + 'static {
    /// The answer to a request from this address.
    fn answer(&self, request: &Parts, remote: IpAddr) -> Response<Full<Bytes>>;
}

/// How long reading and writing may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the head of a request, the handshake of TLS, and the wait for a next request.
    pub(super) read: Duration,
    /// For any progress in writing.
    pub(super) write: Duration,
}

/// Runs until it is stopped or dropped.
pub(super) struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens; an empty host is every address, IPv6 and IPv4.
    pub(super) async fn start(
        (host, port): (&str, u16),
        tls: Option<Arc<ServerConfig>>,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let listener = match host {
            // A kernel without IPv6 has no `::`.
            "" => match TcpListener::bind(("::", port)).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", port)).await?,
                other => other?,
            },
            _ => TcpListener::bind((host, port)).await?,
        };
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let serving = Serving { tls: tls.map(TlsAcceptor::from), limits, handler };
        let task = tokio::spawn(serving.run(listener, stopped));
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and lets requests finish, for five seconds at most.
    pub(super) async fn stop(self) {
        // Fails only if the task is gone already.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            warn!(error = %error, "the HTTP server ended badly");
        }
    }
}

#[derive(Clone)]
struct Serving {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    handler: Arc<dyn Handler>,
}

impl Serving {
    async fn run(self, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
        let (graceful, mut tasks) = (GracefulShutdown::new(), JoinSet::new());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                _ = &mut stopped => break,
                accepted = accept(&listener, &places) => accepted,
            };
            while tasks.join_next().now_or_never().flatten().is_some() {}
            match accepted {
                Ok((stream, remote, place)) => {
                    tasks.spawn(self.clone().connection(stream, remote, place, graceful.watcher()));
                }
                Err(error) => {
                    warn!(error = %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        if timeout(GRACE, graceful.shutdown()).await.is_err() {
            warn!("requests did not finish in time, their connections are closed");
        }
        tasks.shutdown().await;
    }

    async fn connection(
        self,
        stream: tokio::net::TcpStream,
        remote: SocketAddr,
        _place: OwnedSemaphorePermit,
        watcher: Watcher,
    ) {
        let remote = remote.ip().to_canonical();
        let stream = Patient { stream, limit: self.limits.write, until: None };
        let result = match &self.tls {
            None => self.http(stream, remote, watcher).await,
            Some(acceptor) => match timeout(self.limits.read, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.http(stream, remote, watcher).await,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no TLS handshake in time".to_owned()),
            },
        };
        if let Err(error) = result {
            debug!(remote = %remote, error, "connection ended");
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        remote: IpAddr,
        watcher: Watcher,
    ) -> Result<(), String> {
        let answer = |request: Request<Incoming>| {
            let handler = Arc::clone(&self.handler);
            async move {
                let (head, _) = request.into_parts();
                // A page of a million samples takes a while to write.
                tokio::task::spawn_blocking(move || handler.answer(&head, remote)).await
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.read)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        watcher.watch(connection).await.map_err(|error| error.to_string())
    }
}

type Accepted = (tokio::net::TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, remote) = listener.accept().await?;
    Ok((stream, remote, place))
}

/// A stream that fails when writing makes no progress for too long: the reader may have stopped reading.
struct Patient<S> {
    stream: S,
    limit: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn watch<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.until = None;
            return done;
        }
        let limit = self.limit;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, data);
        self.watch(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut stream = Patient { stream: near, limit: Duration::from_secs(10), until: None };
        stream.write_all(b"1234").await.unwrap();
        assert_eq!(stream.write_all(b"5").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    struct Fixed;

    impl Handler for Fixed {
        fn answer(&self, _: &Parts, remote: IpAddr) -> Response<Full<Bytes>> {
            Response::new(Full::new(remote.to_string().into()))
        }
    }

    #[tokio::test]
    async fn silent_connections_end_and_the_stop_does_not_wait_for_idle_ones() {
        let limits = Limits { read: Duration::from_millis(20), write: Duration::from_secs(1) };
        let server = Server::start(("127.0.0.1", 0), None, limits, Arc::new(Fixed)).await.unwrap();
        let mut silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let mut nothing = Vec::new();
        // The server closes it; that it says something before is up to hyper.
        silent.read_to_end(&mut nothing).await.unwrap();

        let mut idle = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let address = server.address();
        server.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
