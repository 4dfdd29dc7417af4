//! A broker that sends ready-made packets as fast as the subscriber takes them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{DEVICES, Outcome};

/// What it sends.
pub struct Load {
    pub messages: usize,
    pub qos: u8,
    /// Messages a second; 0 for as many as the subscriber reads.
    pub rate: usize,
    /// Messages on their way without an acknowledgement; 0 for any number.
    pub window: usize,
}

impl Load {
    /// As arguments of a process.
    pub fn args(&self) -> [String; 4] {
        [self.messages, usize::from(self.qos), self.rate, self.window].map(|number| number.to_string())
    }

    pub fn from_args(args: &[String]) -> Outcome<Self> {
        let [messages, qos, rate, window] = args else { return Err("four numbers are wanted".into()) };
        Ok(Self { messages: messages.parse()?, qos: qos.parse()?, rate: rate.parse()?, window: window.parse()? })
    }
}

/// Serves the first subscriber. Says its port, then that it begins.
pub fn broker(load: &Load) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let (_, connect) = packet(&mut stream)?;
    // Behind the length and the name of the protocol stands its level. MQTT 5 has properties everywhere, here none.
    let is_5 = connect.get(6) == Some(&5);
    stream.write_all(if is_5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] })?;
    loop {
        let (first, body) = packet(&mut stream)?;
        if first >> 4 == 8 && is_5 {
            stream.write_all(&[0x90, 4, body[0], body[1], 0, load.qos])?;
            break;
        } else if first >> 4 == 8 {
            stream.write_all(&[0x90, 3, body[0], body[1], load.qos])?;
            break;
        }
    }
    let acknowledged = Acknowledged::listen(stream.try_clone()?);
    let packets = Packets::new(load.qos, is_5);
    println!("sending");
    let pause = if load.rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(1.0 / load.rate as f64) };
    // As many at once: ten milliseconds of a steady rate.
    let burst = if load.rate == 0 { DEVICES } else { (load.rate / 100).max(1) };
    let (began, mut sent) = (Instant::now(), 0);
    while sent < load.messages {
        if load.rate > 0 {
            let due = began + pause * sent as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let free = if load.window == 0 { burst } else { acknowledged.wait_for_room(sent, load.window) };
        let first = sent % DEVICES;
        let count = free.min(burst).min(load.messages - sent).min(DEVICES - first);
        stream.write_all(packets.range(first, count))?;
        sent += count;
    }
    // Keep the connection until the bench ends.
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Counts the acknowledgements, which also keeps them from filling the socket.
#[derive(Clone)]
struct Acknowledged(Arc<(Mutex<usize>, Condvar)>);

impl Acknowledged {
    fn listen(mut stream: TcpStream) -> Self {
        let this = Self(Arc::new((Mutex::new(0), Condvar::new())));
        let shared = this.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut bytes = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                bytes += count;
                // All that a subscriber sends now are PUBACK packets of four bytes, and a ping of two once a minute.
                *shared.0.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes / 4;
                shared.0.1.notify_one();
            }
        });
        this
    }

    /// How many more may be sent, once it is any.
    fn wait_for_room(&self, sent: usize, window: usize) -> usize {
        let count = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |acknowledged: &mut usize| sent - (*acknowledged).min(sent) >= window;
        let count = self.0.1.wait_while(count, full).unwrap_or_else(PoisonError::into_inner);
        window - (sent - (*count).min(sent))
    }
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
struct Packets {
    bytes: Vec<u8>,
    /// Where each begins, and the end of the last.
    offsets: Vec<usize>,
}

impl Packets {
    fn new(qos: u8, is_5: bool) -> Self {
        let (mut all, mut offsets) = (Vec::new(), vec![0]);
        for i in 0..DEVICES {
            let (topic, body) = device(i);
            let length = 2 + topic.len() + body.len() + if qos > 0 { 2 } else { 0 } + usize::from(is_5);
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
            all.extend(is_5.then_some(0));
            all.extend(body.as_bytes());
            offsets.push(all.len());
        }
        Self { bytes: all, offsets }
    }

    fn range(&self, first: usize, count: usize) -> &[u8] {
        &self.bytes[self.offsets[first]..self.offsets[first + count]]
    }
}
