//! Where the host's files are: plugins get these paths handed in and never read the environment themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The `HOST_*` variables that point into a mounted host file system (common-blocks, section 12).
///
/// An empty variable counts as unset. Paths are joined textually, as users know it: `HOST_PROC=/hostfs/proc` and
/// `stat` give `/hostfs/proc/stat`.
#[derive(Clone, Debug, Default)]
pub struct HostPaths {
    variables: HashMap<&'static str, String>,
}

const VARIABLES: &[&str] = &[
    "GHW_CHROOT",
    "HOST_DEV",
    "HOST_ETC",
    "HOST_MOUNT_PREFIX",
    "HOST_PROC",
    "HOST_PROC_MOUNTINFO",
    "HOST_ROOT",
    "HOST_RUN",
    "HOST_SYS",
    "HOST_VAR",
];

impl HostPaths {
    /// What the environment of the process says; called once, at the door.
    pub fn from_environment() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// What `lookup` says for each variable.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |&name: &&'static str| Some((name, lookup(name).filter(|value| !value.is_empty())?));
        Self { variables: VARIABLES.iter().filter_map(set).collect() }
    }

    /// The variable, if set; one of the names in common-blocks section 12.
    pub fn variable(&self, name: &str) -> Option<&str> {
        debug_assert!(VARIABLES.contains(&name), "{name} is not read from the environment");
        self.variables.get(name).map(String::as_str)
    }

    /// Below `HOST_PROC`, by default `/proc`.
    pub fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_PROC", "/proc", path.as_ref())
    }

    /// Below `HOST_SYS`, by default `/sys`.
    pub fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_SYS", "/sys", path.as_ref())
    }

    /// Below `HOST_ETC`, by default `/etc`.
    pub fn etc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_ETC", "/etc", path.as_ref())
    }

    /// Below `HOST_VAR`, by default `/var`.
    pub fn var(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_VAR", "/var", path.as_ref())
    }

    /// Below `HOST_RUN`, by default `/run`.
    pub fn run(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_RUN", "/run", path.as_ref())
    }

    /// Below `HOST_DEV`, by default `/dev`.
    pub fn dev(&self, path: impl AsRef<Path>) -> PathBuf {
        self.below("HOST_DEV", "/dev", path.as_ref())
    }

    fn below(&self, variable: &str, default: &str, path: &Path) -> PathBuf {
        // `join` would let an absolute path replace the base.
        Path::new(self.variable(variable).unwrap_or(default)).join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_variables() {
        let paths = HostPaths::from_lookup(|name| match name {
            "HOST_PROC" => Some("/hostfs/proc".into()),
            "HOST_SYS" => Some(String::new()),
            _ => None,
        });
        assert_eq!(paths.proc("1/mounts"), Path::new("/hostfs/proc/1/mounts"));
        assert_eq!(paths.sys("/block"), Path::new("/sys/block"));
        assert_eq!(paths.variable("HOST_SYS"), None);
    }
}
