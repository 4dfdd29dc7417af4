//! A long stream of samples by remote-write to real receivers, read back whole.
//!
//! `HELIOGRAPH_SAMPLES` says how many samples there are; a million takes a minute or two.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::kit::{Server, free_port, get, heliograph, url_encode, wait_for};

/// By labels, milliseconds and the bits of the value, in order.
type Samples = BTreeMap<String, Vec<(i64, u64)>>;

/// Points of each series, a minute apart: Prometheus takes nothing that is an hour older than its newest sample.
const ROUNDS: usize = 50;

fn wanted() -> usize {
    let text = std::env::var("HELIOGRAPH_SAMPLES").unwrap_or_else(|_| "100000".to_owned());
    text.parse().unwrap_or_else(|error| panic!("HELIOGRAPH_SAMPLES={text}: {error}"))
}

/// A value with all bits in use, the same for the same number.
fn scrambled(number: usize) -> f64 {
    let bits = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (bits >> 11) as f64 / 1e9 - 3e6
}

/// What a device measures in a round: what is written as a field, and the sample of it.
fn level(device: usize, round: usize, is_exact: bool) -> (String, f64) {
    let float = |value: f64| (format!("{value}"), value);
    let edges = [-0.0, 5e-324, f64::MAX, f64::MIN, 0.1 + 0.2, 1e-300];
    match device % 10 {
        0 if is_exact => float(scrambled(device * ROUNDS + round)),
        1 if is_exact => float(edges[(device / 10 + round) % edges.len()]),
        // Above 2^53 a float has no place for every integer.
        2 if is_exact => ("9007199254740993i".to_owned(), 9_007_199_254_740_992.0),
        3 if is_exact => ("18446744073709551615u".to_owned(), 18_446_744_073_709_551_615.0),
        4 => (["false", "true"][round % 2].to_owned(), (round % 2) as f64),
        5 => float(0.0),
        _ => float(((device * 7 + round * 13) as f64 % 1000.0 - 200.0) / 10.0),
    }
}

/// Lines of so many samples, half levels and half counters, in the order of time; and what a receiver is to have.
///
/// Values that are not `is_exact` have few digits: VictoriaMetrics keeps decimal numbers.
fn stream(name: &str, count: usize, is_exact: bool) -> (String, Samples) {
    let devices = count / ROUNDS / 2;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let begin = now - ROUNDS as i64 * 60_000;
    let (mut lines, mut samples) = (String::new(), Samples::new());
    for round in 0..ROUNDS {
        for device in 0..devices {
            let time = begin + round as i64 * 60_000 + device as i64 % 997;
            let (text, level) = level(device, round, is_exact);
            let total = (device * 1000 + round * round) as i64;
            let site = ["Köln 1", "日本", "a \"quoted\\x\" one", "plain"][device % 4];
            let written = site.replace(' ', "\\ ");
            lines += &format!("{name},device=d-{device},site={written} level={text},total={total}i {time}000000\n");
            for (field, value) in [("level", level), ("total", total as f64)] {
                let labels = serde_json::json!({
                    "__name__": format!("{name}_{field}"), "device": format!("d-{device}"), "site": site
                });
                samples.entry(labels.to_string()).or_default().push((time, value.to_bits()));
            }
        }
    }
    (lines, samples)
}

/// Sends a stream, and looks at what the receiver has of it until that is all.
fn send(port: u16, protocol: &str, name: &str, is_exact: bool, stored: impl Fn(&str) -> Samples) {
    let count = wanted();
    let (lines, want) = stream(name, count, is_exact);
    let config = format!(
        r#"
[agent]
  precision = "1ms"
  omit_hostname = true
  metric_buffer_limit = {count}

[[inputs.file]]
  files = ["lines"]

[[outputs.remote_write]]
  url = "http://127.0.0.1:{port}/api/v1/write"
  protocol = "{protocol}"
  shards = 2
"#
    );
    let began = Instant::now();
    let ended = heliograph(&config)
        .file("lines", lines)
        .args(["--config", "telegraf.conf", "--once"].map(String::from).to_vec())
        .run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains(" E! "), "{}", ended.stderr);
    println!("{name}: {count} samples sent by {protocol} in {:?}", began.elapsed());
    let total: usize = want.values().map(Vec::len).sum();
    let stored = wait_for("every sample", || {
        let stored = stored(name);
        match stored.values().map(Vec::len).sum::<usize>() {
            found if found >= total => Ok(stored),
            found => Err(format!("{found} of {total}; the log:\n{}", ended.stderr)),
        }
    });
    println!("{name}: read back {:?} after the start", began.elapsed());
    for (labels, samples) in &want {
        let found = stored.get(labels).unwrap_or_else(|| panic!("{labels} is missing"));
        let differs = found.iter().zip(samples).find(|(found, wanted)| found != wanted);
        assert!(differs.is_none() && found.len() == samples.len(), "{labels}: {differs:?}");
    }
    assert_eq!(stored.len(), want.len());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {:?}", text.get(..1000).unwrap_or(text)))
}

