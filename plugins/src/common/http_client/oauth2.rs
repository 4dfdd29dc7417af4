//! Tokens by the client-credentials grant of OAuth2.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Address, HttpClient, HttpError, Request, read_body, status_error};
use heliograph_core::config::Secret;

/// A token is not used in its last seconds: it could end on its way.
const EARLY: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: usize = 1 << 20;

/// The OAuth2 block; active if id, secret and address are set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2Options {
    /// Name of the client.
    pub client_id: String,
    /// Password of the client.
    pub client_secret: Secret,
    /// Where tokens are given.
    pub token_url: String,
    /// Whom the token is for; sent if not empty.
    pub audience: String,
    /// What the token is for.
    pub scopes: Vec<String>,
}

impl OAuth2Options {
    pub(super) fn is_active(&self) -> bool {
        !(self.client_id.is_empty() || self.client_secret.is_empty() || self.token_url.is_empty())
    }

    pub(super) fn check(&self) -> Result<(), HttpError> {
        let fail = |reason: String| HttpError::Option { option: "token_url", reason };
        if self.is_active() {
            Address::parse(&self.token_url).map_err(|error| fail(error.to_string()))?;
        }
        Ok(())
    }
}

/// Gets tokens and keeps the last one while it is good.
#[derive(Debug)]
pub(super) struct TokenSource {
    options: OAuth2Options,
    /// Held while a token is fetched, so that it is fetched once.
    last: Mutex<Option<Token>>,
    /// Whether this server wants the credentials in the form; learnt at the first token.
    in_form: AtomicBool,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds; some servers send a string.
    expires_in: Option<serde_json::Value>,
}

impl TokenSource {
    pub(super) fn new(options: OAuth2Options) -> Self {
        Self { options, last: Mutex::new(None), in_form: AtomicBool::new(false) }
    }

    /// The value of `Authorization`.
    pub(super) async fn token(&self, client: &HttpClient) -> Result<HeaderValue, HttpError> {
        let mut last = self.last.lock().await;
        if let Some(token) = &*last
            && token.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(token.header.clone());
        }
        let token = self.fetch(client).await?;
        let header = token.header.clone();
        *last = Some(token);
        Ok(header)
    }

    async fn fetch(&self, client: &HttpClient) -> Result<Token, HttpError> {
        let in_form = self.in_form.load(Ordering::Relaxed);
        match self.ask(client, in_form).await {
            // The standard says that servers must take Basic, but some know only the form.
            Err(HttpError::Status { .. }) if !in_form => {
                let token = self.ask(client, true).await?;
                self.in_form.store(true, Ordering::Relaxed);
                Ok(token)
            }
            other => other,
        }
    }

    async fn ask(&self, client: &HttpClient, in_form: bool) -> Result<Token, HttpError> {
        let address = Address::parse(&self.options.token_url)?;
        let fail = |reason: String| HttpError::Login { url: self.options.token_url.clone(), reason };
        let secret = self.options.client_secret.resolve().map_err(|error| fail(error.to_string()))?;
        let secret = secret.as_str().map_err(|error| fail(error.to_string()))?;
        let scopes = self.options.scopes.join(" ");
        let mut pairs = vec![("grant_type", "client_credentials")];
        if !scopes.is_empty() {
            pairs.push(("scope", &scopes));
        }
        if !self.options.audience.is_empty() {
            pairs.push(("audience", &self.options.audience));
        }
        let mut request = Request::new(Method::POST, address);
        if in_form {
            pairs.extend([("client_id", self.options.client_id.as_str()), ("client_secret", secret)]);
        } else {
            let (name, password) = (encoded(&self.options.client_id), encoded(secret));
            let basic = basic(name.as_bytes(), password.as_bytes());
            request.headers.insert(AUTHORIZATION, basic);
        }
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = form(&pairs).into();
        let response = client.send_plain(request).await?;
        if !response.status().is_success() {
            return Err(status_error(response).await);
        }
        let body = read_body(response, ANSWER_LIMIT).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| fail(format!("not a token: {error}")))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", answer.access_token))
            .map_err(|_| fail("the token has characters that a header cannot have".to_owned()))?;
        header.set_sensitive(true);
        Ok(Token { header, until: lifetime(answer.expires_in.as_ref()).map(|time| Instant::now() + time) })
    }
}

/// How long a token may be used; for ever if the server does not say.
fn lifetime(expires_in: Option<&serde_json::Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        serde_json::Value::String(text) => text.parse().ok()?,
        number => number.as_f64()?,
    };
    let whole = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time < Duration::from_secs(1 << 32))?;
    (!whole.is_zero()).then(|| whole.saturating_sub(EARLY))
}

/// `key=value&…`, encoded as forms are.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    // The only public way to this encoding is the query of a URL.
    let mut url = Url::parse("form:").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// A word as in [`form`].
fn encoded(word: &str) -> String {
    let mut pair = form(&[(word, "")]);
    pair.pop();
    pair
}

/// `Basic …`, marked so that it is not logged.
pub(crate) fn basic(username: &[u8], password: &[u8]) -> HeaderValue {
    use base64::Engine;
    let pair = [username, b":", password].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_lifetimes() {
        assert_eq!(form(&[("a b", "c&d"), ("x", "ä")]), "a+b=c%26d&x=%C3%A4");
        let seconds = |json: &str| lifetime(Some(&serde_json::from_str(json).unwrap())).map(|time| time.as_secs());
        assert_eq!(seconds("3600"), Some(3590));
        assert_eq!(seconds("\"60\""), Some(50));
        assert_eq!(seconds("5"), Some(0));
        assert_eq!((seconds("0"), seconds("-1"), seconds("1e300"), seconds("null")), (None, None, None, None));
    }
}
