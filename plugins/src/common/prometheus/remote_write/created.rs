//! Since when a metric counts, from the fields that OpenMetrics has for that.

use heliograph_core::model::{Field, Kind, MetricRef};

use crate::common::prometheus::names::Role;

/// The ending of a field that says when what has the rest of its name began, in seconds since the Unix epoch.
const ENDING: &[u8] = b"_created";

/// Whether a field is such a time, alone or for one of several families in a metric.
pub(super) fn is_created(kind: Kind, field: &Field) -> bool {
    let key = field.key.as_bytes();
    is_counting(kind) && (key == &ENDING[1..] || key.ends_with(ENDING)) && milliseconds(field).is_some()
}

/// Since when a field counts, in milliseconds; zero where nothing says so.
pub(super) fn start_of(metric: MetricRef<'_>, key: &[u8]) -> i64 {
    let family = match metric.kind {
        Kind::Histogram | Kind::Summary => Role::split(key).1,
        _ => key.strip_suffix(b"_total").unwrap_or(key),
    };
    let is_its = |key: &[u8]| key == &ENDING[1..] || key.strip_suffix(ENDING) == Some(family);
    let its = metric.fields.iter().find(|field| is_created(metric.kind, field) && is_its(field.key.as_bytes()));
    its.and_then(milliseconds).unwrap_or(0)
}

fn is_counting(kind: Kind) -> bool {
    matches!(kind, Kind::Counter | Kind::Histogram | Kind::Summary)
}

fn milliseconds(field: &Field) -> Option<i64> {
    /// The year 10000: above, it is no time in seconds.
    const END: f64 = 253_402_300_800.0;
    let seconds = field.value.as_number()?;
    (seconds > 0.0 && seconds < END).then(|| (seconds * 1000.0).round() as i64)
}
