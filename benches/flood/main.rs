//! The flood: CPU per MQTT message of the whole agent, beside a bare rumqttc subscriber that only counts.
//!
//! `cargo bench --bench flood [-- --messages 2000000] [--qos 0|1] [--runs 3] [--rate 70000] [--window 1000]`
//!
//! After the flood come ten seconds at a steady rate: a flood is faster than any backend, so the memory it takes is that
//! of the backlog. With QoS 1 follows the same with the journal on disk, acknowledged once it is synced, by a broker that
//! lets `window` messages be on their way; the folder of the journal is in the one for temporary files (`TMPDIR`).
//!
//! 10,000 devices, a topic of four levels, a JSON body of three numbers and a string. A broker of this bench's own sends
//! ready-made packets as fast as the subscriber reads, a sink counts what arrives; both are processes of their own, so that
//! only the subscriber's time counts (user and system, all threads, from the scheduler's own account).

mod bare;
mod broker;
mod sinks;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use self::broker::Load;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DEVICES: usize = 10_000;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("broker") => broker::broker(&Load::from_args(&args[1..])?),
        Some("bare") => bare::bare(args[1].parse()?, args[2].parse()?, args[3].parse()?),
        Some("lines") => sinks::count_lines(args[1].parse()?),
        Some("requests") => sinks::count_samples(args[1].parse()?),
        _ => measure(&args),
    }
}

fn option(args: &[String], name: &str, default: usize) -> Outcome<usize> {
    match args.iter().position(|arg| arg == name) {
        Some(i) => Ok(args.get(i + 1).ok_or("a value is missing")?.parse()?),
        None => Ok(default),
    }
}

fn measure(args: &[String]) -> Outcome<()> {
    let messages = option(args, "--messages", 2_000_000)? / DEVICES * DEVICES;
    let (qos, runs) = (option(args, "--qos", 0)?.min(1) as u8, option(args, "--runs", 3)?);
    let (rate, window) = (option(args, "--rate", 70_000)?, option(args, "--window", 1000)?);
    println!("{messages} messages of {DEVICES} devices, QoS {qos}, best of {runs} runs each");
    let best = |run: &dyn Fn() -> Outcome<Figures>| -> Outcome<Figures> {
        let mut figures = (0..runs).map(|_| run()).collect::<Outcome<Vec<_>>>()?;
        figures.sort_by_key(|figures| figures.cpu);
        Ok(figures.swap_remove(0))
    };
    let flood = Load { messages, qos, rate: 0, window: 0 };
    let steady = Load { messages: 10 * rate, qos, rate, window: 0 };
    let bare = best(&|| run_bare(&flood))?;
    bare.print("bare rumqttc subscriber", &bare);
    best(&|| run_agent(&flood, "lines", ""))?.print("JSON to Graphite lines", &bare);
    best(&|| run_agent(&flood, "requests", ""))?.print("JSON to remote-write", &bare);
    for sink in ["lines", "requests"] {
        run_agent(&steady, sink, "")?.print(&format!("{sink}, {rate} a second"), &bare);
    }
    if qos > 0 {
        let (flood, steady) = (Load { window, ..flood }, Load { window, ..steady });
        best(&|| run_bare(&flood))?.print(&format!("bare, window {window}"), &bare);
        for protocol in ["3.1.1", "5"] {
            best(&|| run_agent(&flood, "lines", protocol))?.print(&format!("disk and lines, MQTT {protocol}"), &bare);
            run_agent(&steady, "lines", protocol)?.print(&format!("the same, {rate} a second"), &bare);
        }
    }
    Ok(())
}

/// What one run cost.
struct Figures {
    messages: usize,
    cpu: Duration,
    wall: Duration,
    resident_kib: u64,
}

impl Figures {
    /// What the process has used since `began`, when it had used `before`.
    fn of(pid: u32, messages: usize, began: Instant, before: Duration) -> Outcome<Self> {
        let cpu = cpu_of(pid)?.saturating_sub(before);
        Ok(Self { messages, cpu, wall: began.elapsed(), resident_kib: resident_of(pid)? })
    }

