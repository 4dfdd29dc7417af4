//! A metric of a known series and known keys costs no allocation, in each of the quick parsers.

mod counting;
#[path = "counting/parsing.rs"]
mod parsing;

use counting::{Counting, allocations};
use heliograph_core::model::{Batch, Interner};
use heliograph_core::parse::{ParseOutput, Parser};
use parsing::parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of parsing this payload once everything about it is known; it has to give `metrics`.
fn known(parser: &mut dyn Parser, payload: &[u8], metrics: usize) -> u64 {
    let (mut batch, mut interner) = (Batch::new(), Interner::default());
    let mut count = 0;
    for _ in 0..10 {
        batch.clear();
        let before = allocations();
        let mut out = ParseOutput::new(&mut batch, &mut interner, 1_700_000_000_000_000_000);
        parser.parse(payload, &mut out);
        assert!(out.is_clean(), "{:?}", out.into_problems());
        count = allocations() - before;
        assert_eq!(batch.len(), metrics);
    }
    count
}

#[track_caller]
fn none(format: &str, options: &[(&str, &str)], payload: &str, metrics: usize) {
    let count = known(&mut *parser(format, options), payload.as_bytes(), metrics);
    assert_eq!(count, 0, "allocations of {format} for {payload}");
}

#[test]
fn json_bodies() {
    none("json", &[], r#"{"temperature":21.5,"humidity":48.25,"battery":3.01,"status":"ok"}"#, 1);
    none("json", &[], r#" { "a" : [1, 2.5e3, {"b": -4}], "t": true, "s": "\u00e9\n", "n": null } "#, 1);
    none(
        "json",
        &[("json_name_key", "kind"), ("json_time_key", "t"), ("json_time_format", "unix")],
        r#"[{"kind":"pump","t":5,"v":1},{"kind":"valve","t":6.5,"v":2}]"#,
        2,
    );
}

#[test]
fn line_protocol() {
    let lines = "weather,site=roof,unit=7 temp=21.5,hum=48i,count=7u,ok=true 1700000000000000001\n\
                 weather,site=roof\\ top temp=-0.25,low\\ battery=false\n\
                 cpu usage=1.5e-3 5\n";
    none("influx", &[], lines, 3);
    none("influx_upstream", &[], "weather,site=roof temp=21.5,hum=48i,count=7u,ok=true 1700000000000000001\n", 1);
}

#[test]
fn bare_values() {
    none("value", &[("data_type", "float")], " 21.5\n", 1);
    none("value", &[], "7", 1);
}

#[test]
fn carbon_lines() {
    none("graphite", &[], "servers.web01.cpu.load 1.5 1767225600\na.b;c=d 7\n", 2);
}
