//! Which core and socket each CPU belongs to, from `/proc/cpuinfo`.

use std::collections::HashMap;

use heliograph_core::error::BoxError;
use heliograph_core::host::HostPaths;
use heliograph_core::number::parse_int10;

use crate::common::proc_file::{FileReader, lines};

/// Where a CPU sits; texts as the kernel prints them, empty if it does not say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    core_id: Vec<u8>,
    physical_id: Vec<u8>,
}

/// The places of all CPUs, and which of the two tags this machine has.
#[derive(Debug)]
pub(super) struct Topology {
    places: HashMap<Vec<u8>, Place>,
    with_core_id: bool,
    with_physical_id: bool,
}

impl Topology {
    /// Reads `cpuinfo`, and from sysfs the core of CPUs for which that names none.
    ///
    /// Fails if `cpuinfo` cannot be read, holds no CPU, or holds a broken number in one of the places that Telegraf reads.
    pub(super) fn read(host: &HostPaths, reader: &mut FileReader) -> Result<Self, BoxError> {
        let mut cpus = parse(reader.read(&host.proc("cpuinfo"))?)?;
        for (number, place) in cpus.iter_mut().filter(|(_, place)| place.core_id.is_empty()) {
            let path = host.sys(format!("devices/system/cpu/cpu{number}/topology/core_id"));
            if let Some(line) = reader.read(&path).ok().and_then(|text| lines(text).next()) {
                place.core_id = line.to_vec();
            }
        }
        let Some((_, first)) = cpus.first() else { return Err("no CPU in cpuinfo".into()) };
        let (with_core_id, with_physical_id) = (!first.core_id.is_empty(), !first.physical_id.is_empty());
        let places = cpus.into_iter().map(|(number, place)| (format!("cpu{number}").into_bytes(), place)).collect();
        Ok(Self { places, with_core_id, with_physical_id })
    }

    /// The tags of a CPU. One that is not known (the total) has them with empty values.
    pub(super) fn tags(&self, cpu: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
        let place = self.places.get(cpu);
        let core_id = place.map_or(&b""[..], |place| &place.core_id);
        let physical_id = place.map_or(&b""[..], |place| &place.physical_id);
        let core_id = self.with_core_id.then_some(("core_id", core_id));
        core_id.into_iter().chain(self.with_physical_id.then_some(("physical_id", physical_id)))
    }
}

/// The CPUs of `cpuinfo` in its order, by number.
fn parse(text: &[u8]) -> Result<Vec<(i32, Place)>, BoxError> {
    let mut cpus: Vec<(i32, Place)> = Vec::new();
    for line in lines(text) {
        let mut parts = line.split(|&byte| byte == b':');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (key, value) = (key.trim_ascii(), value.trim_ascii());
        match key {
            // Telegraf keeps the number in 32 bits.
            b"processor" | b"cpu number" => cpus.push((number(key, value)? as i32, Place::default())),
            b"stepping" | b"CPU revision" if !value.eq_ignore_ascii_case(b"unknown") => {
                number(key, value)?;
            }
            b"revision" => {
                let major = value.split(|&byte| byte == b'.').next().unwrap_or_default();
                if !major.eq_ignore_ascii_case(b"unknown") {
                    number(key, major)?;
                }
            }
            b"cache size" => {
                number(key, value.strip_suffix(b" KB").unwrap_or(value))?;
            }
            b"core id" => {
                if let Some((_, place)) = cpus.last_mut() {
                    place.core_id = value.to_vec();
                }
            }
            b"physical id" | b"hart" => {
                if let Some((_, place)) = cpus.last_mut() {
                    place.physical_id = value.to_vec();
                }
            }
            _ => {}
        }
    }
    Ok(cpus)
}

fn number(key: &[u8], value: &[u8]) -> Result<i64, BoxError> {
    let text = String::from_utf8_lossy;
    parse_int10(value).map_err(|error| format!("cannot read {:?} of {:?}: {error}", text(value), text(key)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(i32, &str, &str)]) {
        let parsed = parse(text.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let shown: Vec<_> =
            parsed.iter().map(|(n, place)| (*n, text(&place.core_id), text(&place.physical_id))).collect();
        let expected: Vec<_> = expected.iter().map(|(n, c, p)| (*n, c.to_string(), p.to_string())).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_x86_machine() {
        check(
            "processor\t: 0\nstepping\t: unknown\ncache size\t: 512 KB\nphysical id\t: 1\ncore id\t: 2\n\nprocessor : 1\ncore id: 3",
            &[(0, "2", "1"), (1, "3", "")],
        );
    }

    #[test]
    fn other_machines() {
        check("processor\t: 0\nhart\t: 5\n", &[(0, "", "5")]);
        check("cpu number : 3\nrevision : 2.1 (pvr 004e 1201)\n", &[(3, "", "")]);
        check("core id : 3\n", &[]);
    }

    #[test]
    fn a_broken_number_is_an_error() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("processor : x"), "cannot read \"x\" of \"processor\": invalid number syntax");
        assert_eq!(error("cache size : 1 MB"), "cannot read \"1 MB\" of \"cache size\": invalid number syntax");
    }
}
