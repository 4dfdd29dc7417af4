//! One write request: samples collected by series, then encoded and compressed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::ops::Range;

use heliograph_core::memo::FingerprintHasher;

use super::labels::Encoded;
use super::wire::{self, Form, tag, varint, varint_len};

/// The room for the compressed request grows in steps of so many bytes.
const ROOM_STEP: usize = 4096;

/// The series of a batch. All its memory is used again for the next one.
pub(super) struct Request {
    index: HashMap<u64, u32, BuildHasherDefault<FingerprintHasher>>,
    series: Vec<TimeSeries>,
    /// Second and later samples of a series, each naming the next.
    more: Vec<(Sample, Option<u32>)>,
    /// Encoded labels of all series, and encoded histograms.
    bytes: Vec<u8>,
    /// The request before it is compressed.
    raw: Vec<u8>,
    /// Room for the compressed request, kept as long as the largest one needed, so that it is filled with zeros once.
    compressed: Vec<u8>,
    encoder: snap::raw::Encoder,
}

/// One series of the request.
struct TimeSeries {
    labels: Range<u32>,
    first: Sample,
    /// Where the second and the last sample stand in `more`.
    rest: Option<(u32, u32)>,
}

#[derive(Clone)]
struct Sample {
    milliseconds: i64,
    value: SampleValue,
}

/// A float, or where the encoded histogram stands in the bytes of the request.
#[derive(Clone)]
enum SampleValue {
    Float(f64),
    Histogram(Range<u32>),
}

/// Why a sample is not in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dropped {
    #[error("a sample is older than the one before it of the same series")]
    Older,
    #[error("a series has samples of floats and of native histograms")]
    Mixed,
    #[error("a field's name holds nothing that is allowed in a metric name")]
    Name,
    #[error("a field's value is no number, or none that counts")]
    Value,
    #[error("a bucket or quantile has no tag that says which, or a histogram or summary no field that belongs to it")]
    Shape,
}

impl Request {
    /// An empty request.
    pub(super) fn new() -> Self {
        Self {
            index: HashMap::default(),
            series: Vec::new(),
            more: Vec::new(),
            bytes: Vec::new(),
            raw: Vec::new(),
            compressed: Vec::new(),
            encoder: snap::raw::Encoder::new(),
        }
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Adds a sample: a newer one after the last of its series, one of the same millisecond in its place.
    #[inline]
    pub(super) fn add(&mut self, labels: Encoded<'_>, milliseconds: i64, value: f64) -> Result<(), Dropped> {
        self.put(labels, Sample { milliseconds, value: SampleValue::Float(value) })
    }

    /// Adds an encoded histogram (without its time) like [`Self::add`].
    pub(super) fn add_histogram(
        &mut self,
        labels: Encoded<'_>,
        milliseconds: i64,
        histogram: &[u8],
    ) -> Result<(), Dropped> {
        let value = SampleValue::Histogram(store(&mut self.bytes, histogram));
        self.put(labels, Sample { milliseconds, value })
    }

    /// Adds a zero if there is no sample of this series yet.
    pub(super) fn ensure(&mut self, labels: Encoded<'_>, milliseconds: i64) {
        if !self.index.contains_key(&labels.hash) {
            // A new series takes any sample.
            let _ = self.add(labels, milliseconds, 0.0);
        }
    }

    #[inline]
    fn put(&mut self, labels: Encoded<'_>, sample: Sample) -> Result<(), Dropped> {
        match self.index.entry(labels.hash) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.series.len() as u32);
                let labels = store(&mut self.bytes, labels.bytes);
                self.series.push(TimeSeries { labels, first: sample, rest: None });
                Ok(())
            }
            Entry::Occupied(occupied) => {
                let series = &mut self.series[*occupied.get() as usize];
                let last = match series.rest {
                    None => &mut series.first,
                    Some((_, last)) => &mut self.more[last as usize].0,
                };
                if std::mem::discriminant(&last.value) != std::mem::discriminant(&sample.value) {
                    return Err(Dropped::Mixed);
                }
                match sample.milliseconds.cmp(&last.milliseconds) {
                    Ordering::Less => return Err(Dropped::Older),
                    Ordering::Equal => *last = sample,
                    Ordering::Greater => series.append(sample, &mut self.more),
                }
                Ok(())
            }
        }
    }

    /// Orders the series by number of labels, then by names and values.
    pub(super) fn sort(&mut self) {
        let Self { series, bytes, .. } = self;
        // Encoded labels are cheap to read, and the order is asked for in tests more than in service.
        let key = |one: &TimeSeries| {
            let labels: Vec<_> = read_labels(&bytes[range(&one.labels)]).collect();
            (labels.len(), labels.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>())
        };
        series.sort_by_cached_key(key);
    }

    /// Appends the compressed request and forgets its contents. Fails beyond 4 GiB.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), snap::Error> {
        self.encode();
        let room = snap::raw::max_compress_len(self.raw.len());
        if self.compressed.len() < room {
            // In steps, since the next request of the same series may be some bytes larger: a value of 0 takes none.
            self.compressed.resize(room.next_multiple_of(ROOM_STEP), 0);
        }
        let compressed = self.encoder.compress(&self.raw, &mut self.compressed);
        if let Ok(len) = compressed {
            out.extend_from_slice(&self.compressed[..len]);
        }
        self.index.clear();
        self.series.clear();
        self.more.clear();
        self.bytes.clear();
        compressed.map(drop)
    }

    fn encode(&mut self) {
        self.raw.clear();
        for series in &self.series {
            let labels = &self.bytes[range(&series.labels)];
            let mut len = labels.len();
            series.for_each_sample(&self.more, |sample| len += sample.len());
            self.raw.push(tag(1, Form::Length));
            varint(&mut self.raw, len as u64);
            self.raw.extend_from_slice(labels);
            series.for_each_sample(&self.more, |sample| sample.write(&self.bytes, &mut self.raw));
        }
    }
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

