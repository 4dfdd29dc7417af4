//! The guard over a long time: devices that invent names without end.

use std::collections::HashSet;

use heliograph::agent::known_plugins;
use heliograph::config::{LoadOptions, Loader};
use heliograph_core::clock::Clock;
use heliograph_core::host::HostPaths;
use heliograph_core::model::{Batch, Interner, Key, Kind, SeriesBuilder, Value};
use heliograph_core::plugin::{BuildContext, ProcessContext, Processor, Verdict};
use heliograph_core::stats::Stats;
use heliograph_plugins::processors;

const DEVICES: u64 = 1000;
const SECONDS: u64 = 600;
const BUDGET: usize = 10_000;
const FOLD_INTERVAL: u64 = 10;

/// The guard as a configuration makes it, and its figures.
fn guard(config: &str) -> (Box<dyn Processor>, Stats) {
    let options = LoadOptions { known: known_plugins(), ..LoadOptions::default() };
    let mut loader = Loader::new(&options, &|_| None);
    loader.add("t.conf", config.as_bytes()).unwrap();
    let section = loader.finish().processors.remove(0).section;
    let spec = processors::ALL.iter().find(|spec| spec.name == processors::cardinality::NAME).unwrap();
    let stats = Stats::default();
    let context = BuildContext {
        name: "processors.cardinality".into(),
        clock: Clock::manual(0),
        host: HostPaths::default(),
        stats: stats.clone(),
        version: "0",
        debug: false,
    };
    ((spec.build)(section, &context).unwrap(), stats)
}

fn figure(stats: &Stats, field: &str) -> i64 {
    let all = stats.read();
    let (_, fields) = all.iter().find(|(series, _)| series.measurement == "cardinality").unwrap();
    fields.iter().find(|(name, _)| *name == field).unwrap().1
}

/// What ten minutes have come to.
#[derive(Default)]
struct Stored {
    /// Series that were stored, real and folded.
    series: HashSet<u64>,
    /// Sum of all values that were sent, and how many.
    sent: (f64, f64),
    /// The same of the values in real and in folded series.
    stored: (f64, f64),
    /// Folded series written at each interval.
    folds: Vec<usize>,
    /// Bytes of the guard's table at each interval.
    bytes: Vec<i64>,
}

/// Every device sends a value a second, each under a new name.
fn invent(guard: &mut dyn Processor, stats: &Stats) -> Stored {
    let mut stored = Stored::default();
    let mut interner = Interner::default();
    let mut builder = SeriesBuilder::new();
    for second in 0..SECONDS {
        let now = (1_700_000_000 + second) as i64 * 1_000_000_000;
        let mut batch = Batch::new();
        for device in 0..DEVICES {
            builder.start(b"reading").set_tag(b"device", format!("d{device}").as_bytes());
            builder.set_tag(b"id", format!("d{device}-{second}").as_bytes());
            batch.start(interner.intern(&mut builder), now, Kind::Gauge);
            let value = device * 7 + second;
            batch.push_field(Key::fixed("v"), Value::Int(value as i64));
            stored.sent = (stored.sent.0 + value as f64, stored.sent.1 + 1.0);
        }
        let mut emit = Batch::new();
        batch.retain_mut(|metric| {
            let mut context = ProcessContext { interner: &mut interner, now, emit: &mut emit, plugin: "guard" };
            guard.apply(metric, &mut context) == Verdict::Keep
        });
        if second % FOLD_INTERVAL == FOLD_INTERVAL - 1 {
            let mut context = ProcessContext { interner: &mut interner, now, emit: &mut emit, plugin: "guard" };
            guard.push(&mut context);
            stored.folds.push(emit.len());
            stored.bytes.push(figure(stats, "table_bytes"));
        }
        stored.take(&batch, "v", None);
        stored.take(&emit, "v_sum", Some("v_count"));
    }
    stored
}

impl Stored {
    fn take(&mut self, batch: &Batch, sum: &str, count: Option<&str>) {
        for metric in batch.iter() {
            let number = |field: &str| metric.field(field.as_bytes()).unwrap().as_number().unwrap();
            self.series.insert(metric.series.fingerprint());
            self.stored = (self.stored.0 + number(sum), self.stored.1 + count.map_or(1.0, number));
        }
    }

    /// Nothing grows once the budget is used up; a minute is more than enough for that.
    fn is_flat(&self) {
        let Self { folds, bytes, .. } = self;
        assert!(folds[6..].iter().all(|&count| count == folds[6]), "{folds:?}");
        assert!(bytes[6..].iter().all(|&size| size == bytes[6]), "{bytes:?}");
    }
}

#[test]
fn a_thousand_devices_invent_a_name_each_second_for_ten_minutes() {
    let (mut guard, stats) = guard(&format!("[[processors.cardinality]]\n  max_series = {BUDGET}\n"));
    let stored = invent(&mut *guard, &stats);
    assert!(stored.series.len() <= BUDGET, "{} series", stored.series.len());
    assert_eq!(figure(&stats, "metrics_dropped"), 0);
    assert_eq!(stored.stored, stored.sent, "every value is in a real or in a folded series");
    stored.is_flat();
}

#[test]
fn tags_that_are_named_come_first_and_nothing_is_lost_if_they_are_not_enough() {
    // A series for each device is more than the places that are kept for folded ones, so `id` alone is not enough.
    let (mut guard, stats) =
        guard(&format!("[[processors.cardinality]]\n  max_series = {BUDGET}\n  tags = [\"id\"]\n"));
    let stored = invent(&mut *guard, &stats);
    assert!(stored.series.len() <= BUDGET, "{} series", stored.series.len());
    assert_eq!(stored.stored, stored.sent, "every value is in a real or in a folded series");
    stored.is_flat();
}
