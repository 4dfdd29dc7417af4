//! The few requests that tests make themselves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The body of a page of this machine, whatever its status.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    let exchange = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // Version 1.0: the answer ends with the connection and is in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange().map_err(|error| format!("GET {path}: {error}"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("GET {path}: no answer but {answer:?}"))?;
    Ok(body.to_owned())
}

/// A text as part of a query.
pub fn url_encode(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}
