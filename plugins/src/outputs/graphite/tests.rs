//! Whole writes to servers on the loopback.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use heliograph_core::config::Section;
use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::common::tls::TlsServerOptions;
use crate::common::tls::testing::{Authority, Files};

fn graphite(servers: Vec<String>) -> Graphite {
    with(GraphiteOutputOptions { servers, ..Default::default() }, "{}")
}

fn with(options: GraphiteOutputOptions, naming: &str) -> Graphite {
    let serializer = GraphiteSerializer::new(serde_json::from_str(naming).unwrap()).unwrap();
    let context = BuildContext {
        name: "outputs.graphite".into(),
        clock: Default::default(),
        host: Default::default(),
        stats: Default::default(),
        version: "1.2.3",
        debug: false,
    };
    Graphite::new(options, serializer, None, &context)
}

fn batch(count: i64) -> WriteBatch {
    let mut batch = Batch::new();
    for i in 0..count {
        batch.start(SeriesBuilder::new().start(b"m").set_tag(b"host", b"h").build(), 1_000_000_000, Kind::Untyped);
        batch.push_field(Key::fixed("v"), Value::Int(i));
    }
    batch.into()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn read_all(mut stream: tokio::net::TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_server_that_is_away_is_skipped() {
    let (listener, address) = listen().await;
    let (gone, gone_address) = listen().await;
    drop(gone);
    let mut output = graphite(vec![gone_address, address]);
    output.connect().await.unwrap();
    output.write(&batch(2)).await.unwrap();
    output.close().await;
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\n");
}

#[tokio::test]
async fn a_server_that_closed_is_dialled_again_within_the_same_write() {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.connect().await.unwrap();
    drop(listener.accept().await.unwrap());
    // The close has to arrive before the write: wait until the connection reports it.
    while output.lanes[0].server(0).is_connected() {
        output.lanes[0].server(0).look();
        tokio::task::yield_now().await;
    }
    output.write(&batch(1)).await.unwrap();
    output.close().await;
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(stream).await, "h.m.v 0 1\n");
}

#[tokio::test]
async fn what_a_server_had_not_read_when_it_broke_is_sent_again() {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.connect().await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    output.write(&batch(2)).await.unwrap();
    stream.readable().await.unwrap();
    // Closed with something unread, a socket is reset.
    drop(stream);
    while output.lanes[0].server(0).is_connected() {
        output.lanes[0].server(0).look();
        tokio::task::yield_now().await;
    }
    output.write(&batch(1)).await.unwrap();
    output.close().await;
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\nh.m.v 0 1\n");
}

/// What comes on the next connection, after the server has read two lines and closed, this long after they were written.
async fn after_an_orderly_end(pause: Duration) -> String {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.connect().await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    output.write(&batch(2)).await.unwrap();
    let mut read = vec![0; "h.m.v 0 1\nh.m.v 1 1\n".len()];
    stream.read_exact(&mut read).await.unwrap();
    drop(stream);
    tokio::time::pause();
    tokio::time::advance(pause).await;
    tokio::time::resume();
    while output.lanes[0].server(0).is_connected() {
        output.lanes[0].server(0).look();
        tokio::task::yield_now().await;
    }
    output.write(&batch(1)).await.unwrap();
    output.close().await;
    let (stream, _) = listener.accept().await.unwrap();
    read_all(stream).await
}

#[tokio::test]
async fn what_a_server_has_read_before_it_closed_is_sent_again_only_if_it_was_just_now() {
    assert_eq!(after_an_orderly_end(Duration::from_secs(60)).await, "h.m.v 0 1\n");
    assert_eq!(after_an_orderly_end(Duration::ZERO).await, "h.m.v 0 1\nh.m.v 1 1\nh.m.v 0 1\n");
}

#[tokio::test]
async fn no_server_at_all_keeps_the_batch_and_names_them() {
    let (gone, address) = listen().await;
    drop(gone);
    let mut output = graphite(vec![address.clone()]);
    output.connect().await.unwrap();
    let error = output.write(&batch(1)).await.unwrap_err();
    assert!(error.rejected.is_empty() && error.written.is_empty());
    assert!(error.source.to_string().contains(&address), "{}", error.source);
}

#[tokio::test]
async fn a_server_that_never_reads_is_given_up_after_the_timeout() {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.timeout = Some(Duration::from_millis(50));
    output.connect().await.unwrap();
    let _mute = listener.accept().await.unwrap();
    // Again and again, until no socket buffer takes more.
    let large = batch(100_000);
    let error = loop {
        if let Err(error) = output.write(&large).await {
            break error;
        }
    };
    assert!(error.source.to_string().contains("within 50ms"), "{}", error.source);
}

/// Lines of this many devices, in order.
fn devices(count: i64, time: i64) -> WriteBatch {
    let mut batch = Batch::new();
    for device in 0..count {
        let series = SeriesBuilder::new().start(b"m").set_tag(b"host", format!("h{device}").as_bytes()).build();
        batch.start(series, time * 1_000_000_000, Kind::Untyped);
        batch.push_field(Key::fixed("v"), Value::Int(device));
    }
    batch.into()
}

/// The words of each line, by path.
fn by_path(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (path, rest) = line.split_once(' ').unwrap();
        found.entry(path.to_owned()).or_default().push(rest.to_owned());
    }
    found
}

