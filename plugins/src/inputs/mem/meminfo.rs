//! The text of `/proc/meminfo`, and the older estimate of available memory.

use bstr::ByteSlice;
use heliograph_core::number::{NumberError, parse_uint10};

use crate::common::proc_file::{lines, split_once, words};

/// When a figure is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Report {
    /// Under a name and in a sum of its own.
    Apart,
    /// In every metric.
    Always,
    /// With `collect_extended`.
    Extended,
    /// Never, but a broken value is noticed.
    Never,
}

use Report::{Always, Apart, Extended, Never};

/// Key in the file, field, and when it is reported.
type Row = (&'static [u8], &'static str, Report);

/// Every key that is looked at; the first ones are referred to by index.
const ROWS: [Row; 41] = [
    (b"MemTotal", "total", Apart),
    (b"MemAvailable", "available", Apart),
    (b"MemFree", "free", Always),
    (b"Cached", "cached", Always),
    (b"SReclaimable", "sreclaimable", Always),
    (b"Active(file)", "active_file", Extended),
    (b"Inactive(file)", "inactive_file", Extended),
    (b"Buffers", "buffered", Always),
    (b"Active", "active", Always),
    (b"Inactive", "inactive", Always),
    (b"CommitLimit", "commit_limit", Always),
    (b"Committed_AS", "committed_as", Always),
    (b"Dirty", "dirty", Always),
    (b"HighFree", "high_free", Always),
    (b"HighTotal", "high_total", Always),
    (b"HugePages_Free", "huge_pages_free", Always),
    (b"HugePages_Total", "huge_pages_total", Always),
    (b"Hugepagesize", "huge_page_size", Always),
    (b"LowFree", "low_free", Always),
    (b"LowTotal", "low_total", Always),
    (b"Mapped", "mapped", Always),
    (b"PageTables", "page_tables", Always),
    (b"Shmem", "shared", Always),
    (b"Slab", "slab", Always),
    (b"SUnreclaim", "sunreclaim", Always),
    (b"SwapCached", "swap_cached", Always),
    (b"SwapFree", "swap_free", Always),
    (b"SwapTotal", "swap_total", Always),
    (b"VmallocChunk", "vmalloc_chunk", Always),
    (b"VmallocTotal", "vmalloc_total", Always),
    (b"VmallocUsed", "vmalloc_used", Always),
    (b"Writeback", "write_back", Always),
    (b"WritebackTmp", "write_back_tmp", Always),
    (b"Active(anon)", "active_anon", Extended),
    (b"Inactive(anon)", "inactive_anon", Extended),
    (b"Unevictable", "unevictable", Extended),
    (b"Percpu", "percpu", Extended),
    (b"KernelStack", "", Never),
    (b"HugePages_Rsvd", "", Never),
    (b"HugePages_Surp", "", Never),
    (b"AnonHugePages", "", Never),
];

const TOTAL: usize = 0;
const AVAILABLE: usize = 1;
const FREE: usize = 2;
const CACHED: usize = 3;
const SRECLAIMABLE: usize = 4;
const ACTIVE_FILE: usize = 5;
const INACTIVE_FILE: usize = 6;

/// A figure of the file that is no number.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {value:?} of {key:?}")]
pub(super) struct BadFigure {
    key: &'static str,
    value: String,
    source: NumberError,
}

/// The figures of one reading: bytes, of huge pages the number.
#[derive(Debug)]
pub(super) struct Meminfo {
    figures: [u64; ROWS.len()],
    /// Which keys the file holds, as bits.
    seen: u64,
}

impl Meminfo {
    /// Reads the file; keys that nobody knows may hold anything. Fails on a known one that is no number.
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadFigure> {
        let mut meminfo = Self { figures: [0; ROWS.len()], seen: 0 };
        for line in lines(text) {
            let Some((key, value)) = split_once(line, b':') else { continue };
            let (key, value) = (key.trim_ascii(), value.trim_ascii());
            let Some(row) = ROWS.iter().position(|row| row.0 == key) else { continue };
            if value.contains(&b':') {
                continue;
            }
            let figure = parse_figure(value).map_err(|source| bad_figure(row, value, source))?;
            let unit = if key.starts_with(b"HugePages_") { 1 } else { 1024 };
            meminfo.figures[row] = figure.wrapping_mul(unit);
            meminfo.seen |= 1 << row;
        }
        // Slab memory that can be given back is a cache like any other.
        meminfo.figures[CACHED] = meminfo.figures[CACHED].wrapping_add(meminfo.figures[SRECLAIMABLE]);
        if !meminfo.has(AVAILABLE) {
            meminfo.figures[AVAILABLE] = meminfo.figures[CACHED].wrapping_add(meminfo.figures[FREE]);
        }
        Ok(meminfo)
    }

    fn has(&self, row: usize) -> bool {
        self.seen & 1 << row != 0
    }

    /// All memory.
    pub(super) fn total(&self) -> u64 {
        self.figures[TOTAL]
    }

    /// What could be given out without swapping; an estimate, by the kernel or as it would have made it.
    pub(super) fn available(&self) -> u64 {
        self.figures[AVAILABLE]
    }

    /// Whether the kernel is too old to say what is available but says enough to compute it.
    pub(super) fn needs_zoneinfo(&self) -> bool {
        !self.has(AVAILABLE) && [ACTIVE_FILE, INACTIVE_FILE, SRECLAIMABLE].into_iter().all(|row| self.has(row))
    }

    /// Computes the available memory as Linux 3.14 does; without `zoneinfo` that of the cache stays.
    pub(super) fn estimate_available(&mut self, zoneinfo: Option<&[u8]>, page_size: u64) {
        let Some(zoneinfo) = zoneinfo else { return };
        let [free, reclaimable] = [FREE, SRECLAIMABLE].map(|row| self.figures[row]);
        let low = low_watermarks(zoneinfo).wrapping_mul(page_size);
        let page_cache = self.figures[ACTIVE_FILE].wrapping_add(self.figures[INACTIVE_FILE]);
        let usable = |cache: u64| cache.wrapping_sub((cache / 2).min(low));
        self.figures[AVAILABLE] =
            free.wrapping_sub(low).wrapping_add(usable(page_cache)).wrapping_add(usable(reclaimable));
    }

    /// Field and value of every figure that is reported so.
    pub(super) fn fields(&self, report: Report) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = ROWS.iter().zip(self.figures);
        rows.filter(move |(row, _)| row.2 == report).map(|(row, figure)| (row.1, figure))
    }
}

/// A number with or without its unit. Telegraf takes ` kB` out wherever it stands, and as often.
fn parse_figure(value: &[u8]) -> Result<u64, NumberError> {
    let number = value.strip_suffix(b" kB").unwrap_or(value);
    parse_uint10(number).or_else(|_| parse_uint10(&value.replace(" kB", "")))
}

#[cold]
fn bad_figure(row: usize, value: &[u8], source: NumberError) -> BadFigure {
    let key = std::str::from_utf8(ROWS[row].0).unwrap_or_default();
    BadFigure { key, value: String::from_utf8_lossy(value).into_owned(), source }
}

/// The sum of the low watermarks of all zones, in pages.
fn low_watermarks(zoneinfo: &[u8]) -> u64 {
    let watermark = |line| {
        let mut words = words(line);
        let is_low = words.next().is_some_and(|word| word.starts_with(b"low"));
        let pages = words.next().and_then(|pages| parse_uint10(pages).ok());
        if is_low { pages.unwrap_or(0) } else { 0 }
    };
    lines(zoneinfo).map(watermark).fold(0, u64::wrapping_add)
}
