//! Names and labels of the devices that file systems are on.

use std::borrow::Cow;

use bstr::ByteSlice;
use heliograph_core::host::HostPaths;

use super::mountinfo::Mount;
use crate::common::proc_file::FileReader;
use crate::common::udev::{self, path_of};

/// The device of a mount, as far as the table's name for it can be resolved; of a file system without a device its type.
pub(super) fn resolve<'a>(mount: &Mount<'a>, host: &HostPaths) -> Cow<'a, [u8]> {
    let device = mount.device;
    if device.starts_with(b"/dev/mapper/") {
        // A link of the device mapper, whose names are those of volumes.
        let resolved = std::fs::canonicalize(host.dev(path_of(&device[b"/dev/".len()..])));
        return resolved.map_or(device.into(), |path| path.into_os_string().into_encoded_bytes().into());
    }
    if device == b"/dev/root" {
        // What the kernel was told to boot from; sysfs knows the device by its numbers.
        let link = std::fs::read_link(host.sys("dev/block").join(path_of(mount.number)));
        let name = link.ok().and_then(|link| Some(link.file_name()?.as_encoded_bytes().to_vec()));
        return name.map_or(device.into(), |name| [b"/dev/", name.as_slice()].concat().into());
    }
    if device.is_empty() || device == b"none" { mount.fstype.into() } else { device.into() }
}

/// The tag `device`. Telegraf takes `/dev/` out wherever it stands: `/hostfs/dev/dm-0` becomes `/hostfsdm-0`.
pub(super) fn tag(device: &[u8]) -> Cow<'_, [u8]> {
    if device.find(b"/dev/").is_some() { device.replace("/dev/", "").into() } else { device.into() }
}

/// The label of a device: its name in the device mapper, or that of its file system as udev noted it.
pub(super) fn label(device: &[u8], host: &HostPaths, reader: &mut FileReader) -> Option<Vec<u8>> {
    let name = device.strip_prefix(b"/dev/").unwrap_or(device);
    let mapped = host.sys("block").join(path_of(name.strip_prefix(b"/").unwrap_or(name))).join("dm/name");
    match reader.read(&mapped) {
        Ok(text) => Some(text.trim_ascii().to_vec()).filter(|label| !label.is_empty()),
        Err(_) => udev::property(host, reader, name, b"E:ID_FS_LABEL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::TestHost;
    use crate::inputs::disk::mountinfo::parse_mountinfo;

    fn check(host: &TestHost, line: &str, expected: &str) {
        let mounts = parse_mountinfo(line.as_bytes()).unwrap();
        let device = resolve(&mounts[0], &host.context().host);
        assert_eq!(String::from_utf8_lossy(&tag(&device)), expected);
    }

    #[test]
    fn the_device_behind_dev_root() {
        let host = TestHost::new(&[]);
        let line = "1 0 8:1 / / rw - ext4 /dev/root rw";
        check(&host, line, "root");
        std::fs::create_dir_all(host.path("sys/dev/block")).unwrap();
        std::os::unix::fs::symlink("../../devices/x/block/sda/sda1", host.path("sys/dev/block/8:1")).unwrap();
        check(&host, line, "sda1");
    }

    #[test]
    fn devices_without_a_node() {
        let host = TestHost::new(&[]);
        check(&host, "1 0 0:1 / / rw - tmpfs none rw", "tmpfs");
        check(&host, "1 0 0:1 / / rw - nfs4 10.0.0.1:/export rw", "10.0.0.1:/export");
        assert_eq!(&*tag(b"/hostfs/dev/dm-0"), b"/hostfsdm-0");
    }
}
