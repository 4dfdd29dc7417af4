//! Backends that only count: Graphite lines, and samples of remote-write requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::Outcome;

/// Reads lines until `expected` have come.
pub fn count_lines(expected: usize) -> Outcome<()> {
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
pub fn count_samples(expected: usize) -> Outcome<()> {
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
