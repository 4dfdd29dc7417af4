//! Tells systemd how far the agent is, as `sd_notify(3)` describes.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// The socket that the service manager listens on, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<SocketAddr>);

impl Notifier {
    /// That of `$NOTIFY_SOCKET`.
    pub fn from_environment() -> Self {
        Self::new(env::var_os("NOTIFY_SOCKET"))
    }

    /// A path, or a name in the abstract namespace behind `@`.
    fn new(socket: Option<OsString>) -> Self {
        let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return Self(None) };
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&socket),
        };
        let address = address.inspect_err(
            |error| warn!(socket = %socket.display(), error = %error, "cannot use the socket in NOTIFY_SOCKET"),
        );
        Self(address.ok())
    }

    /// The agent works: outputs are connected and inputs have started.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is read again; [`Self::ready`] says when that is over.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let send = || -> io::Result<()> {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not listen must not hold the agent up.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address).map(drop)
        };
        if let Err(error) = send() {
            warn!(state, error = %error, "cannot notify the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn speaks_to_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()));
        notifier.ready();
        notifier.reloading();
        notifier.stopping();
        assert_eq!(received(&socket), "READY=1");
        let reloading = received(&socket);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn speaks_to_an_abstract_name() {
        let name = format!("heliograph-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(Some(format!("@{name}").into())).ready();
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn nobody_may_be_there() {
        Notifier::new(None).ready();
        Notifier::new(Some("".into())).ready();
        Notifier::new(Some("/no/such/socket".into())).ready();
        assert!(Notifier::new(Some("x".repeat(200).into())).0.is_none());
    }
}
