//! The flood: CPU per MQTT message of the whole agent, beside a bare rumqttc subscriber that only counts.
//!
//! `cargo bench --bench flood [-- --messages 2000000] [--qos 0|1] [--runs 3] [--rate 70000]`
//!
//! After the flood come ten seconds at a steady rate: a flood is faster than any backend, so the memory it takes is that
//! of the backlog.
//!
//! 10,000 devices, a topic of four levels, a JSON body of three numbers and a string. A broker of this bench's own sends
//! ready-made packets as fast as the subscriber reads, a sink counts what arrives; both are processes of their own, so that
//! only the subscriber's time counts (user and system, all threads, from the scheduler's own account).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DEVICES: usize = 10_000;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("broker") => broker(args[1].parse()?, args[2].parse()?, args[3].parse()?),
        Some("bare") => bare(args[1].parse()?, args[2].parse()?, args[3].parse()?),
        Some("lines") => count_lines(args[1].parse()?),
        Some("requests") => count_samples(args[1].parse()?),
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
    let (qos, runs) = (option(args, "--qos", 0)?, option(args, "--runs", 3)?);
    println!("{messages} messages of {DEVICES} devices, QoS {qos}, best of {runs} runs each");
    let best = |run: &dyn Fn() -> Outcome<Figures>| -> Outcome<Figures> {
        let mut figures = (0..runs).map(|_| run()).collect::<Outcome<Vec<_>>>()?;
        figures.sort_by_key(|figures| figures.cpu);
        Ok(figures.swap_remove(0))
    };
    let bare = best(&|| run_bare(messages, qos))?;
    bare.print("bare rumqttc subscriber", messages, &bare);
    let lines = best(&|| run_agent(messages, qos, "lines", 0))?;
    lines.print("JSON to Graphite lines", messages, &bare);
    let requests = best(&|| run_agent(messages, qos, "requests", 0))?;
    requests.print("JSON to remote-write", messages, &bare);
    let rate = option(args, "--rate", 70_000)?;
    let steady = 10 * rate / DEVICES * DEVICES;
    for sink in ["lines", "requests"] {
        let figures = run_agent(steady, qos, sink, rate)?;
        figures.print(&format!("{sink}, {rate} a second"), steady, &bare);
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
    fn print(&self, name: &str, messages: usize, bare: &Self) {
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

fn run_bare(messages: usize, qos: usize) -> Outcome<Figures> {
    let mut broker = Helper::start(&["broker", &messages.to_string(), &qos.to_string(), "0"])?;
    let port = broker.next()?;
    let mut bare = Helper::start(&["bare", &port, &messages.to_string(), &qos.to_string()])?;
    bare.next()?;
    let (began, before) = (Instant::now(), cpu_of(bare.child.id())?);
    bare.next()?;
    let pid = bare.child.id();
    Ok(Figures { messages, cpu: cpu_of(pid)? - before, wall: began.elapsed(), resident_kib: resident_of(pid)? })
}

fn run_agent(messages: usize, qos: usize, sink: &str, rate: usize) -> Outcome<Figures> {
    let mut broker = Helper::start(&["broker", &messages.to_string(), &qos.to_string(), &rate.to_string()])?;
    let broker_port = broker.next()?;
    let mut sink_process = Helper::start(&[sink, &(3 * messages).to_string()])?;
    let sink_port = sink_process.next()?;
    let output = match sink {
        "lines" => format!("[[outputs.graphite]]\n  servers = [\"127.0.0.1:{sink_port}\"]\n  timeout = \"60s\"\n"),
        _ => format!(
            "[[outputs.http]]\n  url = \"http://127.0.0.1:{sink_port}/\"\n  data_format = \"prometheusremotewrite\"\n  \
             [outputs.http.headers]\n    Content-Type = \"application/x-protobuf\"\n    Content-Encoding = \"snappy\"\n"
        ),
    };
    let config = format!(
        "[agent]\n  flush_interval = \"500ms\"\n  metric_buffer_limit = 100000000\n  hostname = \"flood\"\n\
         [[inputs.mqtt_consumer]]\n  servers = [\"tcp://127.0.0.1:{broker_port}\"]\n  topics = [\"#\"]\n  qos = {qos}\n  \
         data_format = \"json\"\n{output}"
    );
    let folder = std::env::temp_dir().join(format!("heliograph-flood-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
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
    let pid = agent.id();
    let figures =
        Figures { messages, cpu: cpu_of(pid)? - before, wall: began.elapsed(), resident_kib: resident_of(pid)? };
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

/// Reads one packet; returns its first byte and its body.
fn packet(stream: &mut TcpStream) -> Outcome<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first, body))
}

/// Topic and payload of a device.
fn device(i: usize) -> (String, String) {
    let n = i.wrapping_mul(2_654_435_761) % 10_000;
    let body = format!(
        "{{\"temperature\":{}.{},\"humidity\":{}.{:02},\"battery\":3.{:02},\"status\":\"ok\"}}",
        15 + n % 20,
        n % 10,
        30 + n % 50,
        n % 100,
        n % 97
    );
    (format!("plant/line{}/device{i:05}/telemetry", i % 20), body)
}

/// One message of each device, as packets.
fn packets(qos: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for i in 0..DEVICES {
        let (topic, body) = device(i);
        let length = 2 + topic.len() + body.len() + if qos > 0 { 2 } else { 0 };
        all.push(0x30 | qos << 1);
        if length < 128 {
            all.push(length as u8);
        } else {
            all.extend([(length & 127) as u8 | 128, (length >> 7) as u8]);
        }
        all.extend((topic.len() as u16).to_be_bytes());
        all.extend(topic.as_bytes());
        if qos > 0 {
            all.extend((i as u16 + 1).to_be_bytes());
        }
        all.extend(body.as_bytes());
    }
    all
}

/// Sends `messages` packets to the first subscriber, as fast as it reads or `rate` of them a second. Says its port, then
/// that it begins.
fn broker(messages: usize, qos: u8, rate: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    packet(&mut stream)?;
    stream.write_all(&[0x20, 2, 0, 0])?;
    loop {
        let (first, body) = packet(&mut stream)?;
        if first >> 4 == 8 {
            stream.write_all(&[0x90, 3, body[0], body[1], qos])?;
            break;
        }
    }
    // What the subscriber says is read, so that its acknowledgements do not fill the socket.
    let mut reader = stream.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    let all = packets(qos);
    println!("sending");
    let pause = if rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(DEVICES as f64 / rate as f64) };
    let mut due = Instant::now();
    for _ in 0..messages / DEVICES {
        stream.write_all(&all)?;
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    // Keep the connection until the bench ends.
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Subscribes and counts. Says when it is connected, and when all have arrived.
fn bare(port: u16, messages: usize, qos: u8) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut options = rumqttc::MqttOptions::new("bare", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 16);
        let qos = if qos == 0 { rumqttc::QoS::AtMostOnce } else { rumqttc::QoS::AtLeastOnce };
        client.subscribe("#", qos).await?;
        let (mut count, mut bytes) = (0, 0);
        while count < messages {
            if let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) = events.poll().await? {
                if count == 0 {
                    println!("receiving");
                }
                count += 1;
                bytes += publish.payload.len();
            }
        }
        println!("{count} messages, {bytes} bytes");
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok(())
    })
}

