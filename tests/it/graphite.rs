//! Graphite lines to servers that misbehave, and to a real carbon-cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kit::{
    Agent, Behaviour, Ended, GraphiteServer, Server, Setup, command, free_port, heliograph, wait_for, wait_until,
};

/// Lines that the agent gathers each time.
const LINES: usize = 2000;
/// Metrics that it keeps for an output.
const LIMIT: u64 = 10_000;

/// An agent that gathers lines with running numbers, for a Graphite server and for a file beside it.
///
/// The long prefix makes each gather one of five megabytes: more than the system takes in for a server that does not read.
/// Lines that it has taken in are lost with the connection, whoever the client is.
fn feeding(port: u16, batch_size: usize, limit: u64) -> Setup {
    let config = format!(
        r#"
[agent]
  interval = "200ms"
  flush_interval = "100ms"
  omit_hostname = true
  metric_batch_size = {batch_size}
  metric_buffer_limit = {limit}

[[inputs.exec]]
  commands = [["/bin/sh", "feed"]]
  data_format = "influx"

[[outputs.graphite]]
  servers = ["127.0.0.1:{port}"]
  prefix = "{}"
  timeout = "1s"

[[outputs.file]]
  files = ["out"]
"#,
        "p".repeat(2500)
    );
    let feed = format!(
        "n=$(cat n 2>/dev/null || echo 0)\nseq -f 'load number=%.0fi' $((n + 1)) $((n + {LINES}))\necho $((n + {LINES})) > n\n"
    );
    heliograph(&config).file("feed", feed)
}

/// The running numbers that the server has.
fn received(server: &GraphiteServer) -> BTreeSet<u64> {
    let number = |line: String| {
        let mut words = line.split(' ');
        let path = words.next().unwrap();
        assert!(path.ends_with(".load.number") && path.len() == 2512, "a line that was not sent: {line:?}");
        words.next().unwrap().parse().unwrap()
    };
    server.lines().into_iter().map(number).collect()
}

/// The running numbers in the file beside it.
fn written(text: &str) -> BTreeSet<u64> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| crate::kit::number_after(line, "number=").unwrap() as u64).collect()
}

/// Waits until the file beside the server has more than it had; it is not held back.
fn the_file_goes_on(agent: &Agent) {
    let before = agent.text("out").len();
    agent.wait_for_text("out", |text| text.len() > before);
}

/// Waits until the server has all of the newest numbers: as many as are kept, up to the last one that was gathered.
fn the_server_has_the_newest(server: &GraphiteServer, ended: &Ended, kept: u64) {
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let written = written(&ended.text("out"));
    let last = *written.last().unwrap();
    assert_eq!(written.len() as u64, last, "the file has every number");
    wait_for("the newest lines at the server", || {
        let received = received(server);
        let missing: Vec<u64> = (last.saturating_sub(kept) + 1..=last).filter(|n| !received.contains(n)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} missing from {:?}", missing.len(), missing.first())) }
    });
}

#[test]
fn a_server_that_never_reads() {
    let server = GraphiteServer::start(Behaviour::NeverReads);
    let agent = feeding(server.port(), 10_000, LIMIT).start();
    agent.wait_for_log("could not write within 1s");
    agent.wait_for_logs("Metric buffer overflow; ", 3);
    let before = agent.resident();
    the_file_goes_on(&agent);
    agent.wait_for_logs("Metric buffer overflow; ", 12);
    let after = agent.resident();
    assert!(after < before + 20_000 && after < 100_000, "memory grew from {before} to {after} KiB");
    server.behave(Behaviour::Reads);
    wait_until("the server has something", || !server.lines().is_empty());
    the_server_has_the_newest(&server, &agent.stop(), LIMIT);
}

