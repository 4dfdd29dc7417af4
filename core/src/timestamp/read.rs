//! Reading a time by a layout.

use std::sync::Once;

use bstr::ByteSlice;

use super::civil::{self, DAY, Date};
use super::layout::{GoLayout, MONTHS, Pad, Token, WEEKDAYS};
use super::scan::{
    abbreviation_length, below, fraction_digits, half_day, name, nanoseconds, number, offset, skip, take_digits,
};
use super::{TimestampError, Zone};

/// What a text says: a wall clock, and where that clock hangs.
#[derive(Debug)]
pub(super) struct Reading<'t> {
    /// Seconds since the epoch, the wall clock read as UTC.
    wall: i64,
    nanosecond: u32,
    place: Named<'t>,
}

/// The zone as the text names it.
#[derive(Debug)]
enum Named<'t> {
    Nothing,
    Utc,
    Offset(i64),
    Abbreviation(&'t [u8]),
}

/// A wall clock whose place is known.
#[derive(Debug)]
pub(super) struct Moment<'z> {
    wall: i64,
    nanosecond: u32,
    place: Place<'z>,
}

#[derive(Debug)]
enum Place<'z> {
    Offset(i64),
    Borrowed(&'z Zone),
    Owned(Zone),
}

impl Reading<'_> {
    /// Finds the zone of the text; `zone` holds if it names none.
    pub(super) fn resolve<'z>(&self, zone: &'z Zone) -> Result<Moment<'z>, TimestampError> {
        let place = match self.place {
            Named::Nothing => Place::Borrowed(zone),
            Named::Utc => Place::Offset(0),
            Named::Offset(seconds) => Place::Offset(seconds),
            Named::Abbreviation(name) => by_abbreviation(name)?,
        };
        Ok(Moment { wall: self.wall, nanosecond: self.nanosecond, place })
    }
}

impl Moment<'_> {
    /// Seconds since the epoch, and nanoseconds of the second.
    pub(super) fn seconds(&self) -> (i64, u32) {
        let second = match &self.place {
            Place::Offset(offset) => self.wall - offset,
            Place::Borrowed(zone) => zone.instant_of_wall(self.wall),
            Place::Owned(zone) => zone.instant_of_wall(self.wall),
        };
        (second, self.nanosecond)
    }

    /// Nanoseconds since the epoch, the low 64 bits of them.
    pub(super) fn nanoseconds(&self) -> i64 {
        let (second, nanosecond) = self.seconds();
        second.wrapping_mul(1_000_000_000).wrapping_add(i64::from(nanosecond))
    }

    /// Moves a time of the year 0 to the year of `now`, keeping what the clock on the wall shows.
    pub(super) fn in_current_year(mut self, now: i64) -> Self {
        let date = Date::of_days(self.wall.div_euclid(DAY));
        if date.year == 0 {
            let year = Date::of_days(now.div_euclid(DAY * 1_000_000_000)).year;
            self.wall = Date { year, ..date }.days() * DAY + self.wall.rem_euclid(DAY);
        }
        self
    }
}

/// Abbreviations are ambiguous; the one zone database entry of that name is taken as the most likely meaning.
fn by_abbreviation(name: &[u8]) -> Result<Place<'static>, TimestampError> {
    static WARN: Once = Once::new();
    // `GMT+3` carries its offset with it.
    if let Some(hours) = name.strip_prefix(b"GMT").and_then(|hours| crate::number::parse_int10(hours).ok())
        && hours != 0
    {
        return Ok(Place::Offset(hours * 3600));
    }
    let unknown = || TimestampError::UnknownAbbreviation(name.as_bstr().to_string());
    let text = str::from_utf8(name).map_err(|_| unknown())?;
    let zone = Zone::load(text).map_err(|_| unknown())?;
    WARN.call_once(|| {
        tracing::warn!(
            abbreviation = text,
            "a time zone abbreviation is ambiguous and was read as the zone of that name; use numeric offsets instead"
        );
    });
    Ok(Place::Owned(zone))
}

/// The parts of a time read so far.
#[derive(Default)]
struct Parts<'t> {
    year: i64,
    month: Option<u8>,
    day: Option<u8>,
    day_of_year: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: u32,
    /// `PM` (true) or `AM` (false).
    afternoon: Option<bool>,
    utc: bool,
    offset: Option<i64>,
    abbreviation: Option<&'t [u8]>,
}

