//! Identity tokens of Google, by a service account's key.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use serde_json::json;

use crate::common::http_client::{
    Address, HttpClient, HttpClientOptions, HttpError, Request, form, read_body, status_error,
};

const FILE_LIMIT: u64 = 1 << 20;
const ANSWER_LIMIT: usize = 1 << 20;
/// The longest that Google takes for an assertion.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A token is not used in its last seconds.
const EARLY: Duration = Duration::from_secs(10);

/// Gets tokens for one audience and keeps the last one while it is good.
#[derive(Debug)]
pub(super) struct TokenSource {
    path: String,
    audience: String,
    /// Its own: what the plugin's client is told about its target (authorities, proxy, login) is not for Google.
    client: HttpClient,
    last: Option<Token>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    /// Seconds since the Unix epoch.
    until: i64,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum GoogleError {
    #[error("cannot read {path:?} of option `google_application_credentials`")]
    File { path: String, source: io::Error },
    #[error("cannot use {path:?} of option `google_application_credentials`: {reason}")]
    Content { path: String, reason: String },
    #[error("cannot get a token for the service account")]
    Http(#[from] HttpError),
    #[error("cannot get a token for the service account: {0}")]
    Answer(&'static str),
}

#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default = "Account::token_uri")]
    token_uri: String,
}

impl Account {
    fn token_uri() -> String {
        "https://oauth2.googleapis.com/token".to_owned()
    }
}

#[derive(Deserialize)]
struct Answer {
    id_token: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl TokenSource {
    pub(super) fn new(path: String, audience: String) -> Self {
        Self { path, audience, client: HttpClient::new(HttpClientOptions::default()), last: None }
    }

    /// The value of `Authorization` that is good at `now`, in seconds since the Unix epoch.
    pub(super) async fn token(&mut self, now: i64) -> Result<HeaderValue, GoogleError> {
        if let Some(token) = &self.last
            && now < token.until.saturating_sub(EARLY.as_secs() as i64)
        {
            return Ok(token.header.clone());
        }
        let account = self.account()?;
        let assertion = self.assertion(&account, now)?;
        let mut request = Request::new(Method::POST, Address::parse(&account.token_uri)?);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        request.body = form(&[("grant_type", grant), ("assertion", &assertion)]).into();
        let response = self.client.send(request).await?;
        if !response.status().is_success() {
            return Err(status_error(response).await.into());
        }
        let body = read_body(response, ANSWER_LIMIT).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| GoogleError::Answer("the answer holds no `id_token`"))?;
        let until = expiry(&answer.id_token).ok_or(GoogleError::Answer("the token does not say when it ends"))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", answer.id_token))
            .map_err(|_| GoogleError::Answer("the token has characters that a header cannot have"))?;
        header.set_sensitive(true);
        self.last = Some(Token { header: header.clone(), until });
        Ok(header)
    }

    fn account(&self) -> Result<Account, GoogleError> {
        let mut content = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut content))
            .map_err(|source| GoogleError::File { path: self.path.clone(), source })?;
        let account: Account = serde_json::from_slice(&content).map_err(|error| self.content(error.to_string()))?;
        if account.kind != "service_account" {
            return Err(
                self.content(format!("it is of type {:?}, but only a service account is supported", account.kind))
            );
        }
        Ok(account)
    }

    fn assertion(&self, account: &Account, now: i64) -> Result<String, GoogleError> {
        let key = PrivateKeyDer::from_pem_slice(account.private_key.as_bytes())
            .map_err(|_| self.content("`private_key` is no key in PEM form".to_owned()))?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(PrivatePkcs8KeyDer::secret_pkcs8_der(key)),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(self.content("`private_key` is no RSA key".to_owned())),
        };
        let key = key.map_err(|error| self.content(format!("`private_key` cannot be used: {error}")))?;
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": account.private_key_id});
        let claims = json!({
            "iss": account.client_email,
            "sub": account.client_email,
            "aud": account.token_uri,
            "target_audience": self.audience,
            "iat": now,
            "exp": now + LIFETIME.as_secs() as i64,
        });
        let text = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| self.content("`private_key` cannot sign".to_owned()))?;
        Ok(format!("{text}.{}", encode(&signature)))
    }

    fn content(&self, reason: String) -> GoogleError {
        GoogleError::Content { path: self.path.clone(), reason }
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// When a token ends, in seconds since the Unix epoch; its signature is for the receiver to check.
fn expiry(token: &str) -> Option<i64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.exp)
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::common::http_client::testing::{Server, reply};

    /// An RSA key made for this test alone.
    const KEY: &str = include_str!("testdata/rsa.pem");

    #[tokio::test]
    async fn one_token_until_it_ends() {
        let id_token = format!("x.{}.y", encode(br#"{"exp": 3600}"#));
        let answer = json!({"id_token": id_token}).to_string();
        let server = Server::start(move |_| reply(StatusCode::OK, &answer)).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        let account = json!({
            "type": "service_account", "client_email": "a@b", "private_key": KEY, "token_uri": server.url("/token")
        });
        std::fs::write(&path, account.to_string()).unwrap();
        let mut source = TokenSource::new(path.to_str().unwrap().into(), "http://target/".into());
        for now in [0, 3000] {
            let header = source.token(now).await.unwrap();
            assert_eq!(header.to_str().unwrap(), format!("Bearer {id_token}"));
        }
        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        let body = String::from_utf8_lossy(&seen[0].body).into_owned();
        let assertion = body.split_once("&assertion=").unwrap().1;
        let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["target_audience"], &claims["exp"]), (&json!("http://target/"), &json!(3600)));
        source.token(3595).await.unwrap();
        assert_eq!(server.seen().len(), 2);
    }

    #[tokio::test]
    async fn other_kinds_of_credentials_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        std::fs::write(&path, r#"{"type": "authorized_user"}"#).unwrap();
        let mut source = TokenSource::new(path.to_str().unwrap().into(), String::new());
        let error = source.token(0).await.unwrap_err().to_string();
        assert!(
            error.ends_with(r#"it is of type "authorized_user", but only a service account is supported"#),
            "{error}"
        );
    }
}
