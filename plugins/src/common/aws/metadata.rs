//! Keys of the machine or the container that the program runs in, from servers that only it can reach.

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{AwsError, Credentials};
use crate::common::http_client::{Address, HttpClient, Request, read_body, status_error};

const ANSWER_LIMIT: usize = 1 << 20;
const INSTANCE: &str = "http://169.254.169.254";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

/// Keys of a container (ECS, or EKS with pod identity), from the address that its environment names.
pub(super) async fn container(
    client: &HttpClient,
    address: &str,
    authorization: Option<&str>,
) -> Result<Credentials, AwsError> {
    let mut request = Request::new(Method::GET, Address::parse(address)?);
    if let Some(token) = authorization {
        request.headers.insert(AUTHORIZATION, header(token)?);
    }
    parse(&ask(client, request).await?)
}

/// Keys of the role of an instance (EC2), from `endpoint` or the usual address. A session token is asked for first, as
/// instances demand it unless they are told not to.
pub(super) async fn instance(client: &HttpClient, endpoint: Option<&str>) -> Result<Credentials, AwsError> {
    let base = endpoint.unwrap_or(INSTANCE).trim_end_matches('/');
    let mut request = Request::new(Method::PUT, Address::parse(&format!("{base}/latest/api/token"))?);
    let lifetime = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    request.headers.insert(lifetime, HeaderValue::from_static("300"));
    let session = header(&ask(client, request).await?)?;
    let get = async |path: &str| {
        let address = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
        let mut request = Request::new(Method::GET, Address::parse(&address)?);
        request.headers.insert(HeaderName::from_static("x-aws-ec2-metadata-token"), session.clone());
        ask(client, request).await
    };
    let roles = get("").await?;
    let role = roles.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err(AwsError::Other("the instance has no role".to_owned()));
    }
    parse(&get(role).await?)
}

async fn ask(client: &HttpClient, request: Request) -> Result<String, AwsError> {
    let response = client.send(request).await?;
    if !response.status().is_success() {
        return Err(status_error(response).await.into());
    }
    Ok(String::from_utf8_lossy(&read_body(response, ANSWER_LIMIT).await?).into_owned())
}

fn header(text: &str) -> Result<HeaderValue, AwsError> {
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| AwsError::Other("the token has characters that a header cannot have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse(json: &str) -> Result<Credentials, AwsError> {
    let answer: Answer =
        serde_json::from_str(json).map_err(|_| AwsError::Other("the answer holds no credentials".to_owned()))?;
    let until = answer.expiration.parse::<Timestamp>().ok().and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    Ok(Credentials {
        access_key: answer.access_key_id,
        secret_key: answer.secret_access_key,
        token: answer.token,
        until,
    })
}
