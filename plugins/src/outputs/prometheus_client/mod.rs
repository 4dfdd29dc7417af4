//! Serves the last value of every series on an HTTP endpoint that Prometheus scrapes.

mod access;
mod exposition;
mod negotiate;
mod page;
mod process;
mod protobuf;
mod server;
#[cfg(test)]
mod tests;
mod text;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time;

use async_trait::async_trait;
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Duration, Secret, Section};
use heliograph_core::error::{BoxError, Chain, StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{BuildContext, Output, OutputSpec};
use heliograph_core::throttle::Throttle;
use hyper::header::HeaderMap;
use serde::Deserialize;
use tracing::{info, warn};

use access::{Network, Password, listen_address};
use page::{Access, Page, Store};
use server::{Limits, Server};

use crate::common::http_client::insert_headers;
use crate::common::prometheus::collection::{Collection, CollectionOptions, MetricTypes};
use crate::common::prometheus::names::NameRule;
use crate::common::tls::TlsServerOptions;

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "prometheus_client",
    sample: include_str!("sample.conf"),
    build: |section, context| PrometheusClient::build(section, context).map(|output| Box::new(output) as _),
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    listen: String,
    read_timeout: Duration,
    write_timeout: Duration,
    metric_version: i64,
    basic_username: String,
    basic_password: Secret,
    ip_range: Vec<String>,
    expiration_interval: Duration,
    path: String,
    collectors_exclude: Vec<String>,
    string_as_label: bool,
    export_timestamp: bool,
    name_sanitization: String,
    metric_types: MetricTypes,
    http_headers: BTreeMap<String, Secret>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: ":9273".to_owned(),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            metric_version: 1,
            basic_username: String::new(),
            basic_password: Secret::default(),
            ip_range: Vec::new(),
            expiration_interval: Duration::from_secs(60),
            path: "/metrics".to_owned(),
            collectors_exclude: Vec::new(),
            string_as_label: true,
            export_timestamp: false,
            name_sanitization: "legacy".to_owned(),
            metric_types: MetricTypes::default(),
            http_headers: BTreeMap::new(),
        }
    }
}

struct PrometheusClient {
    listen: (String, u16),
    limits: Limits,
    username: String,
    password: Secret,
    headers: BTreeMap<String, Secret>,
    tls: TlsServerOptions,
    clock: Clock,
    page: Arc<Page>,
    server: Option<Server>,
    /// Values without room that were reported.
    refused: u64,
    full: Throttle,
}

/// An option with a value that cannot be used.
#[derive(Debug)]
struct Refusal {
    option: &'static str,
    reason: String,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address:?}")]
struct ListenError {
    address: String,
    source: io::Error,
}

impl PrometheusClient {
    fn build(mut section: Section, context: &BuildContext) -> Result<Self, ConfigError> {
        let tls: TlsServerOptions = section.take_struct()?;
        tls.server_config().map_err(|error| section.error(Chain(&error).to_string()))?;
        let place = section.clone();
        Self::new(section.finish()?, tls, context.clock.clone())
            .map_err(|refusal| place.error_at(refusal.option, refusal.reason))
    }

    fn new(options: Options, tls: TlsServerOptions, clock: Clock) -> Result<Self, Refusal> {
        let refuse = |option| move |reason: String| Refusal { option, reason };
        let network = |text: &String| {
            let reason = || format!("{text:?} is no network as in \"10.0.0.0/8\"");
            Network::parse(text).ok_or_else(|| refuse("ip_range")(reason()))
        };
        // Only the names can be checked now: values may be in a store that is not open yet.
        let names = options.http_headers.keys().map(|name| (name.clone(), Secret::default())).collect();
        insert_headers(&names, &mut HeaderMap::new()).map_err(refuse("http_headers"))?;
        if !options.path.starts_with('/') || options.path == "/" {
            let reason = format!("{:?} must begin with / and name something, as in \"/metrics\"", options.path);
            return Err(refuse("path")(reason));
        }
        let names = name_rule(&options.name_sanitization).map_err(refuse("name_sanitization"))?;
        let page = Page {
            store: Mutex::new(store(&options, names).map_err(refuse("metric_types"))?),
            clock: clock.clone(),
            with_time: options.export_timestamp,
            with_process: !options.collectors_exclude.iter().any(|name| name == "process"),
            allow_utf8: names == NameRule::Utf8,
            networks: options.ip_range.iter().map(network).collect::<Result<_, _>>()?,
            access: Mutex::default(),
            left_out: Mutex::default(),
            path: options.path,
        };
        Ok(Self {
            listen: listen_address(&options.listen).map_err(refuse("listen"))?,
            limits: Limits { read: limit(options.read_timeout), write: limit(options.write_timeout) },
            username: options.basic_username,
            password: options.basic_password,
            headers: options.http_headers,
            tls,
            clock,
            page: Arc::new(page),
            server: None,
            refused: 0,
            full: Throttle::new(),
        })
    }

    /// Resolves the secrets.
    fn access(&self) -> Result<Access, BoxError> {
        let mut access = Access::default();
        if !(self.username.is_empty() && self.password.is_empty()) {
            access.password = Some(Password::new(self.username.as_bytes(), self.password.resolve()?.as_bytes()));
        }
        insert_headers(&self.headers, &mut access.headers)?;
        Ok(access)
    }

    async fn listen(&self) -> Result<Server, BoxError> {
        *self.page.access() = self.access()?;
        let (host, port) = &self.listen;
        let page = Arc::clone(&self.page);
        let started = Server::start((host, *port), self.tls.server_config()?, self.limits, page).await;
        started.map_err(|source| ListenError { address: format!("{host}:{port}"), source }.into())
    }
}

/// Values below a second are taken for a mistake, as Telegraf does.
fn limit(option: Duration) -> time::Duration {
    option.positive().filter(|limit| limit.as_secs() >= 1).unwrap_or(time::Duration::from_secs(10))
}

fn name_rule(name: &str) -> Result<NameRule, String> {
    match name {
        "" | "legacy" => Ok(NameRule::Legacy),
        "utf8" => Ok(NameRule::Utf8),
        other => Err(format!("{other:?} is none of \"legacy\", \"utf8\"")),
    }
}

fn store(options: &Options, names: NameRule) -> Result<Store, String> {
    let collected =
        CollectionOptions { names, string_as_label: options.string_as_label, types: options.metric_types.clone() };
    let age = options.expiration_interval.as_nanos().max(0);
    if options.metric_version == 2 {
        let collection = Collection::new(&collected).map_err(|error| error.to_string())?;
        return Ok(Store::V2 { collection, age });
    }
    v1::Collection::new(&collected, age).map(Store::V1).map_err(|error| error.to_string())
}

#[async_trait]
impl Output for PrometheusClient {
    async fn connect(&mut self) -> Result<(), StartError> {
        if self.server.is_none() {
            let server = self.listen().await.map_err(StartError::Retry)?;
            info!(address = %server.address(), path = self.page.path, "serving metrics");
            self.server = Some(server);
        }
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let now = self.clock.now();
        let refused = {
            let mut store = self.page.store();
            match &mut *store {
                Store::V1(collection) => collection.add_batch(batch.iter(), now),
                Store::V2 { collection, .. } => batch.iter().for_each(|metric| collection.add(metric, now)),
            }
            store.expire(now);
            store.refused()
        };
        if refused > self.refused && self.full.admit().is_some() {
            let count = refused - self.refused;
            warn!(count, "there is no room for more series; lower `expiration_interval` or the number of series");
            self.refused = refused;
        }
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}
