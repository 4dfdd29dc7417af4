//! Asks a broker that refuses us whether it would take a client of MQTT 3.1.
//!
//! Brokers of that age answer all kinds of refusals to a protocol they do not know. Telegraf falls back to 3.1; our
//! client speaks 3.1.1 only, so what is left is to say what is wrong.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::{Connect, Login};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The start of a CONNECT packet behind its length: protocol name and level.
const VERSION_3_1_1: &[u8] = b"\0\x04MQTT\x04";
const VERSION_3_1: &[u8] = b"\0\x06MQIsdp\x03";

/// Whether the broker accepts this client when it comes with MQTT 3.1. False also if it cannot be asked.
pub(super) async fn accepts_3_1(
    address: &str,
    client_id: &str,
    login: Option<Login>,
    clean_session: bool,
    keep_alive: Duration,
    patience: Duration,
) -> bool {
    let mut connect = Connect::new(client_id);
    connect.login = login;
    connect.clean_session = clean_session;
    connect.keep_alive = keep_alive.as_secs().min(u64::from(u16::MAX)) as u16;
    let Some(packet) = connect_3_1(&connect) else { return false };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&packet).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        // CONNACK, two bytes long, return code 0.
        std::io::Result::Ok(answer[..2] == [0x20, 2] && answer[3] == 0)
    };
    matches!(tokio::time::timeout(patience, ask).await, Ok(Ok(true)))
}

/// The client library's own CONNECT packet with the name and level of MQTT 3.1.
fn connect_3_1(connect: &Connect) -> Option<Vec<u8>> {
    let mut packet = BytesMut::new();
    connect.write(&mut packet).ok()?;
    let at = packet.windows(VERSION_3_1_1.len()).position(|bytes| bytes == VERSION_3_1_1)?;
    let rest = &packet[at + VERSION_3_1_1.len()..];
    let mut length = VERSION_3_1.len() + rest.len();
    let mut old = vec![packet[0]];
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        old.push(if length > 0 { byte | 128 } else { byte });
        if length == 0 {
            break;
        }
    }
    old.extend_from_slice(VERSION_3_1);
    old.extend_from_slice(rest);
    Some(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn the_packet_differs_in_name_level_and_length() {
        let mut connect = Connect::new("me");
        connect.keep_alive = 60;
        assert_eq!(connect_3_1(&connect).unwrap(), b"\x10\x10\0\x06MQIsdp\x03\x02\0\x3c\0\x02me");
    }

    async fn asked(answer: &'static [u8]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut connect = [0; 12];
            stream.read_exact(&mut connect).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let minute = Duration::from_secs(60);
        let accepted = accepts_3_1(&address, "me", None, true, minute, minute).await;
        broker.await.unwrap();
        accepted
    }

    #[tokio::test]
    async fn answers() {
        assert!(asked(b"\x20\x02\0\0").await);
        assert!(!asked(b"\x20\x02\0\x05").await);
        assert!(!asked(b"").await);
    }
}
