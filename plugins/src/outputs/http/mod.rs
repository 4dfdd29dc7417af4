//! Sends metrics in the bodies of HTTP requests.

mod google;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Secret, Section};
use heliograph_core::error::{BoxError, StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{BuildContext, Output, OutputSpec};
use heliograph_core::serialize::Serializer;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::common::aws::{AwsOptions, CredentialSource, sign};
use crate::common::compress::Encoder;
use crate::common::http_client::{
    Address, HttpClient, HttpClientOptions, Request, basic, insert_headers, read_body, retry_after, status_error,
};
use crate::serializers;

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "http",
    sample: include_str!("sample.conf"),
    build: |section, context| Http::build(section, context).map(|output| Box::new(output) as _),
};

/// Most of a good answer that is read; it is thrown away.
const ANSWER_LIMIT: usize = 16 << 20;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    url: String,
    method: String,
    username: Secret,
    password: Secret,
    headers: BTreeMap<String, Secret>,
    content_encoding: String,
    use_batch_format: bool,
    non_retryable_statuscodes: Vec<u16>,
    google_application_credentials: String,
    aws_service: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8080/telegraf".to_owned(),
            method: "POST".to_owned(),
            username: Secret::default(),
            password: Secret::default(),
            headers: BTreeMap::new(),
            content_encoding: String::new(),
            use_batch_format: true,
            non_retryable_statuscodes: Vec::new(),
            google_application_credentials: String::new(),
            aws_service: String::new(),
        }
    }
}

struct Http {
    options: Options,
    address: Address,
    method: Method,
    encoder: Encoder,
    user_agent: HeaderValue,
    client: HttpClient,
    serializer: Box<dyn Serializer>,
    clock: Clock,
    aws: Option<CredentialSource>,
    google: Option<google::TokenSource>,
}

/// An option with a value that cannot be used.
struct Refusal {
    option: &'static str,
    reason: String,
}

impl Http {
    fn build(mut section: Section, context: &BuildContext) -> Result<Self, ConfigError> {
        let serializer = serializers::take(&mut section, context)?;
        let client = HttpClientOptions::take(&mut section)?;
        let aws: AwsOptions = section.take_struct()?;
        let place = section.clone();
        Self::new(section.finish()?, client, aws, serializer, context)
            .map_err(|refusal| place.error_at(refusal.option, refusal.reason))
    }

    fn new(
        options: Options,
        client: HttpClientOptions,
        aws: AwsOptions,
        serializer: Box<dyn Serializer>,
        context: &BuildContext,
    ) -> Result<Self, Refusal> {
        let refuse = |option| move |reason: String| Refusal { option, reason };
        let address = Address::parse(&options.url).map_err(|error| refuse("url")(error.to_string()))?;
        let method = match options.method.to_uppercase().as_str() {
            "" | "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            other => return Err(refuse("method")(format!("method {other:?} is none of POST, PUT, PATCH"))),
        };
        // Only the names can be checked now: values may be in a store that is not open yet.
        let names = options.headers.keys().map(|name| (name.clone(), Secret::default())).collect();
        insert_headers(&names, &mut HeaderMap::new()).map_err(refuse("headers"))?;
        let gzip = options.content_encoding == "gzip";
        let encoder = Encoder::new(if gzip { "gzip" } else { "" }, -1)
            .map_err(|error| refuse("content_encoding")(error.to_string()))?;
        let user_agent = HeaderValue::try_from(format!("heliograph/{}", context.version))
            .map_err(|error| refuse("version")(error.to_string()))?;
        let google = Some(&options.google_application_credentials).filter(|path| !path.is_empty());
        Ok(Self {
            address,
            method,
            encoder,
            user_agent,
            client: HttpClient::new(client),
            serializer,
            clock: context.clock.clone(),
            aws: (!options.aws_service.is_empty()).then(|| CredentialSource::new(aws)),
            google: google.map(|path| google::TokenSource::new(path.clone(), options.url.clone())),
            options,
        })
    }

