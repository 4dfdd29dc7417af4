//! Who may ask, and where it is listened.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// A network as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        // A mapped IPv4 network counts its bits from the start of the longer address.
        let written = if self.address.is_ipv4() { 32 } else { 128 };
        let bits = u32::from(self.bits).saturating_sub(written - width);
        bits == 0 || (own ^ other) >> (width - bits) == 0
    }
}

/// A name and a password that a request must bring.
pub(super) struct Password(Vec<u8>);

impl Password {
    pub(super) fn new(username: &[u8], password: &[u8]) -> Self {
        Self([username, b":", password].concat())
    }

    /// Whether the header `Authorization` is right: `Basic …`, or `Token name:password`. Digests are compared, whole, so
    /// that the time says nothing about the password.
    pub(super) fn accepts(&self, authorization: Option<&[u8]>) -> bool {
        let given = match authorization.and_then(|header| header.split_at_checked(6)) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"basic ") => STANDARD.decode(rest).unwrap_or_default(),
            Some((b"Token ", rest)) => rest.to_vec(),
            _ => return false,
        };
        let (own, given) = (digest(&SHA256, &self.0), digest(&SHA256, &given));
        own.as_ref().iter().zip(given.as_ref()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// Host and port of the option `listen`; an empty host is every address.
pub(super) fn listen_address(text: &str) -> Result<(String, u16), String> {
    let rest = match text.split_once("://") {
        None => text,
        Some(("tcp" | "http", rest)) => rest.split('/').next().unwrap_or_default(),
        Some(("vsock", _)) => return Err("vsock is not supported; use a host and a port".to_owned()),
        Some((scheme, _)) => return Err(format!("scheme {scheme:?} is none of tcp, http")),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("{text:?} has no port, as in \":9273\""))?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks() {
        assert!(within("10.0.0.0/8", "10.9.8.7") && within("10.0.0.0/8", "::ffff:10.9.8.7"));
        assert!(!within("10.0.0.0/8", "11.0.0.1") && !within("10.0.0.0/8", "fe80::1"));
        assert!(within("::/0", "fe80::1") && within("0.0.0.0/0", "1.2.3.4") && !within("::/0", "1.2.3.4"));
        assert!(within("192.168.1.7/32", "192.168.1.7") && !within("192.168.1.7/32", "192.168.1.6"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/"] {
            assert_eq!(Network::parse(bad), None);
        }
    }

    #[test]
    fn passwords() {
        let password = Password::new(b"anna", b"s3:cret");
        let accepts = |header: &str| password.accepts(Some(header.as_bytes()));
        assert!(
            accepts("Basic YW5uYTpzMzpjcmV0") && accepts("basic YW5uYTpzMzpjcmV0") && accepts("Token anna:s3:cret")
        );
        assert!(!accepts("Basic YW5uYQ==") && !accepts("Basic %") && !accepts("Token anna") && !accepts("é"));
        assert!(!password.accepts(None));
    }

    #[test]
    fn addresses() {
        let listen = |text: &str| listen_address(text).map(|(host, port)| format!("{host}|{port}"));
        assert_eq!(listen(":9273").as_deref(), Ok("|9273"));
        assert_eq!(listen("localhost:9273").as_deref(), Ok("localhost|9273"));
        assert_eq!(listen("[::]:1").as_deref(), Ok("::|1"));
        assert_eq!(listen("http://1.2.3.4:80/x").as_deref(), Ok("1.2.3.4|80"));
        assert_eq!(listen("vsock://:5").unwrap_err(), "vsock is not supported; use a host and a port");
        assert_eq!(listen("udp://:5").unwrap_err(), "scheme \"udp\" is none of tcp, http");
        assert!(listen("host").is_err() && listen(":x").is_err());
    }
}
