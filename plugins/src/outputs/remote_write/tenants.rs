//! The tenants that the metrics of a batch belong to.

use std::collections::HashMap;

use heliograph_core::model::MetricRef;
use reqwest::header::HeaderValue;

/// The tenants of a batch by number; the first is that of metrics without one.
#[derive(Default)]
pub(super) struct Tenants {
    names: Vec<(Box<[u8]>, Option<HeaderValue>)>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Tenants {
    /// With the tenant of metrics that have none; `None` if a header cannot name it.
    pub(super) fn new(default: &str) -> Option<Self> {
        let header = if default.is_empty() { None } else { Some(HeaderValue::try_from(default).ok()?) };
        Some(Self { names: vec![(Box::default(), header)], numbers: HashMap::new() })
    }

    /// Forgets the tenants of the last batch.
    pub(super) fn start(&mut self) {
        self.names.truncate(1);
        self.numbers.clear();
    }

    /// The number of a metric's tenant; `None` if a header cannot name it.
    pub(super) fn of(&mut self, metric: MetricRef<'_>, tag: &str) -> Option<u32> {
        match tag.is_empty() {
            true => Some(0),
            false => self.number(metric.series.tag(tag.as_bytes()).unwrap_or_default()),
        }
    }

    /// The number of a tenant; `None` if a header cannot name it.
    pub(super) fn number(&mut self, name: &[u8]) -> Option<u32> {
        if name.is_empty() {
            return Some(0);
        }
        if let Some(&known) = self.numbers.get(name) {
            return Some(known);
        }
        let header = HeaderValue::from_bytes(name).ok()?;
        let new = self.names.len() as u32;
        self.names.push((name.into(), Some(header)));
        self.numbers.insert(name.into(), new);
        Some(new)
    }

    /// The name of a tenant; empty for the one of metrics without.
    pub(super) fn name(&self, number: u32) -> &[u8] {
        &self.names[number as usize].0
    }

    /// The headers of all tenants, by number.
    pub(super) fn all(&self) -> impl Iterator<Item = Option<&HeaderValue>> {
        self.names.iter().map(|(_, header)| header.as_ref())
    }

    pub(super) fn default_header(&self) -> Option<HeaderValue> {
        self.names[0].1.clone()
    }
}