impl GoLayout {
    /// Reads what a text says, without looking up its zone.
    pub(super) fn read<'t>(&self, text: &'t [u8]) -> Result<Reading<'t>, TimestampError> {
        self.read_parts(text).and_then(Parts::finish).map_err(|problem| TimestampError::Layout {
            text: text.as_bstr().to_string(),
            layout: self.as_str().to_owned(),
            problem,
        })
    }

    fn read_parts<'t>(&self, text: &'t [u8]) -> Result<Parts<'t>, &'static str> {
        let mut parts = Parts::default();
        let mut rest = text;
        let mut tokens = self.tokens().iter().peekable();
        while let Some(token) = tokens.next() {
            match *token {
                Token::Literal { start, end } => skip(&mut rest, self.literal(start, end))?,
                Token::Second(pad) => {
                    parts.second = below(number(&mut rest, pad)?, 60, "the second is out of range")?;
                    let fraction_follows =
                        matches!(tokens.peek(), Some(Token::Fraction { .. } | Token::ShortFraction { .. }));
                    if !fraction_follows && let Some(digits) = fraction_digits(rest) {
                        parts.nanosecond = nanoseconds(digits);
                        rest = &rest[1 + digits.len()..];
                    }
                }
                token => parts.read(token, &mut rest)?,
            }
        }
        if rest.is_empty() { Ok(parts) } else { Err("there is text behind the time") }
    }
}

