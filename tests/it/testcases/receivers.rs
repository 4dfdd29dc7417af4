//! Listeners that keep what an output sends: over TCP, over UDP, and as HTTP requests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::{Value, json};

use super::remote_write;

/// The listeners of a case.
pub struct Receivers(Vec<Receiver>);

struct Receiver {
    kind: String,
    port: u16,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Receivers {
    /// Listens on a free port for each kind.
    pub fn start(kinds: &[String]) -> Self {
        Self(kinds.iter().map(|kind| Receiver::start(kind)).collect())
    }

    /// The ports, as the configuration finds them in its environment.
    pub fn ports(&self) -> impl Iterator<Item = (String, u16)> {
        self.0.iter().map(|receiver| (format!("{}_PORT", receiver.kind.to_uppercase()), receiver.port))
    }

    /// Writes what came to `received.<kind>`.
    pub fn save(&self, folder: &Path) {
        for receiver in &self.0 {
            if receiver.kind != "http" {
                // The last bytes may still be on their way to the listener's thread.
                settle(&receiver.got);
            }
            fs::write(folder.join(format!("received.{}", receiver.kind)), &*receiver.got.lock().unwrap()).unwrap();
        }
    }
}

/// Waits until nothing more has come between two looks.
fn settle(got: &Mutex<Vec<u8>>) {
    let mut before = usize::MAX;
    while before != got.lock().unwrap().len() {
        before = got.lock().unwrap().len();
        thread::sleep(std::time::Duration::from_millis(100));
    }
}

impl Receiver {
    fn start(kind: &str) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = got.clone();
        let port = match kind {
            "tcp" => accept(move |mut stream| {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    keep.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            }),
            "http" => accept(move |stream| {
                // A client that hangs up ends its connection, and nothing else.
                drop(serve_http(stream, &keep));
            }),
            "udp" => {
                let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
                let port = socket.local_addr().unwrap().port();
                thread::spawn(move || {
                    let mut buffer = [0; 65536];
                    while let Ok(count) = socket.recv(&mut buffer) {
                        keep.lock().unwrap().extend_from_slice(&buffer[..count]);
                    }
                });
                port
            }
            other => panic!("case.json: unknown receiver {other:?}"),
        };
        Self { kind: kind.into(), port, got }
    }
}

fn accept(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Answers every request of a connection with 204 and keeps it as a line of JSON.
fn serve_http(mut stream: TcpStream, keep: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let body = read_body(&mut reader, &headers)?;
        let line = record(method, path, &headers, &body).to_string() + "\n";
        keep.lock().unwrap().extend_from_slice(line.as_bytes());
        stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn read_body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_none_or(|encoding| encoding != "chunked") {
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// A request as cases record it, its body as text or, of remote-write, as series.
fn record(method: &str, path: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> Value {
    const RECORDED: [&str; 5] =
        ["content-type", "content-encoding", "x-prometheus-remote-write-version", "authorization", "user-agent"];
    let shown: BTreeMap<_, _> = headers.iter().filter(|(name, _)| RECORDED.contains(&name.as_str())).collect();
    let mut record = json!({"method": method, "path": path, "headers": shown});
    let decoded = match headers.get("content-encoding").map(String::as_str) {
        Some("snappy") => {
            let is_two = headers.get("content-type").is_some_and(|kind| kind.contains("io.prometheus.write.v2"));
            match if is_two { remote_write::series_of_two(body) } else { remote_write::series(body) } {
                Ok(series) => record["series"] = series,
                Err(problem) => record["undecodable"] = json!(problem),
            }
            return record;
        }
        Some("gzip") => read_all(GzDecoder::new(body)),
        Some("deflate" | "zlib") => read_all(ZlibDecoder::new(body)),
        _ => Ok(body.to_vec()),
    };
    match decoded {
        Ok(body) => record["body"] = json!(String::from_utf8_lossy(&body)),
        Err(error) => record["undecodable"] = json!(error.to_string()),
    }
    record
}

fn read_all(mut reader: impl Read) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all)?;
    Ok(all)
}
