//! The receiver: its address, the login, and one request with its answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use heliograph_core::clock::Clock;
use heliograph_core::config::Secret;
use heliograph_core::error::BoxError;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::answer::Answer;
use super::options::{Options, Refusal};
use crate::common::aws::{AwsOptions, CredentialSource, sign};
use crate::common::http_client::{
    Address, HttpClient, HttpClientOptions, HttpError, Request, basic, insert_headers, read_body, status_error,
};
use crate::common::prometheus::remote_write::Version;

/// Where requests go.
pub(super) struct Endpoint {
    address: Address,
    client: HttpClient,
    user_agent: HeaderValue,
    headers: BTreeMap<String, Secret>,
    tenant_header: HeaderName,
    login: Login,
    clock: Clock,
}

/// How a request logs in; OAuth2 and cookies are the client's.
enum Login {
    None,
    Basic { username: Secret, password: Secret },
    Bearer(Secret),
    BearerFile(String),
    Aws { service: String, keys: Box<Mutex<CredentialSource>> },
}

/// One request to be sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) version: Version,
    pub(super) body: Bytes,
    pub(super) tenant: Option<&'a HeaderValue>,
    /// How often its samples were sent before.
    pub(super) attempt: u32,
}

/// Most of a good answer that is read, so that the connection can be used again.
const ANSWER_LIMIT: usize = 64 << 10;
/// Longest token that is read from a file.
const TOKEN_LIMIT: u64 = 64 << 10;

const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
const REMOTE_WRITE_VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

impl Endpoint {
    pub(super) fn new(
        options: &Options,
        url: &str,
        client: HttpClientOptions,
        aws: AwsOptions,
        clock: Clock,
        version: &str,
    ) -> Result<Self, Refusal> {
        let refuse = |option| move |error: String| Refusal { option, reason: error };
        let address = Address::parse(url).map_err(|error| refuse(options.url_option())(error.to_string()))?;
        // Only the names can be checked now: values may be in a store that is not open yet.
        let names = options.headers.keys().map(|name| (name.clone(), Secret::default())).collect();
        insert_headers(&names, &mut Default::default()).map_err(refuse("headers"))?;
        let tenant_header = HeaderName::try_from(options.tenant_header.as_str())
            .map_err(|error| refuse("tenant_header")(error.to_string()))?;
        let login = if !options.aws_service.is_empty() {
            Login::Aws { service: options.aws_service.clone(), keys: Box::new(Mutex::new(CredentialSource::new(aws))) }
        } else if !options.bearer_token.is_empty() {
            Login::Bearer(options.bearer_token.clone())
        } else if !options.bearer_token_file.is_empty() {
            Login::BearerFile(options.bearer_token_file.clone())
        } else if !(options.username.is_empty() && options.password.is_empty()) {
            Login::Basic { username: options.username.clone(), password: options.password.clone() }
        } else {
            Login::None
        };
        Ok(Self {
            address,
            client: HttpClient::new(client),
            user_agent: HeaderValue::try_from(format!("heliograph/{version}"))
                .map_err(|error| refuse("version")(error.to_string()))?,
            headers: options.headers.clone(),
            tenant_header,
            login,
            clock,
        })
    }

    /// Logs in, where that comes before the first request.
    pub(super) async fn start(&self) -> Result<(), BoxError> {
        self.client.start().await?;
        if let Login::Aws { keys, .. } = &self.login {
            let mut keys = keys.lock().await;
            keys.credentials(self.clock.now()).await?;
            keys.region()?;
        }
        Ok(())
    }

    /// Sends a request; `Err` if there is no answer.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, BoxError> {
        let request = self.request(outgoing).await?;
        let response = self.client.send(request).await?;
        let status = response.status();
        let mut answer = Answer::new(status, response.headers(), self.clock.now());
        if status.is_success() {
            // What it says is in its headers.
            let _ = read_body(response, ANSWER_LIMIT).await;
        } else {
            let error = status_error(response).await;
            if let HttpError::Status { detail, .. } = &error {
                answer.detail.clone_from(detail);
            }
            answer.error = Some(error.into());
        }
        Ok(answer)
    }

    /// Shows where requests go, for messages.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    async fn request(&self, outgoing: Outgoing<'_>) -> Result<Request, BoxError> {
        let mut request = Request::new(Method::POST, self.address.clone());
        request.body = outgoing.body;
        let authorization = match &self.login {
            Login::None => None,
            Login::Basic { username, password } => {
                Some(basic(username.resolve()?.as_bytes(), password.resolve()?.as_bytes()))
            }
            Login::Bearer(token) => Some(bearer(token.resolve()?.as_bytes(), "of option `bearer_token`")?),
            Login::BearerFile(path) => Some(bearer(&read_token(path).await?, path)?),
            Login::Aws { service, keys } => {
                let now = self.clock.now();
                let mut keys = keys.lock().await;
                let credentials = keys.credentials(now).await?;
                sign(&mut request, &credentials, &keys.region()?, service, now)?;
                None
            }
        };
        let headers = &mut request.headers;
        insert_headers(&self.headers, headers)?;
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let (content_type, version) = match outgoing.version {
            Version::One => ("application/x-protobuf", "0.1.0"),
            Version::Two => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(REMOTE_WRITE_VERSION, HeaderValue::from_static(version));
        if outgoing.attempt > 0 {
            headers.insert(RETRY_ATTEMPT, outgoing.attempt.into());
        }
        if let Some(tenant) = outgoing.tenant {
            headers.insert(&self.tenant_header, tenant.clone());
        }
        Ok(request)
    }
}

/// Reads a token anew: whoever issues it replaces the file.
async fn read_token(path: &str) -> Result<Vec<u8>, BoxError> {
    let mut token = Vec::new();
    let read = async { tokio::fs::File::open(path).await?.take(TOKEN_LIMIT).read_to_end(&mut token).await };
    read.await.map_err(|error| format!("cannot read {path:?} of option `bearer_token_file`: {error}"))?;
    Ok(token)
}

fn bearer(token: &[u8], place: &str) -> Result<HeaderValue, BoxError> {
    let mut header = HeaderValue::from_bytes(&[b"Bearer ", token.trim_ascii()].concat())
        .map_err(|_| format!("the token {place} has characters that a header cannot have"))?;
    header.set_sensitive(true);
    Ok(header)
}