impl<'t> Parts<'t> {
    fn read(&mut self, token: Token, rest: &mut &'t [u8]) -> Result<(), &'static str> {
        match token {
            Token::Year => {
                let digits = take_digits(rest, 4).ok_or("the year has to have four digits")?;
                self.year = digits;
            }
            Token::ShortYear => {
                let year = take_digits(rest, 2).ok_or("the year has to have two digits")?;
                self.year = if year >= 69 { 1900 + year } else { 2000 + year };
            }
            Token::MonthName => self.month = Some(1 + name(rest, &MONTHS, None).ok_or("the month is unknown")?),
            Token::ShortMonthName => {
                self.month = Some(1 + name(rest, &MONTHS, Some(3)).ok_or("the month is unknown")?);
            }
            Token::Month(pad) => {
                let month = number(rest, pad)?;
                if !(1..=12).contains(&month) {
                    return Err("the month is out of range");
                }
                self.month = Some(month as u8);
            }
            Token::WeekdayName => {
                name(rest, &WEEKDAYS, None).ok_or("the weekday is unknown")?;
            }
            Token::ShortWeekdayName => {
                name(rest, &WEEKDAYS, Some(3)).ok_or("the weekday is unknown")?;
            }
            Token::Day(pad) => {
                if pad == Pad::Space {
                    *rest = rest.strip_prefix(b" ").unwrap_or(rest);
                }
                self.day = Some(number(rest, pad)? as u8);
            }
            Token::DayOfYear(pad) => {
                if pad == Pad::Space {
                    for _ in 0..2 {
                        *rest = rest.strip_prefix(b" ").unwrap_or(rest);
                    }
                }
                let count = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
                if count == 0 || pad == Pad::Zero && count != 3 {
                    return Err("the day of the year is no number");
                }
                self.day_of_year = take_digits(rest, count);
            }
            Token::Hour => self.hour = below(number(rest, Pad::None)?, 24, "the hour is out of range")?,
            Token::Hour12(pad) => self.hour = below(number(rest, pad)?, 13, "the hour is out of range")?,
            Token::Minute(pad) => self.minute = below(number(rest, pad)?, 60, "the minute is out of range")?,
            Token::UpperHalfDay => self.afternoon = Some(half_day(rest, b"AM", b"PM")?),
            Token::LowerHalfDay => self.afternoon = Some(half_day(rest, b"am", b"pm")?),
            Token::Offset { zulu, shape } => {
                if zulu && let [b'Z', after @ ..] = *rest {
                    *rest = after;
                    self.utc = true;
                } else {
                    self.offset = Some(offset(rest, shape)?);
                }
            }
            Token::Abbreviation => {
                if let Some(after) = rest.strip_prefix(b"UTC") {
                    *rest = after;
                    self.utc = true;
                } else {
                    let length = abbreviation_length(rest).ok_or("the zone abbreviation is none")?;
                    let (name, after) = rest.split_at(length);
                    *rest = after;
                    self.abbreviation = Some(name);
                }
            }
            Token::Fraction { digits, .. } => {
                let fraction = rest.get(1..=digits).filter(|fraction| fraction.iter().all(u8::is_ascii_digit));
                match (rest.first(), fraction) {
                    (Some(b'.' | b','), Some(fraction)) => self.nanosecond = nanoseconds(fraction),
                    _ => return Err("the fraction of the second has another width"),
                }
                *rest = &rest[1 + digits..];
            }
            Token::ShortFraction { .. } => {
                if let Some(digits) = fraction_digits(rest) {
                    self.nanosecond = nanoseconds(digits);
                    *rest = &rest[1 + digits.len()..];
                }
            }
            Token::Literal { .. } | Token::Second(_) => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Reading<'t>, &'static str> {
        let (month, day) = self.month_and_day()?;
        if day < 1 || day > civil::days_in_month(self.year, month) {
            return Err("the day is out of range");
        }
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let days = Date { year: self.year, month, day }.days();
        let wall = days * DAY + hour * 3600 + self.minute * 60 + self.second;
        let place = match (self.offset, self.abbreviation) {
            _ if self.utc => Named::Utc,
            (Some(offset), _) => Named::Offset(offset),
            (None, Some(name)) => Named::Abbreviation(name),
            (None, None) => Named::Nothing,
        };
        Ok(Reading { wall, nanosecond: self.nanosecond, place })
    }

    fn month_and_day(&self) -> Result<(u8, u8), &'static str> {
        let Some(day_of_year) = self.day_of_year else {
            return Ok((self.month.unwrap_or(1), self.day.unwrap_or(1)));
        };
        let length = 365 + i64::from(civil::is_leap(self.year));
        if !(1..=length).contains(&day_of_year) {
            return Err("the day of the year is out of range");
        }
        let first = Date { year: self.year, month: 1, day: 1 }.days();
        let date = Date::of_days(first + day_of_year - 1);
        if self.month.is_some_and(|month| month != date.month) || self.day.is_some_and(|day| day != date.day) {
            return Err("the day of the year does not fit month and day");
        }
        Ok((date.month, date.day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(layout: &str, text: &str) -> Result<i64, String> {
        GoLayout::named(layout).parse(text.as_bytes(), &Zone::UTC).map_err(|error| match error {
            TimestampError::Layout { problem, .. } => problem.to_owned(),
            other => other.to_string(),
        })
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn named_layouts() {
        for (layout, text) in [
            ("ansic", "Tue Nov 14 22:13:20 2023"),
            ("UnixDate", "Tue Nov 14 22:13:20 UTC 2023"),
            ("rubydate", "Tue Nov 14 22:13:20 +0000 2023"),
            ("rfc850", "Tuesday, 14-Nov-23 22:13:20 UTC"),
            ("rfc1123", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("rfc1123z", "Tue, 14 Nov 2023 23:13:20 +0100"),
            ("rfc3339", "2023-11-14T22:13:20Z"),
            ("rfc3339", "2023-11-15T03:43:20+05:30"),
            ("rfc3339nano", "2023-11-14T22:13:20.000Z"),
            ("2006-01-02 03:04:05 PM", "2023-11-14 10:13:20 PM"),
            ("2006 002 15:4:5", "2023 318 22:13:20"),
            ("06 __2 15:4:5", "23 318 22:13:20"),
            ("Jan _2 2006 15:04:05", "nov   14 2023    22:13:20"),
        ] {
            assert_eq!(read(layout, text), Ok(1_700_000_000 * SECOND), "{layout} {text}");
        }
        assert_eq!(read("rfc822", "14 Nov 23 22:13 UTC"), Ok((1_700_000_000 - 20) * SECOND));
        assert_eq!(read("rfc822z", "14 Nov 23 22:13 -0000"), Ok((1_700_000_000 - 20) * SECOND));
    }

    #[test]
    fn fractions() {
        let base = 1_700_000_000 * SECOND;
        for (layout, text, want) in [
            ("2006-01-02 15:04:05", "2023-11-14 22:13:20,25", base + 250_000_000),
            ("2006-01-02 15:04:05", "2023-11-14 22:13:20.1234567899", base + 123_456_789),
            ("2006-01-02 15:04:05.000", "2023-11-14 22:13:20,125", base + 125_000_000),
            ("2006-01-02 15:04:05.999", "2023-11-14 22:13:20", base),
            ("2006-01-02 15:04:05.999", "2023-11-14 22:13:20.1234", base + 123_400_000),
            ("2006-01-02 15:04:05.999Z07:00", "2023-11-14 22:13:20.5Z", base + 500_000_000),
        ] {
            assert_eq!(read(layout, text), Ok(want), "{layout} {text}");
        }
        assert!(read("15:04:05.000", "22:13:20.12").is_err());
        assert!(read("15:04:05.000", "22:13:20.1234").is_err());
        assert!(read("15:04:05.000", "22:13:20").is_err());
    }

    #[test]
    fn what_is_out_of_range_or_does_not_fit() {
        for (layout, text) in [
            ("2006-01-02", "2023-13-01"),
            ("2006-01-02", "2023-02-30"),
            ("2006-01-02", "2023-00-01"),
            ("2006-01-02", "2023-01-00"),
            ("2006-01-02", "2023-1-02"),
            ("2006-01-02", " 2023-01-02"),
            ("2006-01-02", "2023-01-02 "),
            ("2006-01-02", ""),
            ("15:04:05", "24:00:00"),
            ("15:04:05", "23:59:60"),
            ("3PM", "13PM"),
            ("3PM", "1pm"),
            ("2006 002", "2023 366"),
            ("2006 002 Jan", "2023 001 Feb"),
            ("-0700", "Z"),
            ("Z0700", "+01:00"),
            ("Z07:00", "+25:00"),
            ("Mon", "Foo"),
            ("2006T", "2023t"),
            ("MST", "ab"),
        ] {
            assert!(read(layout, text).is_err(), "{layout} {text}");
        }
    }

    #[test]
    fn errors_say_what_and_why() {
        let error = GoLayout::new("2006-01-02").parse(b"2023-02-30", &Zone::UTC).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read time \"2023-02-30\" by layout \"2006-01-02\": the day is out of range"
        );
    }

    #[test]
    fn defaults_of_missing_parts() {
        assert_eq!(read("15", "7"), Ok((-62_167_219_200i64 + 7 * 3600).wrapping_mul(SECOND)));
        let now = 1_700_000_000 * SECOND;
        let this_year =
            |text: &str| GoLayout::named("stamp").parse_in_current_year(text.as_bytes(), &Zone::UTC, now).unwrap();
        assert_eq!(this_year("Nov 14 22:13:20"), now);
        assert_eq!(this_year("Feb 29 00:00:00"), 1_677_628_800 * SECOND);
    }

    #[test]
    fn abbreviations() {
        let layout = "2006-01-02T15:04:05 MST";
        let at = |zone: &str, month: &str| read(layout, &format!("2023-{month}-14T22:13:20 {zone}"));
        assert_eq!(at("UTC", "11"), Ok(1_700_000_000 * SECOND));
        assert_eq!(at("EST", "11"), Ok(1_700_018_000 * SECOND));
        assert_eq!(at("GMT+3", "11"), Ok(1_699_989_200 * SECOND));
        assert_eq!(at("CET", "07"), Ok((1_689_372_800 - 7200) * SECOND));
        for zone in ["PST", "CEST", "IST", "+03"] {
            let want = format!("cannot resolve timezone abbreviation {zone:?}; use a numeric offset");
            assert_eq!(at(zone, "11"), Err(want));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(layout: String, text: Vec<u8>) {
            let _ = GoLayout::new(&layout).parse(&text, &Zone::UTC);
            let _ = GoLayout::named("rfc850").parse(&text, &Zone::UTC);
        }

        #[test]
        fn what_is_written_is_read(ns: i64, layout in prop::sample::select(vec![
            "2006-01-02T15:04:05.999999999Z07:00",
            "Monday 2 January 2006 3:4:5.000000000 pm -070000",
            "2006__2 15_04_05,999999999 -07:00:00",
        ])) {
            let layout = GoLayout::new(layout);
            for zone in ["UTC", "Asia/Kolkata", "America/New_York"] {
                let zone = Zone::load(zone).unwrap();
                let mut text = Vec::new();
                layout.format(ns, &zone, &mut text);
                // Offsets before standard time had seconds, which the first layout cannot hold.
                let is_whole = zone.offset_at(ns.div_euclid(SECOND)) % 60 == 0;
                prop_assert!(!is_whole || layout.parse(&text, &Zone::UTC).unwrap() == ns);
            }
        }
    }
}
