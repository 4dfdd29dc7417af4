//! Elements of compiled patterns, and how they match.

use std::ops::RangeInclusive;

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Literal(Vec<u8>),
    /// `?`
    One,
    /// `?` as the whole pattern.
    OneOrNone,
    /// `*`
    Run,
    /// `**`
    AnyRun,
    /// `[…]`
    Class {
        negated: bool,
        members: Vec<RangeInclusive<char>>,
    },
    /// `{…}`
    Alternatives(Vec<Vec<Token>>),
}

impl Token {
    /// Appends a character to the literal at the end of `tokens`.
    pub(crate) fn push_literal(tokens: &mut Vec<Self>, character: char) {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        match tokens.last_mut() {
            Some(Self::Literal(literal)) => literal.extend_from_slice(bytes),
            _ => tokens.push(Self::Literal(bytes.to_vec())),
        }
    }
}

/// All sequences that come of choosing one of each `{…}`; nothing if there are more than `limit`.
pub(super) fn expand(tokens: &[Token], limit: usize) -> Option<Vec<Vec<Token>>> {
    let mut sequences = vec![Vec::new()];
    for token in tokens {
        let choices = match token {
            Token::Alternatives(alternatives) => {
                let mut choices = Vec::new();
                for alternative in alternatives {
                    choices.extend(expand(alternative, limit)?);
                }
                choices
            }
            other => vec![vec![other.clone()]],
        };
        if sequences.len() * choices.len() > limit {
            return None;
        }
        sequences =
            sequences.iter().flat_map(|sequence| choices.iter().map(move |choice| join(sequence, choice))).collect();
    }
    Some(sequences)
}

/// One sequence after the other, literals that meet made one.
fn join(first: &[Token], second: &[Token]) -> Vec<Token> {
    match (first.split_last(), second.split_first()) {
        (Some((Token::Literal(end), before)), Some((Token::Literal(start), after))) => {
            let literal = Token::Literal([end.as_slice(), start].concat());
            before.iter().cloned().chain([literal]).chain(after.iter().cloned()).collect()
        }
        _ => [first, second].concat(),
    }
}

/// Whether tokens without alternatives match the whole text where there are no separators; allocates nothing.
///
/// A run takes as little as it can and more only if what follows it fails. Since any run can take any character, the
/// runs before the last one need not be tried again.
pub(super) fn matches_plainly(tokens: &[Token], text: &[u8]) -> bool {
    let (mut at_token, mut at) = (0, 0);
    let mut last_run: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(at_token) {
            Some(Token::Run | Token::AnyRun) => {
                last_run = Some((at_token + 1, at));
                Some(0)
            }
            Some(Token::Literal(literal)) => text[at..].starts_with(literal).then_some(literal.len()),
            Some(Token::OneOrNone) if text.is_empty() => Some(0),
            Some(token) => {
                decode(&text[at..]).and_then(|(character, width)| token.accepts(character, &[]).then_some(width))
            }
            None if at == text.len() => return true,
            None => None,
        };
        match (step, last_run) {
            (Some(width), _) => {
                at_token += 1;
                at += width;
            }
            (None, Some((after_run, from))) => {
                let Some((_, width)) = decode(&text[from..]) else {
                    return false;
                };
                last_run = Some((after_run, from + width));
                (at_token, at) = (after_run, from + width);
            }
            (None, None) => return false,
        }
    }
}

/// Whether the tokens match the whole text.
pub(crate) fn matches(tokens: &[Token], separators: &[char], text: &[u8]) -> bool {
    let mut places = Places::start(text.len());
    advance(tokens, separators, text, &mut places);
    places.contains(text.len())
}

/// The places in the text that the pattern read so far can end at.
///
/// Walking all places at once keeps the time at pattern × text, where backtracking would be exponential.
#[derive(Clone)]
struct Places(Vec<bool>);

impl Places {
    fn start(length: usize) -> Self {
        let mut places = vec![false; length + 1];
        places[0] = true;
        Self(places)
    }

    fn none(length: usize) -> Self {
        Self(vec![false; length + 1])
    }

    fn contains(&self, at: usize) -> bool {
        self.0.get(at).copied().unwrap_or(false)
    }

    fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }
}

/// Moves each place over all ways in which `tokens` can match from there.
fn advance(tokens: &[Token], separators: &[char], text: &[u8], places: &mut Places) {
    for token in tokens {
        if places.is_empty() {
            return;
        }
        let mut next = Places::none(text.len());
        match token {
            Token::Literal(literal) => {
                for at in (0..text.len()).filter(|&at| places.0[at]) {
                    if text[at..].starts_with(literal) {
                        next.0[at + literal.len()] = true;
                    }
                }
            }
            Token::AnyRun => {
                let first = places.0.iter().position(|&set| set).unwrap_or(text.len());
                next.0[first..].fill(true);
            }
            Token::Run => {
                // A run may end at every border of characters until the next separator.
                let mut running = false;
                let mut at = 0;
                while at <= text.len() {
                    running |= places.0[at];
                    next.0[at] = running;
                    let Some((character, width)) = decode(&text[at..]) else {
                        break;
                    };
                    running &= !character.is_some_and(|character| separators.contains(&character));
                    // A place inside of a character can only come from a literal half of one.
                    for inside in at + 1..at + width {
                        next.0[inside] = places.0[inside];
                        running |= places.0[inside];
                    }
                    at += width;
                }
            }
            Token::One | Token::OneOrNone | Token::Class { .. } => {
                for at in (0..text.len()).filter(|&at| places.0[at]) {
                    if let Some((character, width)) = decode(&text[at..])
                        && token.accepts(character, separators)
                    {
                        next.0[at + width] = true;
                    }
                }
                if *token == Token::OneOrNone && text.is_empty() {
                    next.0[0] = places.0[0];
                }
            }
            Token::Alternatives(alternatives) => {
                for alternative in alternatives {
                    let mut branch = places.clone();
                    advance(alternative, separators, text, &mut branch);
                    for (set, reached) in next.0.iter_mut().zip(branch.0) {
                        *set |= reached;
                    }
                }
            }
        }
        *places = next;
    }
}

impl Token {
    /// Whether one character matches; `None` is a byte that is no UTF-8.
    pub(super) fn accepts(&self, character: Option<char>, separators: &[char]) -> bool {
        match self {
            Self::Class { negated, members } => {
                let is_member =
                    character.is_some_and(|character| members.iter().any(|range| range.contains(&character)));
                is_member != *negated
            }
            _ => !character.is_some_and(|character| separators.contains(&character)),
        }
    }
}

/// The first character of a text and its width in bytes; a byte that is no UTF-8 stands alone.
fn decode(text: &[u8]) -> Option<(Option<char>, usize)> {
    match text.first()? {
        byte @ 0..=127 => Some((Some(char::from(*byte)), 1)),
        _ => match bstr::decode_utf8(text) {
            (Some(character), width) => Some((Some(character), width)),
            (None, _) => Some((None, 1)),
        },
    }
}
