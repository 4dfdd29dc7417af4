//! Whether everything that was written to a socket has reached the other side's system.
//!
//! The kernel's table of connections (proc(5), `/proc/net/tcp`) has the bytes that are not acknowledged. It is long on busy
//! machines, and looked at only when a server has closed a connection.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

/// False also if it cannot be told.
pub(super) fn has_arrived(stream: &TcpStream) -> bool {
    unacknowledged(stream).is_ok_and(|bytes| bytes == Some(0))
}

/// Bytes that were written and not acknowledged; `None` if the connection is not in the table.
fn unacknowledged(stream: &TcpStream) -> io::Result<Option<u64>> {
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let path = if local.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    Ok(find(&fs::read_to_string(path)?, local, remote))
}

/// The transmit queue of this connection in the text of the table.
fn find(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_table(local), in_table(remote));
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let ours = columns.next()? == local && columns.next()? == remote;
        let queues = columns.nth(1)?;
        ours.then(|| u64::from_str_radix(queues.split(':').next()?, 16).ok())?
    })
}

/// An address as the table has it: the words of it in the order of this machine's bytes, and the port.
fn in_table(address: SocketAddr) -> String {
    let word = |bytes: &[u8]| format!("{:08X}", u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let words: String = match address.ip() {
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().chunks_exact(4).map(word).collect(),
    };
    format!("{words}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 6019 1\n   \
                     1: 0100007F:A1B2 0100007F:07D3 08 0000001B:00000000 00:00000000 00000000     0        0 6020 1\n";
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(find(table, address(0xa1b2), address(2003)), Some(27));
        assert_eq!(find(table, address(0xa1b3), address(2003)), None);
        assert_eq!(in_table("[::1]:2003".parse().unwrap()), "00000000000000000000000001000000:07D3");
    }

    #[tokio::test]
    async fn what_nobody_reads_stays_in_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert!(has_arrived(&stream));
        let block = [b'x'; 1 << 16];
        while stream.try_write(&block).is_ok() {}
        assert!(!has_arrived(&stream), "both buffers are full");
        stream.shutdown().await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
        while !has_arrived(&stream) {
            tokio::task::yield_now().await;
        }
    }
}
