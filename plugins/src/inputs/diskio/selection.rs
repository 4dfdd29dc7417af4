//! Which devices are reported.

use std::path::Path;

use heliograph_core::glob::{GlobError, GlobSet, has_wildcard};

use super::device::Properties;

/// The option `devices`.
pub(super) enum Selection {
    /// Without the option.
    All,
    /// Names and paths, symbolic links among them.
    Named(Vec<String>),
    /// One pattern among them makes all of them patterns, of kernel names and of links below `/dev`.
    Globs(GlobSet),
}

impl Selection {
    pub(super) fn new(devices: Vec<String>) -> Result<Self, GlobError> {
        Ok(if devices.is_empty() {
            Self::All
        } else if devices.iter().any(|device| has_wildcard(device)) {
            Self::Globs(GlobSet::new(&devices, "")?)
        } else {
            Self::Named(devices)
        })
    }

    /// The kernel names of named devices, as their links stand now; `None` if devices are not selected by name.
    pub(super) fn resolve(&self, dev: &Path) -> Option<Vec<Vec<u8>>> {
        let Self::Named(devices) = self else { return None };
        Some(devices.iter().map(|device| kernel_name(device, dev)).collect())
    }

    /// Whether the device is reported for its name; of named devices no others are read.
    pub(super) fn holds_name(&self, device: &[u8]) -> bool {
        match self {
            Self::All | Self::Named(_) => true,
            Self::Globs(globs) => globs.matches(device),
        }
    }

    /// Whether the device is reported for one of its links.
    pub(super) fn holds_link(&self, properties: &Properties) -> bool {
        let Self::Globs(globs) = self else { return false };
        properties.links().any(|link| globs.matches(link))
    }
}

/// The last part of the path that an entry leads to: the entry itself, or the one of that name below `dev`.
fn kernel_name(device: &str, dev: &Path) -> Vec<u8> {
    let resolved = match std::fs::canonicalize(device) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::canonicalize(dev.join(device.trim_start_matches('/')))
        }
        other => other,
    };
    let path = resolved.unwrap_or_else(|_| device.into());
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.trim_ascii().to_vec()
}
