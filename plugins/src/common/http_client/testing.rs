//! A small HTTP server on the loopback that remembers what it was asked.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::common::tls::TlsServerOptions;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// What the TLS handshake asked for.
    pub(crate) server_name: Option<String>,
}

type Reply = dyn Fn(&Recorded) -> Response<Full<Bytes>> + Send + Sync;

/// Stops when dropped.
pub(crate) struct Server {
    base: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    reply: Box<Reply>,
    seen: Mutex<Vec<Recorded>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer of text.
pub(crate) fn reply(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

impl Server {
    pub(crate) async fn start(reply: impl Fn(&Recorded) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(reply)).await
    }

    pub(crate) async fn start_tls(
        tls: &TlsServerOptions,
        reply: impl Fn(&Recorded) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(tls.server_config().unwrap().expect("configured"));
        Self::listen(Some(acceptor), Box::new(reply)).await
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Recorded> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Answers on a unix socket too, until what is returned is dropped.
    pub(crate) fn on_unix(&self, path: &Path) -> JoinSet<()> {
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::clone(&self.shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), None));
            }
        });
        tasks
    }

    async fn listen(tls: Option<TlsAcceptor>, reply: Box<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { reply, seen: Mutex::default() });
        let kept = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&kept);
                match &tls {
                    None => drop(tokio::spawn(serve(stream, shared, None))),
                    Some(acceptor) => {
                        let accepted = acceptor.accept(stream);
                        tokio::spawn(async move {
                            let Ok(stream) = accepted.await else { return };
                            let name = stream.get_ref().1.server_name().map(str::to_owned);
                            serve(stream, shared, name).await;
                        });
                    }
                }
            }
        });
        Self { base, shared, task: task.abort_handle() }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    server_name: Option<String>,
) {
    let answer = |request: hyper::Request<Incoming>| {
        let (shared, server_name) = (Arc::clone(&shared), server_name.clone());
        async move {
            let (head, body) = request.into_parts();
            let recorded = Recorded {
                method: head.method.to_string(),
                path: head.uri.to_string(),
                headers: head.headers,
                body: body.collect().await.unwrap().to_bytes().to_vec(),
                server_name,
            };
            let response = (shared.reply)(&recorded);
            shared.seen.lock().unwrap().push(recorded);
            Ok::<_, Infallible>(response)
        }
    };
    // The other side may go at any time.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}
