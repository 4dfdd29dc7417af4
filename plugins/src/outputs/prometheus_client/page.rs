//! What a request gets: the exposition in the form it asks for, or a refusal.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use heliograph_core::clock::Clock;
use heliograph_core::throttle::Throttle;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use tracing::error;

use super::access::{Network, Password};
use super::exposition::arrange;
use super::negotiate::{Coding, Format, coding, format};
use super::server::Handler;
use super::text::{self, Escaping};
use super::{process, protobuf, v1, v2};
use crate::common::compress::Encoder;
use crate::common::prometheus::collection::Collection;

const LANDING: &str = "Telegraf Output Plugin: Prometheus Client ";

/// What is shown, to whom, and where.
pub(super) struct Page {
    pub(super) store: Mutex<Store>,
    pub(super) clock: Clock,
    pub(super) path: String,
    pub(super) with_time: bool,
    pub(super) with_process: bool,
    pub(super) allow_utf8: bool,
    pub(super) networks: Vec<Network>,
    pub(super) access: Mutex<Access>,
    pub(super) left_out: Mutex<Throttle>,
}

/// What is made of secrets, anew at each connect.
#[derive(Default)]
pub(super) struct Access {
    pub(super) password: Option<Password>,
    pub(super) headers: HeaderMap,
}

/// The metrics, by version of their form.
pub(super) enum Store {
    V1(v1::Collection),
    V2 {
        collection: Collection,
        /// Nanoseconds; 0 keeps samples for ever.
        age: i64,
    },
}

impl Store {
    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: i64) {
        match self {
            Self::V1(collection) => collection.expire(now),
            Self::V2 { collection, age } if *age > 0 => collection.expire(now, *age),
            Self::V2 { .. } => {}
        }
    }

    /// Number of values that found no room, since the beginning.
    pub(super) fn refused(&self) -> u64 {
        match self {
            Self::V1(collection) => collection.refused(),
            Self::V2 { collection, .. } => collection.refused(),
        }
    }
}

impl Page {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, request: &Parts, remote: IpAddr) -> Response<Full<Bytes>> {
        let authorization = request.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if self.access().password.as_ref().is_some_and(|password| !password.accepts(authorization)) {
            let mut response = plain(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            let realm = HeaderValue::from_static("Basic realm=\"prometheus\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, realm);
            return response;
        }
        if !self.networks.is_empty() && !self.networks.iter().any(|network| network.contains(remote)) {
            return plain(StatusCode::FORBIDDEN, "Forbidden\n");
        }
        let path = request.uri.path();
        let below =
            self.path.ends_with('/') && (path.starts_with(&self.path) || *path == *self.path.trim_end_matches('/'));
        if path == self.path || below { self.scrape(&request.headers) } else { plain(StatusCode::OK, LANDING) }
    }

    fn scrape(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let mut families = {
            let mut store = self.store();
            store.expire(self.clock.now());
            match &*store {
                Store::V1(collection) => collection.families(self.with_time),
                Store::V2 { collection, .. } => v2::families(collection, self.with_time),
            }
        };
        if self.with_process {
            families.extend(process::families());
        }
        let (families, left_out) = arrange(families);
        if left_out > 0 {
            let admitted = self.left_out.lock().unwrap_or_else(PoisonError::into_inner).admit();
            if let Some(suppressed) = admitted {
                error!(count = left_out, suppressed, "samples contradict others or are not legal, they are left out");
            }
            if families.is_empty() {
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "no sample can be shown\n");
            }
        }
        let wanted = format(headers.get(ACCEPT).map(HeaderValue::as_bytes));
        let escaping = if self.allow_utf8 { wanted.escaping } else { Escaping::Underscores };
        let mut body = Vec::new();
        match wanted.format {
            Format::Text => text::write(&families, escaping, &mut body),
            Format::Protobuf => protobuf::write(&families, escaping, &mut body),
        }
        let mut response = Response::new(Full::default());
        let content_type = HeaderValue::from_static(wanted.format.content_type(escaping));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        let chosen = coding(headers.get(ACCEPT_ENCODING).map(HeaderValue::as_bytes));
        if let Some(encoded) = chosen.and_then(|coding| compress(coding, &body)) {
            let name = HeaderValue::from_static(chosen.map_or("identity", Coding::name));
            response.headers_mut().insert(CONTENT_ENCODING, name);
            body = encoded;
        }
        *response.body_mut() = Full::new(body.into());
        response
    }
}

impl Handler for Page {
    fn answer(&self, request: &Parts, remote: IpAddr) -> Response<Full<Bytes>> {
        let mut response = self.route(request, remote);
        for (name, value) in &self.access().headers {
            // Those of the page itself win, as they are set later in Telegraf.
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        response
    }
}

fn compress(coding: Coding, body: &[u8]) -> Option<Vec<u8>> {
    let encoder = Encoder::new(coding.name(), -1).ok()?;
    let mut out = Vec::new();
    encoder.encode(body, &mut out).ok().map(|()| out)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
