//! Pressure stall information: how long tasks waited for a resource, from `/proc/pressure`.

use std::path::Path;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::model::Kind;
use heliograph_core::number::{parse_float, parse_uint10};

use crate::common::proc_file::{FileReader, lines, split_once, words};

/// The resources in the order in which they are reported, and whether "all tasks waited" means something: with nobody
/// left to run, the CPU itself is waited for by no one.
const RESOURCES: [(&str, bool); 3] = [("cpu", false), ("memory", true), ("io", true)];

/// One line: `some` or `full` tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stall {
    /// Percentage of time of the last 10, 60 and 300 seconds.
    average: [f64; 3],
    /// Microseconds since the start of the machine.
    total: u64,
}

/// Adds two metrics a line. Fails at the first file that is missing or broken; what came before it stays.
pub(super) fn add(accumulator: &mut Accumulator, reader: &mut FileReader, folder: &Path) -> Result<(), BoxError> {
    for (resource, has_full) in RESOURCES {
        let [some, full] = parse(reader.read(&folder.join(resource))?)?;
        // Both metrics of a resource tell of one moment.
        let time = accumulator.now();
        for (kind, stall) in [("some", some), ("full", full.filter(|_| has_full))] {
            let Some(stall) = stall else { continue };
            let counter = accumulator.metric("pressure", Kind::Counter).tag("resource", resource).tag("type", kind);
            counter.field("total", stall.total).time(time).push();
            let gauge = accumulator.metric("pressure", Kind::Gauge).tag("resource", resource).tag("type", kind);
            gauge.fields(["avg10", "avg60", "avg300"].into_iter().zip(stall.average)).time(time).push();
        }
    }
    Ok(())
}

/// The lines `some` and `full`, where there are such. Fails on a broken one.
pub(super) fn parse(text: &[u8]) -> Result<[Option<Stall>; 2], BoxError> {
    let mut stalls = [None; 2];
    for line in lines(text) {
        let mut words = words(line);
        let place = match words.next() {
            Some(b"some") => 0,
            Some(b"full") => 1,
            _ => continue,
        };
        let stall = parse_stall(words);
        stalls[place] = Some(stall.ok_or_else(|| format!("cannot read pressure {:?}", String::from_utf8_lossy(line)))?);
    }
    Ok(stalls)
}

fn parse_stall<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Stall> {
    let mut value = |key: &[u8]| split_once(words.next()?, b'=').filter(|(k, _)| *k == key).map(|(_, value)| value);
    let mut average = [0.0; 3];
    for (average, key) in average.iter_mut().zip([b"avg10".as_slice(), b"avg60", b"avg300"]) {
        *average = parse_float(value(key)?).ok()?;
    }
    Some(Stall { average, total: parse_uint10(value(b"total")?).ok()? })
}
