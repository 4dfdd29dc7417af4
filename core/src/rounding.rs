//! Rounding of times (placeholder of the interface).

/// To the nearest multiple, halves up.
pub fn round(time: i64, precision: i64) -> i64 {
    (time + precision / 2).div_euclid(precision) * precision
}
