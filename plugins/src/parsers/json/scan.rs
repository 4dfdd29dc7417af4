//! One pass over a JSON document, by the letter of RFC 8259, straight into flattened values: no tree is built.

use std::fmt;

use heliograph_core::number::{NumberError, parse_float};

use super::config::Selection;
use super::shape::{Place, ROOT, Shape};
use super::text::{decode, is_literal, string_end};

/// Containers inside each other; the limit of Go's decoder.
const MAX_DEPTH: usize = 10_000;

/// A value of the object being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its node in the [`Shape`].
    pub(super) node: u32,
    pub(super) value: Scalar,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    Number(f64),
    Bool(bool),
    /// The content of a string, still escaped: its place in the document.
    Text(usize, usize),
    /// Replaced by a later member of the same key.
    Gone,
}

/// Why a document is none, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    UnexpectedEnd,
    Unexpected { found: u8, wanted: &'static str },
    ControlByte,
    Escape,
    Number,
    NumberRange,
    TooDeep,
    TooManyNames(usize),
    NamesTooLong(usize),
    NoObject,
}

impl FaultKind {
    /// The fixed word under which it is counted.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NumberRange => "number",
            Self::NoObject => "type",
            Self::TooDeep | Self::TooManyNames(_) | Self::NamesTooLong(_) => "limit",
            _ => "syntax",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("unexpected end"),
            Self::Unexpected { found, wanted } => {
                write!(f, "unexpected '{}', expected {wanted}", found.escape_ascii())
            }
            Self::ControlByte => f.write_str("control byte in a string"),
            Self::Escape => f.write_str("unknown escape in a string"),
            Self::Number => f.write_str("invalid number"),
            Self::NumberRange => f.write_str("number out of range of a 64-bit float"),
            Self::TooDeep => write!(f, "more than {MAX_DEPTH} containers inside each other"),
            Self::TooManyNames(limit) => write!(f, "more than {limit} names in one document"),
            Self::NamesTooLong(limit) => write!(f, "flattened names of more than {limit} bytes in one document"),
            Self::NoObject => f.write_str("must be an object or an array of objects"),
        }
    }
}

/// A position in a document.
pub(super) struct Scanner<'p> {
    text: &'p [u8],
    at: usize,
}

/// The memory of scanning, used again for each document.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) shape: Shape,
    /// The values of the object that was read last.
    pub(super) entries: Vec<Entry>,
    stack: Vec<Frame>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    place: Place,
    /// Elements so far, in an array; an object has none.
    elements: Option<u32>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { shape: Shape::new(), entries: Vec::new(), stack: Vec::new(), key: Vec::new() }
    }
}

/// The document at the top level.
pub(super) enum Document {
    Object,
    Array,
    Null,
}

