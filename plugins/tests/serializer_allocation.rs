//! Holds the serializers to their word: a metric of a known series is written without an allocation.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod counting;

use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value, WriteBatch};
use heliograph_core::serialize::Serializer;
use heliograph_plugins::common::prometheus::remote_write::{Collector, Encoder, LabelRules, Late, Limits, Version};
use heliograph_plugins::serializers::graphite::{GraphiteOptions, GraphiteSerializer};
use heliograph_plugins::serializers::influx::{InfluxOptions, InfluxSerializer};
use heliograph_plugins::serializers::json::{JsonOptions, JsonSerializer};
use heliograph_plugins::serializers::prometheusremotewrite::{RemoteWriteOptions, RemoteWriteSerializer};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// A batch of a hundred devices, each twice, with other values every time.
fn devices(round: usize) -> WriteBatch {
    let keys = ["temperature", "humidity", "battery", "state"].map(|key| Key::intern(key.as_bytes()));
    let mut builder = SeriesBuilder::new();
    let mut batch = Batch::new();
    for device in 0..200 {
        builder
            .start(b"mqtt")
            .set_tag(b"device", format!("d-{}", device % 100).as_bytes())
            .set_tag(b"site", b"plant 7");
        let time = 1_700_000_000_000_000_000 + (round * 1000 + device) as i64 * 1_000_000;
        batch.start(builder.build(), time, Kind::Untyped);
        for (i, key) in keys[..3].iter().enumerate() {
            batch.push_field(key.clone(), Value::Float(device as f64 * 0.37 + round as f64 + i as f64 / 3.0));
        }
        batch.push_field(keys[3].clone(), Value::from("on \"line\""));
    }
    batch.into()
}

fn check(mut serializer: impl Serializer) {
    let mut out = Vec::with_capacity(1 << 20);
    serializer.serialize_batch(&devices(0), &mut out).unwrap();
    for round in 1..4 {
        let batch = devices(round);
        out.clear();
        let before = counting::allocations();
        serializer.serialize_batch(&batch, &mut out).unwrap();
        let allocations = counting::allocations() - before;
        assert!(!out.is_empty());
        assert_eq!(allocations, 0, "{allocations} allocations for {} known metrics", batch.len());
    }
}

#[test]
fn graphite() {
    check(GraphiteSerializer::new(GraphiteOptions::default()).unwrap());
}

#[test]
fn influx() {
    check(InfluxSerializer::new(InfluxOptions::default()));
    check(InfluxSerializer::new(InfluxOptions { influx_sort_fields: true, ..InfluxOptions::default() }));
    check(InfluxSerializer::new(InfluxOptions { influx_max_line_bytes: 120, ..InfluxOptions::default() }));
}

#[test]
fn json() {
    check(JsonSerializer::new(&JsonOptions::default()).unwrap());
}

#[test]
fn prometheusremotewrite() {
    check(RemoteWriteSerializer::new(RemoteWriteOptions::default()));
}

#[test]
fn remote_write_in_both_versions() {
    for version in [Version::One, Version::Two] {
        let mut collector = Collector::new(LabelRules { strict: true, ..LabelRules::default() }, Late::Sort);
        let (mut encoder, mut pieces) = (Encoder::default(), Vec::new());
        let mut write = |batch: &WriteBatch| {
            collector.start(version);
            (0..).zip(batch.iter()).for_each(|(number, metric)| collector.add(metric, number, (0, b"")));
            collector.set_mut().order();
            pieces.clear();
            pieces.extend(collector.set().pieces(2000));
            assert_eq!(encoder.encode(&collector, &pieces, Limits::default()), 300);
            encoder.compressed().unwrap().len()
        };
        // Two buffers take turns, and the first round has a zero, which takes no bytes: later ones are a little longer.
        (0..3).for_each(|round| assert!(write(&devices(round)) > 0));
        for round in 3..6 {
            let batch = devices(round);
            let before = counting::allocations();
            assert!(write(&batch) > 0);
            let allocations = counting::allocations() - before;
            assert_eq!(allocations, 0, "round {round}, {version:?}: {allocations} allocations");
        }
    }
}
