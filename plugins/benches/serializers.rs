//! What a metric costs in each format: time, bytes and allocations, for the flood of ten thousand known devices.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::hint::black_box;
use std::time::{Duration, Instant};

use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, SeriesRef, Value, WriteBatch};
use heliograph_core::serialize::Serializer;
use heliograph_plugins::serializers::graphite::{GraphiteOptions, GraphiteSerializer};
use heliograph_plugins::serializers::influx::{InfluxOptions, InfluxSerializer};
use heliograph_plugins::serializers::json::{JsonOptions, JsonSerializer};
use heliograph_plugins::serializers::prometheus::{PrometheusOptions, PrometheusSerializer};
use heliograph_plugins::serializers::prometheusremotewrite::{RemoteWriteOptions, RemoteWriteSerializer};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const DEVICES: usize = 10_000;
const BATCH: usize = 1_000;

/// Ten batches, each device once, in an order that is not that of the table.
fn flood() -> Vec<WriteBatch> {
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
        for i in 0..BATCH {
            let device = (number * BATCH + i) * 7_919 % DEVICES;
            let time = 1_700_000_000_000_000_000 + i as i64 * 1_000_000;
            batch.start(series[device].clone(), time, Kind::Untyped);
            for (n, key) in keys.iter().enumerate() {
                // Tenths, as sensors send them.
                batch.push_field(key.clone(), Value::Float(((device * 31 + n * 7 + i) % 1000) as f64 / 10.0));
            }
        }
        batch.into()
    };
    (0..DEVICES / BATCH).map(batch).collect()
}

fn run(name: &str, mut serializer: impl Serializer, batches: &[WriteBatch]) {
    let mut out = Vec::new();
    let mut round = |out: &mut Vec<u8>| {
        let mut bytes = 0;
        for batch in batches {
            out.clear();
            serializer.serialize_batch(batch, out).unwrap();
            bytes += black_box(&*out).len();
        }
        bytes
    };
    round(&mut out);
    let allocations = counting::allocations();
    let bytes = round(&mut out);
    let allocations = counting::allocations() - allocations;
    let (mut rounds, mut best) = (0, Duration::MAX);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || rounds < 5 {
        let start = Instant::now();
        round(&mut out);
        best = best.min(start.elapsed());
        rounds += 1;
    }
    let metrics = batches.iter().map(WriteBatch::len).sum::<usize>() as f64;
    println!(
        "{name:<24} {:>7.1} ns/metric {:>8.1} MB/s {:>7.1} bytes/metric {:>6.3} allocations/metric",
        best.as_nanos() as f64 / metrics,
        bytes as f64 / best.as_secs_f64() / 1e6,
        bytes as f64 / metrics,
        allocations as f64 / metrics,
    );
}

fn main() {
    let batches = flood();
    run("graphite", GraphiteSerializer::new(GraphiteOptions::default()).unwrap(), &batches);
    run("influx", InfluxSerializer::new(InfluxOptions::default()), &batches);
    run("json", JsonSerializer::new(&JsonOptions::default()).unwrap(), &batches);
    run("prometheus", PrometheusSerializer::new(PrometheusOptions::default()).unwrap(), &batches);
    run("prometheusremotewrite", RemoteWriteSerializer::new(RemoteWriteOptions::default()), &batches);
}
