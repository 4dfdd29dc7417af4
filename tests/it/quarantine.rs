//! A backend that refuses some metrics for good: the rest arrives, and what was refused can be sent again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::kit::heliograph;

/// Answers 400 to every body that has a line with `bad`, and keeps the lines of the others.
fn strict_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let shared = lines.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = shared.clone();
            std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
        }
    });
    (port, lines)
}

/// One request and its answer; `None` at the end of the connection.
fn answer(stream: &TcpStream, lines: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let (status, text) = if body.contains("bad") {
        ("400 Bad Request", "no such field")
    } else {
        lines.lock().unwrap().extend(body.lines().map(str::to_owned));
        ("204 No Content", "")
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).ok()
}

#[test]
fn one_bad_metric_costs_itself_alone_and_comes_back_from_the_file() {
    let (port, lines) = strict_server();
    let config = format!(
        r#"
[agent]
  omit_hostname = true
  quarantine_directory = "refused"

[[inputs.file]]
  files = ["in.influx"]

[[outputs.http]]
  url = "http://127.0.0.1:{port}/"
  non_retryable_statuscodes = [400]
"#
    );
    let line = |i: u32| format!("m,i={i} {}={i}i 1700000000000000000\n", if i % 70 == 33 { "bad" } else { "good" });
    let ended = heliograph(&config).file("in.influx", (0..200).map(line).collect::<String>()).arg("--once").run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let mut arrived = lines.lock().unwrap().clone();
    arrived.sort_unstable();
    let mut good: Vec<String> = (0..200).map(line).filter(|line| !line.contains("bad")).collect();
    good.iter_mut().for_each(|line| line.truncate(line.len() - 1));
    good.sort_unstable();
    assert_eq!(arrived, good);
    assert_eq!(ended.stderr.matches("error writing to outputs.http").count(), 1, "{}", ended.stderr);

    let kept = ended.text("refused/outputs.http.influx");
    let mut parts = kept.lines();
    let comment = parts.next().unwrap();
    assert!(comment.starts_with("# 2") && comment.contains(" outputs.http "), "{comment}");
    assert!(comment.ends_with("400 Bad Request: no such field"), "{comment}");
    let bad: Vec<String> = [33, 103, 173].map(|i| line(i).trim_end().to_owned()).into();
    assert_eq!(parts.collect::<Vec<_>>(), bad);

    let again =
        "[agent]\nomit_hostname = true\n[[inputs.file]]\nfiles = [\"kept\"]\n[[outputs.file]]\nfiles = [\"out\"]\n";
    let ended = heliograph(again).file("kept", kept).arg("--once").run();
    assert_eq!(
        (ended.code(), ended.text("out").lines().collect::<Vec<_>>()),
        (0, bad.iter().map(String::as_str).collect())
    );
}
