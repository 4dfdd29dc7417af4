//! Remote-write to a real Prometheus: what was sent is asked back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::kit::{Ended, Server, free_port, get, heliograph, url_encode, wait_for};

/// A Prometheus that takes remote-write, with its files in a folder of its own.
struct Prometheus {
    port: u16,
    server: Server,
}

/// By labels as Prometheus shows them, the samples: milliseconds and value.
type Samples = BTreeMap<String, BTreeMap<i64, f64>>;

impl Prometheus {
    fn start() -> Self {
        // Nobody listens where it scrapes.
        let (port, server) = crate::prometheus::prometheus(free_port());
        let prometheus = Self { port, server };
        wait_for("a Prometheus that is ready", || match get(port, "/-/ready") {
            Ok(answer) if answer.to_lowercase().contains("is ready") => Ok(()),
            other => Err(format!("{other:?}\n{}", prometheus.server.log())),
        });
        prometheus
    }

    /// Everything of the last hour whose name begins so.
    fn stored(&self, prefix: &str) -> Samples {
        let query = format!("{{__name__=~\"{prefix}.*\"}}[1h]");
        let answer = get(self.port, &format!("/api/v1/query?query={}", url_encode(&query))).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let series = |one: &Value| {
            let samples = one["values"].as_array().unwrap().iter().map(|sample| {
                let seconds = sample[0].as_f64().unwrap();
                ((seconds * 1000.0).round() as i64, sample[1].as_str().unwrap().parse().unwrap())
            });
            (one["metric"].to_string(), samples.collect())
        };
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")).iter().map(series).collect()
    }

    /// Runs an agent once that sends these lines.
    fn send(&self, protocol: &str, shards: usize, lines: &str) -> Ended {
        let config = format!(
            r#"
[agent]
  precision = "1ms"
  omit_hostname = true
  metric_batch_size = 150

[[inputs.file]]
  files = ["lines"]

[[outputs.remote_write]]
  url = "http://127.0.0.1:{}/api/v1/write"
  protocol = "{protocol}"
  shards = {shards}
  max_samples_per_request = 100
"#,
            self.port
        );
        heliograph(&config)
            .file("lines", lines)
            .args(["--config", "telegraf.conf", "--once"].map(String::from).to_vec())
            .run()
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Forty devices with three numbers each, twenty times: 2400 samples, as lines and as Prometheus is to have them.
fn devices(name: &str) -> (String, Samples) {
    let (mut lines, mut samples) = (String::new(), Samples::new());
    let begin = now() - 20 * 15_000;
    for round in 0..20i64 {
        for device in 0..40i64 {
            let time = begin + round * 15_000 + device;
            let values = [("temp", 20.0 + (round * 7 + device) as f64 / 10.0), ("rssi", -(device as f64)), ("up", 1.0)];
            let fields: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
            lines += &format!("{name},device=d-{device},site=hall\\ \"7\" {} {time}000000\n", fields.join(","));
            for (key, value) in values {
                let labels = serde_json::json!({
                    "__name__": format!("{name}_{key}"), "device": format!("d-{device}"), "site": "hall \"7\""
                });
                samples.entry(labels.to_string()).or_default().insert(time, value);
            }
        }
    }
    (lines, samples)
}

#[test]
fn prometheus_has_every_sample() {
    let prometheus = Prometheus::start();
    for (protocol, shards) in [("1.0", 1), ("auto", 1), ("auto", 4)] {
        let name = format!("plant_{}_{shards}", &protocol[..1].replace('1', "one"));
        let (lines, want) = devices(&name);
        let ended = prometheus.send(protocol, shards, &lines);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let stored = prometheus.stored(&name);
        assert_eq!(stored.values().map(BTreeMap::len).sum::<usize>(), 2400, "{protocol}: {}", ended.stderr);
        assert_eq!(stored, want, "{protocol}");
    }
}

#[test]
fn one_late_sample_costs_no_other() {
    let prometheus = Prometheus::start();
    let time = now() - 60_000;
    let first = prometheus.send("auto", 1, &format!("late,n=77 v=1 {time}000000\n"));
    assert_eq!(first.code(), 0, "{}", first.stderr);
    let lines: String =
        (0..140).map(|n| format!("late,n={n} v={n} {}000000\n", if n == 77 { time - 1000 } else { time })).collect();
    let second = prometheus.send("auto", 1, &lines);
    assert!(second.stderr.contains("out of order sample"), "{}", second.stderr);
    let stored = prometheus.stored("late");
    let numbers: BTreeSet<u64> = stored.values().flat_map(BTreeMap::values).map(|value| *value as u64).collect();
    assert_eq!(numbers, (0..140).filter(|n| *n != 77).collect(), "all but the late one, with the 1 that was there");
    assert_eq!(stored.values().map(BTreeMap::len).sum::<usize>(), 140);
}
