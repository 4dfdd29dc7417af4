//! The table of mounts, from `mountinfo` or the older `mounts` of `/proc/<pid>`.

use std::borrow::Cow;
use std::collections::HashMap;

use bstr::ByteSlice;

use crate::common::proc_file::{lines, words};

/// A mounted file system.
#[derive(Debug, PartialEq)]
pub(super) struct Mount<'a> {
    /// As the kernel names it, symbolic links not followed.
    pub(super) device: &'a [u8],
    /// `major:minor`, empty if the table does not say.
    pub(super) number: &'a [u8],
    pub(super) mount_point: Cow<'a, [u8]>,
    pub(super) fstype: &'a [u8],
    pub(super) options: Options<'a>,
}

/// The options of a mount, as the file system behind it corrects them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Options<'a> {
    listed: &'a [u8],
    /// Stands for every `ro` and `rw` that is listed.
    mode: Option<&'static str>,
    is_bind: bool,
}

impl<'a> Options<'a> {
    /// All options, with `bind` for a bind mount.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let mode = self.mode;
        let is_mode = |option: &[u8]| option == b"ro" || option == b"rw";
        let listed = self.listed.split(|&byte| byte == b',').filter(move |option| mode.is_none() || !is_mode(option));
        listed.chain(mode.map(str::as_bytes)).chain(self.is_bind.then_some(&b"bind"[..]))
    }

    /// `rw`, `ro` or `unknown`.
    pub(super) fn mode(&self) -> &'static str {
        let has = |wanted: &[u8]| self.iter().any(|option| option == wanted);
        match (has(b"rw"), has(b"ro")) {
            (true, _) => "rw",
            (false, true) => "ro",
            (false, false) => "unknown",
        }
    }
}

/// A line of the table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the mount {0:?}: {1}")]
pub(super) struct BadMount(String, &'static str);

/// Reads `mountinfo`; one broken line spoils the table.
pub(super) fn parse_mountinfo(text: &[u8]) -> Result<Vec<Mount<'_>>, BadMount> {
    // What a file system is mounted from the second time (a directory of it, say) names the device of the first time.
    let mut devices = HashMap::new();
    let mount = |line| {
        let mut mount = parse_line(line).map_err(|problem| BadMount(String::from_utf8_lossy(line).into(), problem))?;
        mount.device = *devices.entry(mount.number).or_insert(mount.device);
        Ok(mount)
    };
    lines(text).map(mount).collect()
}

fn parse_line(line: &[u8]) -> Result<Mount<'_>, &'static str> {
    let dash = line.find(b" - ").ok_or("it has no \" - \"")?;
    let mut left = words(&line[..dash]).skip(2);
    let mut right = words(&line[dash + 3..]);
    let (Some(number), Some(root), Some(mount_point)) = (left.next(), left.next(), left.next()) else {
        return Err("it has less than five fields before \" - \"");
    };
    let (Some(fstype), Some(source)) = (right.next(), right.next()) else {
        return Err("it has less than two fields after \" - \"");
    };
    let listed = left.next().unwrap_or_default();
    let super_options = right.next().unwrap_or_default();
    let is_path = source.starts_with(b"/");
    // A directory bound to another place; but what btrfs mounts is a subvolume, a directory as well.
    let is_bind = is_path && root != b"/" && subvolume(super_options) != Some(root);
    let device = if is_path || root == b"/" { source } else { root };
    let options = Options { listed, mode: effective_mode(listed, super_options), is_bind };
    Ok(Mount { device, number, mount_point: unescape(mount_point), fstype, options })
}

fn subvolume(super_options: &[u8]) -> Option<&[u8]> {
    super_options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(b"subvol="))
}

/// The mode that counts where mount and file system disagree: after an error a file system is read-only everywhere.
fn effective_mode(listed: &[u8], super_options: &[u8]) -> Option<&'static str> {
    let has = |options: &[u8], wanted: &[u8]| options.split(|&byte| byte == b',').any(|option| option == wanted);
    if has(listed, b"ro") || has(super_options, b"ro") {
        Some("ro")
    } else if has(listed, b"rw") && has(super_options, b"rw") {
        Some("rw")
    } else {
        None
    }
}

/// Reads the older `mounts`, which knows of no roots and numbers. Lines that are cut off are skipped.
pub(super) fn parse_mounts(text: &[u8]) -> Vec<Mount<'_>> {
    let mount = |line| {
        let mut words = words(line);
        let (device, mount_point, fstype, listed) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let options = Options { listed, mode: None, is_bind: false };
        Some(Mount { device, number: b"", mount_point: unescape(mount_point), fstype, options })
    };
    lines(text).filter_map(mount).collect()
}

/// Undoes the kernel's octal escapes (`\040` is a blank).
///
/// The text counts as the inside of a quoted string of Go, as Telegraf reads it; what is none stays as it is.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return text.into();
    }
    unquote(text).map_or(text.into(), Cow::Owned)
}

fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' | b'\n' => return None,
            b'\\' => rest = unquote_escape(rest, &mut out)?,
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Appends what the escape at the start of `text` stands for and returns what follows it.
fn unquote_escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&letter, rest) = text.split_first()?;
    let number = |text: &[u8], base| u32::from_str_radix(std::str::from_utf8(text).ok()?, base).ok();
    let digits = |count: usize| rest.get(..count).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let (simple, skip) = match letter {
        b'a' => (0x07, 0),
        b'b' => (0x08, 0),
        b'f' => (0x0c, 0),
        b'n' => (b'\n', 0),
        b'r' => (b'\r', 0),
        b't' => (b'\t', 0),
        b'v' => (0x0b, 0),
        b'\\' | b'"' => (letter, 0),
        b'0'..=b'7' => {
            let digits = text.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))?;
            (u8::try_from(number(digits, 8)?).ok()?, 2)
        }
        b'x' => (u8::try_from(number(digits(2)?, 16)?).ok()?, 2),
        b'u' | b'U' => {
            let count = if letter == b'u' { 4 } else { 8 };
            let character = char::from_u32(number(digits(count)?, 16)?)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(count..);
        }
        _ => return None,
    };
    out.push(simple);
    rest.get(skip..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn show(mounts: &[Mount<'_>]) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let show = |mount: &Mount<'_>| {
            let options: Vec<_> = mount.options.iter().map(text).collect();
            let (device, point, fstype) = (text(mount.device), text(&mount.mount_point), text(mount.fstype));
            format!("{device} on {point:?} type {fstype} ({}) {}\n", options.join(","), mount.options.mode())
        };
        mounts.iter().map(show).collect()
    }

    fn check(text: &str, expected: Expect) {
        let shown = match parse_mountinfo(text.as_bytes()) {
            Ok(mounts) => show(&mounts),
            Err(error) => format!("error: {error}\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn devices_roots_and_binds() {
        check(
            "25 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw,discard\n\
             90 25 259:1 /var/lib/foo /mnt/my\\040dir rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n\
             31 25 0:4 net:[4026531840] /run/netns/x rw shared:2 - nsfs nsfs rw\n\
             32 25 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n\
             33 25 0:30 /kubepods /run/cg rw - cgroup2 cgroup2 rw\n\
             34 25 0:31 /kubepods /run/cg2 rw - cgroup2 cgroup2 rw\n",
            expect![[r#"
                /dev/nvme0n1p1 on "/" type ext4 (relatime,rw) rw
                /dev/nvme0n1p1 on "/mnt/my dir" type ext4 (relatime,rw,bind) rw
                net:[4026531840] on "/run/netns/x" type nsfs (rw) rw
                cgroup on "/sys/fs/cgroup" type cgroup2 (rw) rw
                cgroup on "/run/cg" type cgroup2 (rw) rw
                /kubepods on "/run/cg2" type cgroup2 (rw) rw
            "#]],
        );
    }

    #[test]
    fn a_subvolume_is_no_bind() {
        check(
            "40 1 0:30 /@home /home rw - btrfs /dev/sda2 rw,subvolid=257,subvol=/@home\n\
             41 1 0:30 /@home/alice /mnt rw - btrfs /dev/sda2 rw,subvolid=257,subvol=/@home\n",
            expect![[r#"
                /dev/sda2 on "/home" type btrfs (rw) rw
                /dev/sda2 on "/mnt" type btrfs (rw,bind) rw
            "#]],
        );
    }

    #[test]
    fn the_mode_that_counts() {
        check(
            "1 1 1:1 / /a rw - ext4 /dev/a ro\n2 1 1:1 / /b ro - ext4 /dev/a rw\n3 1 1:1 / /c noatime - ext4 /dev/a ro\n\
             4 1 1:1 / /d noatime - ext4 /dev/a rw\n5 1 1:1 / /e - ext4 /dev/a\n",
            expect![[r#"
                /dev/a on "/a" type ext4 (ro) ro
                /dev/a on "/b" type ext4 (ro) ro
                /dev/a on "/c" type ext4 (noatime,ro) ro
                /dev/a on "/d" type ext4 (noatime) unknown
                /dev/a on "/e" type ext4 () unknown
            "#]],
        );
    }

    #[test]
    fn broken_tables() {
        check("1 1 1:1 / / rw", expect![[r#"
            error: cannot read the mount "1 1 1:1 / / rw": it has no " - "
        "#]]);
        check("1 1 1:1 / - ext4 /dev/a", expect![[r#"
            error: cannot read the mount "1 1 1:1 / - ext4 /dev/a": it has less than five fields before " - "
        "#]]);
        check("1 1 1:1 / / - ext4", expect![[r#"
            error: cannot read the mount "1 1 1:1 / / - ext4": it has less than two fields after " - "
        "#]]);
    }

    #[test]
    fn the_older_table() {
        let mounts = parse_mounts(b"/dev/sda1 / ext4 rw,noatime 0 0\ncut off here\nnone /a\\011b tmpfs ro 0 0\n");
        expect![[r#"
            /dev/sda1 on "/" type ext4 (rw,noatime) rw
            none on "/a\tb" type tmpfs (ro) ro
        "#]]
        .assert_eq(&show(&mounts));
    }

    #[test]
    fn escapes() {
        let check = |text: &str, expected: &[u8]| assert_eq!(unescape(text.as_bytes()), expected, "{text}");
        check(r"/a\040b\134c\011", b"/a b\\c\t");
        check(r"/\303\244\x41\u00e4", "/ä\u{41}ä".as_bytes());
        for text in [r#"/a\040"b"#, r"/a\04", r"/a\400", r"/a\", r"/a\q", r"/a\ud800", r"/a\x4g", r"/a\'"] {
            check(text, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..120), text in "([1 ]{0,9}(/[a\\\\0-7]{0,4} ){0,3}[row,]{0,4} - ([a-c,=]{0,3} ){0,4}\n){0,4}") {
            for text in [&bytes[..], text.as_bytes()] {
                if let Ok(mounts) = parse_mountinfo(text) {
                    show(&mounts);
                }
                show(&parse_mounts(text));
            }
        }
    }
}
