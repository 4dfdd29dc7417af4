//! The collection of `metric_version = 2`, as it is shown.

use super::exposition::{Family, HELP, Sample, SampleValue};
use crate::common::prometheus::collection::{self, Collection};
use crate::common::prometheus::value::milliseconds;

/// The families, those of one name in the order of their types.
pub(super) fn families(collection: &Collection, with_time: bool) -> Vec<Family> {
    let sample = |(labels, sample): (&collection::Labels, &collection::Sample)| Sample {
        labels: labels.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        time: with_time.then(|| milliseconds(sample.time)),
        value: value(&sample.value),
    };
    let family = |family: &collection::Family| Family {
        name: family.name.to_vec(),
        help: HELP,
        kind: family.kind,
        samples: family.samples().map(sample).collect(),
    };
    collection.sorted_families().into_iter().map(family).collect()
}

fn value(value: &collection::SampleValue) -> SampleValue {
    match value {
        collection::SampleValue::Number(value) => SampleValue::Number(*value),
        collection::SampleValue::Summary { quantiles, sum, count } => {
            SampleValue::Summary { quantiles: quantiles.clone(), sum: *sum, count: *count }
        }
        collection::SampleValue::Histogram { buckets, sum, count } => {
            SampleValue::Histogram { buckets: buckets.clone(), sum: *sum, count: *count }
        }
    }
}
