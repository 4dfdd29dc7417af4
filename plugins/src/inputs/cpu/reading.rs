//! One reading of `/proc/stat`: the time each CPU spent in each state.

use heliograph_core::number::parse_float;

use crate::common::named_rows::NamedRows;
use crate::common::proc_file::{lines, words};

/// A state of a CPU: its column in `/proc/stat` and the fields that report it.
pub(super) struct Column {
    pub(super) index: usize,
    pub(super) time: &'static str,
    pub(super) usage: &'static str,
}

pub(super) const USER: usize = 0;
pub(super) const NICE: usize = 1;
const SYSTEM: usize = 2;
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const IRQ: usize = 5;
const SOFTIRQ: usize = 6;
const STEAL: usize = 7;
pub(super) const GUEST: usize = 8;
pub(super) const GUEST_NICE: usize = 9;

/// The states in the order in which they are reported.
pub(super) const COLUMNS: [Column; 10] = [
    Column { index: USER, time: "time_user", usage: "usage_user" },
    Column { index: SYSTEM, time: "time_system", usage: "usage_system" },
    Column { index: IDLE, time: "time_idle", usage: "usage_idle" },
    Column { index: NICE, time: "time_nice", usage: "usage_nice" },
    Column { index: IOWAIT, time: "time_iowait", usage: "usage_iowait" },
    Column { index: IRQ, time: "time_irq", usage: "usage_irq" },
    Column { index: SOFTIRQ, time: "time_softirq", usage: "usage_softirq" },
    Column { index: STEAL, time: "time_steal", usage: "usage_steal" },
    Column { index: GUEST, time: "time_guest", usage: "usage_guest" },
    Column { index: GUEST_NICE, time: "time_guest_nice", usage: "usage_guest_nice" },
];

/// Columns that every kernel prints; `steal` and the guests came later.
const OLDEST_COLUMNS: usize = 7;

/// Seconds since the start of the machine, in the kernel's order of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times(pub(super) [f64; 10]);

impl Times {
    /// Reads the words behind the name. `None` if there are too few of them or one is no number.
    fn parse<'a>(words: impl Iterator<Item = &'a [u8]>, ticks_per_second: f64) -> Option<Self> {
        let mut times = [0.0; 10];
        let mut columns = 0;
        for (time, word) in times.iter_mut().zip(words) {
            *time = parse_float(word).ok()? / ticks_per_second;
            columns += 1;
        }
        (columns >= OLDEST_COLUMNS).then_some(Self(times))
    }

    /// All time; that of guests is inside of `user` and `nice` already. The order of the sum is Telegraf's, to the bit.
    pub(super) fn total(&self) -> f64 {
        let t = &self.0;
        t[USER] + t[SYSTEM] + t[NICE] + t[IOWAIT] + t[IRQ] + t[SOFTIRQ] + t[STEAL] + t[IDLE]
    }

    /// All time but the idle one; waiting for I/O counts as active.
    pub(super) fn active(&self) -> f64 {
        self.total() - self.0[IDLE]
    }
}

/// The times of all CPUs at one moment.
pub(super) type Reading = NamedRows<Times>;

/// Replaces a reading: single CPUs in the order of the file, then the total. Broken lines are skipped.
pub(super) fn parse(text: &[u8], percpu: bool, totalcpu: bool, ticks_per_second: f64, reading: &mut Reading) {
    reading.clear();
    let mut lines = lines(text);
    let first = lines.next();
    if percpu {
        for line in lines.take_while(|line| line.starts_with(b"cpu")) {
            parse_line(line, ticks_per_second, reading);
        }
    }
    if totalcpu && let Some(line) = first {
        parse_line(line, ticks_per_second, reading);
    }
}

fn parse_line(line: &[u8], ticks_per_second: f64, reading: &mut Reading) {
    let mut words = words(line);
    let Some(name) = words.next().filter(|name| name.starts_with(b"cpu")) else { return };
    let Some(times) = Times::parse(words, ticks_per_second) else { return };
    reading.push(if name == b"cpu" { b"cpu-total" } else { name }, times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, percpu: bool, totalcpu: bool, expected: Expect) {
        let mut reading = Reading::default();
        parse(text.as_bytes(), percpu, totalcpu, 1.0, &mut reading);
        let show = |(name, times): (&[u8], &Times)| format!("{} {:?}\n", String::from_utf8_lossy(name), times.0);
        expected.assert_eq(&reading.iter().map(show).collect::<String>());
    }

    #[test]
    fn old_kernels_and_broken_lines() {
        check(
            "cpu  100 20 30 400 5 6 7\ncpu1 1 2 3\ncpu2 1 x 3 4 5 6 7 8\ncpu10 1 2 3 4 5 6 7 8 9 10 11\nintr 5\ncpu4 1 2 3 4 5 6 7\n",
            true,
            true,
            expect![[r#"
                cpu10 [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
                cpu-total [100.0, 20.0, 30.0, 400.0, 5.0, 6.0, 7.0, 0.0, 0.0, 0.0]
            "#]],
        );
    }

    #[test]
    fn the_first_line_is_the_total_and_no_cpu() {
        check("cpu 1 2 3 4 5 6 7", true, false, expect![""]);
        check("intr 1 2 3 4 5 6 7 8", false, true, expect![""]);
    }
}