#[test]
fn a_server_that_resets_in_the_middle_of_a_batch() {
    let server = GraphiteServer::start(Behaviour::ResetsAfter(100_000));
    let agent = feeding(server.port(), 10_000, 1_000_000).start();
    agent.wait_for_logs("error writing to outputs.graphite", 3);
    the_file_goes_on(&agent);
    assert!(server.lines().is_empty() && server.connections() > 3);
    let log = agent.stderr();
    let line = log.lines().find(|line| line.contains("error writing to outputs.graphite")).unwrap();
    assert!(line.contains(&format!("127.0.0.1:{}", server.port())) && !line.contains("kept=0"), "{line}");
    server.behave(Behaviour::Reads);
    wait_until("the server has something", || !server.lines().is_empty());
    the_server_has_the_newest(&server, &agent.stop(), u64::MAX);
}

#[test]
fn a_server_that_is_absent_at_the_start() {
    let port = free_port();
    let agent = feeding(port, 1000, 1_000_000).start();
    agent.wait_for_logs("error writing to outputs.graphite", 3);
    the_file_goes_on(&agent);
    let log = agent.stderr();
    let line = log.lines().find(|line| line.contains("error writing to outputs.graphite")).unwrap();
    assert!(line.contains(&format!("127.0.0.1:{port}")) && line.contains("refused"), "{line}");
    let server = GraphiteServer::on(port, Behaviour::Reads);
    wait_until("the server has something", || !server.lines().is_empty());
    the_server_has_the_newest(&server, &agent.stop(), u64::MAX);
}

#[test]
fn a_server_that_stays_away_does_not_hold_up_the_end() {
    let agent = feeding(free_port(), 1000, LIMIT).start();
    agent.wait_for_log("error writing to outputs.graphite");
    let ended = agent.stop();
    assert_eq!(ended.code(), 0);
    assert!(ended.elapsed.as_secs() < 25, "{:?}", ended.elapsed);
    assert!(ended.stderr.contains("metrics could not be written before the end and are lost"), "{}", ended.stderr);
}

/// A carbon-cache with its files in a folder of its own: the port for lines, and the server.
fn carbon() -> (u16, Server) {
    let args = ["--nodaemon", "--config=@/carbon.conf", "--pidfile=@/carbon.pid", "--logdir=@", "start"];
    let mut server = Server::new("graphite-carbon", "carbon-cache", &args);
    let (lines, pickle, query) = (free_port(), free_port(), free_port());
    server.write(
        "carbon.conf",
        &format!(
            "[cache]\nSTORAGE_DIR = @\nLOCAL_DATA_DIR = @/whisper\nCONF_DIR = @\nLOG_DIR = @\nPID_DIR = @\nUSER =\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {lines}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\n\
             PICKLE_RECEIVER_PORT = {pickle}\nCACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\n\
             ENABLE_UDP_LISTENER = False\nMAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\n"
        ),
    );
    server.write("storage-schemas.conf", "[all]\npattern = .*\nretentions = 1s:1h\n");
    server.start(lines);
    (lines, server)
}

/// Every value that carbon has stored, by path and second.
fn stored(whisper: &Path) -> BTreeMap<(String, u64), f64> {
    const READ: &str = r#"
import os, sys, whisper
root = sys.argv[1]
for folder, _, files in os.walk(root):
    for name in files:
        path = os.path.join(folder, name)
        try:
            (start, _, step), values = whisper.fetch(path, 0)
        except whisper.WhisperException:
            continue  # carbon is just making it
        for i, value in enumerate(values):
            if value is not None:
                print(os.path.relpath(path, root)[:-len(".wsp")].replace("/", "."), start + i * step, repr(value))
"#;
    // The interpreter of Debian, which is the one that has the package.
    let output = command("python3").args(["-c", READ]).arg(whisper).output().unwrap();
    assert!(output.status.success(), "python3-whisper: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |line: &str| {
        let (path, rest) = line.split_once(' ').unwrap();
        let (time, value) = rest.split_once(' ').unwrap();
        ((path.to_owned(), time.parse().unwrap()), value.parse().unwrap())
    };
    text.lines().map(value).collect()
}

