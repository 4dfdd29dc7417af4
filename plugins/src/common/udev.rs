//! What udev noted about block devices.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use heliograph_core::host::HostPaths;
use rustix::fs::{major, minor};

use super::proc_file::{FileReader, lines};

/// Numbers of a block device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device among those of the driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// The numbers of a device node; of what is no device node, `0:0`. Fails as `stat(2)`.
    pub fn of(node: &Path) -> io::Result<Self> {
        let device = rustix::fs::stat(node)?.st_rdev;
        Ok(Self { major: major(device), minor: minor(device) })
    }

    /// udev's file about the device, below the folder `run`.
    pub fn data_file(self, run: &Path) -> PathBuf {
        run.join(format!("udev/data/b{}:{}", self.major, self.minor))
    }
}

/// The value of the line `KEY=value` in udev's file about the device, with `E:` in the key; `None` if the device or the
/// file is missing or the value empty. Lines with a second `=` do not count.
pub fn property(host: &HostPaths, reader: &mut FileReader, name: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let number = DeviceNumber::of(&host.dev(path_of(name))).ok()?;
    let text = reader.read(&number.data_file(&host.run(""))).ok()?;
    let value = lines(text).find_map(|line| line.strip_prefix(key)?.strip_prefix(b"=").filter(|v| !v.contains(&b'=')));
    value.filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
}

/// A name of a file as a path.
pub fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
