//! Paths put together as text: nothing is looked up, since what they name lies in another file system tree.

/// `base` and `rest` with one slash between them, without empty parts, `.` and, where possible, `..`.
pub(super) fn join(base: &[u8], rest: &[u8]) -> Vec<u8> {
    let is_rooted = base.first().or(rest.first()) == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|&byte| byte == b'/').chain(rest.split(|&byte| byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    let mut path = if is_rooted { b"/".to_vec() } else { Vec::new() };
    path.extend_from_slice(&parts.join(&b'/'));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_and_cleaned() {
        let check = |base: &str, rest: &str, joined: &str| {
            assert_eq!(String::from_utf8(join(base.as_bytes(), rest.as_bytes())).unwrap(), joined);
        };
        check("/", "", "/");
        check("/", "/boot/efi", "/boot/efi");
        check("/hostfs/", "/", "/hostfs");
        check("/hostfs", "//a/./b/", "/hostfs/a/b");
        check("/", "/../a/../b", "/b");
        check("host", "../../a", "../a");
    }
}
