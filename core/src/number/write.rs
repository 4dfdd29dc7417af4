//! Number to text, by the spellings of Go's `strconv`, appended to a buffer.

/// Appends a signed integer in decimal.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an unsigned integer in decimal.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest digits that read back as the same number, never with an exponent: `1000000`, `0.000001`, `-0`.
///
/// What is not finite becomes `NaN`, `+Inf` or `-Inf`. Source: `FormatFloat(value, 'f', -1, 64)` of Go.
#[inline]
pub fn write_plain_f64(out: &mut Vec<u8>, value: f64) {
    if !write_small_integer(out, value, EXACT_INTEGERS) && !write_thousandths(out, value) {
        write_plain_slow(out, value);
    }
}

/// Appends the shortest digits that read back as the same number, with an exponent below 1e-4 and from 1e6 on.
///
/// `999999`, `1e+06`, `1.5e-05`, `-0`; `NaN`, `+Inf`, `-Inf`. Source: `FormatFloat(value, 'g', -1, 64)` of Go.
pub fn write_general_f64(out: &mut Vec<u8>, value: f64) {
    if write_small_integer(out, value, 1e6) || write_non_finite(out, value) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let number = Decimal::read(buffer.format_finite(value));
    if (-4..6).contains(&number.exponent) {
        number.write_plain(out);
    } else {
        number.write_scientific(out, 2);
    }
}

/// Appends a number as the Prometheus text format has it: as [`write_general_f64`], but `-0` is `0`.
pub fn write_prometheus_f64(out: &mut Vec<u8>, value: f64) {
    // Adding zero turns -0 into 0 and changes nothing else.
    write_general_f64(out, value + 0.0);
}

/// Appends a number as Go's JSON encoder has it: plain from 1e-6 up to 1e21, else with an exponent like `1e-7`, `1e+21`.
///
/// JSON has no word for what is not finite; it becomes `null`. Leave such fields out beforehand.
#[inline]
pub fn write_json_f64(out: &mut Vec<u8>, value: f64) {
    if write_small_integer(out, value, EXACT_INTEGERS) || write_thousandths(out, value) {
        return;
    }
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let magnitude = value.abs();
    if (1e-6..1e21).contains(&magnitude) || magnitude == 0.0 {
        write_plain_slow(out, value);
    } else {
        Decimal::read(zmij::Buffer::new().format_finite(value)).write_scientific(out, 1);
    }
}

/// Below this bound (2^53) every integer is a double of its own, so that its own digits are the shortest ones.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Writes an integer of less than `bound` through the integer writer; says whether it did.
///
/// Most gauges are whole numbers, and this is several times faster than the search for the shortest digits.
#[inline]
fn write_small_integer(out: &mut Vec<u8>, value: f64, bound: f64) -> bool {
    let integer = value as i64;
    let is_small = integer as f64 == value && value.abs() < bound && (integer != 0 || value.is_sign_positive());
    if is_small {
        write_i64(out, integer);
    }
    is_small
}

/// Writes a number of at most three decimals by way of its thousandths; says whether it is one.
///
/// Sensors send such numbers, and this takes half the time of the search for the shortest digits. It finds the same ones:
/// the division is rounded correctly, so that the decimal reads back as `value`, and no two decimals of up to fifteen
/// digits read back as one number.
#[inline]
fn write_thousandths(out: &mut Vec<u8>, value: f64) -> bool {
    const FIFTEEN_DIGITS: u64 = 1_000_000_000_000_000;
    let thousandths = (value * 1000.0 + 0.5f64.copysign(value)) as i64;
    let magnitude = thousandths.unsigned_abs();
    if thousandths as f64 / 1000.0 != value || magnitude >= FIFTEEN_DIGITS || magnitude == 0 {
        return false;
    }
    if thousandths < 0 {
        out.push(b'-');
    }
    write_u64(out, magnitude / 1000);
    let rest = (magnitude % 1000) as u16;
    let digit = |power: u16| b'0' + (rest / power % 10) as u8;
    let decimals = [b'.', digit(100), digit(10), digit(1)];
    let shown = match rest {
        0 => 0,
        _ if rest.is_multiple_of(100) => 2,
        _ if rest.is_multiple_of(10) => 3,
        _ => 4,
    };
    out.extend_from_slice(&decimals[..shown]);
    true
}

fn write_non_finite(out: &mut Vec<u8>, value: f64) -> bool {
    let word: &[u8] = match value {
        _ if value.is_nan() => b"NaN",
        f64::INFINITY => b"+Inf",
        f64::NEG_INFINITY => b"-Inf",
        _ => return false,
    };
    out.extend_from_slice(word);
    true
}

