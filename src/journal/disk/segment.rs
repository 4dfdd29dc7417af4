//! A segment: a file with a header and records, each under a checksum that also knows its place.

use std::io;

use heliograph_core::model::Batch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::codec::{Decoder, Encoder, Input, put, put_bytes};
use super::storage::ReadAt;

const MAGIC: [u8; 8] = *b"HELIOJNL";
/// The version this code writes. It reads all up to it.
const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER: usize = 64;
/// Bytes before the content of a record: its length and checksum.
pub const RECORD_HEAD: usize = 12;
/// Kinds of records, their first byte.
const BATCH: u8 = 1;
const CURSORS: u8 = 2;
/// Read from a file at a time, unless a record is longer.
const CHUNK: usize = 64 << 10;

/// A place in the sequence: a batch, and how many metrics of the sequence end with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Position of the batch; the first of all has 1.
    pub position: u64,
    /// Metrics up to and with this batch, counted from the first one ever.
    pub metrics: u64,
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What comes before its first record.
    pub before: Place,
    /// Where the segment before it ends. What lies between was never on the disk.
    pub previous: Place,
    /// Wall clock when it was begun, in nanoseconds since the Unix epoch.
    pub created: i64,
}

/// Why a file is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short or overwritten.
    #[error("its header is damaged")]
    Damaged,
    /// Of a version this code does not know.
    #[error("it was written by a newer version of heliograph (format {0}, known is {VERSION})")]
    Newer(u16),
}

impl Header {
    /// As bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let numbers = [
            self.before.position,
            self.before.metrics,
            self.previous.position,
            self.previous.metrics,
            self.created as u64,
        ];
        for (place, number) in bytes[16..56].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let check = xxh3_64(&bytes[..56]);
        bytes[56..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads it back, with the seed of the segment's checksums.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u64), HeaderError> {
        let bytes: &[u8; HEADER] =
            bytes.get(..HEADER).and_then(|bytes| bytes.try_into().ok()).ok_or(HeaderError::Damaged)?;
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        // What every version has to keep: magic, version, and the checksum at the end of these bytes.
        if bytes[..8] != MAGIC || number(56) != xxh3_64(&bytes[..56]) {
            return Err(HeaderError::Damaged);
        }
        if version != VERSION {
            return Err(HeaderError::Newer(version));
        }
        let header = Self {
            before: Place { position: number(16), metrics: number(24) },
            previous: Place { position: number(32), metrics: number(40) },
            created: number(48) as i64,
        };
        Ok((header, number(56)))
    }

    /// The seed of the segment's checksums: bytes of another segment, or of an earlier file in the same blocks, never
    /// pass for records of this one.
    pub fn seed(&self) -> u64 {
        xxh3_64(&self.encode()[..56])
    }
}

/// How far an output has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which output.
    pub output: String,
    /// It is done with all batches up to this position.
    pub position: u64,
    /// And with this many metrics of the batch after it, as its filters leave them.
    pub offset: u64,
}

/// Appends a record: `content` writes what is in it. `at` is where in its file the record begins.
pub fn put_record(out: &mut Vec<u8>, seed: u64, at: u64, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD]);
    content(out);
    let body = start + RECORD_HEAD;
    let check = xxh3_64_with_seed(&out[body..], seed.wrapping_add(at));
    let len = (out.len() - body) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..body].copy_from_slice(&check.to_le_bytes());
}

/// Writes the content of a batch's record. `skipped` is what lies between it and the record before.
pub fn put_batch(out: &mut Vec<u8>, skipped: Place, batch: &Batch, encoder: &mut Encoder) {
    out.push(BATCH);
    put(out, skipped.position);
    put(out, skipped.metrics);
    put(out, batch.len() as u64);
    encoder.encode(batch, out);
}

/// Writes the content of a record of cursors.
pub fn put_cursors(out: &mut Vec<u8>, cursors: &[Cursor]) {
    out.push(CURSORS);
    put(out, cursors.len() as u64);
    for cursor in cursors {
        put_bytes(out, cursor.output.as_bytes());
        put(out, cursor.position);
        put(out, cursor.offset);
    }
}

/// What a segment holds at a place.
#[derive(Debug)]
pub enum Record<'a> {
    /// A batch, still encoded.
    Batch {
        /// Where it ends.
        place: Place,
        /// How many metrics it holds.
        len: usize,
        /// For the decoder.
        body: &'a [u8],
    },
    /// Cursors of all outputs.
    Cursors(Vec<Cursor>),
    /// Nothing more.
    End,
    /// Bytes that are no record; what follows cannot be read.
    Damaged,
}

/// Reads the records of a segment one after the other, in constant memory.
pub struct Records {
    file: Box<dyn ReadAt>,
    /// From the segment's header.
    pub header: Header,
    seed: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: u64,
    /// Where in the file the next record begins.
    pub offset: u64,
    /// What was read last.
    pub place: Place,
}

