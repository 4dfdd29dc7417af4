//! Which operating system the host runs, from the release files in `/etc`.

use std::path::Path;

use bstr::ByteSlice;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Value;
use rustix::system::uname;

use crate::common::proc_file::FileReader;

/// A distribution and its version; empty where no file says it.
#[derive(Debug, Default, PartialEq)]
struct Platform {
    name: String,
    version: String,
}

impl Platform {
    fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }
}

/// All fields of the group.
pub(super) fn fields(host: &HostPaths, reader: &mut FileReader) -> Vec<(&'static str, Value)> {
    let read = |name: &str| Some(reader.read(&host.etc(name)).ok()?.to_str_lossy().into_owned());
    let Platform { name, version } = platform(read, Path::new("/usr/bin/raspi-config").exists());
    let uname = uname();
    vec![
        ("os", "linux".into()),
        ("arch", uname.machine().to_bytes().into()),
        ("platform_family", family(&name).into()),
        ("platform", name.as_str().into()),
        ("platform_version", version.as_str().into()),
        ("kernel_version", uname.release().to_bytes().into()),
    ]
}

/// How a file says what it is the release file of.
#[derive(Clone, Copy)]
enum Form {
    /// A distribution of that name, version after `release`.
    Release(&'static str),
    /// Red Hat and its kin, whose name is in the text.
    RedHat,
    Slackware,
    Debian,
    Suse,
    Arch,
    /// A distribution of that name, version in the first line.
    FirstLine(&'static str),
    OsRelease,
}

/// Release files in the order in which they decide. Most distributions carry several.
const FILES: [(&str, Form); 12] = [
    ("oracle-release", Form::Release("oracle")),
    ("enterprise-release", Form::Release("oracle")),
    ("slackware-version", Form::Slackware),
    ("debian_version", Form::Debian),
    ("neokylin-release", Form::RedHat),
    ("redhat-release", Form::RedHat),
    ("system-release", Form::RedHat),
    ("gentoo-release", Form::Release("gentoo")),
    ("SuSE-release", Form::Suse),
    ("arch-release", Form::Arch),
    ("alpine-release", Form::FirstLine("alpine")),
    ("os-release", Form::OsRelease),
];

/// Bytes that a release file must have more than, to say something.
const EMPTY: usize = 4;

fn platform(mut read: impl FnMut(&str) -> Option<String>, is_raspberry: bool) -> Platform {
    let lsb = LsbRelease::parse(&read("lsb-release").unwrap_or_default());
    let found = FILES.iter().find_map(|&(file, form)| Some((read(file).filter(|text| text.len() > EMPTY)?, form)));
    let Some((text, form)) = found else { return lsb.platform() };
    // Telegraf looks at the text in small letters and as one line.
    let joined = text.replace('\n', "").to_lowercase();
    let first_line = text.lines().next().unwrap_or_default();
    match form {
        Form::Release(name) => Platform::new(name, release_version(&joined)),
        Form::RedHat => {
            let first_word = joined.split(' ').next().unwrap_or_default();
            let name = if joined.contains("red hat") { "redhat" } else { first_word };
            Platform::new(name, release_version(&joined))
        }
        Form::Slackware => Platform::new("slackware", joined.replacen("slackware ", "", 1)),
        Form::Debian => match lsb.id.as_str() {
            id @ ("Ubuntu" | "LinuxMint") => Platform::new(id.to_lowercase(), lsb.release),
            id @ ("Kylin" | "uos" | "Deepin") => Platform::new(id, lsb.release),
            _ => Platform::new(if is_raspberry { "raspbian" } else { "debian" }, first_line),
        },
        Form::Suse => Platform::new(if joined.contains("opensuse") { "opensuse" } else { "suse" }, suse_version(&text)),
        Form::Arch => Platform::new("arch", lsb.release),
        Form::FirstLine(name) => Platform::new(name, first_line),
        Form::OsRelease => os_release(&text),
    }
}

/// `lsb-release`, which some distributions of one kin tell themselves apart by.
#[derive(Debug, Default)]
struct LsbRelease {
    id: String,
    release: String,
}

impl LsbRelease {
    fn parse(text: &str) -> Self {
        let mut lsb = Self::default();
        for (key, value) in settings(text) {
            match key {
                "DISTRIB_ID" => lsb.id = value.replace('"', ""),
                "DISTRIB_RELEASE" => lsb.release = value.replace('"', ""),
                _ => {}
            }
        }
        lsb
    }

    /// What the file alone says.
    fn platform(self) -> Platform {
        let name = match self.id.as_str() {
            "ScientificSL" => "scientific".to_string(),
            id => id.to_lowercase(),
        };
        let version = if name.is_empty() { String::new() } else { self.release };
        Platform { name, version }
    }
}

/// The lines `KEY=value`; a second `=` ends the value.
fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split('=');
        Some((parts.next()?, parts.next()?))
    })
}

fn os_release(text: &str) -> Platform {
    let mut platform = Platform::default();
    let unquoted = |value: &str| {
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        inner.unwrap_or(value).to_string()
    };
    for (key, value) in settings(text) {
        match key {
            "ID" => platform.name = unquoted(value),
            "VERSION_ID" => platform.version = unquoted(value),
            _ => {}
        }
    }
    if platform.name == "amzn" {
        platform.name = "amazon".to_string();
    }
    platform
}

/// The version after `release`: a letter or digit, then digits and points.
fn release_version(text: &str) -> String {
    const WORD: &str = "release ";
    if text.contains("rawhide") {
        return "rawhide".to_string();
    }
    let version = |at: usize| {
        let version = &text[at + WORD.len()..];
        let first = version.chars().next().filter(|c| c.is_ascii_alphanumeric() || *c == '_')?;
        let rest = version[first.len_utf8()..].find(|c: char| !c.is_ascii_digit() && c != '.');
        Some(version[..rest.map_or(version.len(), |rest| rest + first.len_utf8())].to_string())
    };
    text.match_indices(WORD).find_map(|(at, _)| version(at)).unwrap_or_default()
}