fn write_plain_slow(out: &mut Vec<u8>, value: f64) {
    if write_non_finite(out, value) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if memchr::memchr(b'e', text.as_bytes()).is_some() {
        Decimal::read(text).write_plain(out);
    } else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

/// The most digits the shortest form of a double has.
const MOST_DIGITS: usize = 17;

/// A finite number taken apart: `d.ddd × 10^exponent`.
struct Decimal {
    negative: bool,
    /// The digits, without zeros at either end; a lone zero for zero.
    digits: [u8; MOST_DIGITS],
    count: usize,
    exponent: i32,
}

impl Decimal {
    /// Takes apart `-12.5`, `0.001`, `1e21` or `1.5e-7`.
    fn read(text: &str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match text.split_once('e') {
            Some((mantissa, power)) => (mantissa, power.parse().unwrap_or(0)),
            None => (text, 0i32),
        };
        let (mut digits, mut count) = ([b'0'; MOST_DIGITS], 0);
        let mut before_point = 0i32;
        let mut seen_point = false;
        for byte in mantissa.bytes() {
            if byte == b'.' {
                seen_point = true;
                continue;
            }
            let leading_zero = count == 0 && byte == b'0';
            if leading_zero {
                before_point -= i32::from(seen_point);
                continue;
            }
            before_point += i32::from(!seen_point);
            // Only zeros can follow the seventeenth digit.
            if let Some(slot) = digits.get_mut(count) {
                *slot = byte;
                count += 1;
            }
        }
        while count > 1 && digits[count - 1] == b'0' {
            count -= 1;
        }
        let exponent = if count == 0 { 0 } else { before_point - 1 + power };
        Self { negative, digits, count: count.max(1), exponent }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.count]
    }

    fn write_plain(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        let digits = self.digits();
        match usize::try_from(self.exponent + 1) {
            Ok(0) | Err(_) => {
                let zeros = usize::try_from(-1 - self.exponent).unwrap_or(0);
                out.extend_from_slice(b"0.");
                out.resize(out.len() + zeros, b'0');
                out.extend_from_slice(digits);
            }
            Ok(whole) if whole < digits.len() => {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            }
            Ok(whole) => {
                out.extend_from_slice(digits);
                out.resize(out.len() + whole - digits.len(), b'0');
            }
        }
    }

    /// `d.ddde±XX`, the exponent padded to `width` digits.
    fn write_scientific(&self, out: &mut Vec<u8>, width: usize) {
        if self.negative {
            out.push(b'-');
        }
        let digits = self.digits();
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if self.exponent < 0 { b"e-" } else { b"e+" });
        let mut buffer = itoa::Buffer::new();
        let power = buffer.format(self.exponent.unsigned_abs());
        out.resize(out.len() + width.saturating_sub(power.len()), b'0');
        out.extend_from_slice(power.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::parse_float;
    use proptest::prelude::*;

    fn text(write: fn(&mut Vec<u8>, f64), value: f64) -> String {
        let mut out = Vec::new();
        write(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain() {
        for (value, want) in [
            (21.0, "21"),
            (-0.0, "-0"),
            (0.0, "0"),
            (1e21, "1000000000000000000000"),
            (1e-9, "0.000000001"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-1.5, "-1.5"),
            (9007199254740993.0, "9007199254740992"),
            (1234567.0, "1234567"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(write_plain_f64, value), want);
        }
    }

    #[test]
    fn a_tie_of_two_shortest_texts_goes_to_the_even_digit() {
        assert_eq!(text(write_plain_f64, 2668328433827413.0 / 4.0), "667082108456853.2");
        assert_eq!(text(write_plain_f64, 2668328433827415.0 / 4.0), "667082108456853.8");
    }

    #[test]
    fn general() {
        for (value, want) in [
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (12345678.5, "1.23456785e+07"),
            (123456.789, "123456.789"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (-0.0, "-0"),
            (1234567.0, "1.234567e+06"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(write_general_f64, value), want);
        }
        assert_eq!(text(write_prometheus_f64, -0.0), "0");
        assert_eq!(text(write_prometheus_f64, -1.0), "-1");
        assert_eq!(text(write_prometheus_f64, 1e6), "1e+06");
    }

    #[test]
    fn json() {
        for (value, want) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (9.99e20, "999000000000000000000"),
            (1e-7, "1e-7"),
            (1e-6, "0.000001"),
            (1.5e-10, "1.5e-10"),
            (12345678901234567890.0, "12345678901234567000"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(text(write_json_f64, value), want);
        }
    }

    #[test]
    fn plain_agrees_with_the_standard_library_on_random_bits() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Every other number is of everyday size.
            let value = if round % 2 == 0 { f64::from_bits(state) } else { (state >> 40) as f64 / 128.0 };
            if value.is_finite() {
                let (ours, theirs) = (text(write_plain_f64, value), format!("{value}"));
                // Halfway between two shortest texts Go and we take the even digit, the standard library the higher.
                assert_eq!(ours.len(), theirs.len(), "{ours} {theirs}");
                assert_eq!(ours.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{ours} {theirs}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_spelling_reads_back(value in proptest::num::f64::ANY.prop_filter("finite", |value| value.is_finite())) {
            for write in [write_plain_f64, write_general_f64, write_json_f64] {
                let text = text(write, value);
                prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Ok(value.to_bits()), "{}", text);
            }
        }

        #[test]
        fn decimals_of_few_digits_are_the_shortest(number in -2_000_000_000_000_000i64..2_000_000_000_000_000, decimals in 0u32..5) {
            let value = (number >> (number & 47)) as f64 / 10f64.powi(decimals as i32);
            let mut slow = Vec::new();
            write_plain_slow(&mut slow, value);
            prop_assert_eq!(text(write_plain_f64, value).into_bytes(), slow);
        }

        #[test]
        fn scientific_agrees_with_the_standard_library(value in proptest::num::f64::POSITIVE) {
            let want = format!("{value:e}");
            let (mantissa, power) = want.split_once('e').unwrap();
            let power: i32 = power.parse().unwrap();
            // Near 1e15 two shortest texts may tie, which the standard library breaks otherwise.
            prop_assume!(!(-4..6).contains(&power) && !(14..17).contains(&power) && value.is_finite());
            let sign = if power < 0 { '-' } else { '+' };
            prop_assert_eq!(text(write_general_f64, value), format!("{mantissa}e{sign}{:02}", power.abs()));
        }
    }
}
