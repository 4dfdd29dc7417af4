//! The client: picks or makes a connection pool for each kind of way, and sends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::fmt::rfc2822;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response};
use rustls_pki_types::ServerName;
use tokio::time::timeout;

use super::cookie::Login;
use super::oauth2::TokenSource;
use super::{Address, HttpClientOptions, HttpError, Local};
use crate::common::tls::default_client_config;

/// Most of a refusal's body that is read for the log, in bytes.
const REFUSAL_LIMIT: usize = 1024;

/// Longest time for which a server is left alone, whatever it asks for: data is lost meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Where.
    pub address: Address,
    /// Headers, besides those that the client adds (`Host`, `Accept-Encoding`, `Content-Length`).
    pub headers: HeaderMap,
    /// The body; an empty one is sent as such where the method has one.
    pub body: Bytes,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, address: Address) -> Self {
        Self { method, address, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// The client of one plugin. It makes connections when they are needed; after a failed one it reads certificates and
/// names anew.
pub struct HttpClient {
    options: HttpClientOptions,
    pools: Mutex<HashMap<Way, reqwest::Client>>,
    tokens: Option<TokenSource>,
    login: Option<Login>,
}

/// Requests of one way share a pool of connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Way {
    Direct,
    Socket(PathBuf),
    /// To this host, which is asked for by the name of `tls_server_name`.
    Renamed(String),
}

/// Most ways that are kept: as many as a plugin has sockets or renamed hosts; more only by a faulty use.
const WAYS: usize = 256;

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("options", &self.options).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client; nothing is connected yet.
    pub fn new(options: HttpClientOptions) -> Self {
        let tokens = options.oauth2.is_active().then(|| TokenSource::new(options.oauth2.clone()));
        let login = options.cookie.is_active().then(|| Login::new(options.cookie.clone()));
        Self { options, pools: Mutex::default(), tokens, login }
    }

    /// Logs in if the cookie block asks for it; called once at the plugin's start, before the first request.
    ///
    /// # Errors
    /// If the login fails.
    pub async fn start(&self) -> Result<(), HttpError> {
        match &self.login {
            Some(login) => login.renew(self).await,
            None => Ok(()),
        }
    }

    /// Sends a request, logged in, and waits for the headers of the answer.
    ///
    /// # Errors
    /// If no token can be had, the server cannot be reached, or it does not answer in time. Any status is an answer.
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        if let Some(login) = &self.login {
            login.renew_if_due(self).await;
        }
        self.send_authorized(request).await
    }

    /// Sends with a token, but without a look at the login: the login itself comes this way.
    pub(super) async fn send_authorized(&self, mut request: Request) -> Result<Response, HttpError> {
        if let Some(tokens) = &self.tokens {
            let token = tokens.token(self).await?;
            request.headers.insert(AUTHORIZATION, token);
        }
        self.send_plain(request).await
    }

    /// Sends as is: requests for tokens come this way.
    pub(super) async fn send_plain(&self, mut request: Request) -> Result<Response, HttpError> {
        let way = self.way(&request.address)?;
        let client = self.pool(&way).await?;
        let mut url = request.address.url().clone();
        if let (Way::Renamed(_), Some(name)) = (&way, self.renamed()?) {
            // The handshake asks for the host of the URL, so that is replaced; the server is to see the real one.
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let authority = format!("{}{port}", url.host_str().unwrap_or_default());
            if let Ok(value) = HeaderValue::from_str(&authority) {
                request.headers.entry(HOST).or_insert(value);
            }
            if url.set_host(Some(&name)).is_err() {
                return Err(HttpError::Address { address: name, reason: "it is no host name".to_owned() });
            }
        }
        let built = client.request(request.method, url).headers(request.headers).body(request.body);
        let (first, whole) = (self.options.transport.response_timeout.positive(), self.timeout());
        let shown = request.address.to_string();
        let answer = match first {
            Some(limit) if limit < whole => match timeout(limit, built.send()).await {
                Ok(answer) => answer,
                Err(_) => return Err(self.timed_out(shown, limit)),
            },
            _ => built.send().await,
        };
        answer.map_err(|error| self.failed(shown, error))
    }

    /// The limit of a whole request.
    pub fn timeout(&self) -> Duration {
        self.options.timeout.positive().unwrap_or(Duration::from_secs(5))
    }

    fn failed(&self, url: String, error: reqwest::Error) -> HttpError {
        if error.is_timeout() {
            return self.timed_out(url, self.timeout());
        }
        if error.is_connect() {
            self.forget();
        }
        HttpError::Send { url, source: error.without_url() }
    }

    fn timed_out(&self, url: String, after: Duration) -> HttpError {
        self.forget();
        HttpError::Timeout { url, after }
    }

    /// Drops all pools: the next request resolves names and reads certificates anew.
    fn forget(&self) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn way(&self, address: &Address) -> Result<Way, HttpError> {
        if let Some(socket) = address.socket() {
            return Ok(Way::Socket(socket.to_owned()));
        }
        let proxied = self.options.transport.use_system_proxy || !self.options.transport.http_proxy_url.is_empty();
        let url = address.url();
        match (self.renamed()?, url.host_str()) {
            (Some(_), Some(host)) if url.scheme() == "https" && !proxied => Ok(Way::Renamed(host.to_owned())),
            _ => Ok(Way::Direct),
        }
    }

    fn renamed(&self) -> Result<Option<String>, HttpError> {
        Ok(match self.options.tls.name_override()? {
            Some(ServerName::DnsName(name)) => Some(name.as_ref().to_owned()),
            _ => None,
        })
    }

    async fn pool(&self, way: &Way) -> Result<reqwest::Client, HttpError> {
        if let Some(client) = self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(way) {
            return Ok(client.clone());
        }
        let local = match self.options.transport.local()? {
            Local::Any => None,
            Local::Ip(ip) => Some(ip),
            Local::Name(name) => {
                let fail = |reason: String| HttpError::Option { option: "local_address", reason };
                let mut found =
                    tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|e| fail(format!("{name:?}: {e}")))?;
                let first = found.next().ok_or_else(|| fail(format!("{name:?} has no address")))?;
                Some(first.ip())
            }
        };
        let client = self.build(way, local)?;
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= WAYS {
            pools.clear();
        }
        pools.insert(way.clone(), client.clone());
        Ok(client)
    }

    fn build(&self, way: &Way, local: Option<std::net::IpAddr>) -> Result<reqwest::Client, HttpError> {
        let transport = &self.options.transport;
        let configured = self.options.tls.client_config()?;
        // As Go does: HTTP/2 is only spoken by a transport that nothing was changed of.
        let http2 = configured.is_none() && local.is_none();
        let mut tls = (*configured.map_or_else(default_client_config, Ok)?).clone();
        if http2 {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let per_host = if transport.max_idle_conn_per_host == 0 { 2 } else { transport.max_idle_conn_per_host };
        let all = if transport.max_idle_conn == 0 { usize::MAX } else { transport.max_idle_conn };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(self.timeout())
            .pool_idle_timeout(transport.idle_conn_timeout.positive())
            .pool_max_idle_per_host(per_host.min(all))
            .local_address(local);
        if !http2 {
            builder = builder.http1_only();
        }
        if let Some(login) = &self.login {
            builder = builder.cookie_provider(login.jar());
        }
        match (transport.use_system_proxy, transport.proxy()?) {
            (true, _) => {}
            (false, Some(proxy)) => builder = builder.no_proxy().proxy(proxy),
            (false, None) => builder = builder.no_proxy(),
        }
        match way {
            Way::Direct => {}
            Way::Socket(path) => builder = builder.unix_socket(path.clone()),
            Way::Renamed(host) => builder = builder.dns_resolver(Arc::new(Elsewhere(host.clone()))),
        }
        let fail = |error: reqwest::Error| HttpError::Send { url: "any".to_owned(), source: error.without_url() };
        builder.build().map_err(fail)
    }
}

