//! The text of `/proc/net/dev`.

use heliograph_core::number::{NumberError, parse_uint10};

use crate::common::proc_file::{lines, words};

/// Columns that are read, up to the last one of interest.
const COLUMNS: usize = 13;

/// Fields and their columns.
const FIELDS: [(&str, usize); 8] = [
    ("bytes_sent", 8),
    ("bytes_recv", 0),
    ("packets_sent", 9),
    ("packets_recv", 1),
    ("err_in", 2),
    ("err_out", 10),
    ("drop_in", 3),
    ("drop_out", 11),
];

/// Columns whose content is checked but not reported: the overruns of the queues.
const CHECKED: [usize; 2] = [4, 12];

/// An interface and its counters since it came up.
#[derive(Debug)]
pub(super) struct Interface<'a> {
    pub(super) name: &'a [u8],
    pub(super) counters: [(&'static str, u64); FIELDS.len()],
}

/// Why the table cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("cannot read the table of interfaces: it has less than the two lines of its head")]
    Short,
    #[error("cannot read {value:?} of interface {interface:?}")]
    Number { interface: String, value: String, source: NumberError },
}

/// The interfaces in the order of the table. Lines that describe none are skipped; a broken counter is an error.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Interface<'_>>, TableError> {
    let mut lines = lines(text);
    if lines.by_ref().take(2).count() < 2 {
        return Err(TableError::Short);
    }
    lines.filter_map(|line| parse_line(line).transpose()).collect()
}

fn parse_line(line: &[u8]) -> Result<Option<Interface<'_>>, TableError> {
    // The last colon: names of aliases hold one themselves.
    let Some(colon) = memchr::memrchr(b':', line) else { return Ok(None) };
    let name = line[..colon].trim_ascii();
    let mut columns = [&b""[..]; COLUMNS];
    let count = columns.iter_mut().zip(words(&line[colon + 1..])).map(|(column, word)| *column = word).count();
    if name.is_empty() || count < COLUMNS {
        return Ok(None);
    }
    let number = |column: usize| {
        parse_uint10(columns[column]).map_err(|source| TableError::Number {
            interface: String::from_utf8_lossy(name).into_owned(),
            value: String::from_utf8_lossy(columns[column]).into_owned(),
            source,
        })
    };
    let mut counters = FIELDS.map(|(field, _)| (field, 0));
    for (counter, (_, column)) in counters.iter_mut().zip(FIELDS) {
        counter.1 = number(column)?;
    }
    CHECKED.iter().try_for_each(|&column| number(column).map(drop))?;
    Ok(Some(Interface { name, counters }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(lines: &str) -> Result<Vec<String>, String> {
        let text = format!("head\nhead\n{lines}");
        let interfaces = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(interfaces.iter().map(|i| String::from_utf8_lossy(i.name).into_owned()).collect())
    }

    #[test]
    fn lines_that_describe_no_interface() {
        assert_eq!(names(" short: 1 2 3\nno colon\n : 1 2 3 4 5 6 7 8 9 10 11 12 13\n"), Ok(vec![]));
        assert_eq!(names("a:1 2 3 4 5 x x x 9 10 11 12 13"), Ok(vec!["a".into()]));
        assert!(matches!(parse(b"one line\n"), Err(TableError::Short)));
    }

    #[test]
    fn queue_overruns_are_checked() {
        let error = Err("cannot read \"-5\" of interface \"a\"".to_string());
        assert_eq!(names("a:1 2 3 4 -5 6 7 8 9 10 11 12 13"), error);
        assert_eq!(names("a:1 2 3 4 5 6 7 8 9 10 11 12 -5"), error);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..120), text in "x\ny\n([a-c: ]{0,3}:( [0-9x]{0,21}){0,16}\n){0,4}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
