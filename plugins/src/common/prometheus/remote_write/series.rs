//! The series of a batch with their samples, in the order in which they came.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::ops::Range;

use heliograph_core::memo::FingerprintHasher;
use heliograph_core::model::Kind;

use super::labels::Encoded;

/// What becomes of a sample that is older than the one before it of the same series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Late {
    /// It is left out, as Telegraf does.
    #[default]
    Drop,
    /// It goes in front, so that the samples of a series are in order.
    Sort,
}

/// Why a sample is not in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// See [`Late::Drop`].
    #[error("a sample is older than the one before it of the same series")]
    Older,
    /// The first one decides.
    #[error("a series has samples of floats and of native histograms")]
    Mixed,
    /// Nothing is left of it once it is cleaned.
    #[error("a field's name holds nothing that is allowed in a metric name")]
    Name,
    /// A text, or a count that is negative.
    #[error("a field's value is no number, or none that counts")]
    Value,
    /// Fields that do not make a histogram or summary.
    #[error("a bucket or quantile has no tag that says which, or a histogram or summary no field that belongs to it")]
    Shape,
}

/// The series of a batch. All its memory is used again for the next one.
#[derive(Debug, Default)]
pub struct SeriesSet {
    index: HashMap<u64, u32, BuildHasherDefault<FingerprintHasher>>,
    series: Vec<TimeSeries>,
    samples: Vec<Sample>,
    /// Encoded labels of all series, and encoded histograms.
    bytes: Vec<u8>,
    late: Late,
    is_disordered: bool,
    /// Keys and times of samples that are left out, since a receiver has answered for them already.
    settled: HashSet<(u64, i64)>,
    metric: Place,
}

/// The metric that samples come from.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    number: u32,
    kind: Kind,
    tenant: u32,
    tenant_hash: u64,
    start: i64,
}

/// One series.
#[derive(Debug)]
pub struct TimeSeries {
    /// Tells the series apart from all others, those of other tenants included.
    pub key: u64,
    /// Number of the tenant.
    pub tenant: u32,
    /// What its values mean.
    pub kind: Kind,
    /// Whether its samples are native histograms.
    pub is_histogram: bool,
    is_disordered: bool,
    labels: Range<u32>,
    first: u32,
    last: u32,
    len: u32,
}

/// Labels of a series of a [`SeriesSet`], in a form that outlives it; see [`super::Collector::labels`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLabels {
    /// Key of the series without its tenant.
    pub(super) hash: u64,
    /// As version 1.0 has them.
    pub(super) bytes: Box<[u8]>,
}

/// Samples of one series that follow each other: what a request is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the series.
    pub series: u32,
    first: u32,
    /// Number of samples.
    pub len: u32,
}

/// A float, or where the encoded histogram stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) milliseconds: i64,
    /// Since when it counts, in milliseconds; zero if that is not known.
    pub(super) start: i64,
    bits: u64,
    metric: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;
/// The value of a series that has ended.
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// Any other value that is no number: a receiver must not take it for [`STALE`].
const NOT_A_NUMBER: u64 = 0x7ff8_0000_0000_0001;

