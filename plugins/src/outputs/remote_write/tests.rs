//! Whole writes against a receiver on the loopback with scripted answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use expect_test::{Expect, expect};
use heliograph_core::model::Kind;
use hyper::{Response, StatusCode};

use super::*;
use crate::common::http_client::testing::{Recorded, Server, reply};
use crate::common::prometheus::remote_write::testing::{Series, decode, show};
use crate::serializers::testing::{batch, options, typed};

const START: i64 = 1_700_000_000_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
type Answer = Response<http_body_util::Full<Bytes>>;

fn version(request: &Recorded) -> Version {
    match request.headers["x-prometheus-remote-write-version"].to_str().unwrap() {
        "0.1.0" => Version::One,
        _ => Version::Two,
    }
}

fn series(request: &Recorded) -> Vec<Series> {
    decode(&request.body, version(request))
}

/// Says that all was written, or nothing of it to a request of 1.0.
fn written(request: &Recorded) -> Answer {
    let samples: usize = series(request).iter().map(|series| series.samples.len()).sum();
    said(204, samples)
}

fn said(status: u16, samples: usize) -> Answer {
    let mut answer = reply(StatusCode::from_u16(status).unwrap(), "");
    answer.headers_mut().insert("x-prometheus-remote-write-samples-written", samples.into());
    answer
}

fn code(status: u16, body: &str) -> Answer {
    reply(StatusCode::from_u16(status).unwrap(), body)
}

struct Bench {
    server: Server,
    output: RemoteWrite,
    clock: Clock,
    shown: usize,
}

impl Bench {
    async fn new(json: &str, answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        let server = Server::start(answer).await;
        let url = server.url("/api/v1/write");
        Self::with(server, Options { url: Some(url), ..options(json) })
    }

    fn with(server: Server, options: Options) -> Self {
        let clock = Clock::manual(START);
        let context = BuildContext {
            name: "outputs.remote_write".into(),
            clock: clock.clone(),
            host: Default::default(),
            stats: Default::default(),
            version: "1.2.3",
            debug: false,
        };
        let output = RemoteWrite::new(options, Default::default(), Default::default(), &context).unwrap();
        Self { server, output, clock, shown: 0 }
    }

    /// Writes and shows the requests, a line each with its series indented, and the result.
    async fn write(&mut self, batch: &WriteBatch) -> String {
        let result = self.output.write(batch).await;
        let mut text = self.requests();
        if let Err(error) = result {
            let cause = Chain(&*error.source).to_string().replace(&self.server.url(""), "BASE");
            text += &format!("written {:?}, rejected {:?}", error.written, error.rejected);
            text += &error.retry_after.map(|wait| format!(", wait {wait:?}")).unwrap_or_default();
            text += &format!(": {cause}\n");
        }
        text
    }

    fn requests(&mut self) -> String {
        let seen = self.server.seen();
        let new = seen[self.shown..].iter().map(|request| {
            let mut line = format!("{:?}", version(request));
            for name in ["x-scope-orgid", "retry-attempt", "authorization"] {
                if let Some(value) = request.headers.get(name) {
                    line += &format!(" {name}: {}", value.to_str().unwrap());
                }
            }
            let mut series: Vec<String> = series(request).iter().map(|series| format!("  {}", show(series))).collect();
            series.sort();
            line + "\n" + &series.concat()
        });
        let text = new.collect();
        self.shown = seen.len();
        text
    }
}

/// One write.
async fn check(
    json: &str,
    answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static,
    lines: &[&str],
    expected: Expect,
) {
    expected.assert_eq(&Bench::new(json, answer).await.write(&batch(lines)).await);
}