impl TimeSeries {
    #[cold]
    fn append(&mut self, sample: Sample, more: &mut Vec<(Sample, Option<u32>)>) {
        let new = more.len() as u32;
        more.push((sample, None));
        self.rest = Some(match self.rest {
            None => (new, new),
            Some((second, last)) => {
                more[last as usize].1 = Some(new);
                (second, new)
            }
        });
    }

    #[inline]
    fn for_each_sample(&self, more: &[(Sample, Option<u32>)], mut each: impl FnMut(&Sample)) {
        each(&self.first);
        let mut next = self.rest.map(|(second, _)| second);
        while let Some(at) = next {
            let (sample, following) = &more[at as usize];
            each(sample);
            next = *following;
        }
    }
}

impl Sample {
    /// Bytes of the encoded sample with the key and length in front of it.
    #[inline]
    fn len(&self) -> usize {
        let content = self.content_len();
        1 + varint_len(content as u64) + content
    }

    #[inline]
    fn content_len(&self) -> usize {
        let time = if self.milliseconds == 0 { 0 } else { 1 + varint_len(self.milliseconds as u64) };
        match &self.value {
            SampleValue::Float(value) => time + if *value == 0.0 { 0 } else { 1 + size_of::<f64>() },
            SampleValue::Histogram(place) => time + place.len(),
        }
    }

    #[inline]
    fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        /// Fields of `TimeSeries` and, behind them, those of the time in either message.
        const SAMPLES: u8 = 2;
        const HISTOGRAMS: u8 = 4;
        let content_len = self.content_len() as u64;
        match &self.value {
            SampleValue::Float(value) => {
                out.push(tag(SAMPLES, Form::Length));
                varint(out, content_len);
                if *value != 0.0 {
                    wire::double(out, 1, *value);
                }
                wire::integer(out, 2, self.milliseconds as u64);
            }
            SampleValue::Histogram(place) => {
                out.push(tag(HISTOGRAMS, Form::Length));
                varint(out, content_len);
                out.extend_from_slice(&bytes[range(place)]);
                wire::integer(out, 15, self.milliseconds as u64);
            }
        }
    }
}

/// Names and values out of encoded labels.
fn read_labels(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (_, mut label) = take_field(&mut bytes)?;
        let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
        while let Some((field, text)) = take_field(&mut label) {
            *(if field == 1 { &mut name } else { &mut value }) = text;
        }
        Some((name, value))
    })
}

/// The next field of bytes: its number and content.
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&key, mut rest) = bytes.split_first()?;
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let (content, after) = rest.split_at_checked(len)?;
    *bytes = after;
    Some((key >> 3, content))
}
