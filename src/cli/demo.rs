//! `demo`: its flags, or in a build without it, why there is none.

use anyhow::bail;

use super::Command;
use super::arguments::Arguments;

#[cfg(feature = "demo")]
pub(super) fn command(found: &Arguments) -> anyhow::Result<Command> {
    use std::time::Duration;

    use crate::demo::Options;

    if let Some(stray) = found.rest.first() {
        bail!("command `demo` takes flags only, not {stray:?}");
    }
    let number = |flag: &str, range: std::ops::RangeInclusive<i64>, default: usize| match found.given_int(flag) {
        None => Ok(default),
        Some(number) if range.contains(&number) => Ok(number as usize),
        Some(number) => bail!("flag --{flag} is {number}, but must be from {} to {}", range.start(), range.end()),
    };
    let text = |flag: &str| Some(found.text(flag)).filter(|text| !text.is_empty());
    let default = Options::default();
    Ok(Command::Demo(Options {
        devices: number("devices", 1..=100_000, default.devices)?,
        rate: number("rate", 1..=100_000, default.rate as usize)? as u32,
        duration: Duration::from_secs(number("seconds", 0..=i64::from(u32::MAX), 0)? as u64),
        folder: text("folder").map(Into::into),
        graphite: text("graphite"),
        remote_write: text("remote-write"),
    }))
}

#[cfg(not(feature = "demo"))]
pub(super) fn command(_: &Arguments) -> anyhow::Result<Command> {
    bail!("this program was built without its feature `demo`; build it with that feature")
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::parse;

    fn check(line: &str, expected: Expect) {
        expected.assert_eq(&match parse(line.split_whitespace().map(str::to_owned)) {
            Ok(command) => format!("{command:?}"),
            Err(usage) => format!("error: {}", usage.error),
        });
    }

    #[test]
    fn flags() {
        check(
            "demo",
            expect![
                "Demo(Options { devices: 300, rate: 500, duration: 0ns, folder: None, graphite: None, remote_write: None })"
            ],
        );
        check(
            "demo --devices 5 --rate=9 --seconds 7 --folder f --graphite h:1 --remote-write http://h/w",
            expect![[
                r#"Demo(Options { devices: 5, rate: 9, duration: 7s, folder: Some("f"), graphite: Some("h:1"), remote_write: Some("http://h/w") })"#
            ]],
        );
        check("demo --devices 0", expect!["error: flag --devices is 0, but must be from 1 to 100000"]);
        check("demo --rate 100001", expect!["error: flag --rate is 100001, but must be from 1 to 100000"]);
        check("demo stray", expect![[r#"error: command `demo` takes flags only, not "stray""#]]);
    }
}
