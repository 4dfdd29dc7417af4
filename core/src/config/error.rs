//! The error of a configuration: what is wrong, where, and the line as its author wrote it.

use std::{borrow::Cow, error::Error, fmt};

use super::tree::{Source, Span};

/// A mistake in a configuration.
///
/// Its text is one line that says all (file, line, column, plugin, option, value, remedy), followed, where the place
/// is known, by the line of the file with a caret below. The line is shown as written, never with variables put in.
#[derive(Debug)]
pub struct ConfigError(Box<Content>);

#[derive(Debug)]
struct Content {
    /// Path and position, empty if there is none.
    place: String,
    /// `inputs.cpu`, `agent`, or empty.
    owner: String,
    message: String,
    excerpt: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// Longest piece of a line that is shown, in characters.
const EXCERPT_WIDTH: usize = 140;

impl ConfigError {
    /// A mistake that belongs to no file, such as a flag of the command line.
    #[must_use]
    pub fn new(message: impl Into<String>) -> ConfigError {
        ConfigError(Box::new(Content {
            place: String::new(),
            owner: String::new(),
            message: message.into(),
            excerpt: String::new(),
            cause: None,
        }))
    }

    /// A mistake of a whole file: unreadable, not text, …
    #[must_use]
    pub fn of_file(path: &str, message: impl Into<String>) -> ConfigError {
        let mut error = ConfigError::new(message);
        error.0.place = path.to_owned();
        error
    }

    /// A mistake at a place of a file, in the table of `owner` (a plugin as `inputs.cpu`, a table, or empty).
    #[must_use]
    pub fn at(source: &Source, span: Span, owner: &str, message: impl Into<String>) -> ConfigError {
        let mut error = ConfigError::new(message);
        let (line, column, text) = source.locate(span.start);
        error.0.place = format!("{}:{line}:{column}", source.path());
        error.0.owner = owner.to_owned();
        let width = source.written(span).chars().take_while(|c| !matches!(c, '\n' | '\r')).count();
        error.0.excerpt = excerpt(line, column, width, &without_secret(text));
        error
    }

    /// Adds what caused it; its text is appended to the message.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> ConfigError {
        self.0.cause = Some(cause.into());
        self
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The first line alone: place, plugin, what is wrong and why.
    #[must_use]
    pub fn line(&self) -> String {
        let content = &self.0;
        let mut line = String::new();
        for part in [&content.place, &content.owner] {
            if !part.is_empty() {
                line.push_str(part);
                line.push_str(": ");
            }
        }
        line.push_str(&content.message);
        let mut cause = content.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace(['\n', '\r'], " ")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())?;
        if !self.0.excerpt.is_empty() {
            write!(f, "\n{}", self.0.excerpt)?;
        }
        Ok(())
    }
}

// The causes are part of the one line already; a chain printer must not repeat them.
impl Error for ConfigError {}

/// Parts of names of options whose values are not shown, also of such names with a typing mistake.
const SECRET_NAMES: [&str; 6] = ["pas", "pwd", "token", "secret", "auth", "cred"];

/// The line up to the value of an option that holds a secret: excerpts end up in logs.
fn without_secret(line: &str) -> Cow<'_, str> {
    let is_secret = |key: &str| {
        let key = key.to_ascii_lowercase();
        SECRET_NAMES.iter().any(|name| key.contains(name))
    };
    let mut start = 0;
    for (equals, _) in line.match_indices('=') {
        if is_secret(&line[start..equals]) {
            return Cow::Owned(format!("{} ***", &line[..=equals]));
        }
        start = equals + 1;
    }
    Cow::Borrowed(line)
}

/// The line with its number, and a caret under the place.
fn excerpt(line: usize, column: usize, width: usize, text: &str) -> String {
    // A long line is shown around the place, and tabs as blanks, so that the caret stands right.
    let skip = if column > EXCERPT_WIDTH - 40 { column - 40 } else { 0 };
    let shown: String =
        text.chars().skip(skip).take(EXCERPT_WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let before = (column - 1).saturating_sub(skip);
    let carets = width.clamp(1, shown.chars().count().saturating_sub(before).max(1));
    format!(" {margin} |\n {number} | {}\n {margin} | {}{}", shown.trim_end(), " ".repeat(before), "^".repeat(carets))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::tree::SourceFile;

    fn check(text: &str, part: &str, expected: Expect) {
        let start = text.find(part).unwrap();
        let source = Arc::new(SourceFile::new("t.conf", text));
        let error = ConfigError::at(&source, Span::new(start, start + part.len()), "inputs.cpu", "unknown option");
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn shows_the_line() {
        check(
            "[[inputs.cpu]]\r\n\tpercpuu = true\r\n",
            "percpuu",
            expect![[r"
                t.conf:2:2: inputs.cpu: unknown option
                   |
                 2 |  percpuu = true
                   |  ^^^^^^^"]],
        );
    }

    #[test]
    fn cuts_a_long_line() {
        let error = {
            let text = format!("{} bad {}", "x".repeat(500), "y".repeat(500));
            let source = Arc::new(SourceFile::new("t.conf", text));
            ConfigError::at(&source, Span::new(501, 504), "", "wrong").to_string()
        };
        assert!(error.contains(" bad y"), "{error}");
        assert!(error.lines().all(|line| line.len() < 160), "{error}");
    }

    #[test]
    fn hides_secrets() {
        let check = |line: &str, expected: Expect| expected.assert_eq(&without_secret(line));
        check("  password = \"correct horse\"", expect![["  password = ***"]]);
        check("  pasword = \"correct horse\"", expect![["  pasword = ***"]]);
        check(
            "headers = {a = \"b=c\", Authorization = \"Bearer x\"}",
            expect![["headers = {a = \"b=c\", Authorization = ***"]],
        );
        check("  percpu = \"often\"", expect![["  percpu = \"often\""]]);
    }

    #[test]
    fn says_causes_on_the_same_line() {
        let error = ConfigError::of_file("x.conf", "cannot read").caused_by(std::io::Error::other("no\nluck"));
        assert_eq!(error.to_string(), "x.conf: cannot read: no luck");
    }
}