/// Reads lines until `expected` have come.
fn count_lines(expected: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 1 << 18];
    let mut lines = 0;
    while lines < expected {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err("the agent closed the connection".into());
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..n]).count();
    }
    println!("{lines} lines");
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Answers remote-write requests until `expected` samples have come.
fn count_samples(expected: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let mut samples = 0;
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream?);
        while let Some(body) = request(&mut stream)? {
            samples += samples_in(&snap::raw::Decoder::new().decompress_vec(&body)?);
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            if samples >= expected {
                println!("{samples} samples");
                std::thread::sleep(Duration::from_secs(600));
            }
        }
    }
    Ok(())
}

/// The body of the next request of a connection.
fn request(stream: &mut BufReader<TcpStream>) -> Outcome<Option<Vec<u8>>> {
    let mut length = None;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let mut body = vec![0; length.ok_or("a request without a length")?];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

/// Counts the samples of a write request: field 2 of every time series.
fn samples_in(mut request: &[u8]) -> usize {
    let mut count = 0;
    while let Some((_, mut series)) = field(&mut request) {
        while let Some((number, _)) = field(&mut series) {
            count += usize::from(number == 2);
        }
    }
    count
}

/// The next length-delimited field of a protobuf message.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let mut varint = || {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = message.split_first()?;
            *message = rest;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    };
    let key = varint()?;
    let length = varint()? as usize;
    let (content, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some((key >> 3, content))
}