    /// Sends one body and waits for the answer.
    async fn send(&mut self, plain: Vec<u8>) -> Result<(), Failure> {
        let request = self.request(plain).await.map_err(|error| Failure::Retry(error, None))?;
        let response = self.client.send(request).await.map_err(|error| Failure::Retry(error.into(), None))?;
        let status = response.status();
        if status.is_success() {
            return match read_body(response, ANSWER_LIMIT).await {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::Retry(error.into(), None)),
            };
        }
        let wait = retry_after(response.headers(), self.clock.now());
        let error = status_error(response).await.into();
        if self.options.non_retryable_statuscodes.contains(&status.as_u16()) {
            let in_the_body =
                [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
            return Err(if in_the_body.contains(&status) {
                Failure::RejectContent(error)
            } else {
                Failure::Reject(error)
            });
        }
        Err(Failure::Retry(error, wait))
    }

    async fn request(&mut self, plain: Vec<u8>) -> Result<Request, BoxError> {
        let mut request = Request::new(self.method.clone(), self.address.clone());
        request.body = if self.encoder == Encoder::Identity {
            Bytes::from(plain)
        } else {
            let mut encoded = Vec::new();
            self.encoder.encode(&plain, &mut encoded)?;
            encoded.into()
        };
        if let Some(source) = &mut self.aws {
            let now = self.clock.now();
            let credentials = source.credentials(now).await?;
            sign(&mut request, &credentials, &source.region()?, &self.options.aws_service, now)?;
        }
        let headers = &mut request.headers;
        if !(self.options.username.is_empty() && self.options.password.is_empty()) {
            let (username, password) = (self.options.username.resolve()?, self.options.password.resolve()?);
            headers.insert(AUTHORIZATION, basic(username.as_bytes(), password.as_bytes()));
        }
        if let Some(source) = &mut self.google {
            headers.insert(AUTHORIZATION, source.token(self.clock.now() / 1_000_000_000).await?);
        }
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.encoder != Encoder::Identity {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        insert_headers(&self.options.headers, headers)?;
        Ok(request)
    }

    async fn write_whole(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let mut body = Vec::new();
        // The same batch would fail again.
        let serialized = self.serializer.serialize_batch(batch, &mut body);
        serialized.map_err(|error| WriteError::reject(batch.len(), error))?;
        self.send(body).await.map_err(|failure| match failure {
            Failure::Retry(error, retry_after) => WriteError { retry_after, ..WriteError::retry(error) },
            Failure::Reject(error) => WriteError::reject(batch.len(), error),
            Failure::RejectContent(error) => WriteError::reject_batch(batch.len(), error),
        })
    }

    /// A request a metric, up to the first that has to be tried again.
    async fn write_each(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let (mut written, mut rejected, mut last) = (Vec::new(), Vec::new(), None);
        for (index, metric) in batch.iter().enumerate() {
            let mut body = Vec::new();
            let sent = match self.serializer.serialize(metric, &mut body) {
                Ok(()) => self.send(body).await,
                Err(error) => Err(Failure::Reject(error)),
            };
            match sent {
                Ok(()) => written.push(index),
                Err(Failure::Reject(error) | Failure::RejectContent(error)) => {
                    rejected.push(index);
                    last = Some(error);
                }
                Err(Failure::Retry(source, retry_after)) => {
                    return Err(WriteError { written, rejected, retry_after, ..WriteError::retry(source) });
                }
            }
        }
        match last {
            Some(source) => Err(WriteError { written, rejected, ..WriteError::retry(source) }),
            None => Ok(()),
        }
    }
}

/// What to do with metrics that did not arrive.
enum Failure {
    /// Later, after the pause that the server asks for.
    Retry(BoxError, Option<Duration>),
    /// For good, whatever the body is.
    Reject(BoxError),
    /// For good, since something in the body is wrong: a part of it may be taken.
    RejectContent(BoxError),
}

#[async_trait]
impl Output for Http {
    async fn connect(&mut self) -> Result<(), StartError> {
        self.client.start().await.map_err(|error| StartError::Retry(error.into()))?;
        if let Some(source) = &mut self.aws {
            // Telegraf would go on without signatures, and every request would be refused.
            let found = source.credentials(self.clock.now()).await.and_then(|_| source.region());
            found.map_err(|error| StartError::Retry(error.into()))?;
        }
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        if self.options.use_batch_format { self.write_whole(batch).await } else { self.write_each(batch).await }
    }
}

#[cfg(test)]
mod tests;
