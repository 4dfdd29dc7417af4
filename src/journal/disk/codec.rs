//! A batch as bytes: varints, and dictionaries of series and keys that grow as records are written.
//!
//! Encoder and decoder number series and keys in the order in which they first appear, so a record can only be read after
//! all before it in its segment. The format is told in `docs/decisions/0004-disk-journal-format.md`.

use hashbrown::{HashMap, HashTable};
use heliograph_core::model::{Batch, Key, Kind, MetricRef, SeriesBuilder, SeriesRef, Value};

/// Series and keys in a dictionary before it starts anew, give or take a batch.
const MAX_SERIES: usize = 32_768;
const MAX_KEYS: usize = 8_192;
/// Bytes of their names before it starts anew, give or take a batch.
const MAX_NAMES: usize = 4 << 20;

/// The dictionary starts anew with this record.
const FRESH: u8 = 1;

/// Types of values, the low three bits of a field's head.
const FLOAT: u64 = 0;
const INT: u64 = 1;
const UINT: u64 = 2;
const TEXT: u64 = 3;
const FALSE: u64 = 4;
const TRUE: u64 = 5;
/// A float without a fraction, as a signed varint.
const WHOLE: u64 = 6;
/// Floats up to here are exact as integers.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Turns batches into bytes.
#[derive(Default)]
pub struct Encoder {
    series: HashTable<KnownSeries>,
    key_numbers: HashMap<Key, usize>,
    keys: Vec<Key>,
    names: usize,
}

struct KnownSeries {
    series: SeriesRef,
    number: usize,
    /// The key of its first field, last time: what comes next is mostly the same again.
    first_key: usize,
}

impl Encoder {
    /// Forgets the dictionary: the next record begins a new one.
    pub fn clear(&mut self) {
        self.series.clear();
        self.key_numbers.clear();
        self.keys.clear();
        self.names = 0;
    }

    /// Appends the batch to `out`. Its origin is not written: it means nothing to the next process.
    pub fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        if self.series.len() >= MAX_SERIES || self.keys.len() >= MAX_KEYS || self.names >= MAX_NAMES {
            self.clear();
        }
        out.push(if self.series.is_empty() { FRESH } else { 0 });
        put(out, batch.len() as u64);
        let mut before = 0;
        for metric in batch.iter() {
            let mut guess = self.series(metric.series, metric.fields.first().map(|field| &field.key), out);
            put_signed(out, metric.time.wrapping_sub(before));
            before = metric.time;
            put(out, (metric.fields.len() as u64) << 3 | kind_number(metric.kind));
            for field in metric.fields {
                guess = 1 + self.field(&field.key, &field.value, guess, out);
            }
        }
    }

    /// Writes a series; returns a guess at the number of its first key.
    fn series(&mut self, series: &SeriesRef, first: Option<&Key>, out: &mut Vec<u8>) -> usize {
        let fingerprint = series.fingerprint();
        if let Some(known) = self.series.find_mut(fingerprint, |known| known.series == *series) {
            put(out, known.number as u64 + 1);
            if let Some(first) = first
                && !self.keys.get(known.first_key).is_some_and(|key| key.same(first))
            {
                known.first_key = self.key_numbers.get(first).copied().unwrap_or(self.keys.len());
            }
            return known.first_key;
        }
        put(out, 0);
        put_bytes(out, series.name());
        put(out, series.tag_count() as u64);
        for (key, value) in series.tags() {
            put_bytes(out, key);
            put_bytes(out, value);
        }
        self.names += series.footprint();
        let first_key = first.and_then(|key| self.key_numbers.get(key).copied()).unwrap_or(self.keys.len());
        let known = KnownSeries { series: series.clone(), number: self.series.len(), first_key };
        self.series.insert_unique(fingerprint, known, |known| known.series.fingerprint());
        first_key
    }

    /// Writes a field; returns the number of its key.
    fn field(&mut self, key: &Key, value: &Value, guess: usize, out: &mut Vec<u8>) -> usize {
        let kind = match value {
            Value::Float(v) if is_whole(*v) => WHOLE,
            Value::Float(_) => FLOAT,
            Value::Int(_) => INT,
            Value::Uint(_) => UINT,
            Value::Text(_) => TEXT,
            Value::Bool(false) => FALSE,
            Value::Bool(true) => TRUE,
        };
        let known = match self.keys.get(guess) {
            Some(guessed) if guessed.same(key) => Some(guess),
            _ => self.key_numbers.get(key).copied(),
        };
        let number = known.unwrap_or_else(|| {
            put(out, kind);
            put_bytes(out, key.as_bytes());
            self.names += key.as_bytes().len();
            self.key_numbers.insert(key.clone(), self.keys.len());
            self.keys.push(key.clone());
            self.keys.len() - 1
        });
        if known.is_some() {
            put(out, (number as u64 + 1) << 3 | kind);
        }
        match value {
            Value::Float(v) if kind == WHOLE => put_signed(out, *v as i64),
            Value::Float(v) => out.extend_from_slice(&v.to_bits().to_le_bytes()),
            Value::Int(v) => put_signed(out, *v),
            Value::Uint(v) => put(out, *v),
            Value::Text(v) => put_bytes(out, v),
            Value::Bool(_) => {}
        }
        number
    }
}

