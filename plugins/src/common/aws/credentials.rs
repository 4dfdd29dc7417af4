//! Where keys come from: options, environment, shared files, roles, the container or the machine.

use std::fs;

use heliograph_core::config::Secret;

use super::sts::Role;
use super::{AwsError, AwsOptions, Credentials, EARLY, metadata, shared_files};
use crate::common::http_client::{HttpClient, HttpClientOptions};

/// Looks variables up.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Finds keys in the order of the AWS libraries, and keeps them until shortly before they end.
pub struct CredentialSource {
    options: AwsOptions,
    environment: Environment,
    /// Its own: what the plugin's client is told about its target (authorities, proxy, login) is not for AWS.
    client: HttpClient,
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
        let client = HttpClient::new(HttpClientOptions::default());
        Self { options, environment: Box::new(process_environment), client, last: None }
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
    pub async fn credentials(&mut self, now: i64) -> Result<Credentials, AwsError> {
        if let Some(last) = &self.last {
            let early = EARLY.as_nanos() as i64;
            if last.until.is_none_or(|until| now < until.saturating_sub(early)) {
                return Ok(last.clone());
            }
        }
        let found = self.find(now).await?;
        self.last = Some(found.clone());
        Ok(found)
    }

    async fn find(&self, now: i64) -> Result<Credentials, AwsError> {
        let options = &self.options;
        if options.role_arn.is_empty() {
            return self.base().await;
        }
        let region = self.region()?;
        let role = Role {
            arn: &options.role_arn,
            session: &options.role_session_name,
            region: &region,
            endpoint: &options.endpoint_url,
        };
        if options.web_identity_token_file.is_empty() {
            return role.assume(&self.client, &self.base().await?, now).await;
        }
        role.assume_with_token(&self.client, &token(&options.web_identity_token_file)?).await
    }

    /// Keys without `role_arn`.
    async fn base(&self) -> Result<Credentials, AwsError> {
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
            if let Some(found) = self.environment_role().await? {
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
        let files = files.join(", ");
        if named {
            return Err(AwsError::Other(format!("no keys for profile {profile:?} in {files}")));
        }
        self.surroundings().await.map_err(|error| {
            let cause = heliograph_core::error::Chain(&error).to_string();
            let places = "in the options, in the environment, of the container or the instance";
            AwsError::Other(format!("none {places}, nor for profile {profile:?} in {files} ({cause})"))
        })
    }

    /// Keys of the container or the machine.
    async fn surroundings(&self) -> Result<Credentials, AwsError> {
        let get = &self.environment;
        let relative = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://169.254.170.2{path}"));
        if let Some(address) = relative.or_else(|| get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            let file = get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| token(&path)).transpose()?;
            let authorization = file.or_else(|| get("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
            return metadata::container(&self.client, &address, authorization.as_deref()).await;
        }
        if get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(AwsError::Other("AWS_EC2_METADATA_DISABLED is set".to_owned()));
        }
        metadata::instance(&self.client, get("AWS_EC2_METADATA_SERVICE_ENDPOINT").as_deref()).await
    }

    fn environment_keys(&self) -> Option<Credentials> {
        let get = &self.environment;
        Some(Credentials {
            access_key: get("AWS_ACCESS_KEY_ID")?,
            secret_key: get("AWS_SECRET_ACCESS_KEY")?,
            token: get("AWS_SESSION_TOKEN").unwrap_or_default(),
            until: None,
        })
    }

    /// What Kubernetes on AWS gives to a pod with a role of its own.
    async fn environment_role(&self) -> Result<Option<Credentials>, AwsError> {
        let get = &self.environment;
        let (Some(arn), Some(file)) = (get("AWS_ROLE_ARN"), get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
            return Ok(None);
        };
        let (region, session) = (self.region()?, get("AWS_ROLE_SESSION_NAME").unwrap_or_default());
        let role = Role { arn: &arn, session: &session, region: &region, endpoint: &self.options.endpoint_url };
        role.assume_with_token(&self.client, &token(&file)?).await.map(Some)
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
    use crate::common::http_client::testing::{Server, reply};

    async fn find(options: AwsOptions, environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> String {
        let mut source = CredentialSource { environment: Box::new(environment), ..CredentialSource::new(options) };
        match source.credentials(0).await {
            Ok(found) => format!("{}/{}/{}", found.access_key, found.secret_key, found.token),
            Err(error) => format!("error: {error}"),
        }
    }

    fn environment(name: &str) -> Option<String> {
        let known = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S"), ("HOME", "/nowhere")];
        known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn home_only(name: &str) -> Option<String> {
        let known = [("HOME", "/nowhere"), ("AWS_EC2_METADATA_DISABLED", "true")];
        known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
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
        assert!(error.contains("nor for profile \"default\" in /nowhere/.aws/credentials"), "{error}");
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

    const KEYS: &str =
        r#"{"AccessKeyId": "I", "SecretAccessKey": "J", "Token": "K", "Expiration": "2023-11-14T22:13:20Z"}"#;

    #[tokio::test]
    async fn keys_of_the_instance_and_of_the_container() {
        let server = Server::start(|request| {
            let session = request.headers.get("x-aws-ec2-metadata-token").is_some_and(|value| value == "session");
            match (request.method.as_str(), request.path.as_str()) {
                ("PUT", "/latest/api/token") => reply(StatusCode::OK, "session"),
                ("GET", "/latest/meta-data/iam/security-credentials/") if session => reply(StatusCode::OK, "role"),
                ("GET", "/latest/meta-data/iam/security-credentials/role") if session => reply(StatusCode::OK, KEYS),
                ("GET", "/pod") if request.headers["authorization"] == "pod-token" => reply(StatusCode::OK, KEYS),
                _ => reply(StatusCode::NOT_FOUND, ""),
            }
        })
        .await;
        let (base, pod) = (server.url(""), server.url("/pod"));
        let instance = move |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| base.clone());
        assert_eq!(find(AwsOptions::default(), instance).await, "I/J/K");
        let container = move |name: &str| match name {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(pod.clone()),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Some("pod-token".to_owned()),
            _ => None,
        };
        assert_eq!(find(AwsOptions::default(), container).await, "I/J/K");
    }
}
