//! A real Prometheus: remote-write to it, and scraping by it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kit::{Server, free_port, get, heliograph, url_encode, wait_for};

/// A Prometheus that takes remote-write and scrapes this port: its own port, and the server.
pub fn prometheus(scraped: u16) -> (u16, Server) {
    let port = free_port();
    let address = format!("--web.listen-address=127.0.0.1:{port}");
    let args = [
        "--config.file=@/prometheus.yml",
        "--storage.tsdb.path=@/data",
        "--web.enable-remote-write-receiver",
        &address,
    ];
    let mut server = Server::new("prometheus", "prometheus", &args);
    server.write(
        "prometheus.yml",
        &format!(
            "scrape_configs:\n  - job_name: agent\n    scrape_interval: 500ms\n    scrape_timeout: 500ms\n    static_configs:\n      - \
             targets: ['127.0.0.1:{scraped}']\n"
        ),
    );
    server.start(port);
    (port, server)
}

/// The values of a query, each with its labels but for that of the name, sorted.
fn query(port: u16, query: &str) -> Result<Vec<(String, String)>, String> {
    let body = get(port, &format!("/api/v1/query?query={}", url_encode(query)))?;
    let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    let results = answer["data"]["result"].as_array().ok_or(body)?;
    let mut found: Vec<_> = results
        .iter()
        .map(|result| {
            let labels: BTreeMap<_, _> = result["metric"].as_object().unwrap().iter().collect();
            let shown = labels.into_iter().filter(|(name, _)| *name != "__name__");
            let shown: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
            (shown.join(","), result["value"][1].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Waits until a query has this answer.
fn wait_for_answer(port: u16, question: &str, labels: &str, value: &str) {
    let wanted = vec![(labels.to_owned(), value.to_owned())];
    wait_for(&format!("{question} at Prometheus"), || match query(port, question) {
        Ok(found) if found == wanted => Ok(()),
        other => Err(format!("{other:?} instead of {wanted:?}")),
    });
}

const GATHERING: &str = r#"
[agent]
  interval = "200ms"
  flush_interval = "200ms"
  omit_hostname = true

[[inputs.exec]]
  commands = [["/bin/cat", "lines"]]
  data_format = "influx"
"#;

/// A blank in a tag, a name that Prometheus does not allow, a text, and a boolean.
const LINES: &str = "weather,site=roof\\ 1 temperature=21.5,humidity=48i,note=\"dry\",open=true\n9pump.rate v=1e21\n";

const SITE: &str = "site=\"roof 1\"";

#[test]
fn remote_write() {
    let (port, prometheus) = prometheus(free_port());
    let output = format!(
        r#"
[[outputs.http]]
  url = "http://127.0.0.1:{port}/api/v1/write"
  data_format = "prometheusremotewrite"
  [outputs.http.headers]
    Content-Type = "application/x-protobuf"
    Content-Encoding = "snappy"
    X-Prometheus-Remote-Write-Version = "0.1.0"
"#
    );
    let agent = heliograph(&(GATHERING.to_owned() + &output)).file("lines", LINES).start();
    wait_for_answer(port, "weather_temperature", SITE, "21.5");
    wait_for_answer(port, "weather_humidity", SITE, "48");
    wait_for_answer(port, "weather_open", SITE, "1");
    wait_for_answer(port, "count({__name__=~\".*pump.*rate.*\"})", "", "1");
    assert_eq!(query(port, "weather_note").unwrap(), [], "a text is no sample");
    wait_for("samples over time", || match query(port, "count_over_time(weather_temperature[1m])") {
        Ok(found) if found.iter().any(|(_, count)| count.parse::<u32>().unwrap() > 3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let ended = agent.stop();
    assert_eq!(ended.code(), 0);
    assert!(!ended.stderr.contains(" E! "), "{}\n{}", ended.stderr, prometheus.log());
}

#[test]
fn a_prometheus_that_is_away_gets_what_it_missed() {
    let (port, mut prometheus) = prometheus(free_port());
    let output = format!(
        r#"
[[outputs.http]]
  url = "http://127.0.0.1:{port}/api/v1/write"
  data_format = "prometheusremotewrite"
  [outputs.http.headers]
    Content-Type = "application/x-protobuf"
    Content-Encoding = "snappy"
    X-Prometheus-Remote-Write-Version = "0.1.0"

[[outputs.file]]
  files = ["out"]
"#
    );
    let agent = heliograph(&(GATHERING.to_owned() + &output)).file("lines", "weather temperature=21.5\n").start();
    wait_for_answer(port, "weather_temperature", "", "21.5");
    prometheus.stop();
    agent.wait_for_logs("error writing to outputs.http", 3);
    prometheus.start(port);
    let at_least = agent.text("out").lines().count();
    wait_for("every sample, also those of the time away", || {
        match query(port, "count_over_time(weather_temperature[10m])") {
            Ok(found) if found.iter().any(|(_, count)| count.parse::<usize>().unwrap() >= at_least) => Ok(()),
            other => Err(format!("{other:?}, not {at_least}")),
        }
    });
    assert_eq!(agent.stop().code(), 0);
}

#[test]
fn scraping() {
    let scraped = free_port();
    let (port, _prometheus) = prometheus(scraped);
    let output = format!("[[outputs.prometheus_client]]\n  listen = \"127.0.0.1:{scraped}\"\n");
    let agent = heliograph(&(GATHERING.to_owned() + &output)).file("lines", LINES).start();
    let instance = format!("127.0.0.1:{scraped}");
    let target = format!("instance=\"{instance}\",job=\"agent\"");
    wait_for_answer(port, "up", &target, "1");
    let labels = format!("{target},note=\"dry\",{SITE}");
    wait_for_answer(port, "weather_temperature", &labels, "21.5");
    wait_for_answer(port, "weather_humidity", &labels, "48");
    let page = get(scraped, "/metrics").unwrap();
    assert!(page.contains("weather_temperature{note=\"dry\",site=\"roof 1\"} 21.5"), "{page}");
    assert_eq!(agent.stop().code(), 0);
}
