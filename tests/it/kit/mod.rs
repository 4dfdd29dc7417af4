//! What the tests need around the agent: the program itself, servers to talk to, and waiting for what is to happen.

mod agent;
mod graphite;
mod http;
mod mosquitto;
mod server;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub use agent::{Agent, Ended, Setup, heliograph};
pub use graphite::{Behaviour, GraphiteServer};
pub use http::{get, url_encode};
pub use mosquitto::Mosquitto;
pub use server::{Server, command};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; panics with `what` and the last `state` after [`PATIENCE`].
pub fn wait_for<T>(what: &str, state: impl FnMut() -> Result<T, String>) -> T {
    wait_for_at_most(PATIENCE, what, state)
}

/// The same for something that takes its time.
pub fn wait_for_at_most<T>(patience: Duration, what: &str, mut state: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match state() {
            Ok(found) => return found,
            Err(state) if began.elapsed() > patience => panic!("{what}: not within {patience:?}; {state}"),
            Err(_) => pause(),
        }
    }
}

/// Waits until this holds; panics with `what` after [`PATIENCE`].
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || if holds() { Ok(()) } else { Err("does not hold".into()) });
}

/// Between two looks at something outside that cannot tell by itself.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A TCP port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody accepts connections on this port.
pub fn wait_for_port(port: u16) {
    wait_for(&format!("a listener on port {port}"), || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| error.to_string())
    });
}

/// The decimal number that follows `name` in a text like `name=12i`.
pub fn number_after(text: &str, name: &str) -> Option<f64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.e".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
