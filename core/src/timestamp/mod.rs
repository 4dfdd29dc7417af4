//! Timestamps in data: unix numbers, Go layouts and time zones, as the `*_time_format` and `*_timezone` options name them.

mod civil;
mod layout;
mod rational;
mod read;
mod scan;
mod write;
mod zone;

use bstr::ByteSlice;
use thiserror::Error;

pub use layout::GoLayout;
pub use zone::Zone;

/// How a time is written in data: the value of an option like `json_time_format`.
///
/// | format | values | meaning |
/// |---|---|---|
/// | `unix`, `unix_ms`, `unix_us`, `unix_ns` | numbers, numbers as text | units since the epoch, exact, floored to nanoseconds |
/// | `timestamp_tz` and the same endings | the same | a wall clock of the time zone, counted as if it were UTC |
/// | `rfc3339`, `ansic`, … in any case | text | the Go layout of that name |
/// | anything else | text | a Go reference layout |
#[derive(Clone, Debug)]
pub struct TimestampFormat(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A count of units of so many nanoseconds.
    Unix {
        unit: i64,
    },
    /// The same, of a wall clock.
    Wall {
        unit: i64,
        zone: Zone,
    },
    Layout {
        layout: GoLayout,
        zone: Zone,
    },
}

/// A value that holds a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeValue<'a> {
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating point number.
    Float(f64),
    /// A text.
    Text(&'a [u8]),
    /// A value of another kind, by the name of the kind; it is never a time.
    Other(&'static str),
}

/// Why a value is no time, or a format or zone is none.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TimestampError {
    /// The time zone is in neither database.
    #[error("unknown time zone {0:?}; use an IANA name like \"Europe/Berlin\"")]
    UnknownZone(String),
    /// The time zone abbreviation of the text is no zone.
    #[error("cannot resolve timezone abbreviation {0:?}; use a numeric offset")]
    UnknownAbbreviation(String),
    /// The text is no number.
    #[error("invalid number {0:?} for a unix time")]
    InvalidNumber(String),
    /// The format does not take values of this kind.
    #[error("unsupported type {kind} for time format {format:?}")]
    UnsupportedType {
        /// The kind of the value.
        kind: &'static str,
        /// The format it was to be read by.
        format: String,
    },
    /// The text does not follow the layout.
    #[error("cannot read time {text:?} by layout {layout:?}: {problem}")]
    Layout {
        /// The text.
        text: String,
        /// The layout.
        layout: String,
        /// What does not fit.
        problem: &'static str,
    },
}

impl TimestampFormat {
    /// Takes the values of a format and a time zone option; an empty zone is UTC.
    ///
    /// Fails on an unknown zone. Any format is one, since any text is a layout.
    pub fn new(format: &str, timezone: &str) -> Result<Self, TimestampError> {
        let zone = Zone::load(timezone)?;
        let unit = |prefix: &str| match format.strip_prefix(prefix)? {
            "" => Some(1_000_000_000),
            "_ms" => Some(1_000_000),
            "_us" => Some(1_000),
            "_ns" => Some(1),
            _ => None,
        };
        Ok(Self(if let Some(unit) = unit("unix") {
            Kind::Unix { unit }
        } else if let Some(unit) = unit("timestamp_tz") {
            Kind::Wall { unit, zone }
        } else {
            Kind::Layout { layout: GoLayout::named(format), zone }
        }))
    }

    /// Whether the format is one of the four unix formats.
    pub fn is_unix(&self) -> bool {
        matches!(self.0, Kind::Unix { .. })
    }

    /// Reads a time: nanoseconds since the epoch, of which the low 64 bits are kept.
    ///
    /// Fails if the format does not take values of this kind, or the text does not follow it.
    pub fn parse(&self, value: TimeValue<'_>) -> Result<i64, TimestampError> {
        match &self.0 {
            Kind::Unix { unit } => from_number(value, *unit, "unix"),
            Kind::Wall { unit, zone } => {
                let wall = from_number(value, *unit, "timestamp_tz")?;
                // The offset is taken at the number read as UTC, so near a change of the clocks it is the wrong one.
                let offset = zone.offset_at(wall.div_euclid(1_000_000_000));
                Ok(wall.wrapping_sub(offset.wrapping_mul(1_000_000_000)))
            }
            Kind::Layout { layout, zone } => layout.parse(text_of(value, layout)?, zone),
        }
    }

    /// Reads a time as [`parse`](Self::parse), but moves one of the year 0 to the year of `now`.
    ///
    /// `now` is in nanoseconds since the epoch. For data whose layout has no year.
    pub fn parse_in_current_year(&self, value: TimeValue<'_>, now: i64) -> Result<i64, TimestampError> {
        match &self.0 {
            Kind::Layout { layout, zone } => layout.parse_in_current_year(text_of(value, layout)?, zone, now),
            _ => self.parse(value),
        }
    }
}

