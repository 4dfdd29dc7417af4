//! Which tags make the series grow.

use heliograph_core::guard::Distinct;
use heliograph_core::model::Series;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// Estimates how many values each tag of each measurement has.
#[derive(Debug)]
pub(super) struct Offenders {
    /// Tags that the configuration names; they come first, in this order.
    configured: Vec<Vec<u8>>,
    values: HashMap<Vec<u8>, Tag>,
    hasher: foldhash::fast::RandomState,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Tag {
    values: Distinct,
    /// The estimate takes a walk over all registers, so it is made anew only now and then.
    estimate: f64,
    noted: u32,
}

/// Tags with an estimate of their own; others count as having one value.
const TAGS: usize = 4096;

impl Offenders {
    pub(super) fn new(configured: Vec<String>) -> Self {
        let configured = configured.into_iter().map(String::into_bytes).collect();
        Self { configured, values: HashMap::new(), hasher: Default::default(), scratch: Vec::new() }
    }

    /// Notes the tag values of a new series.
    pub(super) fn note(&mut self, series: &Series) {
        let Self { values, hasher, scratch, .. } = self;
        for (key, value) in series.tags() {
            identify(scratch, series.name(), key);
            if !values.contains_key(scratch.as_slice()) {
                if values.len() >= TAGS {
                    continue;
                }
                values.insert(scratch.clone(), Tag::default());
            }
            let Some(tag) = values.get_mut(scratch.as_slice()) else { continue };
            tag.values.insert(hasher.hash_one(value));
            tag.noted += 1;
            if tag.noted.is_power_of_two() || tag.noted.is_multiple_of(256) {
                tag.estimate = tag.values.estimate();
            }
        }
    }

    /// The tags of the series in the order in which they are given up: those that the configuration names, then the others,
    /// the one with the most values first.
    pub(super) fn worst_first(&mut self, series: &Series) -> Vec<Vec<u8>> {
        let Self { configured, values, scratch, .. } = self;
        let mut others: Vec<(f64, Vec<u8>)> = Vec::with_capacity(series.tag_count());
        for (key, _) in series.tags().filter(|(key, _)| !configured.iter().any(|named| named == key)) {
            identify(scratch, series.name(), key);
            let estimate = values.get(scratch.as_slice()).map_or(1.0, |tag| tag.estimate);
            others.push((estimate, key.to_vec()));
        }
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named = configured.iter().filter(|key| series.tag(key).is_some()).cloned();
        named.chain(others.into_iter().map(|(_, key)| key)).collect()
    }
}

/// Measurement and key as one name; the length keeps them apart.
fn identify(scratch: &mut Vec<u8>, measurement: &[u8], key: &[u8]) {
    scratch.clear();
    scratch.extend_from_slice(&(measurement.len() as u32).to_le_bytes());
    scratch.extend_from_slice(measurement);
    scratch.extend_from_slice(key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::SeriesBuilder;

    #[test]
    fn the_tag_with_the_most_values_comes_first() {
        let mut offenders = Offenders::new(vec![]);
        let series = |i: u32| {
            let mut builder = SeriesBuilder::new();
            builder.start(b"m").set_tag(b"a", b"1").set_tag(b"b", i.to_string().as_bytes());
            builder.set_tag(b"c", (i % 3).to_string().as_bytes()).build()
        };
        (0..100).for_each(|i| offenders.note(&series(i)));
        assert_eq!(offenders.worst_first(&series(1)), [b"b", b"c", b"a"]);
    }
}