impl SeriesSet {
    pub(super) fn new(late: Late) -> Self {
        Self { late, ..Self::default() }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The series of this index.
    pub fn get(&self, index: u32) -> &TimeSeries {
        &self.series[index as usize]
    }

    /// What is added from now on comes from this metric.
    #[inline]
    pub(super) fn start(&mut self, number: u32, kind: Kind, tenant: u32, tenant_hash: u64) {
        self.metric = Place { number, kind, tenant, tenant_hash, start: 0 };
    }

    /// What is added from now on counts since this time, in milliseconds; zero is not known.
    pub(super) fn count_since(&mut self, start: i64) {
        self.metric.start = start;
    }

    /// Adds a sample: a newer one after the last of its series, one of the same millisecond in its place.
    #[inline]
    pub(super) fn add(&mut self, labels: Encoded<'_>, milliseconds: i64, value: f64) -> Result<(), Dropped> {
        let bits = if value.is_nan() { NOT_A_NUMBER } else { value.to_bits() };
        self.put(labels, milliseconds, bits, false)
    }

    /// Adds the mark of the end of a series of floats.
    pub(super) fn add_stale(&mut self, labels: Encoded<'_>, milliseconds: i64) -> Result<(), Dropped> {
        self.put(labels, milliseconds, STALE.to_bits(), false)
    }

    /// Adds an encoded histogram (without its time) like [`Self::add`].
    pub(super) fn add_histogram(
        &mut self,
        labels: Encoded<'_>,
        milliseconds: i64,
        histogram: &[u8],
    ) -> Result<(), Dropped> {
        let place = store(&mut self.bytes, histogram);
        self.put(labels, milliseconds, u64::from(place.start) << 32 | u64::from(place.end), true)
    }

    /// Adds a zero if there is no sample of this series yet.
    pub(super) fn ensure(&mut self, labels: Encoded<'_>, milliseconds: i64) {
        if !self.index.contains_key(&self.key(labels)) {
            // A new series takes any sample.
            let _ = self.add(labels, milliseconds, 0.0);
        }
    }

    fn key(&self, labels: Encoded<'_>) -> u64 {
        labels.hash ^ self.metric.tenant_hash
    }

    #[inline]
    fn put(&mut self, labels: Encoded<'_>, milliseconds: i64, bits: u64, is_histogram: bool) -> Result<(), Dropped> {
        let key = self.key(labels);
        if !self.settled.is_empty() && self.settled.contains(&(key, milliseconds)) {
            return Ok(());
        }
        let Place { number, kind, tenant, start, .. } = self.metric;
        // Nothing counts from later than its own time on.
        let start = if start <= milliseconds { start } else { 0 };
        let sample = Sample { milliseconds, start, bits, metric: number, next: NONE };
        let new = self.samples.len() as u32;
        match self.index.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.series.len() as u32);
                let labels = store(&mut self.bytes, labels.bytes);
                let series = TimeSeries {
                    key,
                    tenant,
                    kind,
                    is_histogram,
                    is_disordered: false,
                    labels,
                    first: new,
                    last: new,
                    len: 1,
                };
                self.series.push(series);
            }
            Entry::Occupied(occupied) => {
                let series = &mut self.series[*occupied.get() as usize];
                let last = &mut self.samples[series.last as usize];
                if series.is_histogram != is_histogram {
                    return Err(Dropped::Mixed);
                }
                match milliseconds.cmp(&last.milliseconds) {
                    Ordering::Less if self.late == Late::Drop => return Err(Dropped::Older),
                    Ordering::Less => {
                        series.is_disordered = true;
                        self.is_disordered = true;
                    }
                    Ordering::Equal => {
                        *last = sample;
                        return Ok(());
                    }
                    Ordering::Greater => {}
                }
                last.next = new;
                series.last = new;
                series.len += 1;
            }
        }
        self.samples.push(sample);
        Ok(())
    }

    /// Puts the samples of every series in order; of one millisecond the last to come stays. To be called when all are in.
    pub fn order(&mut self) {
        if !std::mem::take(&mut self.is_disordered) {
            return;
        }
        let Self { series, samples, .. } = self;
        for one in series.iter_mut().filter(|one| one.is_disordered) {
            let mut order: Vec<u32> = chain(samples, one.first, one.len).map(|(at, _)| at).collect();
            let time = |at: u32| samples[at as usize].milliseconds;
            order.sort_by_key(|&at| time(at));
            order.reverse();
            order.dedup_by_key(|at| time(*at));
            order.reverse();
            for (i, &at) in order.iter().enumerate() {
                samples[at as usize].next = order.get(i + 1).copied().unwrap_or(NONE);
            }
            (one.first, one.last, one.len) = (order[0], order[order.len() - 1], order.len() as u32);
            one.is_disordered = false;
        }
    }

    /// The series in pieces of at most so many samples, those of one series one after the other.
    pub fn pieces(&self, most: u32) -> impl Iterator<Item = Piece> + '_ {
        (0u32..).zip(&self.series).flat_map(move |(index, series)| {
            let mut rest = Some(Piece { series: index, first: series.first, len: series.len });
            std::iter::from_fn(move || {
                let (piece, after) = self.split(rest?, most);
                rest = after;
                Some(piece)
            })
        })
    }

    /// The first so many samples of a piece, and the rest if there is one.
    pub fn split(&self, piece: Piece, most: u32) -> (Piece, Option<Piece>) {
        if piece.len <= most {
            return (piece, None);
        }
        let (last, _) = chain(&self.samples, piece.first, most).last().expect("at least one sample is asked for");
        let next = self.samples[last as usize].next;
        (Piece { len: most, ..piece }, Some(Piece { first: next, len: piece.len - most, ..piece }))
    }

    /// For each sample of a piece, the number of its metric and its time in milliseconds.
    pub fn origins(&self, piece: Piece) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.samples(piece).map(|sample| (sample.metric, sample.milliseconds))
    }

    #[inline]
    pub(super) fn samples(&self, piece: Piece) -> impl Iterator<Item = &Sample> + Clone {
        chain(&self.samples, piece.first, piece.len).map(|(_, sample)| sample)
    }

    /// Leaves the samples of a piece out of what is collected from now on.
    pub fn settle(&mut self, piece: Piece) {
        let key = self.get(piece.series).key;
        let Self { samples, settled, .. } = self;
        settled.extend(chain(samples, piece.first, piece.len).map(|(_, sample)| (key, sample.milliseconds)));
    }

    /// Takes back all that was [settled](Self::settle).
    pub fn unsettle(&mut self) {
        self.settled.clear();
    }

    #[inline]
    pub(super) fn labels(&self, series: &TimeSeries) -> &[u8] {
        &self.bytes[range(&series.labels)]
    }

    #[inline]
    pub(super) fn histogram(&self, sample: &Sample) -> &[u8] {
        &self.bytes[(sample.bits >> 32) as usize..sample.bits as u32 as usize]
    }

    pub(super) fn sort_by_cached_key<K: Ord>(&mut self, key: impl Fn(&[u8]) -> K) {
        let Self { series, bytes, .. } = self;
        series.sort_by_cached_key(|one| key(&bytes[range(&one.labels)]));
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.series.clear();
        self.samples.clear();
        self.bytes.clear();
        self.is_disordered = false;
    }
}

impl Sample {
    #[inline]
    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// So many samples from the one at `first` on, with their places.
#[inline]
fn chain(samples: &[Sample], first: u32, len: u32) -> impl Iterator<Item = (u32, &Sample)> + Clone {
    let mut next = first;
    (0..len).map(move |_| {
        let at = next;
        let sample = &samples[at as usize];
        next = sample.next;
        (at, sample)
    })
}

fn store(bytes: &mut Vec<u8>, more: &[u8]) -> Range<u32> {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(more);
    start..bytes.len() as u32
}

#[inline]
fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
