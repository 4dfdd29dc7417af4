//! Splits a command line into words by the quoting rules of POSIX shells, without any expansion.

use std::iter::Peekable;
use std::str::Chars;

/// The words of a line. Fails on a quote that is not closed and on a backslash at the end.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut chars) = (Vec::new(), line.chars().peekable());
    while let Some(&c) = chars.peek() {
        if matches!(c, ' ' | '\t' | '\n') {
            chars.next();
        } else {
            words.push(word(&mut chars)?);
        }
    }
    Ok(words)
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| !matches!(c, ' ' | '\t' | '\n')) {
        match c {
            '\'' => single_quoted(chars, &mut word)?,
            '"' => double_quoted(chars, &mut word)?,
            // A backslash in front of a line break takes both away.
            '\\' => match chars.next().ok_or("a backslash ends the line")? {
                '\n' => {}
                escaped => word.push(escaped),
            },
            c => word.push(c),
        }
    }
    Ok(word)
}

fn single_quoted(chars: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a single quote is not closed")? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(chars: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a double quote is not closed";
    loop {
        match chars.next().ok_or(OPEN)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(OPEN)? {
                '\n' => {}
                c @ ('$' | '`' | '"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split(line).unwrap(), expected, "{line}");
    }

    #[test]
    fn words() {
        check("  a  b\tc\n", &["a", "b", "c"]);
        check("", &[]);
        check("#a #b", &["#a", "#b"]);
    }

    #[test]
    fn quotes() {
        check(r#"a'b c'"d e"f '' "#, &["ab cd ef", ""]);
        check(r#"'\n"' "\n\"\$'" "#, &[r#"\n""#, r#"\n"$'"#]);
        check("$HOME `x` | > *", &["$HOME", "`x`", "|", ">", "*"]);
    }

    #[test]
    fn backslashes() {
        check(r"a\ b \'c \\", &["a b", "'c", r"\"]);
        check("a\\\nb", &["ab"]);
    }

    #[test]
    fn what_is_left_open() {
        assert!(split("'a").is_err() && split("\"a").is_err() && split("\"a\\").is_err() && split("a\\").is_err());
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(".*", 0..5)) {
            let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(split(&quoted.join(" ")).unwrap(), words);
        }
    }
}
