//! Time and allocations of parsing what devices send. Run with `cargo bench -p heliograph-plugins --bench parsers`.

#[path = "../tests/counting/mod.rs"]
mod counting;
#[path = "../tests/counting/parsing.rs"]
mod parsing;

use std::hint::black_box;
use std::time::{Duration, Instant};

use counting::{Counting, allocations};
use heliograph_core::model::{Batch, Interner};
use heliograph_core::parse::ParseOutput;
use parsing::parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BODY: &str = r#"{"temperature":21.5,"humidity":48.25,"battery":3.01,"status":"ok"}"#;
const BLANKS: &str =
    "{\n  \"temperature\": 21.5,\n  \"humidity\": 48.25,\n  \"battery\": 3.01,\n  \"status\": \"ok\"\n}";
const NESTED: &str = r#"{"ts":"2026-02-01T11:00:00Z","device":{"id":"press-01","fw":"1.4.0"},"data":[{"t":21.5,"v":[1,2,3]},{"t":22.0,"v":[4,5,6]}]}"#;
const LINE: &str = "weather,site=roof,unit=7 temp=21.5,hum=48.25,bat=3.01,count=7i 1700000000000000001\n";
const CARBON: &str = "servers.web01.cpu.load 1.5 1767225600\n";

/// What is measured: a title, the format, its options, the payload.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: [Case; 7] = [
    ("json, flood body", "json", &[], BODY),
    ("json, with blanks", "json", &[], BLANKS),
    ("json, nested", "json", &[], NESTED),
    ("influx, four fields", "influx", &[], LINE),
    ("influx_upstream, four fields", "influx_upstream", &[], LINE),
    ("value, float", "value", &[("data_type", "float")], "21.5"),
    ("graphite, a line", "graphite", &[], CARBON),
];

/// Payloads in a batch, as an input hands them on.
const BATCH: usize = 500;

fn main() {
    println!("{:<30} {:>10} {:>10} {:>14}", "payload", "ns", "MB/s", "allocations");
    for (title, format, options, payload) in CASES {
        let mut parser = parser(format, options);
        let (mut batch, mut interner) = (Batch::new(), Interner::default());
        let mut round = || {
            for _ in 0..BATCH {
                let mut out = ParseOutput::new(&mut batch, &mut interner, 1_700_000_000_000_000_000);
                parser.parse(black_box(payload.as_bytes()), &mut out);
            }
            black_box(&batch);
            batch.clear();
        };
        round();
        let before = allocations();
        round();
        let allocated = allocations() - before;
        // The best of many rounds: what disturbs a measurement only ever adds.
        let best = (0..400).map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        });
        let nanos = best.min().unwrap_or(Duration::ZERO).as_nanos() as f64 / BATCH as f64;
        let speed = payload.len() as f64 * 1e3 / nanos.max(1e-9);
        println!("{title:<30} {nanos:>10.1} {speed:>10.0} {:>14.3}", allocated as f64 / BATCH as f64);
    }
}
