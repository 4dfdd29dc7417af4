//! Writes a part of what was collected as one request.

use super::Version;
use super::collector::Collector;
use super::families::FamilyType;
use super::labels::symbol_numbers;
use super::series::{Piece, Sample, SeriesSet, TimeSeries};
use super::symbols::Symbols;
use super::wire::{self, Form, tag, varint, varint_len};

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most samples.
    pub samples: usize,
    /// Most bytes before compression; a single piece may be longer.
    pub bytes: usize,
    /// Whether version 2.0 says what the values of a series mean.
    pub metadata: bool,
}

impl Default for Limits {
    /// No limits and no metadata.
    fn default() -> Self {
        Self { samples: usize::MAX, bytes: usize::MAX, metadata: false }
    }
}

/// Encodes and compresses requests. All its memory is used again for the next one.
pub struct Encoder {
    /// The request before it is compressed; without its symbols until it is complete.
    raw: Vec<u8>,
    table: SymbolTable,
    references: Vec<u8>,
    /// Room for the compressed request, kept as long as the largest one needed, so that it is filled with zeros once.
    compressed: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("raw", &self.raw.len()).finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            raw: Vec::new(),
            table: SymbolTable::default(),
            references: Vec::new(),
            compressed: Vec::new(),
            snappy: snap::raw::Encoder::new(),
        }
    }
}

/// The room for the compressed request grows in steps of so many bytes.
const ROOM_STEP: usize = 4096;

/// Fields of messages.
mod field {
    pub(super) const V1_SERIES: u8 = 1;
    pub(super) const V1_METADATA: u8 = 3;
    pub(super) const V2_SYMBOLS: u8 = 4;
    pub(super) const V2_SERIES: u8 = 5;
    pub(super) const SAMPLES: u8 = 2;
    pub(super) const V1_HISTOGRAMS: u8 = 4;
    pub(super) const V2_HISTOGRAMS: u8 = 3;
    pub(super) const V2_REFERENCES: u8 = 1;
    pub(super) const V2_METADATA: u8 = 5;
    pub(super) const SAMPLE_TIME: u8 = 2;
    pub(super) const HISTOGRAM_TIME: u8 = 15;
}

impl Encoder {
    /// Encodes pieces from the front, as many as the limits allow and at least one. Returns how many.
    pub fn encode(&mut self, from: &Collector, pieces: &[Piece], limits: Limits) -> usize {
        self.raw.clear();
        self.table.start(from.symbols());
        let (mut done, mut samples) = (0, 0);
        for piece in pieces {
            samples += piece.len as usize;
            if done > 0 && samples > limits.samples {
                break;
            }
            let before = (self.raw.len(), self.table.mark());
            match from.version() {
                Version::One => self.add_first(from.set(), *piece),
                Version::Two => self.add_second(from.set(), from.symbols(), *piece, limits.metadata),
            }
            if done > 0 && self.raw.len() + self.table.bytes.len() > limits.bytes {
                self.raw.truncate(before.0);
                self.table.go_back(before.1);
                break;
            }
            done += 1;
        }
        if from.version() == Version::Two {
            // Symbols go in front: a receiver may read a request in one go.
            self.table.bytes.extend_from_slice(&self.raw);
            std::mem::swap(&mut self.table.bytes, &mut self.raw);
        }
        done
    }

    /// The request, compressed. Fails beyond 4 GiB.
    pub fn compressed(&mut self) -> Result<&[u8], snap::Error> {
        let room = snap::raw::max_compress_len(self.raw.len());
        if self.compressed.len() < room {
            // In steps, since the next request of the same series may be some bytes larger: a value of 0 takes none.
            self.compressed.resize(room.next_multiple_of(ROOM_STEP), 0);
        }
        let len = self.snappy.compress(&self.raw, &mut self.compressed)?;
        Ok(&self.compressed[..len])
    }

    /// The request before it is compressed.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    #[inline]
    fn add_first(&mut self, set: &SeriesSet, piece: Piece) {
        let series = set.get(piece.series);
        let labels = set.labels(series);
        let out = &mut self.raw;
        out.push(tag(field::V1_SERIES, Form::Length));
        varint(out, (labels.len() + samples_len(set, series, piece)) as u64);
        out.extend_from_slice(labels);
        write_samples(set, series, piece, field::V1_HISTOGRAMS, out);
    }

