//! The configuration of the demonstration: an ordinary file for the ordinary agent.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::devices::MEASUREMENT;

/// How the file begins, which says that it may be overwritten.
pub(super) const FIRST_LINE: &str =
    "# The demonstration of heliograph: an ordinary configuration, written anew by each one";

/// What the file is made of.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub broker: SocketAddr,
    pub devices: usize,
    pub folder: &'a Path,
    /// `host:port` of a Graphite server.
    pub graphite: Option<&'a str>,
    /// Address of a remote-write receiver.
    pub remote_write: Option<&'a str>,
}

/// The file with the configuration.
pub(super) fn config_file(folder: &Path) -> PathBuf {
    folder.join("telegraf.conf")
}

/// The file that Graphite lines are written to.
pub(super) fn lines_file(folder: &Path) -> PathBuf {
    folder.join("graphite.txt")
}

/// The log of the agent.
pub(super) fn log_file(folder: &Path) -> PathBuf {
    folder.join("heliograph.log")
}

/// Room for the devices and for some new ones, but not for ever.
pub(super) fn budget(devices: usize) -> usize {
    devices + (devices / 5).max(10)
}

/// What the devices send is named by place, everything else by host.
fn templates() -> String {
    format!(
        r#"  template = "host.measurement.tags.field"
  templates = ["{MEASUREMENT} measurement.site.hall.device.field"]
"#
    )
}

/// The text of the file.
pub(super) fn text(settings: &Settings<'_>) -> String {
    let templates = templates();
    let Settings { broker, devices, folder, graphite, remote_write } = settings;
    let mut out = format!(
        r#"{FIRST_LINE}
# Run the agent on it again with: heliograph --config {config}
# By then the devices and their broker are gone, everything else goes on.

[agent]
  interval = "2s"
  flush_interval = "2s"
  metric_batch_size = 1000
  metric_buffer_limit = 20000
  skip_processors_after_aggregators = true
  logfile = {log}
  logfile_rotation_max_size = "10MB"
  logfile_rotation_max_archives = 1

# The node itself
[[inputs.cpu]]
[[inputs.disk]]
[[inputs.diskio]]
[[inputs.mem]]
[[inputs.net]]
[[inputs.system]]
[[inputs.internal]]

# The devices: {MEASUREMENT}/<site>/<hall>/<device>
[[inputs.mqtt_consumer]]
  servers = ["tcp://{broker}"]
  topics = ["{MEASUREMENT}/+/+/+"]
  topic_tag = ""
  data_format = "json"
  json_string_fields = ["status"]
  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "{MEASUREMENT}/+/+/+"
    measurement = "measurement/_/_/_"
    tags = "_/site/hall/device"

# Series over budget are summed up under device=other instead of growing without end
[[processors.cardinality]]
  max_series = 10000
  action = "fold"
  fold_interval = "2s"
  [processors.cardinality.measurements]
    {MEASUREMENT} = {budget}

# Graphite lines to look at
[[outputs.file]]
  files = [{lines}]
  rotation_max_size = "50MB"
  rotation_max_archives = 1
  data_format = "graphite"
{templates}"#,
        config = format_args!("{:?}", config_file(folder)),
        log = quoted(&log_file(folder).to_string_lossy()),
        lines = quoted(&lines_file(folder).to_string_lossy()),
        budget = budget(*devices),
    );
    if let Some(server) = graphite {
        let _ = write!(
            out,
            r#"
# A server that is away is no reason not to start: its metrics wait
[[outputs.graphite]]
  servers = [{server}]
  startup_error_behavior = "retry"
{templates}"#,
            server = quoted(server),
        );
    }
    if let Some(url) = remote_write {
        let _ = write!(
            out,
            r#"
# Remote-write knows numbers only
[[outputs.http]]
  url = {url}
  fieldexclude = ["status*", "uptime_format"]
  data_format = "prometheusremotewrite"
  [outputs.http.headers]
    Content-Type = "application/x-protobuf"
    Content-Encoding = "snappy"
    X-Prometheus-Remote-Write-Version = "0.1.0"
"#,
            url = quoted(url),
        );
    }
    out
}

/// A text as TOML has it, in which `$` is no variable of the environment.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '$' => out.push_str("$$"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent;
    use crate::config::LoadOptions;

    async fn check(folder: &str, graphite: Option<&str>, remote_write: Option<&str>) -> Result<(), String> {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        let broker = "127.0.0.1:1883".parse().unwrap();
        let text = text(&Settings { broker, devices: 300, folder: &folder, graphite, remote_write });
        let path = config_file(&folder);
        std::fs::write(&path, text).unwrap();
        let configs = vec![path.to_string_lossy().into_owned()];
        let options = LoadOptions { configs, known: agent::known_plugins(), ..LoadOptions::default() };
        agent::check(&options).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_agent_takes_it() {
        drop(rustls::crypto::ring::default_provider().install_default());
        assert_eq!(check("plain", None, None).await, Ok(()));
        let (graphite, remote_write) = (Some("graphite.example.com:2003"), Some("http://127.0.0.1:9090/api/v1/write"));
        assert_eq!(check("a \"strange\" \\ ${folder}", graphite, remote_write).await, Ok(()));
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a\"b\\c\nd$"), r#""a\"b\\c\u000Ad$$""#);
    }

    #[test]
    fn the_budget_has_room_for_the_devices_but_not_for_ever() {
        assert_eq!((budget(300), budget(10), budget(1)), (360, 20, 11));
        // A tenth of it is kept for folded series.
        assert!((1..10_000).all(|devices| budget(devices) - budget(devices) / 10 >= devices));
    }
}