/// What Prometheus has of the two hours before now.
fn in_prometheus(port: u16, name: &str) -> Samples {
    let mut samples = Samples::new();
    for field in ["level", "total"] {
        let answer = get(port, &format!("/api/v1/query?query={}", url_encode(&format!("{name}_{field}[2h]")))).unwrap();
        for one in json(&answer)["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")) {
            let sample = |sample: &Value| {
                let value: f64 = sample[1].as_str().unwrap().parse().unwrap();
                ((sample[0].as_f64().unwrap() * 1000.0).round() as i64, value.to_bits())
            };
            let values = one["values"].as_array().unwrap().iter().map(sample).collect();
            samples.insert(one["metric"].to_string(), values);
        }
    }
    samples
}

/// What VictoriaMetrics has.
fn in_victoria_metrics(port: u16, name: &str) -> Samples {
    let filter = url_encode(&format!("{{__name__=~\"{name}_.*\"}}"));
    // What came last is searched from here on.
    get(port, "/internal/force_flush").unwrap();
    let answer = get(port, &format!("/api/v1/export?match[]={filter}")).unwrap();
    let mut samples = Samples::new();
    for one in answer.lines().map(json) {
        let times = one["timestamps"].as_array().unwrap().iter().map(|time| time.as_i64().unwrap());
        let values = one["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap().to_bits());
        // A series may come in several lines.
        samples.entry(one["metric"].to_string()).or_default().extend(times.zip(values));
    }
    samples.values_mut().for_each(|samples| samples.sort_unstable());
    samples
}

/// A VictoriaMetrics with its files in a folder of its own.
fn victoria_metrics() -> (u16, Server) {
    let port = free_port();
    let address = format!("-httpListenAddr=127.0.0.1:{port}");
    let args = ["-storageDataPath=@/data", "-retentionPeriod=1", &address];
    let mut server = Server::new("victoria-metrics", "victoria-metrics", &args);
    server.start(port);
    (port, server)
}

/// A Prometheus that is ready for samples.
fn prometheus() -> (u16, Server) {
    let (port, server) = crate::prometheus::prometheus(free_port());
    wait_for("a Prometheus that is ready", || match get(port, "/-/ready") {
        Ok(answer) if answer.to_lowercase().contains("is ready") => Ok(()),
        other => Err(format!("{other:?}\n{}", server.log())),
    });
    (port, server)
}

#[test]
fn prometheus_has_every_bit_of_a_long_stream() {
    let (port, _server) = prometheus();
    send(port, "auto", "plant", true, |name| in_prometheus(port, name));
}

#[test]
fn victoria_metrics_has_all_of_a_long_stream() {
    let (port, _server) = victoria_metrics();
    send(port, "1.0", "plant", false, |name| in_victoria_metrics(port, name));
    send(port, "auto", "hall", false, |name| in_victoria_metrics(port, name));
}

#[test]
fn values_that_are_no_numbers() {
    let (port, _server) = prometheus();
    let mut config = "[agent]\n  omit_hostname = true\n".to_owned();
    for name in ["nan", "above", "below"] {
        config += &format!(
            "[[inputs.file]]\n  files = [\"{name}\"]\n  name_override = \"odd_{name}\"\n  data_format = \"value\"\n  \
             data_type = \"float\"\n"
        );
    }
    config += &format!("[[outputs.remote_write]]\n  url = \"http://127.0.0.1:{port}/api/v1/write\"\n");
    let ended = heliograph(&config)
        .file("nan", "NaN")
        .file("above", "+Inf")
        .file("below", "-Inf")
        .args(["--config", "telegraf.conf", "--once"].map(String::from).to_vec())
        .run();
    assert!(ended.code() == 0 && !ended.stderr.contains(" E! "), "{}", ended.stderr);
    for (name, want) in [("nan", "NaN"), ("above", "+Inf"), ("below", "-Inf")] {
        // The time of a gather is rounded to whole seconds, so the query may be made before it.
        wait_for(&format!("the value of odd_{name}"), || {
            let query = url_encode(&format!("odd_{name}_value[1h]"));
            let answer = get(port, &format!("/api/v1/query?query={query}"))?;
            match json(&answer)["data"]["result"][0]["values"][0][1] == want {
                true => Ok(()),
                false => Err(answer),
            }
        });
    }
}

#[test]
fn a_receiver_without_two_is_named_when_it_is_forced() {
    for (port, _server) in [prometheus(), victoria_metrics()] {
        let config = format!(
            "[agent]\n  omit_hostname = true\n[[inputs.file]]\n  files = [\"lines\"]\n[[outputs.remote_write]]\n  \
             url = \"http://127.0.0.1:{port}/api/v1/write\"\n  protocol = \"2.0\"\n"
        );
        let ended = heliograph(&config)
            .file("lines", "m v=1\n")
            .args(["--config", "telegraf.conf", "--once"].map(String::from).to_vec())
            .run();
        let want = "without saying what was written, so it does not take version 2.0; set `protocol` to \"auto\"";
        assert!(ended.stderr.contains(want) && ended.stderr.contains("rejected=1"), "{}", ended.stderr);
    }
}