/// Finds every name at the addresses of one host.
#[derive(Debug)]
struct Elsewhere(String);

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.trim_start_matches('[').trim_end_matches(']').to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Reads the body of an answer, at most `limit` bytes after decompression.
///
/// # Errors
/// If it is longer, or breaks off.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Bytes, HttpError> {
    let url = Address::from(response.url().clone()).to_string();
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(HttpError::TooLong { url, limit }),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(HttpError::Send { url, source: error.without_url() }),
        }
    }
}

/// The error of an answer that is none of success, with the first line of its body.
pub async fn status_error(mut response: Response) -> HttpError {
    let (url, status) = (Address::from(response.url().clone()).to_string(), response.status());
    let mut start = Vec::new();
    while start.len() < REFUSAL_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => start.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    start.truncate(REFUSAL_LIMIT);
    let line = String::from_utf8_lossy(start.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let line = line.trim();
    let detail = if line.is_empty() { String::new() } else { format!(": {line}") };
    HttpError::Status { url, status, detail }
}

/// How long an answer asks to be left alone (`Retry-After`: seconds, or the time of an HTTP date), an hour at the most; `now`
/// in nanoseconds since the Unix epoch.
pub fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = rfc2822::parse(value).ok()?.timestamp().as_nanosecond();
            Duration::from_nanos(u64::try_from(until - i128::from(now)).unwrap_or(0))
        }
    };
    (!wait.is_zero()).then(|| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hyper::StatusCode;

    use super::super::testing::{Server, reply};
    use super::super::{CookieOptions, OAuth2Options, TransportOptions};
    use super::*;
    use crate::common::tls::testing::Authority;
    use crate::common::tls::{TlsClientOptions, TlsServerOptions};

    async fn get(client: &HttpClient, url: &str) -> Result<String, String> {
        let request = Request::new(Method::GET, Address::parse(url).unwrap());
        let show = |error: HttpError| heliograph_core::error::Chain(&error).to_string();
        let response = client.send(request).await.map_err(show)?;
        if !response.status().is_success() {
            return Err(show(status_error(response).await));
        }
        Ok(String::from_utf8(read_body(response, 1 << 10).await.map_err(show)?.to_vec()).unwrap())
    }

    fn client(options: HttpClientOptions) -> HttpClient {
        options.check().unwrap();
        HttpClient::new(options)
    }

    #[tokio::test]
    async fn statuses_and_limits() {
        let server = Server::start(|request| match request.path.as_str() {
            "/long" => reply(StatusCode::OK, &"x".repeat(2 << 10)),
            "/bad?token=1" => reply(StatusCode::BAD_REQUEST, "first line\nsecond"),
            _ => reply(StatusCode::OK, "fine"),
        })
        .await;
        let client = client(HttpClientOptions::default());
        assert_eq!(get(&client, &server.url("/")).await.as_deref(), Ok("fine"));
        let bad = get(&client, &server.url("/bad?token=1")).await.unwrap_err();
        assert_eq!(bad, format!("\"{}\" answered 400 Bad Request: first line", server.url("/bad")));
        assert!(get(&client, &server.url("/long")).await.unwrap_err().contains("is longer than 1024 bytes"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let limit = HttpClientOptions { timeout: Duration::from_millis(20).into(), ..Default::default() };
        let transport = TransportOptions { response_timeout: Duration::from_millis(10).into(), ..Default::default() };
        let first = HttpClientOptions { transport, ..Default::default() };
        assert_eq!(get(&client(limit), &url).await, Err(format!("no answer from \"{url}\" within 20ms")));
        assert_eq!(get(&client(first), &url).await, Err(format!("no answer from \"{url}\" within 10ms")));
    }

    #[tokio::test]
    async fn unix_sockets_and_the_fixed_proxy() {
        let server = Server::start(|request| reply(StatusCode::OK, &request.path)).await;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("x.sock");
        let forward = server.on_unix(&socket);
        let client1 = client(HttpClientOptions::default());
        let url = format!("http+unix://{}:/metrics?a=b", socket.display());
        assert_eq!(get(&client1, &url).await.as_deref(), Ok("/metrics?a=b"));
        drop(forward);

        let transport = TransportOptions { http_proxy_url: server.url(""), ..Default::default() };
        let proxied = client(HttpClientOptions { transport, ..Default::default() });
        assert_eq!(get(&proxied, "http://nowhere.invalid/p").await.as_deref(), Ok("http://nowhere.invalid/p"));
    }

    #[tokio::test]
    async fn tls_asks_for_the_name_that_is_set() {
        let authority = Authority::new();
        let files = authority.leaf("metrics.test");
        let tls = TlsServerOptions { tls_cert: files.cert, tls_key: files.key, ..Default::default() };
        let server = Server::start_tls(&tls, |request| {
            let host = request.headers[HOST].to_str().unwrap();
            reply(StatusCode::OK, &format!("{host} {}", request.server_name.as_deref().unwrap_or("-")))
        })
        .await;
        let named =
            TlsClientOptions { tls_ca: authority.path(), tls_server_name: "metrics.test".into(), ..Default::default() };
        let unnamed = TlsClientOptions { tls_server_name: String::new(), ..named.clone() };
        let url = server.url("/");
        let host = url.trim_start_matches("https://").trim_end_matches('/');
        let answer = get(&client(HttpClientOptions { tls: named, ..Default::default() }), &url).await;
        assert_eq!(answer, Ok(format!("{host} metrics.test")));
        let error = get(&client(HttpClientOptions { tls: unnamed, ..Default::default() }), &url).await.unwrap_err();
        assert!(error.contains("not valid for name"), "{error}");
    }

    #[tokio::test]
    async fn tokens_by_form_once_basic_was_refused() {
        let server = Server::start(|request| {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            match request.path.as_str() {
                "/token" if form.contains("client_id=agent&client_secret=s%26t") && form.contains("audience=me") => {
                    reply(StatusCode::OK, r#"{"access_token": "abc", "expires_in": 3600}"#)
                }
                "/token" => reply(StatusCode::UNAUTHORIZED, "form only"),
                _ => reply(StatusCode::OK, request.headers[AUTHORIZATION].to_str().unwrap()),
            }
        })
        .await;
        let oauth2 = OAuth2Options {
            client_id: "agent".into(),
            client_secret: "s&t".into(),
            token_url: server.url("/token"),
            audience: "me".into(),
            scopes: vec!["a".into(), "b".into()],
        };
        let client = client(HttpClientOptions { oauth2, ..Default::default() });
        assert_eq!(get(&client, &server.url("/")).await.as_deref(), Ok("Bearer abc"));
        assert_eq!(get(&client, &server.url("/")).await.as_deref(), Ok("Bearer abc"));
        let paths: Vec<String> = server.seen().into_iter().map(|request| request.path).collect();
        assert_eq!(paths, ["/token", "/token", "/", "/"]);
        let seen = server.seen();
        assert_eq!(seen[0].headers[AUTHORIZATION], "Basic YWdlbnQ6cyUyNnQ=");
        assert_eq!(seen[0].body, b"grant_type=client_credentials&scope=a+b&audience=me");
    }

    #[tokio::test]
    async fn cookies_of_the_login_go_along() {
        let server = Server::start(|request| match request.path.as_str() {
            "/login" if request.body == b"hello" && request.headers["x-key"] == "1" => {
                let mut response = reply(StatusCode::OK, "");
                response.headers_mut().insert("set-cookie", "session=7; Path=/".parse().unwrap());
                response
            }
            "/login" => reply(StatusCode::FORBIDDEN, "who?"),
            _ => reply(StatusCode::OK, request.headers.get("cookie").map_or("-", |value| value.to_str().unwrap())),
        })
        .await;
        let cookie = CookieOptions {
            cookie_auth_url: server.url("/login"),
            cookie_auth_body: "hello".into(),
            cookie_auth_headers: BTreeMap::from([("X-Key".to_owned(), "1".into())]),
            ..Default::default()
        };
        let known = client(HttpClientOptions { cookie: cookie.clone(), ..Default::default() });
        known.start().await.unwrap();
        assert_eq!(get(&known, &server.url("/")).await.as_deref(), Ok("session=7"));
        let cookie = CookieOptions { cookie_auth_body: "bye".into(), ..cookie };
        let stranger = client(HttpClientOptions { cookie, ..Default::default() });
        assert!(stranger.start().await.unwrap_err().to_string().ends_with("answered 403 Forbidden: who?"));
    }

    #[test]
    fn waits() {
        let seconds = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, 1_445_412_420_000_000_000).map(|wait| wait.as_secs())
        };
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:26:00 GMT"), None);
        assert_eq!(seconds("999999999999"), Some(3600));
        assert_eq!((seconds("0"), seconds("-1"), seconds("soon"), seconds("")), (None, None, None, None));
    }
}