    #[inline]
    fn add_second(&mut self, set: &SeriesSet, symbols: &Symbols, piece: Piece, with_metadata: bool) {
        let series = set.get(piece.series);
        let Self { raw: out, table, references, .. } = self;
        references.clear();
        for number in symbol_numbers(set.labels(series)) {
            varint(references, table.reference(number, symbols).into());
        }
        let kind = if with_metadata { FamilyType::from(series.kind) } else { FamilyType::Unknown };
        // Key, length, key and one byte of the type.
        let metadata_len = if kind == FamilyType::Unknown { 0 } else { 4 };
        let references_len = 1 + varint_len(references.len() as u64) + references.len();
        out.push(tag(field::V2_SERIES, Form::Length));
        varint(out, (references_len + samples_len(set, series, piece) + metadata_len) as u64);
        wire::bytes(out, field::V2_REFERENCES, references);
        write_samples(set, series, piece, field::V2_HISTOGRAMS, out);
        if kind != FamilyType::Unknown {
            out.extend_from_slice(&[tag(field::V2_METADATA, Form::Length), 2, tag(1, Form::Varint), kind as u8]);
        }
    }
}

/// The symbols of one request: which of all known ones it has, and at which place.
#[derive(Debug, Default)]
struct SymbolTable {
    /// By number of the symbol, the request that had it last and its place there.
    places: Vec<(u32, u32)>,
    request: u32,
    /// Numbers of the symbols, by place; the empty one stands in front of them.
    numbers: Vec<u32>,
    /// The encoded fields.
    bytes: Vec<u8>,
}

impl SymbolTable {
    fn start(&mut self, symbols: &Symbols) {
        self.request = self.request.wrapping_add(1);
        if self.places.len() != symbols.len() || self.request == 0 {
            // Symbols may have been given new numbers; and a request that long ago must not be taken for this one.
            self.request = self.request.max(1);
            self.places.clear();
            self.places.resize(symbols.len(), (0, 0));
        }
        self.numbers.clear();
        self.bytes.clear();
        self.bytes.extend_from_slice(&[tag(field::V2_SYMBOLS, Form::Length), 0]);
    }

    #[inline]
    fn reference(&mut self, number: u32, symbols: &Symbols) -> u32 {
        if number == 0 {
            return 0;
        }
        let place = &mut self.places[number as usize];
        if place.0 != self.request {
            self.numbers.push(number);
            *place = (self.request, self.numbers.len() as u32);
            wire::bytes(&mut self.bytes, field::V2_SYMBOLS, symbols.text(number));
        }
        place.1
    }

    fn mark(&self) -> (usize, usize) {
        (self.numbers.len(), self.bytes.len())
    }

    /// Takes out what came after a mark.
    fn go_back(&mut self, (numbers, bytes): (usize, usize)) {
        for number in self.numbers.drain(numbers..) {
            self.places[number as usize].0 = 0;
        }
        self.bytes.truncate(bytes);
    }
}

/// Encoded metadata of version 1.0: a request for these families. Not compressed.
pub fn encode_metadata<'a>(families: impl Iterator<Item = (&'a [u8], FamilyType)>) -> Vec<u8> {
    let (mut out, mut family) = (Vec::new(), Vec::new());
    for (name, kind) in families {
        family.clear();
        wire::integer(&mut family, 1, kind as u64);
        wire::bytes(&mut family, 2, name);
        wire::bytes(&mut out, field::V1_METADATA, &family);
    }
    out
}

#[inline]
fn samples_len(set: &SeriesSet, series: &TimeSeries, piece: Piece) -> usize {
    let len = |sample| {
        let content = content_len(set, series, sample);
        1 + varint_len(content as u64) + content
    };
    set.samples(piece).map(len).sum()
}

#[inline]
fn content_len(set: &SeriesSet, series: &TimeSeries, sample: &Sample) -> usize {
    let time = if sample.milliseconds == 0 { 0 } else { 1 + varint_len(sample.milliseconds as u64) };
    time + match series.is_histogram {
        true => set.histogram(sample).len(),
        // A zero goes without saying, but not one below zero.
        false if sample.value().to_bits() == 0 => 0,
        false => 1 + size_of::<f64>(),
    }
}

#[inline]
fn write_samples(set: &SeriesSet, series: &TimeSeries, piece: Piece, histograms: u8, out: &mut Vec<u8>) {
    for sample in set.samples(piece) {
        let field = if series.is_histogram { histograms } else { field::SAMPLES };
        out.push(tag(field, Form::Length));
        varint(out, content_len(set, series, sample) as u64);
        if series.is_histogram {
            out.extend_from_slice(set.histogram(sample));
            wire::integer(out, field::HISTOGRAM_TIME, sample.milliseconds as u64);
        } else {
            if sample.value().to_bits() != 0 {
                wire::double(out, 1, sample.value());
            }
            wire::integer(out, field::SAMPLE_TIME, sample.milliseconds as u64);
        }
    }
}
