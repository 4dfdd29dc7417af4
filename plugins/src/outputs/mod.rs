//! Outputs: what writes metrics to a backend.

mod discard;
mod file;
mod graphite;
mod http;
mod prometheus_client;
mod remote_write;

use heliograph_core::plugin::OutputSpec;

/// Every output, sorted by name.
pub static ALL: &[&OutputSpec] =
    &[&discard::SPEC, &file::SPEC, &graphite::SPEC, &http::SPEC, &prometheus_client::SPEC, &remote_write::SPEC];
