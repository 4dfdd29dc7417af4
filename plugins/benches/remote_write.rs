//! What a sample costs as remote-write 1.0 and 2.0: time and bytes on the wire, for ten thousand known devices.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::hint::black_box;
use std::time::{Duration, Instant};

use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, SeriesRef, Value, WriteBatch};
use heliograph_plugins::common::prometheus::remote_write::{
    Collector, Encoder, LabelRules, Late, Limits, Piece, Version,
};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const DEVICES: usize = 10_000;

/// One device after the other, or in an order that is not that of the table; `values` of their three fields.
fn flood(batch_size: usize, ordered: bool, value: impl Fn(usize, usize) -> f64) -> Vec<WriteBatch> {
    let keys = ["temperature", "humidity", "battery"].map(|key| Key::intern(key.as_bytes()));
    let mut builder = SeriesBuilder::new();
    let series: Vec<SeriesRef> = (0..DEVICES)
        .map(|device| {
            builder.start(b"mqtt_consumer").set_tag(b"device", format!("sensor-{device}").as_bytes());
            builder.set_tag(b"site", format!("plant{}", device % 17).as_bytes()).set_tag(b"topic", b"telemetry");
            builder.build()
        })
        .collect();
    let batch = |number: usize| {
        let mut batch = Batch::new();
        for i in 0..batch_size {
            let nth = number * batch_size + i;
            let device = if ordered { nth } else { nth * 7_919 % DEVICES };
            batch.start(series[device].clone(), 1_700_000_000_000_000_000 + i as i64 * 1_000_000, Kind::Gauge);
            for (n, key) in keys.iter().enumerate() {
                batch.push_field(key.clone(), Value::Float(value(device * 31 + n * 7 + i, n)));
            }
        }
        batch.into()
    };
    (0..DEVICES / batch_size).map(batch).collect()
}

/// Series of the node: forty of them count, the others are levels of which a third stands still.
const NODE_SERIES: usize = 200;

/// What the inputs of a node gather every ten seconds: of each interface, disk and core some fields of one time.
fn node(gathers_per_batch: usize) -> Vec<WriteBatch> {
    let mut builder = SeriesBuilder::new();
    let (names, fields) = (["cpu", "disk", "diskio", "net", "mem"], 10);
    let keys: Vec<Key> =
        (0..50).map(|n| Key::intern(format!("{}_{n}", ["usage", "bytes", "packets"][n % 3]).as_bytes())).collect();
    let metrics = NODE_SERIES / fields;
    let series: Vec<SeriesRef> = (0..metrics)
        .map(|metric| {
            builder.start(names[metric % names.len()].as_bytes()).set_tag(b"host", b"node-17.example.com");
            builder.set_tag(b"device", format!("dev{}", metric / names.len()).as_bytes()).build()
        })
        .collect();
    let batch = |number: usize| {
        let mut batch = Batch::new();
        for gather in number * gathers_per_batch..(number + 1) * gathers_per_batch {
            for (metric, series) in series.iter().enumerate() {
                let kind = if metric % 5 == 0 { Kind::Counter } else { Kind::Gauge };
                batch.start(series.clone(), 1_700_000_000_000_000_000 + gather as i64 * 10_000_000_000, kind);
                for field in 0..fields {
                    let seed = (metric * fields + field) as f64;
                    let value = match (kind, field % 3) {
                        (Kind::Counter, _) => (seed * 1e6 + gather as f64 * (seed * 37.0 + 11.0)).floor(),
                        (_, 0) => (seed + 1.0) * 4096.0,
                        (_, 1) => ((seed + gather as f64) * 7.3).sin().abs() * 100.0,
                        _ => (seed * 1e5 + gather as f64 * 513.0) % 1e6,
                    };
                    batch.push_field(keys[metric % names.len() * fields + field].clone(), Value::Float(value));
                }
            }
        }
        batch.into()
    };
    (0..60 / gathers_per_batch).map(batch).collect()
}

struct Round {
    collector: Collector,
    encoder: Encoder,
    pieces: Vec<Piece>,
    version: Version,
}

impl Round {
    /// Bytes of all requests, before and after compression.
    fn run(&mut self, batches: &[WriteBatch]) -> (usize, usize) {
        let limits = Limits { samples: 2000, bytes: 4 << 20, metadata: true, time_first: true };
        let (mut raw, mut wire) = (0, 0);
        for batch in batches {
            self.collector.start(self.version);
            (0..).zip(batch.iter()).for_each(|(number, metric)| self.collector.add(metric, number, (0, b"")));
            self.collector.set_mut().order();
            self.pieces.clear();
            self.pieces.extend(self.collector.set().pieces(2000));
            let mut rest = &self.pieces[..];
            while !rest.is_empty() {
                rest = &rest[self.encoder.encode(&self.collector, rest, limits)..];
                raw += self.encoder.raw().len();
                wire += black_box(self.encoder.compressed().unwrap()).len();
            }
        }
        (raw, wire)
    }
}

fn run(name: &str, version: Version, batches: &[WriteBatch]) {
    let samples: usize = batches.iter().flat_map(WriteBatch::iter).map(|metric| metric.fields.len()).sum();
    let samples = samples as f64;
    let rules = LabelRules { strict: true, ..LabelRules::default() };
    let (collector, encoder) = (Collector::new(rules, Late::Sort), Encoder::default());
    let mut round = Round { collector, encoder, pieces: Vec::new(), version };
    round.run(batches);
    let allocations = counting::allocations();
    let (raw, wire) = round.run(batches);
    let allocations = counting::allocations() - allocations;
    let (mut rounds, mut best) = (0, Duration::MAX);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || rounds < 5 {
        let start = Instant::now();
        round.run(batches);
        best = best.min(start.elapsed());
        rounds += 1;
    }
    println!(
        "{name:<34} {version:?} {:>7.1} ns/sample {:>6.1} bytes/sample raw {:>6.2} on the wire {:>6.3} allocations/sample",
        best.as_nanos() as f64 / samples,
        raw as f64 / samples,
        wire as f64 / samples,
        allocations as f64 / samples,
    );
}

fn main() {
    let tenths = |seed: usize, _: usize| (seed % 1000) as f64 / 10.0;
    let whole = |seed: usize, _: usize| (seed % 100) as f64;
    for version in [Version::One, Version::Two] {
        run("batch 1000, any order, tenths", version, &flood(1000, false, tenths));
        run("batch 1000, in order, tenths", version, &flood(1000, true, tenths));
        run("batch 5000, in order, tenths", version, &flood(5000, true, tenths));
        run("batch 5000, in order, whole", version, &flood(5000, true, whole));
        run("node, a request a gather", version, &node(1));
        run("node, a request a minute", version, &node(6));
        run("node, a request ten minutes", version, &node(60));
    }
}