#[tokio::test]
async fn a_series_keeps_to_its_connection() {
    let (listener, address) = listen().await;
    let options = GraphiteOutputOptions {
        servers: vec![address],
        connections: NonZeroUsize::new(4).unwrap(),
        ..Default::default()
    };
    let mut output = with(options, "{}");
    output.connect().await.unwrap();
    for time in 1..=3 {
        output.write(&devices(40, time)).await.unwrap();
    }
    output.close().await;
    let mut all = BTreeMap::new();
    for _ in 0..4 {
        let of_one = by_path(&read_all(listener.accept().await.unwrap().0).await);
        assert!((1..40).contains(&of_one.len()), "{of_one:?}");
        for (path, points) in of_one {
            assert_eq!(all.insert(path.clone(), points), None, "{path} by two connections");
        }
    }
    assert_eq!(all.len(), 40);
    assert_eq!(all["h7.m.v"], ["7 1", "7 2", "7 3"]);
    assert_eq!(output.points_written.get(), 120);
}

#[tokio::test]
async fn what_was_unread_goes_out_at_the_end_at_the_latest() {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.connect().await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    output.write(&batch(2)).await.unwrap();
    stream.readable().await.unwrap();
    drop(stream);
    while output.lanes[0].server(0).is_connected() {
        output.lanes[0].server(0).look();
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn(async move { output.close().await });
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\n");
    closing.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_fails_keeps_its_part() {
    let (listener, address) = listen().await;
    let options = GraphiteOutputOptions {
        servers: vec![address],
        connections: NonZeroUsize::new(2).unwrap(),
        timeout: std::time::Duration::from_millis(100).into(),
        ..Default::default()
    };
    let mut output = with(options, "{}");
    let dial = output.dial().await.unwrap();
    output.lanes[0].connect(&dial).await;
    let first = listener.accept().await.unwrap().0;
    // Nobody listens where the second one is to connect.
    drop(listener);
    let error = output.write(&devices(40, 1)).await.unwrap_err();
    let text = error.source.to_string();
    assert!(text.starts_with("1 of 2 connections: could not write to any server in cluster ("), "{text}");
    assert!((1..40).contains(&error.written.len()) && error.rejected.is_empty());
    output.close().await;
    let sent = by_path(&read_all(first).await);
    let want = error.written.iter().map(|device| format!("h{device}.m.v"));
    assert_eq!(sent.into_keys().collect::<BTreeSet<_>>(), want.collect());
}

#[tokio::test]
async fn a_path_that_is_refused_costs_no_other() {
    let (listener, address) = listen().await;
    let options = GraphiteOutputOptions { servers: vec![address], ..Default::default() };
    let mut output = with(options, r#"{"graphite_max_path_length": 6}"#);
    let error = output.write(&devices(12, 1)).await.unwrap_err();
    assert_eq!((error.written, error.rejected), ((0..10).collect(), vec![10, 11]));
    let text = error.source.to_string();
    assert_eq!(text, r#"cannot send path "h10.m.v": its 7 bytes are more than the 6 of `graphite_max_path_length`"#);
    output.close().await;
    assert_eq!(read_all(listener.accept().await.unwrap().0).await.lines().count(), 10);
}

#[tokio::test]
async fn a_rate_holds_points_back_and_keeps_what_takes_too_long() {
    let (listener, address) = listen().await;
    let options = GraphiteOutputOptions {
        servers: vec![address],
        connections: NonZeroUsize::new(2).unwrap(),
        max_data_points_per_second: 100,
        ..Default::default()
    };
    let mut output = with(options, "{}");
    output.connect().await.unwrap();
    let readers: Vec<_> = [listener.accept().await.unwrap(), listener.accept().await.unwrap()]
        .into_iter()
        .map(|(stream, _)| tokio::spawn(read_all(stream)))
        .collect();
    // From here on time passes as soon as nothing else is to be done.
    tokio::time::pause();
    let begin = Instant::now();
    let error = output.write(&devices(1000, 1)).await.unwrap_err();
    assert!((4..6).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert!((500..=600).contains(&error.written.len()), "{}", error.written.len());
    assert!(error.source.to_string().contains("more data points than 100 a second"), "{}", error.source);
    output.close().await;
    let mut lines = 0;
    for reader in readers {
        lines += reader.await.unwrap().lines().count();
    }
    assert_eq!((lines, lines as i64), (error.written.len(), output.points_written.get()));
}

#[test]
fn connections_that_cannot_be() {
    let refusal = |connections, address: &str| {
        GraphiteOutputOptions {
            connections: NonZeroUsize::new(connections).unwrap(),
            local_address: address.to_owned(),
            ..Default::default()
        }
        .refusal()
    };
    assert_eq!((refusal(1, "127.0.0.1:99"), refusal(64, "127.0.0.1"), refusal(2, "")), (None, None, None));
    assert_eq!(refusal(65, "").unwrap(), "65 connections are more than 64");
    let want = "2 connections cannot all come from port 99: leave it out of `local_address`";
    assert_eq!(refusal(2, "127.0.0.1:99").unwrap(), want);
}

/// Accepts one connection by TLS and reads it to its end, or to a handshake that fails.
async fn read_secure(listener: &TcpListener, files: &Files) -> Result<String, String> {
    let options = TlsServerOptions { tls_cert: files.cert.clone(), tls_key: files.key.clone(), ..Default::default() };
    let acceptor = TlsAcceptor::from(options.server_config().unwrap().unwrap());
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    Ok(text)
}

#[tokio::test]
async fn certificates_are_read_anew_for_each_connection() {
    let (listener, address) = listen().await;
    let (old, new) = (Authority::new(), Authority::named("other.test"));
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::copy(old.path(), &trusted).unwrap();
    let mut output = graphite(vec![address]);
    output.tls = Some(TlsClientOptions {
        tls_ca: trusted.to_str().unwrap().to_owned(),
        tls_server_name: "carbon.test".to_owned(),
        ..Default::default()
    });
    // The server has its certificate from the new authority already, and is not trusted.
    let files = new.leaf("carbon.test");
    let one = batch(1);
    let (read, written) = tokio::join!(read_secure(&listener, &files), output.write(&one));
    assert!(read.is_err());
    let error = written.unwrap_err().source.to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    std::fs::copy(new.path(), &trusted).unwrap();
    let write = async {
        output.write(&one).await.unwrap();
        output.close().await;
    };
    let (read, ()) = tokio::join!(read_secure(&listener, &files), write);
    assert_eq!(read.as_deref(), Ok("h.m.v 0 1\n"));
}

#[tokio::test]
async fn local_addresses() {
    assert_eq!(resolve_local("127.0.0.1").await.unwrap().to_string(), "127.0.0.1:0");
    assert_eq!(resolve_local("127.0.0.1:99").await.unwrap().to_string(), "127.0.0.1:99");
    assert!(resolve_local("no.such.host.invalid").await.unwrap_err().to_string().contains("no.such.host.invalid"));
}

#[test]
fn the_defaults_are_those_of_the_sample() {
    let options: GraphiteOutputOptions = Section::empty("outputs.graphite").finish().unwrap();
    assert_eq!(options.servers(), ["localhost:2003"]);
    assert_eq!(options.timeout.positive(), Some(Duration::from_secs(2)));
}

#[tokio::test]
async fn what_was_lost_does_not_wait_for_the_next_write() {
    let (listener, address) = listen().await;
    let mut output = graphite(vec![address]);
    output.connect().await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    output.begin(7);
    output.write(&batch(2)).await.unwrap();
    assert_eq!(output.doubt(), Doubt { unread: Some(7), lost: None });
    stream.readable().await.unwrap();
    // Closed with two lines unread: reset.
    drop(stream);
    while output.lanes[0].server(0).is_connected() {
        output.lanes[0].server(0).look();
        tokio::task::yield_now().await;
    }
    output.tend().await.unwrap();
    assert_eq!(output.doubt(), Doubt { unread: Some(7), lost: Some(7) }, "sent again just now");
    output.close().await;
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(read_all(stream).await, "h.m.v 0 1\nh.m.v 1 1\n");
}
