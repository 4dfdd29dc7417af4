//! Where keys come from: options, environment, shared files, roles.

use std::fs;

use heliograph_core::config::Secret;

use super::sts::Role;
use super::{AwsError, AwsOptions, Credentials, EARLY, shared_files};
use crate::common::http_client::HttpClient;

/// Finds keys in the order of the AWS libraries, and keeps them until shortly before they end.
#[derive(Debug)]
pub struct CredentialSource {
    options: AwsOptions,
    environment: fn(&str) -> Option<String>,
    last: Option<Credentials>,
}

/// A variable, if it is set and not empty. The AWS libraries define these names; there is no other way to hand them over
/// to every program of a pod.
fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl CredentialSource {
    /// A source; nothing is read yet.
    pub fn new(options: AwsOptions) -> Self {
        Self { options, environment: process_environment, last: None }
    }

    /// The region of the options, the environment or the profile.
    ///
    /// # Errors
    /// If none of them says one.
    pub fn region(&self) -> Result<String, AwsError> {
        if !self.options.region.is_empty() {
            return Ok(self.options.region.clone());
        }
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        if let Some(region) = variables.iter().find_map(|name| (self.environment)(name)) {
            return Ok(region);
        }
        let profile = self.config_file().map(|path| shared_files::read(&path, &self.profile())).transpose()?.flatten();
        profile
            .and_then(|profile| profile.get("region").cloned())
            .ok_or_else(|| AwsError::Other("no region; set `region`".to_owned()))
    }

    /// Keys that are good at `now` (nanoseconds since the Unix epoch).
    ///
    /// # Errors
    /// If none can be had; the text says where they were looked for.
    pub async fn credentials(&mut self, client: &HttpClient, now: i64) -> Result<Credentials, AwsError> {
        if let Some(last) = &self.last {
            let early = EARLY.as_nanos() as i64;
            if last.until.is_none_or(|until| now < until.saturating_sub(early)) {
                return Ok(last.clone());
            }
        }
        let found = self.find(client, now).await?;
        self.last = Some(found.clone());
        Ok(found)
    }

    async fn find(&self, client: &HttpClient, now: i64) -> Result<Credentials, AwsError> {
        let options = &self.options;
        if options.role_arn.is_empty() {
            return self.base(client).await;
        }
        let region = self.region()?;
        let role = Role {
            arn: &options.role_arn,
            session: &options.role_session_name,
            region: &region,
            endpoint: &options.endpoint_url,
        };
        if options.web_identity_token_file.is_empty() {
            return role.assume(client, &self.base(client).await?, now).await;
        }
        role.assume_with_token(client, &token(&options.web_identity_token_file)?).await
    }

    /// Keys without `role_arn`.
    async fn base(&self, client: &HttpClient) -> Result<Credentials, AwsError> {
        let options = &self.options;
        if !options.access_key.is_empty() || !options.secret_key.is_empty() {
            return Ok(Credentials {
                access_key: text(&options.access_key)?,
                secret_key: text(&options.secret_key)?,
                token: text(&options.token)?,
                until: None,
            });
        }
        let named = !options.profile.is_empty() || !options.shared_credential_file.is_empty();
        if !named {
            if let Some(found) = self.environment_keys() {
                return Ok(found);
            }
            if let Some(found) = self.environment_role(client).await? {
                return Ok(found);
            }
        }
        let profile = self.profile();
        let files: Vec<String> = [self.credential_file(), self.config_file()].into_iter().flatten().collect();
        for path in &files {
            if let Some(found) = shared_files::read(path, &profile)?.as_ref().and_then(shared_files::credentials) {
                return Ok(found);
            }
        }
        let places = if named { "" } else { ", nor in the environment (AWS_ACCESS_KEY_ID, AWS_ROLE_ARN)" };
        let files = files.join(", ");
        Err(AwsError::Other(format!(
            "no keys for profile {profile:?} in {files}{places}; set `access_key` and `secret_key` (keys of the instance or \
             of the container are not looked up)"
        )))
    }

    fn environment_keys(&self) -> Option<Credentials> {
        let get = self.environment;
        Some(Credentials {
            access_key: get("AWS_ACCESS_KEY_ID")?,
            secret_key: get("AWS_SECRET_ACCESS_KEY")?,
            token: get("AWS_SESSION_TOKEN").unwrap_or_default(),
            until: None,
        })
    }

    /// What Kubernetes on AWS gives to a pod with a role of its own.
    async fn environment_role(&self, client: &HttpClient) -> Result<Option<Credentials>, AwsError> {
        let get = self.environment;
        let (Some(arn), Some(file)) = (get("AWS_ROLE_ARN"), get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
            return Ok(None);
        };
        let (region, session) = (self.region()?, get("AWS_ROLE_SESSION_NAME").unwrap_or_default());
        let role = Role { arn: &arn, session: &session, region: &region, endpoint: &self.options.endpoint_url };
        role.assume_with_token(client, &token(&file)?).await.map(Some)
    }

    fn profile(&self) -> String {
        let configured = Some(self.options.profile.clone()).filter(|profile| !profile.is_empty());
        configured.or_else(|| (self.environment)("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
    }

    fn credential_file(&self) -> Option<String> {
        let configured = Some(self.options.shared_credential_file.clone()).filter(|path| !path.is_empty());
        configured
            .or_else(|| (self.environment)("AWS_SHARED_CREDENTIALS_FILE"))
            .or_else(|| Some(format!("{}/.aws/credentials", (self.environment)("HOME")?)))
    }

    fn config_file(&self) -> Option<String> {
        (self.environment)("AWS_CONFIG_FILE").or_else(|| Some(format!("{}/.aws/config", (self.environment)("HOME")?)))
    }
}

fn text(secret: &Secret) -> Result<String, AwsError> {
    let value = secret.resolve().map_err(|error| AwsError::Other(error.to_string()))?;
    Ok(value.as_str().map_err(|error| AwsError::Other(error.to_string()))?.to_owned())
}

fn token(path: &str) -> Result<String, AwsError> {
    fs::read_to_string(path).map_err(|source| AwsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::common::http_client::HttpClientOptions;
    use crate::common::http_client::testing::{Server, reply};

    async fn find(options: AwsOptions, environment: fn(&str) -> Option<String>) -> String {
        let mut source = CredentialSource { options, environment, last: None };
        let client = HttpClient::new(HttpClientOptions::default());
        match source.credentials(&client, 0).await {
            Ok(found) => format!("{}/{}/{}", found.access_key, found.secret_key, found.token),
            Err(error) => format!("error: {error}"),
        }
    }

    fn environment(name: &str) -> Option<String> {
        let known = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S"), ("HOME", "/nowhere")];
        known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn home_only(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/nowhere".to_owned())
    }

    #[tokio::test]
    async fn options_then_files_then_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, "[default]\naws_access_key_id=F\naws_secret_access_key=G\n").unwrap();
        let file = AwsOptions { shared_credential_file: path.to_str().unwrap().into(), ..Default::default() };
        let fixed = AwsOptions { access_key: "A".into(), secret_key: "B".into(), token: "C".into(), ..file.clone() };
        assert_eq!(find(fixed, environment).await, "A/B/C");
        assert_eq!(find(file, environment).await, "F/G/");
        assert_eq!(find(AwsOptions::default(), environment).await, "E/S/");
        let error = find(AwsOptions::default(), home_only).await;
        assert!(error.contains("no keys for profile \"default\" in /nowhere/.aws/credentials"), "{error}");
    }

    #[tokio::test]
    async fn a_role_is_taken_on_with_keys() {
        let server = Server::start(|request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            assert!(body.starts_with("Action=AssumeRole&"), "{body}");
            assert!(body.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"), "{body}");
            assert!(request.headers["authorization"].to_str().unwrap().contains("Credential=A/19700101/eu/sts/"));
            let xml = "<AccessKeyId>R</AccessKeyId><SecretAccessKey>S</SecretAccessKey>\
                       <SessionToken>T</SessionToken><Expiration>2023-11-14T22:13:20Z</Expiration>";
            reply(StatusCode::OK, xml)
        })
        .await;
        let options = AwsOptions {
            region: "eu".into(),
            access_key: "A".into(),
            secret_key: "B".into(),
            role_arn: "arn:aws:iam::1:role/r".into(),
            endpoint_url: server.url("/"),
            ..Default::default()
        };
        assert_eq!(find(options, environment).await, "R/S/T");
    }
}