    fn print(&self, name: &str, bare: &Self) {
        let messages = self.messages;
        println!(
            "{name:<26} {:>6.3} µs CPU a message, {:>5.2} x bare, {:>8.0} messages/s, {:>6.1} MB resident",
            self.cpu.as_secs_f64() * 1e6 / messages as f64,
            self.cpu.as_secs_f64() / self.messages as f64 * bare.messages as f64 / bare.cpu.as_secs_f64(),
            messages as f64 / self.wall.as_secs_f64(),
            self.resident_kib as f64 / 1024.0,
        );
    }
}

/// A process that says a line when it is ready, and another when it is done.
struct Helper {
    child: Child,
    says: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Helper {
    fn start(args: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        let says = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { child, says })
    }

    fn next(&mut self) -> Outcome<String> {
        Ok(self.says.next().ok_or("a process ended too early")??)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_broker(load: &Load) -> Outcome<Helper> {
    let [messages, qos, rate, window] = &load.args();
    Helper::start(&["broker", messages, qos, rate, window])
}

fn run_bare(load: &Load) -> Outcome<Figures> {
    let [messages, qos, ..] = &load.args();
    let mut broker = start_broker(load)?;
    let port = broker.next()?;
    let mut bare = Helper::start(&["bare", &port, messages, qos])?;
    bare.next()?;
    let (began, before) = (Instant::now(), cpu_of(bare.child.id())?);
    bare.next()?;
    Figures::of(bare.child.id(), load.messages, began, before)
}

/// `sink` counts Graphite `lines` or remote-write `requests`. With the version of the protocol in `disk` nothing is
/// acknowledged before it is synced.
fn run_agent(load: &Load, sink: &str, disk: &str) -> Outcome<Figures> {
    let mut broker = start_broker(load)?;
    let broker_port = broker.next()?;
    let mut sink_process = Helper::start(&[sink, &(3 * load.messages).to_string()])?;
    let sink_port = sink_process.next()?;
    let output = match sink {
        "lines" => format!("[[outputs.graphite]]\n  servers = [\"127.0.0.1:{sink_port}\"]\n  timeout = \"60s\"\n"),
        _ => format!(
            "[[outputs.http]]\n  url = \"http://127.0.0.1:{sink_port}/\"\n  data_format = \"prometheusremotewrite\"\n  \
             [outputs.http.headers]\n    Content-Type = \"application/x-protobuf\"\n    Content-Encoding = \"snappy\"\n"
        ),
    };
    let folder = std::env::temp_dir().join(format!("heliograph-flood-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let (journal, session) = match disk {
        "" => (String::new(), String::new()),
        protocol => (
            format!("  buffer_strategy = \"disk\"\n  buffer_directory = {:?}\n", folder.join("journal")),
            format!("  protocol = \"{protocol}\"\n  persistent_session = true\n  client_id = \"flood\"\n"),
        ),
    };
    let qos = load.qos;
    let config = format!(
        "[agent]\n  flush_interval = \"500ms\"\n  metric_buffer_limit = 100000000\n  hostname = \"flood\"\n{journal}\
         [[inputs.mqtt_consumer]]\n  servers = [\"tcp://127.0.0.1:{broker_port}\"]\n  topics = [\"#\"]\n  qos = {qos}\n  \
         data_format = \"json\"\n{session}{output}"
    );
    let path = folder.join("telegraf.conf");
    fs::write(&path, config)?;
    let mut agent = Command::new(env!("CARGO_BIN_EXE_heliograph"))
        .args(["--quiet".as_ref(), "--config".as_ref(), path.as_os_str()])
        .stderr(Stdio::null())
        .spawn()?;
    // The first message tells that the agent is up; its start does not count.
    broker.next()?;
    let (began, before) = (Instant::now(), cpu_of(agent.id())?);
    sink_process.next()?;
    let figures = Figures::of(agent.id(), load.messages, began, before)?;
    agent.kill()?;
    agent.wait()?;
    fs::remove_dir_all(&folder)?;
    Ok(figures)
}

/// Time on the CPU of all threads, from the scheduler's account.
fn cpu_of(pid: u32) -> Outcome<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn resident_of(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse()?)
}
