//! What is known of a device besides its counters: udev properties, world wide identifier, serial number.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heliograph_core::host::HostPaths;

use crate::common::proc_file::{FileReader, lines, split_once};
use crate::common::udev::{self, DeviceNumber, path_of};

/// Devices whose properties are kept; more than a machine has, and a bound for one whose devices come and go.
const CACHED: usize = 4096;

/// Where devices, udev's notes and sysfs are.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) dev: PathBuf,
    run: PathBuf,
    sys: PathBuf,
}

impl Roots {
    /// `HOST_MOUNT_PREFIX` moves all three, `HOST_ROOT` does so again, and each has a variable of its own.
    pub(super) fn new(host: &HostPaths) -> Self {
        let base = host.variable("HOST_ROOT").or(host.variable("HOST_MOUNT_PREFIX")).unwrap_or("/");
        let root = |variable, name| host.variable(variable).map_or_else(|| Path::new(base).join(name), PathBuf::from);
        Self { dev: root("HOST_DEV", "dev"), run: root("HOST_RUN", "run"), sys: root("HOST_SYS", "sys") }
    }
}

/// Properties of a device, as udev and the kernel name them.
#[derive(Debug, Default)]
pub(super) struct Properties(HashMap<Vec<u8>, Vec<u8>>);

impl Properties {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// The symbolic links to the device, without `/dev/`.
    pub(super) fn links(&self) -> impl Iterator<Item = &[u8]> {
        let links = self.get(b"DEVLINKS").unwrap_or_default();
        links.split(|&byte| byte == b' ').map(|link| link.strip_prefix(b"/dev/").unwrap_or(link))
    }

    /// Reads udev's file: `E:` lines are properties, `S:` lines links.
    fn read_udev(&mut self, text: &[u8]) {
        let mut links = Vec::new();
        for line in lines(text).filter(|line| line.len() >= 4) {
            if let Some(link) = line.strip_prefix(b"S:") {
                if !links.is_empty() {
                    links.push(b' ');
                }
                links.extend_from_slice(b"/dev/");
                links.extend_from_slice(link);
            } else if let Some((key, value)) = line.strip_prefix(b"E:").and_then(|line| split_once(line, b'=')) {
                self.0.insert(key.to_vec(), value.to_vec());
            }
        }
        if !links.is_empty() {
            self.0.insert(b"DEVLINKS".to_vec(), links);
        }
    }

    /// Reads the kernel's `uevent`: name and type of the device.
    fn read_uevent(&mut self, text: &[u8]) {
        for line in lines(text).filter(|line| line.starts_with(b"DEV")) {
            let Some((key, value)) = split_once(line, b'=') else { continue };
            let (key, mut value) = (key.trim_ascii(), value.trim_ascii().to_vec());
            if key == b"DEVNAME" && !value.starts_with(b"/dev") {
                value.splice(..0, *b"/dev/");
            }
            self.0.insert(key.to_vec(), value);
        }
    }
}

/// The properties of devices, read again when the device node changes.
#[derive(Debug)]
pub(super) struct PropertyCache {
    plugin: Arc<str>,
    roots: Roots,
    reader: FileReader,
    /// The time of the node's last change, and the properties read then.
    known: HashMap<Vec<u8>, ((i64, u64), Properties)>,
    /// Devices that were reported as having none.
    warned: HashSet<Vec<u8>>,
}

impl PropertyCache {
    pub(super) fn new(plugin: Arc<str>, roots: Roots) -> Self {
        Self { plugin, roots, reader: FileReader::new(), known: HashMap::new(), warned: HashSet::new() }
    }

    /// The properties of a device; `None` if there is no node or udev knows nothing of it, which is said once.
    pub(super) fn of(&mut self, device: &[u8]) -> Option<&Properties> {
        match self.refresh(device) {
            Ok(()) => self.known.get(device).map(|(_, properties)| properties),
            Err(error) => {
                if self.warned.len() < CACHED && self.warned.insert(device.to_vec()) {
                    let (plugin, device) = (&*self.plugin, String::from_utf8_lossy(device));
                    tracing::warn!(plugin, %device, %error, "cannot read the properties of a device, its kernel name is used");
                }
                None
            }
        }
    }

    fn refresh(&mut self, device: &[u8]) -> io::Result<()> {
        let node = self.roots.dev.join(path_of(device));
        let stat = rustix::fs::stat(&node)?;
        let changed = (stat.st_mtime, stat.st_mtime_nsec);
        if self.known.get(device).is_some_and(|(known, _)| *known == changed) {
            return Ok(());
        }
        let properties = self.read(device, &node)?;
        if self.known.len() >= CACHED {
            self.known.clear();
        }
        self.known.insert(device.to_vec(), (changed, properties));
        Ok(())
    }

