//! The options, and their check.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use heliograph_core::config::{Duration, Secret, Size};
use reqwest::header::HeaderName;
use serde::Deserialize;

use super::negotiate::Protocol;
use crate::common::prometheus::names::NameRule;
use crate::common::prometheus::remote_write::LabelRules;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) url: Option<String>,
    pub(super) urls: Vec<String>,
    pub(super) protocol: Protocol,
    pub(super) shards: NonZeroUsize,
    pub(super) max_samples_per_request: NonZeroU32,
    pub(super) max_request_size: Size,
    pub(super) username: Secret,
    pub(super) password: Secret,
    pub(super) bearer_token: Secret,
    pub(super) bearer_token_file: String,
    pub(super) aws_service: String,
    pub(super) headers: BTreeMap<String, Secret>,
    pub(super) tenant: String,
    pub(super) tenant_tag: String,
    pub(super) tenant_tag_exclude: bool,
    pub(super) tenant_header: String,
    pub(super) metadata: bool,
    pub(super) metadata_interval: Duration,
    pub(super) name_sanitization: NameRule,
    pub(super) string_as_label: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) staleness_markers: bool,
    pub(super) staleness_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            urls: Vec::new(),
            protocol: Protocol::Auto,
            shards: NonZeroUsize::MIN,
            max_samples_per_request: NonZeroU32::new(2000).expect("not zero"),
            max_request_size: Size::from_mib(4),
            username: Secret::default(),
            password: Secret::default(),
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            aws_service: String::new(),
            headers: BTreeMap::new(),
            tenant: String::new(),
            tenant_tag: String::new(),
            tenant_tag_exclude: false,
            tenant_header: "X-Scope-OrgID".to_owned(),
            metadata: true,
            metadata_interval: std::time::Duration::from_secs(60).into(),
            name_sanitization: NameRule::Legacy,
            string_as_label: false,
            labels: BTreeMap::new(),
            staleness_markers: false,
            staleness_timeout: std::time::Duration::from_secs(300).into(),
        }
    }
}

/// An option with a value that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) option: &'static str,
    pub(super) reason: String,
}

/// Where to, if nothing is set.
const LOCAL: &str = "http://127.0.0.1:9090/api/v1/write";
/// Most receivers: each is tried before a write has failed.
const MOST_RECEIVERS: usize = 16;
/// Most requests at the same time.
const MOST_SHARDS: usize = 200;
/// Below this, a single series may not fit.
const SMALLEST_REQUEST: u64 = 4 << 10;

/// Headers that belong to the protocol, the connection or another option, and what to do instead of setting them.
const RESERVED: &[(&str, &str)] = &[
    ("authorization", "use `username` and `password`, `bearer_token`, `client_id` or `aws_service`"),
    ("connection", "leave it out"),
    ("content-encoding", "leave it out"),
    ("content-length", "leave it out"),
    ("content-type", "use `protocol`"),
    ("host", "leave it out"),
    ("retry-attempt", "leave it out"),
    ("transfer-encoding", "leave it out"),
    ("user-agent", "leave it out"),
    ("x-prometheus-remote-write-version", "use `protocol`"),
];

