//! Patterns of the filter dialect as text.

use std::iter::Peekable;
use std::str::CharIndices;

use super::GlobError;
use super::token::Token;

/// Alternatives nested deeper than any sane pattern are refused, so that a hostile one cannot exhaust the stack.
const DEEPEST_NESTING: usize = 64;

/// Reads a pattern into its elements.
pub(super) fn parse(pattern: &str) -> Result<Vec<Token>, GlobError> {
    let mut parser = Parser { pattern, rest: pattern.char_indices().peekable(), depth: 0 };
    let mut tokens = parser.sequence()?;
    if tokens == [Token::One] {
        tokens = vec![Token::OneOrNone];
    }
    Ok(tokens)
}

struct Parser<'a> {
    pattern: &'a str,
    rest: Peekable<CharIndices<'a>>,
    /// How many `{` are open.
    depth: usize,
}

impl Parser<'_> {
    /// Reads up to the end, or to the `,` or `}` that ends an alternative.
    fn sequence(&mut self) -> Result<Vec<Token>, GlobError> {
        let mut tokens = Vec::new();
        while let Some(&(offset, character)) = self.rest.peek() {
            if self.depth > 0 && matches!(character, ',' | '}') {
                break;
            }
            self.rest.next();
            match character {
                '*' => {
                    let mut stars = 1;
                    while self.rest.next_if(|&(_, next)| next == '*').is_some() {
                        stars += 1;
                    }
                    tokens.push(if stars == 1 { Token::Run } else { Token::AnyRun });
                }
                '?' => tokens.push(Token::One),
                '[' => tokens.push(self.class(offset)?),
                '{' => tokens.push(self.alternatives(offset)?),
                '\\' => {
                    if let Some((_, escaped)) = self.rest.next() {
                        Token::push_literal(&mut tokens, escaped);
                    }
                }
                _ => Token::push_literal(&mut tokens, character),
            }
        }
        Ok(tokens)
    }

    fn alternatives(&mut self, opened: usize) -> Result<Token, GlobError> {
        if self.depth == DEEPEST_NESTING {
            return Err(self.error(opened, "alternatives are nested too deeply"));
        }
        self.depth += 1;
        let mut alternatives = vec![self.sequence()?];
        loop {
            match self.rest.next() {
                Some((_, ',')) => alternatives.push(self.sequence()?),
                Some(_) => break,
                None => return Err(self.error(opened, "`{` is not closed")),
            }
        }
        self.depth -= 1;
        Ok(Token::Alternatives(alternatives))
    }

    fn class(&mut self, opened: usize) -> Result<Token, GlobError> {
        let negated = self.rest.next_if(|&(_, next)| next == '!').is_some();
        let mut list = Vec::new();
        loop {
            match self.rest.next() {
                Some((_, ']')) => break,
                Some((_, member)) => list.push(member),
                None => return Err(self.error(opened, "`[` is not closed")),
            }
        }
        let members = match list.as_slice() {
            [] => return Err(self.error(opened, "the class is empty")),
            [low, '-', high] if low <= high => vec![*low..=*high],
            [_, '-', _] => return Err(self.error(opened, "the range falls")),
            [_, '-', ..] => {
                return Err(self.error(opened, "a range has to be all of its class, as in `[a-z]`"));
            }
            _ => list.into_iter().map(|member| member..=member).collect(),
        };
        Ok(Token::Class { negated, members })
    }

    fn error(&self, offset: usize, problem: &'static str) -> GlobError {
        GlobError { pattern: self.pattern.to_owned(), offset, problem }
    }
}
