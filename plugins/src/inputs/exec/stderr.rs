//! What commands print to their error output: how much of it is shown, and at which level.

use std::borrow::Cow;

/// Most of it that is shown, in bytes.
const SHOWN: usize = 512;

/// The first line and at most 512 bytes of it, with `...` where something is missing; all of it on request.
pub(super) fn cut(stderr: &[u8], whole: bool) -> Cow<'_, str> {
    if whole {
        return String::from_utf8_lossy(stderr.trim_ascii_end());
    }
    let mut shown = &stderr[..stderr.len().min(SHOWN)];
    let mut is_cut = shown.len() < stderr.len();
    // A line break in front is not the end of the first line.
    if let Some(end) = shown.iter().position(|&byte| byte == b'\n').filter(|&end| end > 0) {
        is_cut |= end + 1 < shown.len();
        shown = &shown[..end];
    }
    let text = String::from_utf8_lossy(shown);
    if is_cut { text + "..." } else { text }
}

/// Logs each line that is not blank; `E! `, `W! `, `I! `, `D! ` or `T! ` in front of it names the level.
pub(super) fn log(plugin: &str, stderr: &str) {
    for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
        match line.split_at_checked(3) {
            Some(("W! ", line)) => tracing::warn!(plugin, "{line}"),
            Some(("I! ", line)) => tracing::info!(plugin, "{line}"),
            Some(("D! ", line)) => tracing::debug!(plugin, "{line}"),
            Some(("T! ", line)) => tracing::trace!(plugin, "{line}"),
            Some(("E! ", line)) => tracing::error!(plugin, "{line}"),
            _ => tracing::error!(plugin, "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line() {
        assert_eq!(cut(b"one\n", false), "one");
        assert_eq!(cut(b"one\ntwo\n", false), "one...");
        assert_eq!(cut(b"\none", false), "\none");
        assert_eq!(cut(b"", false), "");
        assert_eq!(cut(b"one\ntwo\n", true), "one\ntwo");
    }

    #[test]
    fn at_most_512_bytes() {
        assert_eq!(cut(&[b'x'; 512], false).len(), 512);
        assert_eq!(cut(&[b'x'; 513], false), "x".repeat(512) + "...");
    }
}
