//! Reader of the TOML dialect of Telegraf's files: TOML 0.4 with the liberties that existing files take.
//!
//! What is accepted beyond TOML, and why a reader of our own: `docs/decisions/0001-toml-dialect.md`.

mod build;
mod number;
mod scan;
mod string;

use heliograph_core::config::{
    ConfigError,
    tree::{Source, Span, Table},
};

use self::{build::Builder, scan::Scanner};

/// Reads the parsed text of a file into its tree.
///
/// # Errors
/// At the first place that is not of the dialect, and for keys and tables that are defined twice.
pub(super) fn parse(source: &Source) -> Result<Table, ConfigError> {
    read(source.text()).map_err(|Mistake { span, message }| ConfigError::at(source, span, "", message))
}

/// Something that is not of the dialect.
#[derive(Debug)]
struct Mistake {
    span: Span,
    message: String,
}

impl Mistake {
    fn new(span: Span, message: impl Into<String>) -> Mistake {
        Mistake { span, message: message.into() }
    }
}

fn read(text: &str) -> Result<Table, Mistake> {
    let mut scanner = Scanner::new(text);
    let mut builder = Builder::new(text);
    let mut below_header = false;
    let mut fresh_line = true;
    loop {
        fresh_line |= scanner.skip_blank_lines();
        match scanner.peek() {
            None => return Ok(builder.finish()),
            Some('[') if fresh_line => {
                let header = scanner.header()?;
                builder.open(header)?;
                below_header = true;
            }
            Some('[') => {
                return Err(Mistake::new(scanner.here(), "a table header must be the first thing on its line"));
            }
            // Below a header several keys may share a line, with or without blanks between them.
            Some(_) if fresh_line || below_header => {
                let (key, span) = scanner.key()?;
                scanner.assignment(&key, span)?;
                let node = scanner.value(0)?;
                builder.assign(key, span, node)?;
            }
            Some(_) => return Err(scanner.unexpected("a line break")),
        }
        fresh_line = false;
    }
}

#[cfg(test)]
mod tests;
