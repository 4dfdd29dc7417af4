//! What a receiver allows in paths, where that is less than Telegraf writes.

use std::borrow::Cow;

use bstr::ByteSlice;
use serde::Deserialize;

/// Whose rules paths follow; the option `graphite_naming`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// Whatever the other options make of them, as Telegraf does.
    #[default]
    Telegraf,
    /// What carbon can store in files and Graphite can ask for.
    Carbon,
    /// What Hosted Graphite takes; it drops anything else without a word.
    HostedGraphite,
}

/// The rules of one configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamingRules {
    naming: Naming,
    /// Most bytes of a path with its tags.
    longest_path: usize,
}

/// A path that is not sent, since the receiver would not store it.
#[derive(Debug, thiserror::Error)]
#[error("cannot send path {path:?}: {reason}")]
pub struct RefusedPath {
    path: String,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("its {0} bytes are more than the {1} of `graphite_max_path_length`")]
    Path(usize, usize),
    #[error(
        "it has a node of {0} bytes, but a node is the name of a file in carbon and must not exceed {LONGEST_NODE}"
    )]
    Node(usize),
    #[error("it has a tag with a key or value of {0} bytes, but Graphite has room for {LONGEST_TAG}")]
    Tag(usize),
}

/// Most bytes of a node: a file name of 255 without `.wsp`.
const LONGEST_NODE: usize = 251;
/// Most bytes of a tag's key or value: what the table of tags of graphite-web has room for.
const LONGEST_TAG: usize = 255;
/// Most bytes of a path that a message shows.
const SHOWN: usize = 200;

impl NamingRules {
    /// With the options `graphite_naming` and `graphite_max_path_length`.
    pub(super) fn new(naming: Naming, max_path_length: usize) -> Self {
        Self { naming, longest_path: if max_path_length == 0 { usize::MAX } else { max_path_length } }
    }

    /// Replaces every character that is not allowed by `_`, a byte that is no text as well.
    pub(super) fn clean<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if text.iter().all(|&byte| self.allows(byte)) {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        for chunk in text.utf8_chunks() {
            let one = |c: char| u8::try_from(c).ok().filter(|&byte| self.allows(byte)).unwrap_or(b'_');
            out.extend(chunk.valid().chars().map(one));
            out.resize(out.len() + chunk.invalid().len(), b'_');
        }
        Cow::Owned(out)
    }

    /// Cleans a path without tags and takes out nodes of which nothing is left.
    pub(super) fn clean_path(&self, path: Vec<u8>) -> Vec<u8> {
        if self.naming == Naming::Telegraf {
            return path;
        }
        let clean = self.clean(&path);
        let nodes: Vec<&[u8]> = clean.split(|&byte| byte == b'.').filter(|node| !node.is_empty()).collect();
        nodes.join(&b'.')
    }

    /// Why a path with its tags cannot be sent, if it cannot.
    pub(super) fn check(&self, path: &[u8]) -> Result<(), RefusedPath> {
        let refuse = |reason| {
            let shown = &path[..path.len().min(SHOWN)];
            let more = if path.len() > SHOWN { "…" } else { "" };
            Err(RefusedPath { path: shown.to_str_lossy().into_owned() + more, reason })
        };
        if path.len() > self.longest_path {
            return refuse(Reason::Path(path.len(), self.longest_path));
        }
        if self.naming != Naming::Carbon {
            return Ok(());
        }
        let mut parts = path.split(|&byte| byte == b';');
        let nodes = parts.next().unwrap_or_default().split(|&byte| byte == b'.').map(<[u8]>::len);
        let tags = parts.flat_map(|tag| tag.splitn_str(2, "=")).map(<[u8]>::len);
        // With tags, carbon makes the name of the file out of a hash.
        if let Some(longest) = tags.max() {
            return if longest > LONGEST_TAG { refuse(Reason::Tag(longest)) } else { Ok(()) };
        }
        match nodes.max() {
            Some(longest) if longest > LONGEST_NODE => refuse(Reason::Node(longest)),
            _ => Ok(()),
        }
    }

    fn allows(&self, byte: u8) -> bool {
        match self.naming {
            Naming::Telegraf => true,
            // Printable, and neither a wildcard nor part of the syntax of a target.
            Naming::Carbon => byte.is_ascii_graphic() && !br#""'()*,/;?[\]`{|}"#.contains(&byte),
            Naming::HostedGraphite => byte.is_ascii_alphanumeric() || b"*.-_$%#=".contains(&byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters() {
        let clean = |naming, text: &str| {
            String::from_utf8(NamingRules::new(naming, 0).clean_path(text.as_bytes().to_vec())).unwrap()
        };
        for (text, carbon, hosted) in [
            ("a-b_c.d=1", "a-b_c.d=1", "a-b_c.d=1"),
            ("a:b.$%#", "a:b.$%#", "a_b.$%#"),
            ("é.日本.a*", "_.__.a_", "_.__.a*"),
            (".a..b.", "a.b", "a.b"),
            ("a b;c{d}", "a_b_c_d_", "a_b_c_d_"),
            ("..", "", ""),
        ] {
            assert_eq!((&*clean(Naming::Carbon, text), &*clean(Naming::HostedGraphite, text)), (carbon, hosted));
            assert_eq!(clean(Naming::Telegraf, text), text);
        }
        assert_eq!(&*NamingRules::new(Naming::Carbon, 0).clean(b"a\xff\xfeb"), b"a__b");
    }

    #[test]
    fn lengths() {
        let check =
            |naming, most, path: &str| NamingRules::new(naming, most).check(path.as_bytes()).err().map(|e| e.reason);
        let node = "n".repeat(LONGEST_NODE);
        assert_eq!(check(Naming::Carbon, 0, &format!("{node}.{node}")), None);
        assert_eq!(check(Naming::Carbon, 0, &format!("a.{node}n.b")), Some(Reason::Node(252)));
        assert_eq!(check(Naming::HostedGraphite, 0, &format!("a.{node}n.b")), None);
        assert_eq!(check(Naming::Carbon, 0, &format!("a.{node}n.b;c=d")), None);
        assert_eq!(check(Naming::Carbon, 0, &format!("a;c={}=", "v".repeat(254))), None);
        assert_eq!(check(Naming::Carbon, 0, &format!("a;b=c;c={}=", "v".repeat(255))), Some(Reason::Tag(256)));
        assert_eq!(check(Naming::Telegraf, 3, "a.b"), None);
        assert_eq!(check(Naming::Telegraf, 3, "a.bc"), Some(Reason::Path(4, 3)));
    }

    #[test]
    fn a_message_shows_the_beginning_of_a_path() {
        let error = NamingRules::new(Naming::Telegraf, 10).check("x".repeat(201).as_bytes()).unwrap_err().to_string();
        let want = "xx…\": its 201 bytes are more than the 10 of `graphite_max_path_length`";
        assert!(error.starts_with("cannot send path \"xx") && error.ends_with(want), "{error}");
    }
}
