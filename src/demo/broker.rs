//! An MQTT broker inside this process, on a free loopback port.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Ports tried: somebody else may take the free one before the broker does.
const ATTEMPTS: usize = 3;
/// How long the broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a broker and returns where it listens. Its threads live as long as the process: it has no way to end it.
///
/// # Errors
/// If there is no port to listen on, or no thread for it.
pub(super) fn start() -> anyhow::Result<SocketAddr> {
    for _ in 0..ATTEMPTS {
        let address = free_address().context("cannot find a free port for the broker on 127.0.0.1")?;
        let mut broker = Broker::new(config(address));
        let running = thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || drop(broker.start()))
            .context("cannot start a thread for the broker")?;
        let begun = Instant::now();
        // It returns only if it could not listen; why, it tells its log alone.
        while !running.is_finished() && begun.elapsed() < PATIENCE {
            if TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
                return Ok(address);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    bail!("the broker does not listen on 127.0.0.1, after {ATTEMPTS} attempts on different ports")
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: 64 * 1024,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "demo".to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            // What a slow subscriber may be behind: 16 MiB a filter.
            max_segment_size: 4 * 1024 * 1024,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("demo".to_owned(), server)])),
        ..Config::default()
    }
}