/// Bytes that a batch takes at the most.
pub fn longest(batch: &Batch) -> u64 {
    // A varint has ten bytes at the most.
    let metric = |metric: MetricRef<'_>| {
        let series = metric.series.footprint() + 20 * metric.series.tag_count() + 60;
        let text = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
        let fields = metric.fields.iter().map(|field| field.key.as_bytes().len() + text(&field.value) + 30);
        (series + fields.sum::<usize>()) as u64
    };
    64 + batch.iter().map(metric).sum::<u64>()
}

/// Turns bytes into batches again.
#[derive(Default)]
pub struct Decoder {
    series: Vec<SeriesRef>,
    keys: Vec<Key>,
    builder: SeriesBuilder,
}

impl Decoder {
    /// The batch, or `None` if these bytes are none.
    pub fn decode(&mut self, bytes: &[u8]) -> Option<Batch> {
        let mut input = Input(bytes);
        match input.byte()? {
            FRESH => {
                self.series.clear();
                self.keys.clear();
            }
            0 => {}
            _ => return None,
        }
        let len = input.count()?;
        let mut batch = Batch::with_capacity(len, len);
        let mut time = 0_i64;
        for _ in 0..len {
            let series = self.series(&mut input)?;
            time = time.wrapping_add(input.signed()?);
            let head = input.number()?;
            batch.start(series, time, kind_of(head & 7)?);
            for _ in 0..head >> 3 {
                let (key, value) = self.field(&mut input)?;
                batch.push_field(key, value);
            }
        }
        input.0.is_empty().then_some(batch)
    }

    fn series(&mut self, input: &mut Input<'_>) -> Option<SeriesRef> {
        if let Some(number) = input.number()?.checked_sub(1) {
            return self.series.get(usize::try_from(number).ok()?).cloned();
        }
        self.builder.start(input.bytes()?);
        for _ in 0..input.count()? {
            self.builder.set_tag(input.bytes()?, input.bytes()?);
        }
        let series = self.builder.build();
        self.series.push(series.clone());
        Some(series)
    }

    fn field(&mut self, input: &mut Input<'_>) -> Option<(Key, Value)> {
        let head = input.number()?;
        let key = match (head >> 3).checked_sub(1) {
            Some(number) => self.keys.get(usize::try_from(number).ok()?)?.clone(),
            None => {
                let key = Key::intern(input.bytes()?);
                self.keys.push(key.clone());
                key
            }
        };
        let value = match head & 7 {
            FLOAT => Value::Float(f64::from_bits(u64::from_le_bytes(input.array()?))),
            WHOLE => Value::Float(input.signed()? as f64),
            INT => Value::Int(input.signed()?),
            UINT => Value::Uint(input.number()?),
            TEXT => Value::Text(input.bytes()?.into()),
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            _ => return None,
        };
        Some((key, value))
    }
}

fn is_whole(v: f64) -> bool {
    // Minus zero has a sign that an integer has not.
    v.trunc() == v && v.abs() <= MAX_WHOLE && (v != 0.0 || v.is_sign_positive())
}

fn kind_number(kind: Kind) -> u64 {
    match kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Summary => 3,
        Kind::Histogram => 4,
    }
}

