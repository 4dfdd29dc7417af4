//! What a scrape shows: families, made consistent as Prometheus's own registry demands.

use std::collections::{HashMap, HashSet};

use heliograph_core::model::Kind;

/// Samples of one name.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: Vec<u8>,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// One set of labels with its value.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(Vec<u8>, Vec<u8>)>,
    /// Milliseconds since the Unix epoch, if it is to be shown.
    pub(super) time: Option<i64>,
    pub(super) value: SampleValue,
}

/// The value, by type of the family.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SampleValue {
    Number(f64),
    /// Quantiles with their values.
    Summary {
        quantiles: Vec<(f64, f64)>,
        sum: f64,
        count: u64,
    },
    /// Upper bounds with the number of observations up to them.
    Histogram {
        buckets: Vec<(f64, u64)>,
        sum: f64,
        count: u64,
    },
}

/// The help of all families but those of the process.
pub(super) const HELP: &str = "Telegraf collected metric";

/// Sorts everything and leaves out what contradicts something else; tells how many samples that were.
pub(super) fn arrange(mut families: Vec<Family>) -> (Vec<Family>, usize) {
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let mut left_out = 0;
    let mut taken = Names::default();
    families.retain_mut(|family| {
        if !taken.admit(family) {
            left_out += family.samples.len();
            return false;
        }
        left_out += tidy(&mut family.samples);
        !family.samples.is_empty()
    });
    (families, left_out)
}

/// The names in use, with those that summaries and histograms add.
#[derive(Default)]
struct Names {
    whole: HashMap<Vec<u8>, Kind>,
    derived: HashSet<Vec<u8>>,
}

impl Names {
    /// Whether no family of this name was there before, and none that it would be confused with.
    fn admit(&mut self, family: &Family) -> bool {
        let own: Vec<Vec<u8>> =
            endings(family.kind).iter().map(|end| [&family.name, end.as_bytes()].concat()).collect();
        let free = !self.whole.contains_key(&family.name)
            && !self.derived.contains(&family.name)
            && !own.iter().any(|name| self.whole.contains_key(name));
        if free {
            self.whole.insert(family.name.clone(), family.kind);
            self.derived.extend(own);
        }
        free
    }
}

fn endings(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Histogram => &["_count", "_sum", "_bucket"],
        Kind::Summary => &["_count", "_sum"],
        Kind::Untyped | Kind::Counter | Kind::Gauge => &[],
    }
}

/// Sorts labels by name and samples by values, and takes out samples that are not legal or there already.
fn tidy(samples: &mut Vec<Sample>) -> usize {
    let before = samples.len();
    samples.iter_mut().for_each(|sample| sample.labels.sort());
    samples.retain(|sample| is_legal(&sample.labels));
    samples.sort_by(|a, b| {
        let by_values = || a.labels.iter().map(|label| &label.1).cmp(b.labels.iter().map(|label| &label.1));
        a.labels.len().cmp(&b.labels.len()).then_with(by_values).then_with(|| a.labels.cmp(&b.labels))
    });
    samples.dedup_by(|later, first| later.labels == first.labels);
    before - samples.len()
}

/// Names are unique and not reserved, values are UTF-8. The labels are sorted.
fn is_legal(labels: &[(Vec<u8>, Vec<u8>)]) -> bool {
    labels.iter().all(|(name, value)| !name.starts_with(b"__") && std::str::from_utf8(value).is_ok())
        && labels.windows(2).all(|pair| pair[0].0 != pair[1].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &str, kind: Kind, labels: &[&[(&str, &str)]]) -> Family {
        let sample = |pairs: &&[(&str, &str)]| Sample {
            labels: pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect(),
            time: None,
            value: SampleValue::Number(1.0),
        };
        Family { name: name.into(), help: HELP, kind, samples: labels.iter().map(sample).collect() }
    }

    fn shown(families: Vec<Family>) -> String {
        let (families, left_out) = arrange(families);
        let labels = |sample: &Sample| {
            let pair =
                |(k, v): &(Vec<u8>, Vec<u8>)| format!("{}={}", String::from_utf8_lossy(k), String::from_utf8_lossy(v));
            sample.labels.iter().map(pair).collect::<Vec<_>>().join(",")
        };
        let family = |family: &Family| {
            let samples: Vec<String> = family.samples.iter().map(labels).collect();
            format!("{}{{{}}}", String::from_utf8_lossy(&family.name), samples.join(" "))
        };
        format!("{} -{left_out}", families.iter().map(family).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sorted_by_name_then_values() {
        let found = shown(vec![
            family("b", Kind::Gauge, &[&[("z", "1"), ("a", "2")], &[("a", "1"), ("z", "9")]]),
            family("a", Kind::Gauge, &[&[]]),
        ]);
        assert_eq!(found, "a{} b{a=1,z=9 a=2,z=1} -0");
    }

    #[test]
    fn contradictions_are_left_out() {
        let found = shown(vec![
            family("a", Kind::Gauge, &[&[("x", "1")], &[("x", "1")], &[("x", "1"), ("x", "2")], &[("__x", "1")]]),
            family("a", Kind::Counter, &[&[]]),
            family("h", Kind::Histogram, &[&[]]),
            family("h_sum", Kind::Gauge, &[&[]]),
        ]);
        assert_eq!(found, "a{x=1} h{} -5");
    }
}