fn from_number(value: TimeValue<'_>, unit: i64, format: &str) -> Result<i64, TimestampError> {
    match value {
        TimeValue::Int(number) => Ok(rational::of_int(number, unit)),
        // The low 64 bits of the product are the same for both readings of the number.
        TimeValue::Uint(number) => Ok(rational::of_int(number as i64, unit)),
        TimeValue::Float(number) => {
            rational::of_float(number, unit).ok_or_else(|| TimestampError::InvalidNumber(number.to_string()))
        }
        TimeValue::Text(text) => {
            rational::of_text(text, unit).ok_or_else(|| TimestampError::InvalidNumber(text.as_bstr().to_string()))
        }
        TimeValue::Other(kind) => Err(TimestampError::UnsupportedType { kind, format: format.to_owned() }),
    }
}

fn text_of<'a>(value: TimeValue<'a>, layout: &GoLayout) -> Result<&'a [u8], TimestampError> {
    let kind = match value {
        TimeValue::Text(text) => return Ok(text),
        TimeValue::Int(_) | TimeValue::Uint(_) => "integer",
        TimeValue::Float(_) => "float",
        TimeValue::Other(kind) => kind,
    };
    Err(TimestampError::UnsupportedType { kind, format: layout.as_str().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, zone: &str, value: TimeValue<'_>, want: Result<i64, &str>) {
        let got = TimestampFormat::new(format, zone).unwrap().parse(value).map_err(|error| error.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{format} {zone} {value:?}");
    }

    #[test]
    fn unix() {
        use TimeValue::{Float, Int, Other, Text, Uint};
        check("unix", "", Float(1_700_000_000.123_456_7), Ok(1_700_000_000_123_456_716));
        check("unix", "Asia/Tokyo", Text(b"1700000000.123456789"), Ok(1_700_000_000_123_456_789));
        check("unix", "", Float(-0.5), Ok(-500_000_000));
        check("unix", "", Text(b"1,700,000,000"), Err("invalid number \"1,700,000,000\" for a unix time"));
        check("unix", "", Text(b""), Err("invalid number \"\" for a unix time"));
        check("unix_ms", "", Text(b"1700000000123,5"), Ok(1_700_000_000_123_500_000));
        check("unix_ms", "", Text(b"1700000000123.5"), Ok(1_700_000_000_123_500_000));
        check("unix_us", "", Int(1_700_000_000_123_456), Ok(1_700_000_000_123_456_000));
        check("unix_ns", "", Uint(u64::MAX), Ok(-1));
        check("unix", "", Other("boolean"), Err("unsupported type boolean for time format \"unix\""));
    }

    #[test]
    fn wall_clock_numbers() {
        check("timestamp_tz", "Europe/Berlin", TimeValue::Int(1_700_000_000), Ok(1_699_996_400_000_000_000));
        check("timestamp_tz_ms", "Europe/Berlin", TimeValue::Text(b"1700000000000"), Ok(1_699_996_400_000_000_000));
        check("timestamp_tz", "", TimeValue::Int(1_700_000_000), Ok(1_700_000_000_000_000_000));
    }

    #[test]
    fn layouts() {
        let text = |text: &'static str| TimeValue::Text(text.as_bytes());
        for (format, zone, value, want) in [
            ("2006-01-02 15:04:05", "", "2023-11-14 22:13:20,25", 1_700_000_000_250_000_000),
            ("2006-01-02T15:04:05", "Europe/Berlin", "2023-11-14T22:13:20", 1_699_996_400_000_000_000),
            ("rfc3339", "Europe/Berlin", "2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2006-01-02 15:04", "Europe/Berlin", "2023-03-26 02:30", 1_679_794_200_000_000_000),
            ("2006-01-02 15:04", "Europe/Berlin", "2023-10-29 02:30", 1_698_543_000_000_000_000),
            ("2006-01-02 15:04", "America/New_York", "2023-03-12 02:30", 1_678_602_600_000_000_000),
            ("2006-01-02 15:04", "America/New_York", "2023-11-05 01:30", 1_699_162_200_000_000_000),
            ("2006-01-02T15:04:05 MST", "", "2023-11-14T22:13:20 EST", 1_700_018_000_000_000_000),
        ] {
            check(format, zone, text(value), Ok(want));
        }
        check("2006-01-02", "", TimeValue::Int(5), Err("unsupported type integer for time format \"2006-01-02\""));
    }

    #[test]
    fn the_current_year_is_added_in_the_zone() {
        let format = TimestampFormat::new("Jan _2 15:04:05", "Europe/Berlin").unwrap();
        let now = 1_700_000_000_000_000_000;
        assert_eq!(format.parse_in_current_year(TimeValue::Text(b"Nov 14 23:13:20"), now), Ok(now));
    }

    #[test]
    fn zones_are_checked_at_once() {
        assert!(TimestampFormat::new("unix", "Mars/Base").is_err());
    }
}
