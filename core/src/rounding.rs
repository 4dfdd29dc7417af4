//! Rounding of times to multiples of a duration, counted from the first day of the year 1.
//!
//! All times and durations are nanoseconds; times count from the epoch. A duration of zero or less leaves the time as it
//! is, and a result beyond `i64` saturates. Counting from 0001-01-01T00:00:00Z makes no difference for durations that
//! divide a day; a week begins on Monday.

/// From 0001-01-01 to 1970-01-01, in nanoseconds.
const ORIGIN: i128 = 62_135_596_800 * 1_000_000_000;

/// Rounds to the nearest multiple of `unit`, halves up.
pub fn round(time: i64, unit: i64) -> i64 {
    let Some(rest) = rest_of(time, unit) else {
        return time;
    };
    // Compares without doubling, so that no unit is too large.
    if rest < unit - rest { time.saturating_sub(rest) } else { time.saturating_add(unit - rest) }
}

/// The latest multiple of `unit` that is not after `time`.
pub fn truncate(time: i64, unit: i64) -> i64 {
    rest_of(time, unit).map_or(time, |rest| time.saturating_sub(rest))
}

/// The earliest multiple of `unit` that is not before `time`.
pub fn align_up(time: i64, unit: i64) -> i64 {
    match rest_of(time, unit) {
        None | Some(0) => time,
        Some(rest) => time.saturating_add(unit - rest),
    }
}

/// How far `time` is behind the multiple before it.
fn rest_of(time: i64, unit: i64) -> Option<i64> {
    (unit > 0).then(|| {
        // Units that divide a day need no move of the origin, and no wide division.
        const DAY: i64 = 86_400 * 1_000_000_000;
        match DAY % unit {
            0 => time.rem_euclid(unit),
            _ => (i128::from(time) + ORIGIN).rem_euclid(i128::from(unit)) as i64,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn halves_go_up() {
        assert_eq!(round(1_499_999_999, SECOND), SECOND);
        assert_eq!(round(1_500_000_000, SECOND), 2 * SECOND);
        assert_eq!(round(-1_500_000_000, SECOND), -SECOND);
        assert_eq!(round(3, 2), 4);
        assert_eq!(round(7, 1), 7);
    }

    #[test]
    fn the_origin_is_the_year_one() {
        let week = 168 * 3600 * SECOND;
        // 2023-11-13 was a Monday.
        let monday = 1_699_833_600 * SECOND;
        assert_eq!(truncate(1_700_000_000 * SECOND, week), monday);
        assert_eq!(align_up(1_700_000_000 * SECOND, week), monday + week);
        assert_eq!(align_up(monday, week), monday);
        let seven = 7 * SECOND;
        assert_eq!((i128::from(truncate(1_700_000_000 * SECOND, seven)) + ORIGIN) % i128::from(seven), 0);
    }

    #[test]
    fn no_unit_changes_nothing() {
        for unit in [0, -1, i64::MIN] {
            assert_eq!((round(5, unit), truncate(5, unit), align_up(5, unit)), (5, 5, 5));
        }
    }

    #[test]
    fn the_ends_saturate() {
        assert_eq!(align_up(i64::MAX, SECOND), i64::MAX);
        assert_eq!(truncate(i64::MIN, SECOND), i64::MIN);
    }

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(time in i64::MIN / 2..i64::MAX / 2, unit in 1i64..i64::MAX / 4) {
            let count = i128::from(time) + ORIGIN;
            let floor = count.div_euclid(i128::from(unit)) * i128::from(unit) - ORIGIN;
            let ceiling = if floor == i128::from(time) { floor } else { floor + i128::from(unit) };
            let half = if 2 * (i128::from(time) - floor) < i128::from(unit) { floor } else { floor + i128::from(unit) };
            prop_assert_eq!(i128::from(truncate(time, unit)), floor);
            prop_assert_eq!(i128::from(align_up(time, unit)), ceiling);
            prop_assert_eq!(i128::from(round(time, unit)), half);
        }
    }
}
