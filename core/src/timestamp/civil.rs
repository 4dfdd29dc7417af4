//! Days and dates of the proleptic Gregorian calendar.

/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

/// A date; the year may be zero or negative.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
}

impl Date {
    /// The date of a day counted from 1970-01-01.
    ///
    /// Source: Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the leap day
    /// is the last one.
    pub(crate) fn of_days(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month: month as u8, day: day as u8 }
    }

    /// Days since 1970-01-01; a day beyond its month counts on into the next one.
    pub(crate) fn days(self) -> i64 {
        let month = i64::from(self.month);
        let year = self.year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// Day of the year, from 1.
    pub(crate) fn day_of_year(self) -> i64 {
        self.days() - Self { month: 1, day: 1, ..self }.days() + 1
    }
}

/// 0 for Sunday up to 6 for Saturday, of a day counted from 1970-01-01.
pub(crate) fn weekday(days: i64) -> usize {
    // 1970-01-01 was a Thursday.
    (days + 4).rem_euclid(7) as usize
}

pub(crate) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        assert_eq!(Date::of_days(0), Date { year: 1970, month: 1, day: 1 });
        assert_eq!(Date { year: 1, month: 1, day: 1 }.days(), -719_162);
        assert_eq!(Date { year: 2024, month: 12, day: 31 }.day_of_year(), 366);
        assert_eq!(weekday(Date { year: 2023, month: 11, day: 14 }.days()), 2);
    }

    proptest! {
        #[test]
        fn round_trip(days in -5_000_000i64..5_000_000) {
            let date = Date::of_days(days);
            prop_assert_eq!(date.days(), days);
            prop_assert!(date.day >= 1 && date.day <= days_in_month(date.year, date.month));
        }
    }
}
