//! The end of a file that grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of the end that are looked at: more than the demonstration writes in an interval, unless it is told to hurry.
const END: u64 = 256 * 1024;

/// The last `count` whole lines of a file that `wanted` wants, oldest first; none of a file that is not there.
pub(super) fn last_lines(path: &Path, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    // The file is only looked at: whoever writes it reports what is wrong with it.
    let end = read_end(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    // What follows the last line break is not written yet; of a large file, the first line may lack its beginning.
    let Some((whole, _)) = text.rsplit_once('\n') else { return Vec::new() };
    let whole = if end.len() as u64 == END { whole.split_once('\n').map_or("", |(_, rest)| rest) } else { whole };
    let mut lines: Vec<String> =
        whole.lines().rev().filter(|line| wanted(line)).take(count).map(str::to_owned).collect();
    lines.reverse();
    lines
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, count: usize, want: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, text).unwrap();
        assert_eq!(last_lines(&path, count, |line| !line.starts_with('#')), want);
    }

    #[test]
    fn whole_lines_from_the_end() {
        check("a\nb\n#\nc\nhal", 2, &["b", "c"]);
        check("a\n", 2, &["a"]);
        check("half", 2, &[]);
        check("", 2, &[]);
        assert!(last_lines(Path::new("/no/such/file"), 2, |_| true).is_empty());
    }

    #[test]
    fn of_a_large_file_only_the_end_is_read() {
        let text = format!("{}\nlast\n", "x".repeat(2 * END as usize));
        check(&text, 5, &["last"]);
    }
}
