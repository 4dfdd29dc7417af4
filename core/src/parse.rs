//! What parsers are, and what they share.

use std::fmt;

use hashbrown::HashMap;

use crate::error::BoxError;
use crate::model::{Batch, Interner, Key, Kind, SeriesRef};

/// Turns payloads into metrics.
///
/// A parser keeps the good metrics beside the bad ones: what it cannot read it reports to [`ParseOutput::problem`] and
/// goes on where the format allows that (line by line); a broken document is lost as a whole, and only that one.
pub trait Parser: Send {
    /// Appends the metrics of one payload to `out`.
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>);
}

/// Makes parsers of one configuration: inputs that read many files take a fresh one for each.
///
/// The error is one of the options' values, found when the parser is made and not when the configuration is read,
/// since some inputs (`file`) report it at each gather and go on.
pub type ParserBuilder = Box<dyn Fn() -> Result<Box<dyn Parser>, BoxError> + Send + Sync>;

/// Where a parser puts what it found.
#[derive(Debug)]
pub struct ParseOutput<'a> {
    /// The metrics, behind those that are there already.
    pub batch: &'a mut Batch,
    /// Gives handles for measurement and tags.
    pub interner: &'a mut Interner,
    /// The time of metrics that bring none, in nanoseconds since the Unix epoch.
    pub now: i64,
    problems: Vec<ParseProblem>,
    suppressed: usize,
}

/// One thing that could not be read: what, where, with which value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ParseProblem {
    /// A short fixed word for the counter: `syntax`, `number`, `time`, `type` …
    pub reason: &'static str,
    /// The whole sentence.
    pub message: String,
}

/// Problems kept of one payload; the rest is only counted.
const PROBLEMS: usize = 16;

impl<'a> ParseOutput<'a> {
    /// An output without problems yet.
    pub fn new(batch: &'a mut Batch, interner: &'a mut Interner, now: i64) -> Self {
        Self { batch, interner, now, problems: Vec::new(), suppressed: 0 }
    }

    /// Starts a metric; its fields follow with `self.batch.push_field` or `set_field`.
    #[inline]
    pub fn start(&mut self, series: SeriesRef, time: i64) {
        self.batch.start(series, time, Kind::Untyped);
    }

    /// Reports what could not be read; `reason` is a fixed word, the message says where and with which value.
    #[cold]
    pub fn problem(&mut self, reason: &'static str, message: impl fmt::Display) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(ParseProblem { reason, message: message.to_string() });
        } else {
            self.suppressed += 1;
        }
    }

    /// The problems, and how many more there were.
    pub fn into_problems(self) -> (Vec<ParseProblem>, usize) {
        (self.problems, self.suppressed)
    }

    /// How many problems were reported so far, kept or only counted.
    pub fn problem_count(&self) -> usize {
        self.problems.len() + self.suppressed
    }

    /// Whether everything so far could be read.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A parser's own memory of field keys, so that a key seen before costs a look-up and no lock.
#[derive(Debug, Default)]
pub struct KeyCache(HashMap<Box<[u8]>, Key>);

/// Keys one parser remembers; a payload that invents keys starts it anew.
const CACHED_KEYS: usize = 4096;

impl KeyCache {
    /// The key of these bytes.
    #[inline]
    pub fn get(&mut self, bytes: &[u8]) -> Key {
        if let Some(key) = self.0.get(bytes) {
            return key.clone();
        }
        if self.0.len() >= CACHED_KEYS {
            self.0.clear();
        }
        let key = Key::intern(bytes);
        self.0.insert(bytes.into(), key.clone());
        key
    }
}