#[test]
fn carbon_stores_what_a_node_sends() {
    let (port, carbon) = carbon();
    // As a user of Hosted Graphite runs it on every node, but for the address.
    let config = include_str!("data/metricfire-daemonset-telegraf.conf");
    let config = config.replace("carbon.hostedgraphite.com:2003", &format!("127.0.0.1:{port}"));
    let beside = "[[outputs.file]]\n  files = [\"out\"]\n  data_format = \"graphite\"\n  prefix = \"<YOUR-HG-API-KEY>.telegraf-k8\"\n";
    let ended = heliograph(&config)
        .file("beside.conf", beside)
        .env("HOSTNAME", "node-1")
        .args(["--config", "telegraf.conf", "--config", "beside.conf", "--once"].map(String::from).to_vec())
        .run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let text = ended.text("out");
    let sent: BTreeMap<(String, u64), f64> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            ((words[0].to_owned(), words[2].parse().unwrap()), words[1].parse().unwrap())
        })
        .collect();
    let mem = "_YOUR-HG-API-KEY_.telegraf-k8.node-1.mem.total";
    assert!(sent.keys().any(|(path, _)| path == mem), "{text}");
    for part in [".cpu-total.cpu.usage_idle", ".system.load1", ".diskio.reads"] {
        assert!(sent.keys().any(|(path, _)| path.contains(part)) || part == ".diskio.reads", "{part} in {text}");
    }
    wait_for("all values in carbon", || {
        let stored = stored(&carbon.path("whisper"));
        let missing: Vec<_> = sent.iter().filter(|(at, value)| stored.get(at) != Some(value)).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} of {} missing, as {first:?}\n{}", missing.len(), sent.len(), carbon.log())),
        }
    });
}

/// Twenty paths with a point for each of a thousand seconds: as lines that the agent reads, and as carbon is to have them.
fn twenty_thousand_points() -> (String, BTreeMap<(String, u64), f64>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (mut lines, mut points) = (String::new(), BTreeMap::new());
    for second in now - 1000..now {
        for path in 0..20 {
            let value = (second % 1000 * 20 + path) as f64;
            lines += &format!("plant,host=h{path} v={value} {second}000000000\n");
            points.insert((format!("h{path}.plant.v"), second), value);
        }
    }
    (lines, points)
}

/// Carbon with what it cannot read any more: the lines that lie in the buffers on the way when it dies.
#[test]
fn a_carbon_that_goes_mute_and_dies_costs_nothing() {
    let (port, mut carbon) = carbon();
    let config = format!(
        r#"
[agent]
  interval = "200ms"
  flush_interval = "100ms"
  omit_hostname = true

[[inputs.exec]]
  commands = [["/bin/sh", "feed"]]
  data_format = "influx"

[[inputs.internal]]
  collect_memstats = false

[[outputs.graphite]]
  servers = ["127.0.0.1:{port}"]
  connections = 2
  namedrop = ["internal_*"]

[[outputs.file]]
  files = ["figures"]
  namepass = ["internal_graphite"]
"#
    );
    let feed = "echo tick,host=h v=1\nif [ -e next ]; then mv next taken; cat taken; fi\n";
    let agent = heliograph(&config).file("feed", feed).start();
    let figure = |name: &str| {
        let text = agent.text("figures");
        let last = text.lines().last().unwrap_or_default();
        crate::kit::number_after(last, &format!("{name}=")).unwrap_or_default()
    };
    wait_until("a first point in carbon", || {
        stored(&carbon.path("whisper")).keys().any(|(path, _)| path == "h.tick.v")
    });
    carbon.freeze();
    let before = figure("points_written");
    let (lines, points) = twenty_thousand_points();
    std::fs::write(agent.path("lines"), lines).unwrap();
    std::fs::rename(agent.path("lines"), agent.path("next")).unwrap();
    wait_until("everything on its way", || figure("points_written") >= before + 20_000.0);
    assert_eq!(figure("points_sent_again"), 0.0);
    carbon.kill();
    carbon.start(port);
    wait_for("all points in carbon", || {
        let stored = stored(&carbon.path("whisper"));
        let missing: Vec<_> = points.iter().filter(|(at, value)| stored.get(at) != Some(value)).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} missing, as {first:?}\n{}", missing.len(), agent.stderr())),
        }
    });
    wait_until("lines that were sent again", || figure("points_sent_again") >= 20_000.0);
    assert_eq!(agent.stop().code(), 0);
}
