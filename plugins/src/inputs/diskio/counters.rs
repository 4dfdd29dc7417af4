//! The text of `/proc/diskstats`, and what two readings of it say together.

use heliograph_core::number::{NumberError, parse_uint10};

use crate::common::named_rows::NamedRows;
use crate::common::proc_file::{lines, words};

/// Bytes in a sector as the kernel counts them, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// The fields in the order of their columns, from column 3 on.
const FIELDS: [&str; 11] = [
    "reads",
    "merged_reads",
    "read_bytes",
    "read_time",
    "writes",
    "merged_writes",
    "write_bytes",
    "write_time",
    "iops_in_progress",
    "io_time",
    "weighted_io_time",
];

const READS: usize = 0;
const READ_BYTES: usize = 2;
const READ_TIME: usize = 3;
const WRITES: usize = 4;
const WRITE_BYTES: usize = 6;
const WRITE_TIME: usize = 7;
const IO_TIME: usize = 9;

/// Counters of a device since it appeared; times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters([u64; FIELDS.len()]);

/// A counter that is no number.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {value:?} of device {device:?}")]
pub(super) struct BadCounter {
    device: String,
    value: String,
    source: NumberError,
}

/// Replaces a reading by that of `text`; with `wanted`, only these devices are read.
///
/// Devices that never did anything are left out. Fails on a broken number.
pub(super) fn parse(
    text: &[u8],
    wanted: Option<&[Vec<u8>]>,
    reading: &mut NamedRows<Counters>,
) -> Result<(), BadCounter> {
    reading.clear();
    for line in lines(text) {
        let mut words = words(line).skip(2);
        let Some(device) = words.next() else { continue };
        let mut columns = [&b""[..]; FIELDS.len()];
        let count = columns.iter_mut().zip(words).map(|(column, word)| *column = word).count();
        if count < FIELDS.len() || wanted.is_some_and(|wanted| !wanted.iter().any(|name| name == device)) {
            continue;
        }
        let mut counters = Counters::default();
        for (counter, column) in counters.0.iter_mut().zip(columns) {
            *counter = parse_uint10(column).map_err(|source| bad_counter(device, column, source))?;
        }
        for sectors in [READ_BYTES, WRITE_BYTES] {
            counters.0[sectors] = counters.0[sectors].wrapping_mul(SECTOR);
        }
        if counters != Counters::default() {
            reading.push(device, counters);
        }
    }
    Ok(())
}

#[cold]
fn bad_counter(device: &[u8], value: &[u8], source: NumberError) -> BadCounter {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    BadCounter { device: text(device), value: text(value), source }
}

impl Counters {
    /// Field and value of each counter.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIELDS.into_iter().zip(self.0)
    }

    /// What the time since `previous` says: milliseconds a request waited and was served, and the percentage of the time
    /// in which the device was busy. Nothing if the counters started anew in between, as with another disk of that name.
    pub(super) fn since(&self, previous: &Self, elapsed_ms: i64) -> impl Iterator<Item = (&'static str, f64)> {
        let has_wrapped =
            [READS, WRITES, READ_TIME, WRITE_TIME, IO_TIME].iter().any(|&counter| self.0[counter] < previous.0[counter]);
        let delta = |counter: usize| self.0[counter].wrapping_sub(previous.0[counter]);
        let requests = delta(READS).wrapping_add(delta(WRITES)) as f64;
        let waited = delta(READ_TIME).wrapping_add(delta(WRITE_TIME)) as f64;
        let busy = delta(IO_TIME) as f64;
        let per_request = (!has_wrapped && requests > 0.0)
            .then(|| [("io_await", waited / requests), ("io_svctm", busy / requests)]);
        let util = (!has_wrapped && elapsed_ms > 0).then(|| ("io_util", 100.0 * busy / elapsed_ms as f64));
        per_request.into_iter().flatten().chain(util)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str, wanted: Option<&[Vec<u8>]>) -> Result<Vec<String>, String> {
        let mut reading = NamedRows::default();
        parse(text.as_bytes(), wanted, &mut reading).map_err(|error| error.to_string())?;
        Ok(reading.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect())
    }

    #[test]
    fn idle_and_short_lines() {
        assert_eq!(names("7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n1 0 ram0 1 2 3\n8 0 sda 0 0 0 0 0 0 0 0 1 0 0 9 x\n", None), Ok(vec!["sda".into()]));
    }

    #[test]
    fn a_broken_number_of_a_device_that_nobody_wants_is_no_error() {
        let text = "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n8 16 sdb 1 2 x 4 5 6 7 8 9 10 11\n";
        assert_eq!(names(text, None), Err("cannot read \"x\" of device \"sdb\"".into()));
        assert_eq!(names(text, Some(&[b"sda".to_vec()])), Ok(vec!["sda".into()]));
    }

    #[test]
    fn a_clock_that_stands_still_gives_no_utilisation() {
        let counters = Counters([5; 11]);
        let fields: Vec<_> = counters.since(&Counters([1; 11]), 0).collect();
        assert_eq!(fields, [("io_await", 1.0), ("io_svctm", 0.5)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..120), text in "(8 0 sd[ab]( [0-9]{1,21}){9,13}\n){0,4}") {
            let mut reading = NamedRows::default();
            let _ = parse(&bytes, None, &mut reading);
            if parse(text.as_bytes(), None, &mut reading).is_ok() {
                let counters: Vec<_> = reading.iter().map(|(_, counters)| *counters).collect();
                counters.windows(2).for_each(|two| assert!(two[0].since(&two[1], i64::MIN).count() < 3));
            }
        }
    }
}
