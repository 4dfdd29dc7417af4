//! Names and types of metric families, for the metadata of version 1.0.

use std::collections::BTreeMap;

use heliograph_core::model::Kind;

/// The type of a family, as both versions number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyType {
    /// Not said.
    Unknown = 0,
    /// Only grows, but for restarts.
    Counter = 1,
    /// A level.
    Gauge = 2,
    /// Buckets with sum and count, or native.
    Histogram = 3,
    /// Quantiles with sum and count.
    Summary = 5,
}

impl From<Kind> for FamilyType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Untyped => Self::Unknown,
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Summary => Self::Summary,
            Kind::Histogram => Self::Histogram,
        }
    }
}

/// Names of families with their types.
pub type FamilyTypes = BTreeMap<Box<[u8]>, FamilyType>;

/// The families of each tenant; the tenant of metrics without one is the empty text.
#[derive(Debug, Default)]
pub struct Families {
    by_tenant: BTreeMap<Box<[u8]>, FamilyTypes>,
    len: usize,
}

/// Most families that are remembered; a receiver keeps no more of a tenant, and further ones go without metadata.
const LIMIT: usize = 20_000;

impl Families {
    /// The families of each tenant, with their types.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &FamilyTypes)> {
        self.by_tenant.iter().map(|(tenant, families)| (&**tenant, families))
    }

    pub(super) fn note(&mut self, tenant: &[u8], family: &[u8], kind: Kind) {
        let known = self.by_tenant.get_mut(tenant).and_then(|families| families.get_mut(family));
        if kind == Kind::Untyped || known.is_none() && self.len >= LIMIT {
            return;
        }
        match known {
            Some(known) => *known = kind.into(),
            None => {
                self.by_tenant.entry(tenant.into()).or_default().insert(family.into(), kind.into());
                self.len += 1;
            }
        }
    }
}
