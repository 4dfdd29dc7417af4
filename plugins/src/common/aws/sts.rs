//! Keys of a role, from the security token service.

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::{AwsError, Credentials, sign};
use crate::common::http_client::{Address, HttpClient, Request, form, read_body, status_error};

const ANSWER_LIMIT: usize = 1 << 20;

/// A role, and where it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Role<'a> {
    pub(super) arn: &'a str,
    pub(super) session: &'a str,
    pub(super) region: &'a str,
    /// Empty for the region's own.
    pub(super) endpoint: &'a str,
}

impl Role<'_> {
    /// Takes the role on with keys.
    pub(super) async fn assume(
        &self,
        client: &HttpClient,
        base: &Credentials,
        now: i64,
    ) -> Result<Credentials, AwsError> {
        let mut request = self.request("AssumeRole", &[])?;
        sign(&mut request, base, self.region, "sts", now)?;
        ask(client, request).await
    }

    /// Takes the role on with a token of another provider, such as a Kubernetes service account.
    pub(super) async fn assume_with_token(&self, client: &HttpClient, token: &str) -> Result<Credentials, AwsError> {
        ask(client, self.request("AssumeRoleWithWebIdentity", &[("WebIdentityToken", token.trim())])?).await
    }

    fn request(&self, action: &str, more: &[(&str, &str)]) -> Result<Request, AwsError> {
        let own = format!("https://sts.{}.amazonaws.com/", self.region);
        let endpoint = if self.endpoint.is_empty() { &own } else { self.endpoint };
        let session = if self.session.is_empty() { "heliograph" } else { self.session };
        let mut pairs =
            vec![("Action", action), ("Version", "2011-06-15"), ("RoleArn", self.arn), ("RoleSessionName", session)];
        pairs.extend(more);
        let mut request = Request::new(Method::POST, Address::parse(endpoint)?);
        let content = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers.insert(CONTENT_TYPE, content);
        request.body = form(&pairs).into();
        Ok(request)
    }
}

async fn ask(client: &HttpClient, request: Request) -> Result<Credentials, AwsError> {
    let response = client.send(request).await?;
    if !response.status().is_success() {
        return Err(status_error(response).await.into());
    }
    let body = read_body(response, ANSWER_LIMIT).await?;
    parse(&String::from_utf8_lossy(&body)).ok_or_else(|| AwsError::Other("the answer holds no credentials".to_owned()))
}

/// The answer is XML of a fixed form, in which each of these elements occurs once and holds text only.
fn parse(xml: &str) -> Option<Credentials> {
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    let until = element("Expiration")?.parse::<Timestamp>().ok()?;
    Some(Credentials {
        access_key: element("AccessKeyId")?,
        secret_key: element("SecretAccessKey")?,
        token: element("SessionToken")?,
        until: i64::try_from(until.as_nanosecond()).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let xml = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>\
                   <SecretAccessKey>B</SecretAccessKey><SessionToken>C</SessionToken>\
                   <Expiration>2023-11-14T22:13:20Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let found = parse(xml).unwrap();
        assert_eq!((found.access_key.as_str(), found.token.as_str()), ("A", "C"));
        assert_eq!(found.until, Some(1_700_000_000_000_000_000));
        assert_eq!(parse("<Error/>"), None);
    }
}