#[tokio::test]
async fn headers() {
    let mut bench = Bench::new(r#"{"headers": {"X-Key": "1"}, "username": "u", "password": "p"}"#, written).await;
    bench.write(&batch(&["m v=1 0"])).await;
    let seen = bench.server.seen();
    let mut lines: Vec<String> = seen[0]
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host" | "accept" | "accept-encoding" | "content-length"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    expect![[r#"
        authorization: Basic dTpw
        content-encoding: snappy
        content-type: application/x-protobuf;proto=io.prometheus.write.v2.Request
        user-agent: heliograph/1.2.3
        x-key: 1
        x-prometheus-remote-write-version: 2.0.0"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn version_two_with_types() {
    let metrics = typed(&[
        (Kind::Counter, "http,code=200 requests=7 1000000000"),
        (Kind::Gauge, "http,code=200 open=2 1000000000"),
    ]);
    let mut bench = Bench::new("{}", written).await;
    expect![[r#"
        Two
          {__name__="http_open",code="200"} 2@1000 type 2
          {__name__="http_requests",code="200"} 7@1000 type 1
    "#]]
    .assert_eq(&bench.write(&metrics).await);
}

#[tokio::test]
async fn falls_back_where_nothing_was_written_and_tries_again_later() {
    let mut bench = Bench::new(r#"{"metadata": false}"#, |_| code(204, "")).await;
    let metrics = batch(&["m v=1 1000000000"]);
    let mut text = bench.write(&metrics).await;
    text += "second\n";
    text += &bench.write(&metrics).await;
    bench.clock.advance(HOUR);
    text += "an hour later\n";
    text += &bench.write(&metrics).await;
    expect![[r#"
        Two
          {__name__="m_v"} 1@1000
        One
          {__name__="m_v"} 1@1000
        second
        One
          {__name__="m_v"} 1@1000
        an hour later
        Two
          {__name__="m_v"} 1@1000
        One
          {__name__="m_v"} 1@1000
    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn falls_back_where_the_type_is_not_supported() {
    let answer = |request: &Recorded| match version(request) {
        Version::One => code(200, ""),
        Version::Two => code(415, "unsupported"),
    };
    check(
        r#"{"metadata": false}"#,
        answer,
        &["m v=1 0"],
        expect![[r#"
        Two
          {__name__="m_v"} 1@0
        One
          {__name__="m_v"} 1@0
    "#]],
    )
    .await;
    check(
        r#"{"protocol": "2.0"}"#,
        answer,
        &["m v=1 0"],
        expect![[r#"
        Two
          {__name__="m_v"} 1@0
        written [], rejected [0]: "BASE/api/v1/write" answered 415 Unsupported Media Type: unsupported
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_refusal_of_unproven_two_counts_once_one_is_taken() {
    let old = |request: &Recorded| match version(request) {
        Version::One => code(200, ""),
        Version::Two => code(400, "cannot decode"),
    };
    let mut bench = Bench::new(r#"{"metadata": false}"#, old).await;
    let mut text = bench.write(&batch(&["m v=1 0"])).await;
    text += "second\n";
    text += &bench.write(&batch(&["m v=1 0"])).await;
    expect![[r#"
        Two
          {__name__="m_v"} 1@0
        One
          {__name__="m_v"} 1@0
        second
        One
          {__name__="m_v"} 1@0
    "#]]
    .assert_eq(&text);

    let mut refusing = Bench::new(r#"{"metadata": false}"#, |_| code(400, "never")).await;
    let mut text = refusing.write(&batch(&["m v=1 0"])).await;
    text += "second\n";
    text += &refusing.write(&batch(&["m v=1 0"])).await;
    expect![[r#"
        Two
          {__name__="m_v"} 1@0
        One
          {__name__="m_v"} 1@0
        written [], rejected [0]: "BASE/api/v1/write" answered 400 Bad Request: never
        second
        Two
          {__name__="m_v"} 1@0
        One
          {__name__="m_v"} 1@0
        written [], rejected [0]: "BASE/api/v1/write" answered 400 Bad Request: never
    "#]]
    .assert_eq(&text);
}

/// Refuses requests with a series of the measurement `bad`, whole.
fn picky(request: &Recorded) -> Answer {
    let is_bad = |series: &Series| series.labels.iter().any(|(_, value)| value.starts_with(b"bad"));
    if series(request).iter().any(is_bad) { code(400, "out of bounds\nmore") } else { code(200, "") }
}

#[tokio::test]
async fn finds_the_series_that_is_refused() {
    let lines: Vec<String> = (0..500)
        .map(|i| format!("{} v={i} 1000000", if i == 77 || i == 400 { format!("bad{i}") } else { format!("m{i}") }))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut bench = Bench::new(r#"{"protocol": "1.0"}"#, picky).await;
    let error = bench.output.write(&batch(&lines)).await.unwrap_err();
    assert_eq!((error.rejected, error.written.len()), (vec![77, 400], 498));
    let seen = bench.server.seen();
    assert!(seen.len() <= 37, "{}", seen.len());
    let cause = Chain(&*error.source).to_string();
    assert!(cause.ends_with("answered 400 Bad Request: out of bounds"), "{cause}");
    // Nothing that was taken is sent twice.
    let taken: usize =
        seen.iter().filter(|request| picky(request).status() == 200).map(|request| series(request).len()).sum();
    assert_eq!(taken, 498);
}

#[tokio::test]
async fn the_search_is_bounded() {
    let lines: Vec<String> = (0..1000).map(|i| format!("bad{i} v={i} 1000000")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut bench = Bench::new(r#"{"protocol": "1.0"}"#, picky).await;
    let error = bench.output.write(&batch(&lines)).await.unwrap_err();
    assert_eq!(error.rejected.len(), 1000);
    assert!(bench.server.seen().len() <= 129, "{}", bench.server.seen().len());
}

#[tokio::test]
async fn finds_the_sample_that_is_refused() {
    let late = |request: &Recorded| {
        let is_late = series(request).iter().any(|series| series.samples.iter().any(|(_, time)| *time < 1000));
        if is_late { code(400, "out of order sample") } else { code(200, "") }
    };
    check(
        r#"{"protocol": "1.0"}"#,
        late,
        &["m v=1 1000000000", "m v=2 2000000000", "m v=0 500000000", "m v=3 3000000000"],
        expect![[r#"
            One
              {__name__="m_v"} 0@500 1@1000 2@2000 3@3000
            One
              {__name__="m_v"} 0@500 1@1000
            One
              {__name__="m_v"} 0@500
            One
              {__name__="m_v"} 1@1000
            One
              {__name__="m_v"} 2@2000 3@3000
            written [0, 1, 3], rejected [2]: "BASE/api/v1/write" answered 400 Bad Request: out of order sample
        "#]],
    )
    .await;
}

#[tokio::test]
async fn other_answers_are_final() {
    for status in [401, 404] {
        let mut bench = Bench::new(r#"{"protocol": "1.0"}"#, move |_| code(status, "no")).await;
        let error = bench.output.write(&batch(&["a v=1 0", "b v=1 0"])).await.unwrap_err();
        assert_eq!((error.rejected, bench.server.seen().len()), (vec![0, 1], 1));
    }
}

#[tokio::test]
async fn receivers_that_keep_the_rest_are_not_asked_again() {
    let three = ["a v=1 0", "b v=1 0", "c v=1 0"];
    check(r#"{"protocol": "1.0"}"#, |_| code(409, "out of bounds"), &three, expect![[r#"
        One
          {__name__="a_v"} 1@0
          {__name__="b_v"} 1@0
          {__name__="c_v"} 1@0
        written [0, 1], rejected [2]: some of 3 samples of a request are refused, the others are written: "BASE/api/v1/write" answered 409 Conflict: out of bounds
    "#]]).await;
    check(r#"{"protocol": "2.0"}"#, |_| said(400, 1), &three, expect![[r#"
        Two
          {__name__="a_v"} 1@0
          {__name__="b_v"} 1@0
          {__name__="c_v"} 1@0
        written [0], rejected [1, 2]: 2 of 3 samples of a request are refused, the others are written: "BASE/api/v1/write" answered 400 Bad Request
    "#]]).await;
    check(r#"{"protocol": "2.0"}"#, |_| said(204, 2), &three, expect![[r#"
        Two
          {__name__="a_v"} 1@0
          {__name__="b_v"} 1@0
          {__name__="c_v"} 1@0
        written [0, 1], rejected [2]: 1 of 3 samples of a request are refused, the others are written: "BASE/api/v1/write" answered 204 No Content
    "#]]).await;
}

#[tokio::test]
async fn waits_for_as_long_as_it_is_told() {
    let asked = AtomicU32::new(0);
    let busy = move |request: &Recorded| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => code(503, "starting"),
        1 => {
            let mut answer = code(429, "too fast");
            answer.headers_mut().insert("retry-after", 7.into());
            answer
        }
        _ => written(request),
    };
    let mut bench = Bench::new("{}", busy).await;
    let mut text = String::new();
    for _ in 0..4 {
        text += &bench.write(&batch(&["m v=1 0"])).await;
    }
    expect![[r#"
        Two
          {__name__="m_v"} 1@0
        written [], rejected []: "BASE/api/v1/write" answered 503 Service Unavailable: starting
        Two retry-attempt: 1
          {__name__="m_v"} 1@0
        written [], rejected [], wait 7s: "BASE/api/v1/write" answered 429 Too Many Requests: too fast
        Two retry-attempt: 2
          {__name__="m_v"} 1@0
        Two
          {__name__="m_v"} 1@0
    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn what_is_answered_for_is_not_sent_again() {
    let asked = AtomicU32::new(0);
    let second_fails = move |request: &Recorded| match asked.fetch_add(1, Ordering::Relaxed) {
        1 => code(500, ""),
        _ => written(request),
    };
    let mut bench = Bench::new(r#"{"max_samples_per_request": 2}"#, second_fails).await;
    let metrics = batch(&["m a=1,b=2 1000000", "m a=3,b=4 2000000", "n c=5 1000000"]);
    let mut text = bench.write(&metrics).await;
    text += "again\n";
    text += &bench.write(&metrics).await;
    text += "and a batch later\n";
    text += &bench.write(&metrics).await;
    expect![[r#"
        Two
          {__name__="m_a"} 1@1 3@2
        Two
          {__name__="m_b"} 2@1 4@2
        written [], rejected []: "BASE/api/v1/write" answered 500 Internal Server Error
        again
        Two retry-attempt: 1
          {__name__="m_b"} 2@1 4@2
        Two retry-attempt: 1
          {__name__="n_c"} 5@1
        and a batch later
        Two
          {__name__="m_a"} 1@1 3@2
        Two
          {__name__="m_b"} 2@1 4@2
        Two
          {__name__="n_c"} 5@1
    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn shards_keep_the_order_of_a_series() {
    let mut bench = Bench::new(r#"{"shards": 4, "max_samples_per_request": 10}"#, written).await;
    let lines: Vec<String> =
        (0..300).map(|i| format!("m,device={} v={i} {}", i % 30, (1 + i / 30) * 1_000_000)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    bench.output.write(&batch(&lines)).await.unwrap();
    let mut last: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut total = 0;
    for request in bench.server.seen() {
        for series in series(&request) {
            let device = series.labels[1].1.clone();
            for (_, time) in series.samples {
                total += 1;
                assert!(last.insert(device.clone(), time).is_none_or(|before| before < time));
            }
        }
    }
    assert_eq!((total, last.len()), (300, 30));
}

/// Fails with this status while it is not zero.
fn failing(status: Arc<AtomicU32>, otherwise: fn(&Recorded) -> Answer) -> impl Fn(&Recorded) -> Answer {
    move |request| match status.load(Ordering::Relaxed) {
        0 => otherwise(request),
        status => code(status as u16, "broken"),
    }
}

#[tokio::test]
async fn another_receiver_takes_over_and_the_first_one_comes_back() {
    let status = Arc::new(AtomicU32::new(0));
    let first = Server::start(failing(status.clone(), written)).await;
    // The second one takes 1.0 alone, and the one between them is not there.
    let second = Server::start(|_| code(204, "")).await;
    let gone = Server::start(written).await;
    let urls = vec![first.url("/"), gone.url("/"), second.url("/")];
    let gone_url = gone.url("/");
    drop(gone);
    let json = r#"{"max_samples_per_request": 2, "metadata": false}"#;
    let mut bench = Bench::with(first, Options { urls, ..options(json) });
    let mut seen = 0;
    let mut text = String::new();
    let mut write = async |bench: &mut Bench, what: &str| {
        let result = bench.write(&batch(&["a v=1 1000000", "b v=1 1000000", "c v=1 1000000"])).await;
        text += &format!("{what}\n{}", result.replace(&gone_url, "GONE").replace(&second.url("/"), "SECOND"));
        let requests = second.seen();
        for request in &requests[seen..] {
            text += &format!("second: {:?} {}\n", version(request), series(request).len());
        }
        seen = requests.len();
    };
    write(&mut bench, "all is well").await;
    status.store(503, Ordering::Relaxed);
    write(&mut bench, "the first one fails").await;
    write(&mut bench, "and is left alone").await;
    status.store(0, Ordering::Relaxed);
    bench.clock.advance(Duration::from_secs(301));
    write(&mut bench, "five minutes later").await;
    status.store(429, Ordering::Relaxed);
    write(&mut bench, "a limit is no reason to change").await;
    expect![[r#"
        all is well
        Two
          {__name__="a_v"} 1@1
          {__name__="b_v"} 1@1
        Two
          {__name__="c_v"} 1@1
        the first one fails
        Two
          {__name__="a_v"} 1@1
          {__name__="b_v"} 1@1
        second: Two 2
        second: One 2
        second: One 1
        and is left alone
        second: One 2
        second: One 1
        five minutes later
        Two
          {__name__="a_v"} 1@1
          {__name__="b_v"} 1@1
        Two
          {__name__="c_v"} 1@1
        a limit is no reason to change
        Two
          {__name__="a_v"} 1@1
          {__name__="b_v"} 1@1
        written [], rejected []: "BASE/" answered 429 Too Many Requests: broken
    "#]]
    .assert_eq(&text);
    let failovers = bench.output.figures.failovers.get();
    assert_eq!(failovers, 1);
}

#[tokio::test]
async fn no_receiver_at_all() {
    let first = Server::start(|_| code(503, "starting")).await;
    let second = Server::start(|_| code(500, "broken")).await;
    let urls = vec![first.url("/"), second.url("/")];
    let second_url = second.url("");
    let mut bench = Bench::with(first, Options { urls, ..options(r#"{"protocol": "1.0"}"#) });
    let text = bench.write(&batch(&["a v=1 1000000"])).await.replace(&second_url, "SECOND");
    expect![[r#"
        One
          {__name__="a_v"} 1@1
        written [], rejected []: no receiver takes the samples: "BASE/" answered 503 Service Unavailable: starting; "SECOND/" answered 500 Internal Server Error: broken
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn tenants() {
    let json = r#"{"tenant": "all", "tenant_tag": "team", "tenant_tag_exclude": true, "protocol": "1.0"}"#;
    let answer = |request: &Recorded| match request.headers["x-scope-orgid"].to_str().unwrap() {
        "a" if request.headers.get("retry-attempt").is_none() => code(429, "limit"),
        _ => code(200, ""),
    };
    let mut bench = Bench::new(json, answer).await;
    let metrics = batch(&["m,team=a v=1 0", "m,team=b v=2 0", "m v=3 0", "m,team=x\\ny v=4 0", "m,team=b w=5 0"]);
    let mut text = bench.write(&metrics).await;
    text += "again\n";
    text += &bench.write(&metrics).await;
    expect![[r#"
        One x-scope-orgid: all
          {__name__="m_v"} 3@0
        One x-scope-orgid: a
          {__name__="m_v"} 1@0
        One x-scope-orgid: b
          {__name__="m_v"} 2@0
          {__name__="m_w"} 5@0
        written [1, 2, 4], rejected [3]: "BASE/api/v1/write" answered 429 Too Many Requests: limit
        again
        One x-scope-orgid: a retry-attempt: 1
          {__name__="m_v"} 1@0
        written [0, 1, 2, 4], rejected [3]: cannot send metrics of a tenant whose name a header cannot have; tag "team"
    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn types_of_version_one_now_and_then() {
    let metrics = typed(&[
        (Kind::Counter, "http requests=7 1000000000"),
        (Kind::Histogram, "prometheus,le=1 lat_bucket=7 1000000000"),
    ]);
    let mut bench = Bench::new(r#"{"protocol": "1.0"}"#, |_| code(200, "")).await;
    bench.write(&metrics).await;
    let count = bench.server.seen().len();
    bench.write(&metrics).await;
    assert_eq!(bench.server.seen().len(), count + 1);
    bench.clock.advance(Duration::from_secs(60));
    expect![[r#"
        One
          {__name__="http_requests"} 7@1000
          {__name__="lat_bucket",le="+Inf"} 0@1000
          {__name__="lat_bucket",le="1"} 7@1000
          {__name__="lat_count"} 0@1000
          {__name__="lat_sum"} 0@1000
        One
          {metadata="http_requests"}  type 1
          {metadata="lat"}  type 3
    "#]]
    .assert_eq(&bench.write(&metrics).await);
}

#[tokio::test]
async fn ends_of_series() {
    let mut bench = Bench::new(r#"{"staleness_markers": true, "staleness_timeout": "40s"}"#, written).await;
    bench.write(&batch(&["m,h=a v=1 1000000000", "m,h=b v=1 1000000000"])).await;
    bench.clock.advance(Duration::from_secs(30));
    bench.write(&batch(&["m,h=a v=2 31000000000"])).await;
    bench.clock.advance(Duration::from_secs(30));
    let mut text = bench.write(&batch(&["m,h=a v=3 61000000000"])).await;
    text += "close\n";
    bench.output.close().await;
    text += &bench.requests();
    expect![[r#"
        Two
          {__name__="m_v",h="a"} 3@61000
        Two
          {__name__="m_v",h="b"} NaN@41000
        close
        Two
          {__name__="m_v",h="a"} NaN@61001
    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn a_token_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let json = format!(r#"{{"bearer_token_file": {:?}}}"#, path.to_str().unwrap());
    let mut bench = Bench::new(&json, written).await;
    let metrics = batch(&["m v=1 0"]);
    let mut text = bench.write(&metrics).await.replace(path.to_str().unwrap(), "FILE");
    for token in ["first\n", "second"] {
        std::fs::write(&path, token).unwrap();
        text += &bench.write(&metrics).await;
    }
    expect![[r#"
        written [], rejected []: cannot read "FILE" of option `bearer_token_file`: No such file or directory (os error 2)
        Two retry-attempt: 1 authorization: Bearer first
          {__name__="m_v"} 1@0
        Two authorization: Bearer second
          {__name__="m_v"} 1@0
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn figures() {
    let server = Server::start(picky).await;
    let stats = Stats::default();
    let context = BuildContext {
        name: "outputs.remote_write".into(),
        clock: Clock::manual(START),
        host: Default::default(),
        stats: stats.clone(),
        version: "1.2.3",
        debug: false,
    };
    let options = Options { url: Some(server.url("/")), ..options(r#"{"protocol": "1.0", "metadata": false}"#) };
    let mut output = RemoteWrite::new(options, Default::default(), Default::default(), &context).unwrap();
    output.write(&batch(&["a v=1,s=\"text\" 0", "bad v=1 0"])).await.unwrap_err();
    let (series, fields) = stats.read().remove(0);
    let shown: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != "bytes_sent")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    expect![[r#"remote_write [("output", "remote_write")] failovers=0 requests=3 samples_mixed=0 samples_rejected=1 samples_without_name=0 samples_without_shape=0 samples_without_value=1 samples_written=1"#]].assert_eq(&format!("{} {:?} {}", series.measurement, series.tags, shown.join(" ")));
}
