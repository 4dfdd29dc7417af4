//! A Graphite server that behaves as badly as asked.

use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

/// What it does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Keeps every line.
    Reads,
    /// Leaves the connection open and reads nothing.
    NeverReads,
    /// Reads this many bytes of a connection, keeps none, and resets it.
    ResetsAfter(usize),
}

/// The server; it listens until the test is over.
pub struct GraphiteServer {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    behaviour: Behaviour,
    lines: Vec<String>,
    connections: usize,
    open: Vec<TcpStream>,
    /// Connections begun before the last death are not read any more.
    deaths: usize,
}

impl GraphiteServer {
    /// Listens on a free port.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::on(0, behaviour)
    }

    /// Listens on this port.
    pub fn on(port: u16, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        // What the system takes in although nobody reads is lost to every client; the tests want little of it.
        set_socket_recv_buffer_size(&listener, 4096).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { behaviour, lines: vec![], connections: 0, open: vec![], deaths: 0 }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let behaviour = {
                    let mut state = shared.lock().unwrap();
                    state.connections += 1;
                    state.behaviour
                };
                let shared = shared.clone();
                thread::spawn(move || serve(stream, behaviour, &shared));
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does from now on; connections that it does not read are closed.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.state.lock().unwrap();
        state.behaviour = behaviour;
        state.open.clear();
    }

    /// Dies as a process that is killed: what it has not kept by now is gone, and so are the connections, with a reset if
    /// the system still held something for it. From now on each new connection is reset.
    pub fn die(&self) {
        let mut state = self.state.lock().unwrap();
        state.behaviour = Behaviour::ResetsAfter(0);
        state.deaths += 1;
        for stream in state.open.drain(..) {
            // Wakes the thread that reads it; the client may have gone already.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// How many lines it has kept.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().lines.len()
    }

    /// The lines it has kept.
    pub fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }

    /// How many connections it has seen.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, state: &Mutex<State>) {
    match behaviour {
        Behaviour::Reads => {
            set_socket_recv_buffer_size(&stream, 1 << 20).unwrap();
            let deaths = {
                let mut state = state.lock().unwrap();
                state.open.push(stream.try_clone().unwrap());
                state.deaths
            };
            let mut reader = BufReader::with_capacity(1 << 16, stream);
            let mut line = String::new();
            // A line that the connection cuts off is none.
            while reader.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let mut state = state.lock().unwrap();
                if state.deaths != deaths {
                    return;
                }
                state.lines.push(line.trim_end().to_owned());
                line.clear();
            }
        }
        Behaviour::NeverReads => state.lock().unwrap().open.push(stream),
        Behaviour::ResetsAfter(bytes) => {
            let mut taken = vec![0; bytes];
            // The client may end first.
            let _ = stream.read_exact(&mut taken);
            // Closing without lingering sends a reset.
            set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
        }
    }
}
