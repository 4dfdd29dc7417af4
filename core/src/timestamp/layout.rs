//! Go reference layouts: a time format written as the reference time in that format.

use super::{TimestampError, Zone};

/// A layout like `2006-01-02T15:04:05Z07:00`, taken apart.
///
/// Source: package `time` of Go.
#[derive(Clone, Debug)]
pub struct GoLayout {
    text: Box<str>,
    tokens: Box<[Token]>,
}

/// A part of a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    /// Text for itself: a range of the layout.
    Literal { start: usize, end: usize },
    /// `2006`
    Year,
    /// `06`
    ShortYear,
    /// `January`
    MonthName,
    /// `Jan`
    ShortMonthName,
    /// `1`, `01`
    Month(Pad),
    /// `Monday`
    WeekdayName,
    /// `Mon`
    ShortWeekdayName,
    /// `2`, `02`, `_2`
    Day(Pad),
    /// `002`, `__2`
    DayOfYear(Pad),
    /// `15`
    Hour,
    /// `3`, `03`
    Hour12(Pad),
    /// `4`, `04`
    Minute(Pad),
    /// `5`, `05`
    Second(Pad),
    /// `.000`, `,000`: so many digits.
    Fraction { mark: u8, digits: usize },
    /// `.999`, `,999`: up to so many digits, without zeros at the end.
    ShortFraction { mark: u8, digits: usize },
    /// `PM`
    UpperHalfDay,
    /// `pm`
    LowerHalfDay,
    /// `-0700` and its kin; with `zulu`, `Z0700` and its kin.
    Offset { zulu: bool, shape: OffsetShape },
    /// `MST`
    Abbreviation,
}

/// How a number of one digit is made as wide as its neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pad {
    None,
    Zero,
    Space,
}

/// How a zone offset is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum OffsetShape {
    /// `-07`
    Hours,
    /// `-0700`
    Minutes,
    /// `-07:00`
    ColonMinutes,
    /// `-070000`
    Seconds,
    /// `-07:00:00`
    ColonSeconds,
}

