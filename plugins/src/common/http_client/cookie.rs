//! Login by a cookie: one request whose answer's cookies all later requests carry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use heliograph_core::config::{Duration, Secret};
use heliograph_core::error::Chain;
use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::error;

use super::oauth2::basic;
use super::{Address, HttpClient, HttpError, Request, read_body, status_error};

const ANSWER_LIMIT: usize = 1 << 20;

/// The cookie block; active if the address is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CookieOptions {
    /// Where to log in.
    pub cookie_auth_url: String,
    /// How; POST if empty.
    pub cookie_auth_method: String,
    /// Name for basic authentication.
    pub cookie_auth_username: String,
    /// Password for basic authentication.
    pub cookie_auth_password: Secret,
    /// Headers of the login.
    pub cookie_auth_headers: BTreeMap<String, Secret>,
    /// Body of the login.
    pub cookie_auth_body: Secret,
    /// How often to log in again; 0 is never.
    pub cookie_auth_renewal: Duration,
}

impl CookieOptions {
    pub(super) fn is_active(&self) -> bool {
        !self.cookie_auth_url.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), HttpError> {
        if !self.is_active() {
            return Ok(());
        }
        let fail = |option, reason: String| HttpError::Option { option, reason };
        Address::parse(&self.cookie_auth_url).map_err(|error| fail("cookie_auth_url", error.to_string()))?;
        self.method()?;
        for name in self.cookie_auth_headers.keys() {
            HeaderName::try_from(name.as_str())
                .map_err(|_| fail("cookie_auth_headers", format!("{name:?} is no name of a header")))?;
        }
        Ok(())
    }

    fn method(&self) -> Result<Method, HttpError> {
        let name = if self.cookie_auth_method.is_empty() { "POST" } else { &self.cookie_auth_method };
        Method::from_bytes(name.as_bytes()).map_err(|_| HttpError::Option {
            option: "cookie_auth_method",
            reason: format!("{name:?} is no method of HTTP"),
        })
    }
}

/// Logs in, and again when it is time.
pub(super) struct Login {
    options: CookieOptions,
    jar: Arc<FreshJar>,
    last: Mutex<Option<Instant>>,
}

impl Login {
    pub(super) fn new(options: CookieOptions) -> Self {
        Self { options, jar: Arc::default(), last: Mutex::new(None) }
    }

    /// Where the cookies are.
    pub(super) fn jar(&self) -> Arc<FreshJar> {
        Arc::clone(&self.jar)
    }

    /// Logs in if the last time is long enough ago; a failure is logged, and tried again after another period.
    pub(super) async fn renew_if_due(&self, client: &HttpClient) {
        let Some(period) = self.options.cookie_auth_renewal.positive() else { return };
        let due = self.last().is_some_and(|last| last.elapsed() >= period);
        if due && let Err(error) = self.renew(client).await {
            error!(error = %Chain(&error), "cannot renew the login by cookie");
        }
    }

    /// Logs in with an empty jar.
    pub(super) async fn renew(&self, client: &HttpClient) -> Result<(), HttpError> {
        *self.last() = Some(Instant::now());
        self.jar.empty();
        let response = client.send_authorized(self.request()?).await?;
        if !response.status().is_success() {
            return Err(status_error(response).await);
        }
        read_body(response, ANSWER_LIMIT).await.map(|_| ())
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self) -> Result<Request, HttpError> {
        let options = &self.options;
        let fail = |reason: String| HttpError::Login { url: options.cookie_auth_url.clone(), reason };
        let mut request = Request::new(options.method()?, Address::parse(&options.cookie_auth_url)?);
        if !options.cookie_auth_username.is_empty() {
            let password = options.cookie_auth_password.resolve().map_err(|error| fail(error.to_string()))?;
            let value = basic(options.cookie_auth_username.as_bytes(), password.as_bytes());
            request.headers.insert(AUTHORIZATION, value);
        }
        insert_headers(&options.cookie_auth_headers, &mut request.headers).map_err(fail)?;
        let body = options.cookie_auth_body.resolve().map_err(|error| fail(error.to_string()))?;
        request.body = body.as_bytes().to_vec().into();
        Ok(request)
    }
}

/// Sets headers out of an option, replacing those of the same name.
pub(crate) fn insert_headers(from: &BTreeMap<String, Secret>, to: &mut HeaderMap) -> Result<(), String> {
    for (name, secret) in from {
        let header = HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no name of a header"))?;
        let value = secret.resolve().map_err(|error| format!("header {name:?}: {error}"))?;
        let mut value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| format!("the value of header {name:?} has characters that it cannot have"))?;
        value.set_sensitive(true);
        to.insert(header, value);
    }
    Ok(())
}

/// A jar that can be emptied while clients hold it.
#[derive(Debug, Default)]
pub(super) struct FreshJar(RwLock<Jar>);

impl FreshJar {
    fn empty(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Jar::default();
    }
}

impl CookieStore for FreshJar {
    fn set_cookies(&self, headers: &mut dyn Iterator<Item = &HeaderValue>, url: &Url) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).set_cookies(headers, url);
    }

    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).cookies(url)
    }
}
