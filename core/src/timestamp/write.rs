//! Writing a time by a layout.

use super::Zone;
use super::civil::{self, DAY, Date};
use super::layout::{GoLayout, MONTHS, OffsetShape, Pad, Token, WEEKDAYS};

impl GoLayout {
    /// Appends a time, in nanoseconds since the epoch, as the clocks of `zone` show it.
    pub fn format(&self, ns: i64, zone: &Zone, out: &mut Vec<u8>) {
        let second = ns.div_euclid(1_000_000_000);
        let nanosecond = ns.rem_euclid(1_000_000_000);
        let offset = zone.offset_at(second);
        let wall = second + offset;
        let days = wall.div_euclid(DAY);
        let of_day = wall.rem_euclid(DAY);
        let date = Date::of_days(days);
        let hour = of_day / 3600;
        for token in self.tokens() {
            match *token {
                Token::Literal { start, end } => out.extend_from_slice(self.literal(start, end)),
                Token::Year => write_wide(out, date.year, 4),
                Token::ShortYear => write_wide(out, date.year.rem_euclid(100), 2),
                Token::MonthName => out.extend_from_slice(month_name(date).as_bytes()),
                Token::ShortMonthName => out.extend_from_slice(&month_name(date).as_bytes()[..3]),
                Token::Month(pad) => write_padded(out, i64::from(date.month), pad),
                Token::WeekdayName => out.extend_from_slice(WEEKDAYS[civil::weekday(days)].as_bytes()),
                Token::ShortWeekdayName => out.extend_from_slice(&WEEKDAYS[civil::weekday(days)].as_bytes()[..3]),
                Token::Day(pad) => write_padded(out, i64::from(date.day), pad),
                Token::DayOfYear(Pad::Space) => {
                    let day = date.day_of_year();
                    out.extend_from_slice(if day < 10 {
                        b"  "
                    } else if day < 100 {
                        b" "
                    } else {
                        b""
                    });
                    write_wide(out, day, 0);
                }
                Token::DayOfYear(_) => write_wide(out, date.day_of_year(), 3),
                Token::Hour => write_wide(out, hour, 2),
                Token::Hour12(pad) => write_padded(out, if hour % 12 == 0 { 12 } else { hour % 12 }, pad),
                Token::Minute(pad) => write_padded(out, of_day / 60 % 60, pad),
                Token::Second(pad) => write_padded(out, of_day % 60, pad),
                Token::Fraction { mark, digits } => {
                    out.push(mark);
                    write_fraction(out, nanosecond, digits);
                }
                Token::ShortFraction { mark, digits } => {
                    if nanosecond != 0 {
                        let start = out.len();
                        out.push(mark);
                        write_fraction(out, nanosecond, digits);
                        while out.len() > start && matches!(out.last(), Some(b'0')) {
                            out.pop();
                        }
                        // Nothing but zeros within the width: no mark either.
                        if out.len() == start + 1 {
                            out.pop();
                        }
                    }
                }
                Token::UpperHalfDay => out.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
                Token::LowerHalfDay => out.extend_from_slice(if hour < 12 { b"am" } else { b"pm" }),
                Token::Offset { zulu: true, .. } if offset == 0 => out.push(b'Z'),
                Token::Offset { shape, .. } => write_offset(out, offset, shape),
                Token::Abbreviation => zone.write_abbreviation(second, out),
            }
        }
    }
}

fn month_name(date: Date) -> &'static str {
    MONTHS[usize::from(date.month) - 1]
}

fn write_offset(out: &mut Vec<u8>, offset: i64, shape: OffsetShape) {
    let minutes = offset / 60;
    out.push(if minutes < 0 { b'-' } else { b'+' });
    write_wide(out, minutes.abs() / 60, 2);
    let colon = matches!(shape, OffsetShape::ColonMinutes | OffsetShape::ColonSeconds);
    if shape != OffsetShape::Hours {
        if colon {
            out.push(b':');
        }
        write_wide(out, minutes.abs() % 60, 2);
    }
    if matches!(shape, OffsetShape::Seconds | OffsetShape::ColonSeconds) {
        if colon {
            out.push(b':');
        }
        write_wide(out, offset.abs() % 60, 2);
    }
}

/// The first `digits` of nine digits; cut, not rounded.
fn write_fraction(out: &mut Vec<u8>, nanosecond: i64, digits: usize) {
    let start = out.len();
    write_wide(out, nanosecond, 9);
    out.truncate(start + digits.min(9));
}

fn write_padded(out: &mut Vec<u8>, value: i64, pad: Pad) {
    match pad {
        Pad::Zero => write_wide(out, value, 2),
        Pad::Space if value < 10 => {
            out.push(b' ');
            write_wide(out, value, 0);
        }
        Pad::Space | Pad::None => write_wide(out, value, 0),
    }
}

/// A number with zeros in front up to `width` digits.
fn write_wide(out: &mut Vec<u8>, value: i64, width: usize) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: &str, zone: &str, ns: i64, want: &str) {
        let mut out = Vec::new();
        GoLayout::new(layout).format(ns, &Zone::load(zone).unwrap(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want, "{layout}");
    }

    const TIME: i64 = 1_700_000_000_123_456_789;

    #[test]
    fn elements() {
        for (layout, want) in [
            ("2006-01-02T15:04:05.000Z07:00", "2023-11-14T22:13:20.123Z"),
            ("Mon Jan _2 15:04:05 MST 2006", "Tue Nov 14 22:13:20 UTC 2023"),
            ("Monday, 02-Jan-06 3:4:5 PM pm", "Tuesday, 14-Nov-23 10:13:20 PM pm"),
            ("January 1 002 __2 03", "November 11 318 318 10"),
            ("05.999 05,000000 05.0000000000 05.99999999999", "20.123 20,123456 20.123456789 20.123456789"),
            ("-0700 -07:00 -07 Z0700 Z07 -070000 Z07:00:00", "+0000 +00:00 +00 Z Z +000000 Z"),
            ("unix", "unix"),
            ("rfc3339", "rfc1010109"),
            ("Month Janus", "Month Janus"),
        ] {
            check(layout, "UTC", TIME, want);
        }
    }

    #[test]
    fn fractions_of_zeros() {
        check("05.999", "UTC", 1_700_000_000_000_000_001, "20");
        check("05.999999999", "UTC", 1_700_000_000_120_000_000, "20.12");
        check("05.000", "UTC", 0, "00.000");
        check("15:04:05.999999999", "UTC", -1, "23:59:59.999999999");
    }

    #[test]
    fn zones() {
        check("2006-01-02T15:04:05Z07:00", "America/New_York", TIME, "2023-11-14T17:13:20-05:00");
        check("15:04 MST", "Europe/Berlin", TIME, "23:13 CET");
        check("15:04 MST", "Europe/Berlin", TIME - 120 * 86_400_000_000_000, "00:13 CEST");
        check("15:04 MST -0700", "Asia/Tokyo", TIME, "07:13 JST +0900");
        check("MST", "America/Sao_Paulo", TIME, "-03");
        check("Z07:00", "Europe/London", TIME, "Z");
    }

    #[test]
    fn padding() {
        check("_2|__2|002|2|02|3|03", "UTC", 86_400_000_000_000, " 2|  2|002|2|02|12|12");
    }
}