impl<'p> Scanner<'p> {
    pub(super) fn new(text: &'p [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Reads the first byte of the document, which tells what it is.
    #[inline]
    pub(super) fn open(&mut self) -> Result<Document, Fault> {
        match self.peek()? {
            b'{' => {
                self.at += 1;
                Ok(Document::Object)
            }
            b'[' => {
                self.at += 1;
                Ok(Document::Array)
            }
            b'n' => self.word(b"null").map(|()| Document::Null),
            b'"' | b'-' | b'0'..=b'9' | b't' | b'f' => Err(FaultKind::NoObject.at(self.at)),
            _ => Err(self.unexpected("an object or an array")),
        }
    }

    /// Whether another object follows in the array that was opened; it is opened then.
    pub(super) fn next_object(&mut self, first: bool) -> Result<bool, Fault> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' if !first => self.at += 1,
            _ if first => {}
            _ => return Err(self.unexpected("',' or ']'")),
        }
        match self.peek()? {
            b'{' => {
                self.at += 1;
                Ok(true)
            }
            b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'[' => Err(FaultKind::NoObject.at(self.at)),
            _ => Err(self.unexpected("an object")),
        }
    }

    /// Nothing but blanks may follow.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("the end of the document")) }
    }

    /// Reads an object that was opened, and leaves its values in the scratch memory.
    pub(super) fn object(&mut self, scratch: &mut Scratch, selection: &Selection) -> Result<(), Fault> {
        let Scratch { shape, entries, stack, key } = scratch;
        entries.clear();
        stack.clear();
        let mut frame = Frame { place: shape.enter(ROOT), elements: None };
        let mut first = true;
        loop {
            let close = if frame.elements.is_some() { b']' } else { b'}' };
            let mut byte = self.peek()?;
            if !(first && byte == close) {
                let child = match &mut frame.elements {
                    Some(elements) => {
                        let child = shape.element(&frame.place, *elements).map_err(|kind| kind.at(self.at))?;
                        *elements += 1;
                        child
                    }
                    None => {
                        let child = self.key(byte, shape, &frame.place, key)?;
                        if self.peek()? != b':' {
                            return Err(self.unexpected("':'"));
                        }
                        self.at += 1;
                        byte = self.peek()?;
                        child
                    }
                };
                if shape.step(&mut frame.place, child) {
                    let (from, to) = shape.node_mut(child).values;
                    entries[from as usize..to as usize].iter_mut().for_each(|entry| entry.value = Scalar::Gone);
                }
                let from = entries.len() as u32;
                if byte == b'{' || byte == b'[' {
                    if stack.len() + 1 >= MAX_DEPTH {
                        return Err(FaultKind::TooDeep.at(self.at));
                    }
                    self.at += 1;
                    shape.node_mut(child).values.0 = from;
                    let inner = Frame { place: shape.enter(child), elements: (byte == b'[').then_some(0) };
                    stack.push(std::mem::replace(&mut frame, inner));
                    first = true;
                    continue;
                }
                if let Some(value) = self.scalar(byte)? {
                    let role = shape.role(child, selection).map_err(|kind| kind.at(self.at))?;
                    if matches!(value, Scalar::Number(_)) || role.wants_text() {
                        entries.push(Entry { node: child, value });
                    }
                }
                shape.node_mut(child).values = (from, entries.len() as u32);
                first = false;
            }
            // What was opened is closed, as often as it is, until another value follows.
            loop {
                let close = if frame.elements.is_some() { b']' } else { b'}' };
                let byte = self.peek()?;
                if byte == b',' && !first {
                    self.at += 1;
                    break;
                }
                if byte != close {
                    return Err(self.unexpected(if frame.elements.is_some() { "',' or ']'" } else { "',' or '}'" }));
                }
                self.at += 1;
                first = false;
                let Some(outer) = stack.pop() else { return Ok(()) };
                shape.node_mut(frame.place.node).values.1 = entries.len() as u32;
                frame = outer;
            }
        }
    }

    /// The member whose key begins here.
    #[inline]
    fn key(&mut self, byte: u8, shape: &mut Shape, place: &Place, decoded: &mut Vec<u8>) -> Result<u32, Fault> {
        if byte != b'"' {
            return Err(self.unexpected("a key in quotes"));
        }
        let start = self.at + 1;
        if let Some((child, length)) = shape.expected_member(place, &self.text[start..]) {
            self.at = start + length + 1;
            return Ok(child);
        }
        let end = string_end(self.text, start)?;
        let raw = &self.text[start..end];
        self.at = end + 1;
        let key = if is_literal(raw) {
            raw
        } else {
            decoded.clear();
            decode(raw, decoded);
            decoded
        };
        shape.member(place, key).map_err(|kind| kind.at(start))
    }

    /// A value that is no container; `None` is null.
    #[inline]
    fn scalar(&mut self, byte: u8) -> Result<Option<Scalar>, Fault> {
        match byte {
            b'-' | b'0'..=b'9' => self.number().map(|number| Some(Scalar::Number(number))),
            b'"' => {
                let start = self.at + 1;
                let end = string_end(self.text, start)?;
                self.at = end + 1;
                Ok(Some(Scalar::Text(start, end)))
            }
            b't' => self.word(b"true").map(|()| Some(Scalar::Bool(true))),
            b'f' => self.word(b"false").map(|()| Some(Scalar::Bool(false))),
            b'n' => self.word(b"null").map(|()| None),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        for &wanted in word {
            match self.text.get(self.at) {
                Some(&byte) if byte == wanted => self.at += 1,
                Some(_) => return Err(self.unexpected("`true`, `false` or `null`")),
                None => return Err(FaultKind::UnexpectedEnd.at(self.at)),
            }
        }
        Ok(())
    }

    /// A number: an exact quotient if it is short, else rounded by the slow way.
    #[inline]
    fn number(&mut self) -> Result<f64, Fault> {
        const EXACT: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
        let start = self.at;
        let negative = self.text[start] == b'-';
        self.at += usize::from(negative);
        // Digits beyond the nineteenth make it wrap, but then it is not used.
        let mut mantissa = 0u64;
        let whole = self.digits(&mut mantissa);
        if whole == 0 || (whole > 1 && self.text[start + usize::from(negative)] == b'0') {
            return Err(FaultKind::Number.at(self.at));
        }
        let mut fraction = 0;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(FaultKind::Number.at(self.at));
            }
        }
        let exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if !exponent && whole + fraction <= 15 {
            // Both are below 2^53, so both are exact and one division rounds right.
            let value = mantissa as f64 / EXACT[fraction];
            return Ok(if negative { -value } else { value });
        }
        if exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            if self.digits(&mut 0) == 0 {
                return Err(FaultKind::Number.at(self.at));
            }
        }
        match parse_float(&self.text[start..self.at]) {
            Ok(value) => Ok(value),
            Err(NumberError::Range) => Err(FaultKind::NumberRange.at(start)),
            Err(NumberError::Syntax) => Err(FaultKind::Number.at(start)),
        }
    }

    #[inline]
    fn digits(&mut self, value: &mut u64) -> usize {
        let start = self.at;
        while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9) {
            *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        self.at - start
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is no blank, not yet consumed.
    #[inline]
    fn peek(&mut self) -> Result<u8, Fault> {
        match self.text.get(self.at) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => {
                self.blanks();
                self.text.get(self.at).copied().ok_or(FaultKind::UnexpectedEnd.at(self.at))
            }
        }
    }

    #[cold]
    fn unexpected(&self, wanted: &'static str) -> Fault {
        match self.text.get(self.at) {
            Some(&found) => FaultKind::Unexpected { found, wanted }.at(self.at),
            None => FaultKind::UnexpectedEnd.at(self.at),
        }
    }
}