    fn read(&mut self, device: &[u8], node: &Path) -> io::Result<Properties> {
        let mut properties = Properties::default();
        let data = DeviceNumber::of(node)?.data_file(&self.roots.run);
        // Before udev 174 the notes were below /dev.
        let older = self.roots.dev.join(".udev/db").join(path_of(&[b"block:", device].concat()));
        let text = match self.reader.read(&data) {
            Ok(text) => text,
            Err(first) => self.reader.read(&older).map_err(|_| first.source)?,
        };
        properties.read_udev(text);
        let class = self.roots.sys.join("class/block").join(path_of(device));
        match self.reader.read(&class.join("uevent")) {
            Ok(text) => properties.read_uevent(text),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.source),
        }
        if let Ok(path) = std::fs::canonicalize(class.join("device")) {
            let path = path.join(path_of(device)).into_os_string().into_encoded_bytes();
            let path = path.strip_prefix(self.roots.sys.as_os_str().as_encoded_bytes()).unwrap_or(&path);
            properties.0.insert(b"DEVPATH".to_vec(), path.to_vec());
        }
        Ok(properties)
    }
}

/// The world wide identifier; partitions and older devices have none.
pub(super) fn wwid<'a>(roots: &Roots, reader: &'a mut FileReader, device: &[u8]) -> Option<&'a [u8]> {
    let text = reader.read(&roots.sys.join("block").join(path_of(device)).join("wwid")).ok()?;
    Some(text.strip_suffix(b"\n").unwrap_or(text)).filter(|wwid| !wwid.is_empty())
}

/// The serial number: udev's, else model and number as the disk gives them, else `unknown`.
pub(super) fn serial(host: &HostPaths, reader: &mut FileReader, device: &[u8]) -> Vec<u8> {
    let device = &multipath_name(device);
    let serial = udev::property(host, reader, device, b"E:ID_SERIAL").or_else(|| {
        // The serial number belongs to the disk, which has the minor number 0, not to its partitions.
        let disk = host.sys(format!("dev/block/{}:0/device", DeviceNumber::of(&host.dev(path_of(device))).ok()?.major));
        let mut serial = reader.read(&disk.join("model")).ok()?.to_vec();
        serial.push(b'_');
        serial.extend_from_slice(reader.read(&disk.join("serial")).ok()?);
        Some(serial)
    });
    let mut serial = serial.unwrap_or_default();
    serial.retain(|byte| !b"\r\n".contains(byte));
    let serial = serial.trim_ascii();
    if serial.is_empty() { b"unknown".to_vec() } else { serial.to_vec() }
}

/// `nvmeXnZ` for one path `nvmeXcYnZ` of several to the same disk; other names as they are.
fn multipath_name(device: &[u8]) -> Vec<u8> {
    let number = |text: &mut &[u8]| {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *text = &text[digits..];
        digits > 0
    };
    let path = |mut rest: &[u8]| -> Option<(usize, usize)> {
        let letter = |rest: &mut &[u8], letter: &[u8]| rest.strip_prefix(letter).map(|after| *rest = after);
        letter(&mut rest, b"nvme")?;
        number(&mut rest).then_some(())?;
        let start = rest.len();
        letter(&mut rest, b"c")?;
        number(&mut rest).then_some(())?;
        let end = rest.len();
        letter(&mut rest, b"n")?;
        number(&mut rest).then_some((device.len() - start, device.len() - end))
    };
    match path(device) {
        Some((start, end)) => [&device[..start], &device[end..]].concat(),
        None => device.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_of_one_disk() {
        let name = |device: &str| String::from_utf8(multipath_name(device.as_bytes())).unwrap();
        assert_eq!([name("nvme0c1n2"), name("nvme0c1n2p3")], ["nvme0n2", "nvme0n2p3"]);
        assert_eq!([name("nvme0n1"), name("nvmecn1"), name("sda")], ["nvme0n1", "nvmecn1", "sda"]);
    }

    #[test]
    fn properties_of_udev_and_kernel() {
        let mut properties = Properties::default();
        properties.read_udev(b"S:a b\nS:disk/by-id/x\nE:\nE:K=v=w\nE:NO_VALUE\nI:12345\n");
        properties.read_uevent(b"DEVNAME=/dev/dm-0\nDEVTYPE = disk\nMAJOR=1\nDEVICE\n");
        let get = |key: &str| properties.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(get("DEVLINKS").as_deref(), Some("/dev/a b /dev/disk/by-id/x"));
        assert_eq!([get("K"), get("NO_VALUE"), get("MAJOR")], [Some("v=w".into()), None, None]);
        assert_eq!([get("DEVNAME"), get("DEVTYPE")], [Some("/dev/dm-0".into()), Some("disk".into())]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80), name in "(nvme)?[0-9cn]{0,6}") {
            let mut properties = Properties::default();
            properties.read_udev(&bytes);
            properties.read_uevent(&bytes);
            prop_assert!(multipath_name(name.as_bytes()).len() <= name.len());
        }
    }
}