fn kind_of(number: u64) -> Option<Kind> {
    [Kind::Untyped, Kind::Counter, Kind::Gauge, Kind::Summary, Kind::Histogram].get(number as usize).copied()
}

/// Appends a number, seven bits a byte, low ones first; the high bit says that more follow.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number: the sign in the lowest bit, so that small ones stay short.
fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, (number << 1 ^ number >> 63) as u64);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that are taken off from the front; `None` where they end too early or make no sense.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number as [`put`] wrote it.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of things that take at least a byte each.
    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|&count| count <= self.0.len())
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_core::model::MetricRef;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(Value::Float),
            (-1000_i32..1000).prop_map(|v| Value::Float(v.into())),
            Just(Value::Float(-0.0)),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Uint),
            any::<bool>().prop_map(Value::Bool),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(|v| Value::Text(v.into())),
        ]
    }

    prop_compose! {
        fn metric()(
            name in "[a-c]",
            tags in prop::collection::btree_map("[a-c]", "[a-c]?", 0..3),
            time in any::<i64>(),
            kind in 0_u64..5,
            fields in prop::collection::btree_map("[a-e]", value(), 0..5),
        ) -> Batch {
            let mut series = SeriesBuilder::new();
            series.start(name.as_bytes());
            tags.iter().for_each(|(k, v)| { series.set_tag(k.as_bytes(), v.as_bytes()); });
            let mut batch = Batch::new();
            batch.start(series.build(), time, kind_of(kind).unwrap());
            fields.into_iter().for_each(|(k, v)| batch.push_field(Key::intern(k.as_bytes()), v));
            batch
        }
    }

    fn show(metric: MetricRef<'_>) -> String {
        let bits = |value: &Value| match value {
            Value::Float(v) => format!("{:x}", v.to_bits()),
            other => format!("{other:?}"),
        };
        let fields: Vec<_> =
            metric.fields.iter().map(|field| format!("{}={}", field.key, bits(&field.value))).collect();
        format!("{} {} {:?} {fields:?}", metric.series, metric.time, metric.kind)
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(batches in prop::collection::vec(prop::collection::vec(metric(), 0..6), 1..6)) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for mut metrics in batches {
                let mut batch = Batch::new();
                metrics.iter_mut().for_each(|metric| batch.append(metric));
                let mut bytes = Vec::new();
                encoder.encode(&batch, &mut bytes);
                prop_assert!(bytes.len() as u64 + 43 <= longest(&batch), "what a record adds to it counts too");
                let decoded = decoder.decode(&bytes).unwrap();
                let show = |batch: &Batch| batch.iter().map(show).collect::<Vec<_>>();
                prop_assert_eq!(show(&decoded), show(&batch));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut decoder = Decoder::default();
            let _ = decoder.decode(&bytes);
            let _ = decoder.decode(&[&[FRESH, 3], &*bytes].concat());
        }

        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(any::<u64>().prop_map(|n| n >> (n % 64)), 0..9)) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|&number| { put(&mut bytes, number); put_signed(&mut bytes, number as i64); });
            let mut input = Input(&bytes);
            for number in numbers {
                prop_assert_eq!((input.number(), input.signed()), (Some(number), Some(number as i64)));
            }
        }
    }

    #[test]
    fn a_series_seen_before_takes_a_byte() {
        let mut batch = Batch::new();
        batch.start(SeriesBuilder::new().start(b"weather").set_tag(b"room", b"kitchen").build(), 1, Kind::Gauge);
        batch.push_field(Key::fixed("temperature"), Value::Float(21.0));
        let (mut encoder, mut first, mut second) = (Encoder::default(), Vec::new(), Vec::new());
        encoder.encode(&batch, &mut first);
        encoder.encode(&batch, &mut second);
        assert_eq!((first.len(), second.len()), (41, 7));
    }

    #[test]
    fn a_full_dictionary_starts_anew() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for i in 0..MAX_SERIES + 2 {
            let mut batch = Batch::new();
            batch.start(SeriesBuilder::new().start(i.to_string().as_bytes()).build(), 1, Kind::Gauge);
            let mut bytes = Vec::new();
            encoder.encode(&batch, &mut bytes);
            assert_eq!(decoder.decode(&bytes).unwrap().get(0).series, batch.get(0).series);
        }
        assert_eq!((encoder.series.len(), decoder.series.len()), (2, 2));
    }
}
