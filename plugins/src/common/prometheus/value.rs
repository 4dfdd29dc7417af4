//! Values of fields as Prometheus takes them.

use heliograph_core::model::Value;
use heliograph_core::number::parse_float;

/// The value of a sample: numbers, and truth as 1 and 0. Texts are none.
#[inline]
pub fn sample(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => value.as_number(),
    }
}

/// The value of a counting field: a number that is not negative, cut to an integer of 64 bits.
pub fn count(value: &Value) -> Option<u64> {
    /// 2^64, above the largest count.
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    match *value {
        Value::Float(number) => (0.0..TOO_LARGE).contains(&number).then_some(number as u64),
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Uint(number) => Some(number),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

/// The bound or quantile in a tag `le` or `quantile`.
pub fn bound(tag: Option<&[u8]>) -> Option<f64> {
    parse_float(tag?).ok()
}

/// Milliseconds of a time in nanoseconds, cut towards zero.
#[inline]
pub fn milliseconds(time: i64) -> i64 {
    time / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(count(&Value::Float(2.9)), Some(2));
        assert_eq!(count(&Value::Float(-0.0)), Some(0));
        for bad in
            [Value::Float(-0.5), Value::Float(f64::NAN), Value::Float(2f64.powi(64)), Value::Int(-1), Value::Bool(true)]
        {
            assert_eq!(count(&bad), None);
        }
    }
}