impl Options {
    /// The receivers, the one that is wanted most first.
    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        let one = self.urls.is_empty().then(|| self.url.as_deref().unwrap_or(LOCAL));
        self.urls.iter().map(String::as_str).chain(one)
    }

    /// The option that says where to.
    pub(super) fn url_option(&self) -> &'static str {
        if self.urls.is_empty() { "url" } else { "urls" }
    }

    /// Checks what the types cannot say. `has_oauth2`: whether the block of that name is in use.
    pub(super) fn check(&self, has_oauth2: bool) -> Result<(), Refusal> {
        let refuse = |option, reason: String| Err(Refusal { option, reason });
        if self.url.is_some() && !self.urls.is_empty() {
            return refuse("urls", "`url` is set too: choose one".to_owned());
        }
        if self.urls.len() > MOST_RECEIVERS {
            return refuse("urls", format!("{} receivers are more than {MOST_RECEIVERS}", self.urls.len()));
        }
        if self.shards.get() > MOST_SHARDS {
            return refuse("shards", format!("{} shards are more than {MOST_SHARDS}", self.shards));
        }
        if (self.max_request_size.as_usize() as u64) < SMALLEST_REQUEST {
            let reason = format!("{} is too little for a request: allow at least 4KiB", self.max_request_size);
            return refuse("max_request_size", reason);
        }
        let logins = [
            ("username", !self.username.is_empty() || !self.password.is_empty()),
            ("bearer_token", !self.bearer_token.is_empty()),
            ("bearer_token_file", !self.bearer_token_file.is_empty()),
            ("aws_service", !self.aws_service.is_empty()),
            ("client_id", has_oauth2),
        ];
        let mut used = logins.iter().filter(|(_, is_used)| *is_used).map(|(option, _)| *option);
        if let (Some(first), Some(second)) = (used.next(), used.next()) {
            return refuse(second, format!("`{first}` is set too, but a request can log in only one way: choose one"));
        }
        let tenant_header = match HeaderName::try_from(self.tenant_header.as_str()) {
            Ok(header) => header,
            Err(_) => return refuse("tenant_header", format!("{:?} is no name of a header", self.tenant_header)),
        };
        if let Some((_, advice)) = RESERVED.iter().find(|(name, _)| *name == tenant_header.as_str()) {
            return refuse("tenant_header", format!("{:?} is reserved: {advice}", self.tenant_header));
        }
        let has_tenant = !self.tenant.is_empty() || !self.tenant_tag.is_empty();
        for name in self.headers.keys() {
            let folded = name.to_ascii_lowercase();
            if let Some((_, advice)) = RESERVED.iter().find(|(reserved, _)| *reserved == folded) {
                return refuse("headers", format!("header {name:?} is reserved: {advice}"));
            }
            if has_tenant && folded == tenant_header.as_str() {
                return refuse("headers", format!("header {name:?} is that of the tenant: use `tenant`"));
            }
        }
        if self.tenant_tag_exclude && self.tenant_tag.is_empty() {
            return refuse("tenant_tag_exclude", "there is no `tenant_tag` to leave out: set that".to_owned());
        }
        for (name, value) in &self.labels {
            if self.name_sanitization.label(name.as_bytes()).as_deref() != Some(name.as_bytes()) {
                return refuse("labels", format!("{name:?} is no name of a label"));
            }
            if name == "__name__" || value.is_empty() {
                return refuse("labels", format!("label {name:?} = {value:?} cannot be added to every series"));
            }
        }
        if self.metadata && self.metadata_interval.positive().is_none() {
            return refuse("metadata_interval", "it must be longer than 0; set `metadata = false` for none".to_owned());
        }
        if self.staleness_markers && self.staleness_timeout.positive().is_none() {
            return refuse("staleness_timeout", "it must be longer than 0".to_owned());
        }
        Ok(())
    }

    /// How labels are made.
    pub(super) fn rules(&self) -> LabelRules {
        let bytes = |text: &String| text.clone().into_bytes();
        LabelRules {
            names: self.name_sanitization,
            strings_are_labels: self.string_as_label,
            external: self.labels.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            without: self.tenant_tag_exclude.then(|| bytes(&self.tenant_tag)),
            strict: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(json: &str, expected: Expect) {
        let options: Options = serde_json::from_str(json).unwrap();
        expected.assert_eq(&match options.check(false) {
            Ok(()) => "fine".to_owned(),
            Err(Refusal { option, reason }) => format!("{option}: {reason}"),
        });
    }

    #[test]
    fn values_that_cannot_be_used() {
        check("{}", expect!["fine"]);
        check(r#"{"headers": {"X-Scope-OrgID": "1"}, "labels": {"zone": "a"}}"#, expect!["fine"]);
        check(r#"{"urls": ["http://a", "http://b"]}"#, expect!["fine"]);
        check(r#"{"url": "http://a", "urls": ["http://b"]}"#, expect!["urls: `url` is set too: choose one"]);
        check(
            r#"{"headers": {"Content-Type": "text/plain"}}"#,
            expect![[r#"headers: header "Content-Type" is reserved: use `protocol`"#]],
        );
        check(
            r#"{"headers": {"authorization": "x"}}"#,
            expect![[
                r#"headers: header "authorization" is reserved: use `username` and `password`, `bearer_token`, `client_id` or `aws_service`"#
            ]],
        );
        check(
            r#"{"headers": {"x-scope-orgid": "1"}, "tenant": "2"}"#,
            expect![[r#"headers: header "x-scope-orgid" is that of the tenant: use `tenant`"#]],
        );
        check(r#"{"tenant_header": "Host"}"#, expect![[r#"tenant_header: "Host" is reserved: leave it out"#]]);
        check(
            r#"{"username": "u", "aws_service": "aps"}"#,
            expect!["aws_service: `username` is set too, but a request can log in only one way: choose one"],
        );
        check(r#"{"labels": {"a-b": "1"}}"#, expect![[r#"labels: "a-b" is no name of a label"#]]);
        check(r#"{"labels": {"a": ""}}"#, expect![[r#"labels: label "a" = "" cannot be added to every series"#]]);
        check(
            r#"{"tenant_tag_exclude": true}"#,
            expect!["tenant_tag_exclude: there is no `tenant_tag` to leave out: set that"],
        );
        check(
            r#"{"metadata_interval": "0s"}"#,
            expect!["metadata_interval: it must be longer than 0; set `metadata = false` for none"],
        );
        check(r#"{"shards": 1000}"#, expect!["shards: 1000 shards are more than 200"]);
        check(
            r#"{"max_request_size": "1KiB"}"#,
            expect!["max_request_size: 1KiB is too little for a request: allow at least 4KiB"],
        );
    }
}