/// `VERSION = 15` and `PATCHLEVEL = 3` make `15.3`.
fn suse_version(text: &str) -> String {
    let mut version = String::new();
    let number = |line: &str, key: &str, is_part: fn(char) -> bool| {
        let value = &line[line.find(key)? + key.len()..];
        let end = value.find(|c| !is_part(c)).unwrap_or(value.len());
        (end > 0).then(|| value[..end].to_string())
    };
    for line in text.lines() {
        if let Some(number) = number(line, "VERSION = ", |c| c.is_ascii_digit() || c == '.') {
            version = number;
        } else if let Some(level) = number(line, "PATCHLEVEL = ", |c| c.is_ascii_digit()) {
            version = format!("{version}.{level}");
        }
    }
    version
}

/// The kin of a distribution; empty if it has none that is known.
fn family(platform: &str) -> &str {
    match platform {
        "debian" | "ubuntu" | "linuxmint" | "raspbian" | "Kylin" | "cumuluslinux" | "uos" | "Deepin" => "debian",
        "fedora" => "fedora",
        "oracle" | "centos" | "redhat" | "scientific" | "enterpriseenterprise" | "amazon" | "xenserver" | "cloudlinux"
        | "ibm_powerkvm" | "rocky" | "almalinux" => "rhel",
        "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "opensuse-tumbleweed-kubic" | "sles" | "sled"
        | "caasp" => "suse",
        "gentoo" | "slackware" | "arch" | "exherbo" | "alpine" | "coreos" | "solus" | "neokylin" | "anolis" => platform,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], name: &str, version: &str) {
        let read = |wanted: &str| Some(files.iter().find(|(file, _)| *file == wanted)?.1.to_string());
        assert_eq!(platform(read, false), Platform::new(name, version));
    }

    #[test]
    fn debian_and_its_kin() {
        check(&[("debian_version", "12.7\n"), ("os-release", "ID=debian\nVERSION_ID=\"12\"\n")], "debian", "12.7");
        let lsb = "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=\"24.04\"\n";
        check(&[("debian_version", "trixie/sid\n"), ("lsb-release", lsb)], "ubuntu", "24.04");
        check(&[("debian_version", "11.2\n"), ("lsb-release", "DISTRIB_ID=Deepin\nDISTRIB_RELEASE=20\n")], "Deepin", "20");
        assert_eq!(platform(|file| (file == "debian_version").then(|| "12.1\n".into()), true).name, "raspbian");
    }

    #[test]
    fn red_hat_and_its_kin() {
        check(&[("redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n")], "redhat", "9.4");
        check(&[("redhat-release", "Rocky Linux release 8.10 (Green Obsidian)\n")], "rocky", "8.10");
        check(&[("system-release", "Amazon Linux release 2 (Karoo)\n")], "amazon", "2");
        check(&[("redhat-release", "Fedora release 41 (Rawhide)\n")], "fedora", "rawhide");
        check(&[("oracle-release", "Oracle Linux Server release 8.9\n"), ("redhat-release", "x release 1\n")], "oracle", "8.9");
        check(&[("redhat-release", "CentOS\n")], "centos", "");
    }

    #[test]
    fn others() {
        check(&[("slackware-version", "Slackware 15.0\n")], "slackware", "15.0");
        check(&[("gentoo-release", "Gentoo Base System release 2.15\n")], "gentoo", "2.15");
        check(&[("SuSE-release", "openSUSE 13.1 (x86_64)\nVERSION = 13.1\nCODENAME = Bottle\n")], "opensuse", "13.1");
        check(&[("SuSE-release", "SUSE Linux Enterprise\nVERSION = 11\nPATCHLEVEL = 4\n")], "suse", "11.4");
        check(&[("arch-release", "Arch Linux release\n"), ("lsb-release", "DISTRIB_RELEASE=rolling\n")], "arch", "rolling");
        check(&[("alpine-release", "3.20.3\n"), ("os-release", "ID=alpine\n")], "alpine", "3.20.3");
        check(&[("os-release", "NAME=\"Amazon Linux\"\nID=\"amzn\"\nVERSION_ID=\"2023\"\n")], "amazon", "2023");
        check(&[("os-release", "ID='flatcar'\nVERSION_ID=4081.2=x\n")], "'flatcar'", "4081.2");
    }

    #[test]
    fn the_last_resort() {
        check(&[("lsb-release", "DISTRIB_ID=\"XenServer\"\nDISTRIB_RELEASE=7\n")], "xenserver", "7");
        check(&[("lsb-release", "DISTRIB_ID=ScientificSL\n")], "scientific", "");
        check(&[("lsb-release", "DISTRIB_RELEASE=7\n")], "", "");
        check(&[("arch-release", "\n"), ("os-release", "\n")], "", "");
    }

    #[test]
    fn families() {
        assert_eq!(["raspbian", "rocky", "sles", "alpine", "flatcar"].map(family), ["debian", "rhel", "suse", "alpine", ""]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(release |rawhide|VERSION = |PATCHLEVEL = |ID=|DISTRIB_ID=|[a-z0-9.\"=\né]{0,3}){0,8}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for (file, _) in FILES {
                platform(|name| (name == file || name == "lsb-release").then(|| text.clone()), false);
                platform(|name| (name == file).then(|| String::from_utf8_lossy(&bytes).into_owned()), false);
            }
        }
    }
}