/// Names under which configurations may call a layout, in lower case.
const NAMED: [(&str, &str); 14] = [
    ("ansic", "Mon Jan _2 15:04:05 2006"),
    ("unixdate", "Mon Jan _2 15:04:05 MST 2006"),
    ("rubydate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("rfc822", "02 Jan 06 15:04 MST"),
    ("rfc822z", "02 Jan 06 15:04 -0700"),
    ("rfc850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("rfc1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("rfc1123z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("rfc3339", "2006-01-02T15:04:05Z07:00"),
    ("rfc3339nano", "2006-01-02T15:04:05.999999999Z07:00"),
    ("stamp", "Jan _2 15:04:05"),
    ("stampmilli", "Jan _2 15:04:05.000"),
    ("stampmicro", "Jan _2 15:04:05.000000"),
    ("stampnano", "Jan _2 15:04:05.000000000"),
];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl GoLayout {
    /// Takes a layout apart. Any text is one; what is no layout element stands for itself.
    pub fn new(layout: &str) -> Self {
        let mut tokens = Vec::new();
        let mut literal = 0;
        let mut at = 0;
        while at < layout.len() {
            let Some((token, length)) = token_at(&layout.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            if literal < at {
                tokens.push(Token::Literal { start: literal, end: at });
            }
            tokens.push(token);
            at += length;
            literal = at;
        }
        if literal < layout.len() {
            tokens.push(Token::Literal { start: literal, end: layout.len() });
        }
        Self { text: layout.into(), tokens: tokens.into() }
    }

    /// The layout that goes by a name in any case, as `RFC3339`; otherwise the text itself is the layout.
    pub fn named(name_or_layout: &str) -> Self {
        let named = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(name_or_layout));
        Self::new(named.map_or(name_or_layout, |(_, layout)| layout))
    }

    /// The layout as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text holds any layout element at all; one that does not would print itself for every time.
    pub fn has_elements(&self) -> bool {
        self.tokens.iter().any(|token| !matches!(token, Token::Literal { .. }))
    }

    /// Whether a time read by the layout names its year.
    pub fn has_year(&self) -> bool {
        self.tokens.iter().any(|token| matches!(token, Token::Year | Token::ShortYear))
    }

    /// Reads a time; a text without a zone of its own is a wall clock in `zone`.
    ///
    /// Nanoseconds since the epoch, of which the low 64 bits are kept. A layout without a year gives the year 0. Fails
    /// if the text does not fit the layout, a part is out of range, or a zone abbreviation is unknown.
    pub fn parse(&self, text: &[u8], zone: &Zone) -> Result<i64, TimestampError> {
        Ok(self.read(text)?.resolve(zone)?.nanoseconds())
    }

    /// Reads a time as [`parse`](Self::parse), but moves one of the year 0 to the year of `now`, in its own zone.
    ///
    /// The 29th of February becomes the 1st of March if that year has none.
    pub fn parse_in_current_year(&self, text: &[u8], zone: &Zone, now: i64) -> Result<i64, TimestampError> {
        Ok(self.read(text)?.resolve(zone)?.in_current_year(now).nanoseconds())
    }

    /// Reads a time as [`parse`](Self::parse), whatever the year: seconds since the epoch, and nanoseconds on top.
    pub fn parse_seconds(&self, text: &[u8], zone: &Zone) -> Result<(i64, u32), TimestampError> {
        Ok(self.read(text)?.resolve(zone)?.seconds())
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn literal(&self, start: usize, end: usize) -> &[u8] {
        &self.text.as_bytes()[start..end]
    }
}

/// The layout element that a text begins with, and its length.
fn token_at(text: &[u8]) -> Option<(Token, usize)> {
    let name = |word: &str, long: Token, short: Token| {
        let follows_lower_case = || text.get(3).is_some_and(u8::is_ascii_lowercase);
        if text.starts_with(word.as_bytes()) {
            Some((long, word.len()))
        } else if text.starts_with(&word.as_bytes()[..3]) && !follows_lower_case() {
            Some((short, 3))
        } else {
            None
        }
    };
    match text {
        [b'J', ..] => name("January", Token::MonthName, Token::ShortMonthName),
        [b'M', b'S', b'T', ..] => Some((Token::Abbreviation, 3)),
        [b'M', ..] => name("Monday", Token::WeekdayName, Token::ShortWeekdayName),
        [b'0', b'0', b'2', ..] => Some((Token::DayOfYear(Pad::Zero), 3)),
        [b'0', digit @ b'1'..=b'6', ..] => Some((
            match digit {
                b'1' => Token::Month(Pad::Zero),
                b'2' => Token::Day(Pad::Zero),
                b'3' => Token::Hour12(Pad::Zero),
                b'4' => Token::Minute(Pad::Zero),
                b'5' => Token::Second(Pad::Zero),
                _ => Token::ShortYear,
            },
            2,
        )),
        [b'1', b'5', ..] => Some((Token::Hour, 2)),
        [b'1', ..] => Some((Token::Month(Pad::None), 1)),
        [b'2', b'0', b'0', b'6', ..] => Some((Token::Year, 4)),
        [b'2', ..] => Some((Token::Day(Pad::None), 1)),
        // A year after an underscore is just that.
        [b'_', b'2', b'0', b'0', b'6', ..] => None,
        [b'_', b'2', ..] => Some((Token::Day(Pad::Space), 2)),
        [b'_', b'_', b'2', ..] => Some((Token::DayOfYear(Pad::Space), 3)),
        [b'3', ..] => Some((Token::Hour12(Pad::None), 1)),
        [b'4', ..] => Some((Token::Minute(Pad::None), 1)),
        [b'5', ..] => Some((Token::Second(Pad::None), 1)),
        [b'P', b'M', ..] => Some((Token::UpperHalfDay, 2)),
        [b'p', b'm', ..] => Some((Token::LowerHalfDay, 2)),
        [sign @ (b'-' | b'Z'), rest @ ..] => offset_at(*sign == b'Z', rest),
        [mark @ (b'.' | b','), digit @ (b'0' | b'9'), ..] => {
            let digits = text[1..].iter().take_while(|byte| *byte == digit).count();
            // More digits of another kind: this is no fraction.
            if text.get(1 + digits).is_some_and(u8::is_ascii_digit) {
                return None;
            }
            let token = match digit {
                b'0' => Token::Fraction { mark: *mark, digits },
                _ => Token::ShortFraction { mark: *mark, digits },
            };
            Some((token, 1 + digits))
        }
        _ => None,
    }
}

fn offset_at(zulu: bool, rest: &[u8]) -> Option<(Token, usize)> {
    let shapes: [(&[u8], OffsetShape); 5] = [
        (b"070000", OffsetShape::Seconds),
        (b"07:00:00", OffsetShape::ColonSeconds),
        (b"0700", OffsetShape::Minutes),
        (b"07:00", OffsetShape::ColonMinutes),
        (b"07", OffsetShape::Hours),
    ];
    let (text, shape) = shapes.into_iter().find(|(text, _)| rest.starts_with(text))?;
    Some((Token::Offset { zulu, shape }, 1 + text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        assert!(GoLayout::new("2006").has_elements());
        assert!(!GoLayout::new("unix").has_elements());
        assert!(!GoLayout::new("").has_elements());
        assert!(!GoLayout::new("Janus, Month").has_elements());
        assert!(GoLayout::new("06").has_year() && !GoLayout::new("Jan _2").has_year());
        assert_eq!(GoLayout::named("RFC3339").as_str(), "2006-01-02T15:04:05Z07:00");
        assert_eq!(GoLayout::named("15:04").as_str(), "15:04");
    }

    #[test]
    fn an_underscore_before_a_year_is_text() {
        let layout = GoLayout::new("_2006__2");
        assert_eq!(layout.tokens(), [Token::Literal { start: 0, end: 1 }, Token::Year, Token::DayOfYear(Pad::Space)]);
    }

    #[test]
    fn a_fraction_ends_at_another_digit() {
        assert_eq!(GoLayout::new(".0001").tokens()[0], Token::Literal { start: 0, end: 3 });
        assert_eq!(GoLayout::new(",99").tokens(), [Token::ShortFraction { mark: b',', digits: 2 }]);
    }
}