impl Records {
    /// Begins with the first record.
    pub fn new(file: Box<dyn ReadAt>) -> io::Result<Result<Self, HeaderError>> {
        let mut head = vec![0; HEADER];
        let filled = fill(&*file, &mut head, 0)?;
        Ok(Header::decode(&head[..filled]).map(|(header, seed)| Self {
            file,
            header,
            seed,
            buffer: Vec::new(),
            start: 0,
            offset: HEADER as u64,
            place: header.before,
        }))
    }

    /// The next record of those that end within the first `end` bytes of the file.
    pub fn next(&mut self, end: u64) -> io::Result<Record<'_>> {
        if self.offset >= end {
            return Ok(Record::End);
        }
        let left = end - self.offset;
        if left < RECORD_HEAD as u64 || !self.load(RECORD_HEAD)? {
            return Ok(Record::Damaged);
        }
        let head = &self.buffer[(self.offset - self.start) as usize..];
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let check = head[4..RECORD_HEAD].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let whole = RECORD_HEAD as u64 + u64::from(len);
        if len == 0 || whole > left || !self.load(whole as usize)? {
            return Ok(Record::Damaged);
        }
        let from = (self.offset - self.start) as usize;
        let content = &self.buffer[from + RECORD_HEAD..from + whole as usize];
        if xxh3_64_with_seed(content, self.seed.wrapping_add(self.offset)) != check {
            return Ok(Record::Damaged);
        }
        let Some(record) = parse(content, self.place) else { return Ok(Record::Damaged) };
        self.offset += whole;
        if let Record::Batch { place, .. } = record {
            self.place = place;
        }
        Ok(record)
    }

    /// Sees to it that `len` bytes from the offset on are in the buffer; `false` if the file ends before.
    fn load(&mut self, len: usize) -> io::Result<bool> {
        let from = (self.offset - self.start) as usize;
        if self.buffer.len() >= from + len {
            return Ok(true);
        }
        self.buffer.drain(..from.min(self.buffer.len()));
        self.start = self.offset;
        let have = self.buffer.len();
        self.buffer.resize(have.max(len.max(CHUNK)), 0);
        let read = fill(&*self.file, &mut self.buffer[have..], self.start + have as u64)?;
        self.buffer.truncate(have + read);
        self.buffer.shrink_to(4 * CHUNK);
        if self.buffer.len() < len {
            // The file ends here, or the disk could not read on: asked again, it says so.
            let more = self.file.read_at(&mut [0], self.start + self.buffer.len() as u64)?;
            if more > 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(self.buffer.len() >= len)
    }
}

/// Reads until the buffer is full, the file ends, or the disk fails: an error only if nothing was read.
fn fill(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if filled == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(filled)
}

fn parse(content: &[u8], before: Place) -> Option<Record<'_>> {
    let mut input = Input(content);
    match input.byte()? {
        BATCH => {
            let (positions, metrics) = (input.number()?, input.number()?);
            let len = input.count()?;
            let position = before.position.checked_add(positions)?.checked_add(1)?;
            let metrics = before.metrics.checked_add(metrics)?.checked_add(len as u64)?;
            Some(Record::Batch { place: Place { position, metrics }, len, body: input.0 })
        }
        CURSORS => {
            let count = input.count()?;
            let mut cursors = Vec::new();
            for _ in 0..count {
                let output = String::from_utf8(input.bytes()?.to_vec()).ok()?;
                cursors.push(Cursor { output, position: input.number()?, offset: input.number()? });
            }
            Some(Record::Cursors(cursors))
        }
        _ => None,
    }
}

/// Reads the batches of a segment.
pub struct Batches {
    /// Where it stands.
    pub records: Records,
    decoder: Decoder,
}

/// What comes next in a segment.
#[derive(Debug)]
pub enum Next {
    /// A batch, and where it ends.
    Batch(Place, Batch),
    /// Nothing more.
    End,
    /// What follows cannot be read.
    Damaged,
}

impl Batches {
    /// Begins with the first.
    pub fn new(records: Records) -> Self {
        Self { records, decoder: Decoder::default() }
    }

    /// The next batch of those within the first `end` bytes of the file.
    pub fn next(&mut self, end: u64) -> io::Result<Next> {
        loop {
            match self.records.next(end)? {
                Record::Batch { place, len, body } => {
                    let batch = self.decoder.decode(body).filter(|batch| batch.len() == len);
                    return Ok(batch.map_or(Next::Damaged, |batch| Next::Batch(place, batch)));
                }
                Record::Cursors(_) => {}
                Record::End => return Ok(Next::End),
                Record::Damaged => return Ok(Next::Damaged),
            }
        }
    }
}
