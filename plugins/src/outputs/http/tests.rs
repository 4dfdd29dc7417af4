//! Requests as a server on the loopback sees them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use heliograph_core::error::Chain;
use heliograph_core::model::{Batch, Kind, MetricRef, SeriesBuilder};
use hyper::StatusCode;

use super::*;
use crate::common::http_client::testing::{Recorded, Server, reply};

/// Names, one a line; a metric called `bad` fails.
struct Names;

impl Serializer for Names {
    fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if metric.series.name() == b"bad" {
            return Err("no such metric".into());
        }
        out.extend_from_slice(metric.series.name());
        out.push(b'\n');
        Ok(())
    }

    fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
        batch.iter().try_for_each(|metric| self.serialize(metric, out))
    }
}

fn batch(names: &[&str]) -> WriteBatch {
    let mut batch = Batch::new();
    for name in names {
        batch.start(SeriesBuilder::new().start(name.as_bytes()).build(), 0, Kind::Untyped);
    }
    batch.into()
}

fn context() -> BuildContext {
    BuildContext {
        name: Arc::from("outputs.http"),
        clock: Clock::manual(1_440_938_160_000_000_000),
        host: Default::default(),
        stats: Default::default(),
        version: "1.2.3",
        debug: false,
    }
}

fn output(options: Options, aws: AwsOptions) -> Result<Http, String> {
    Http::new(options, HttpClientOptions::default(), aws, Box::new(Names), &context())
        .map_err(|refusal| format!("{}: {}", refusal.option, refusal.reason))
}

fn show(request: &Recorded) -> String {
    let mut lines = vec![format!("{} {}", request.method, request.path)];
    for name in ["authorization", "content-encoding", "content-length", "content-type", "user-agent", "x-key"] {
        if let Some(value) = request.headers.get(name) {
            lines.push(format!("{name}: {}", value.to_str().unwrap()));
        }
    }
    lines.push(String::from_utf8_lossy(&request.body).into_owned());
    lines.join("\n")
}

/// Writes metrics against a server that answers 400 to a body of `refused`, 500 to one of `down`.
async fn check(options: Options, names: &[&str], expected: Expect) {
    let server = Server::start(|request| match request.body.as_slice() {
        b"refused\n" => reply(StatusCode::BAD_REQUEST, "why not\nmore"),
        b"down\n" => reply(StatusCode::INTERNAL_SERVER_ERROR, ""),
        b"busy\n" => {
            let mut answer = reply(StatusCode::TOO_MANY_REQUESTS, "");
            answer.headers_mut().insert("retry-after", 7.into());
            answer
        }
        _ => reply(StatusCode::NO_CONTENT, ""),
    })
    .await;
    let mut output = output(Options { url: server.url("/in?db=x&y=%20"), ..options }, AwsOptions::default()).unwrap();
    output.connect().await.unwrap();
    let result = output.write(&batch(names)).await;
    let mut text: Vec<String> = server.seen().iter().map(show).collect();
    if let Err(error) = result {
        let cause = Chain(error.source.as_ref()).to_string().replace(&server.url(""), "BASE");
        let undivided = if error.undivided { " as a whole" } else { "" };
        let wait = error.retry_after.map(|wait| format!(", wait {wait:?}")).unwrap_or_default();
        text.push(format!("written {:?}, rejected {:?}{undivided}: {cause}{wait}", error.written, error.rejected));
    }
    expected.assert_eq(&text.join("\n"));
}

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect()
}

#[tokio::test]
async fn one_request_a_batch() {
    check(
        Options::default(),
        &["a", "b"],
        expect![[r#"
        POST /in?db=x&y=%20
        content-length: 4
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        a
        b
    "#]],
    )
    .await;
}

#[tokio::test]
async fn one_request_a_metric_up_to_the_first_that_must_wait() {
    let options = Options {
        use_batch_format: false,
        method: "put".into(),
        non_retryable_statuscodes: vec![400],
        ..Default::default()
    };
    check(
        options,
        &["a", "bad", "refused", "down", "b"],
        expect![[r#"
        PUT /in?db=x&y=%20
        content-length: 2
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        a

        PUT /in?db=x&y=%20
        content-length: 8
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        refused

        PUT /in?db=x&y=%20
        content-length: 5
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        down

        written [0], rejected [1, 2]: "BASE/in" answered 500 Internal Server Error"#]],
    )
    .await;
}

#[tokio::test]
async fn a_refusal_is_tried_again_unless_listed() {
    let quiet = |listed: &[u16]| Options { non_retryable_statuscodes: listed.to_vec(), ..Default::default() };
    check(
        quiet(&[]),
        &["refused"],
        expect![[r#"
        POST /in?db=x&y=%20
        content-length: 8
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        refused

        written [], rejected []: "BASE/in" answered 400 Bad Request: why not"#]],
    )
    .await;
    check(
        quiet(&[400]),
        &["refused"],
        expect![[r#"
            POST /in?db=x&y=%20
            content-length: 8
            content-type: text/plain; charset=utf-8
            user-agent: heliograph/1.2.3
            refused

            written [], rejected [0] as a whole: "BASE/in" answered 400 Bad Request: why not"#]],
    )
    .await;
}

#[tokio::test]
async fn a_server_is_left_alone_for_as_long_as_it_asks() {
    check(
        Options::default(),
        &["busy"],
        expect![[r#"
        POST /in?db=x&y=%20
        content-length: 5
        content-type: text/plain; charset=utf-8
        user-agent: heliograph/1.2.3
        busy

        written [], rejected []: "BASE/in" answered 429 Too Many Requests, wait 7s"#]],
    )
    .await;
}

#[tokio::test]
async fn own_headers_win() {
    let options = Options {
        username: "anna".into(),
        password: "s3:cr et".into(),
        headers: headers(&[("Content-Type", "application/json"), ("User-Agent", "own/1.0"), ("X-Key", "k")]),
        ..Default::default()
    };
    check(
        options,
        &["a"],
        expect![[r#"
        POST /in?db=x&y=%20
        authorization: Basic YW5uYTpzMzpjciBldA==
        content-length: 2
        content-type: application/json
        user-agent: own/1.0
        x-key: k
        a
    "#]],
    )
    .await;
}

#[tokio::test]
async fn gzip_and_signature() {
    let server = Server::start(|_| reply(StatusCode::OK, "")).await;
    let options = Options {
        url: server.url("/in"),
        content_encoding: "gzip".into(),
        aws_service: "aps".into(),
        ..Default::default()
    };
    let aws =
        AwsOptions { region: "eu-west-1".into(), access_key: "A".into(), secret_key: "B".into(), ..Default::default() };
    let mut output = output(options, aws).unwrap();
    output.connect().await.unwrap();
    output.write(&batch(&["a"])).await.unwrap();
    let request = server.seen().remove(0);
    let authorization = request.headers["authorization"].to_str().unwrap().to_owned();
    assert!(authorization.starts_with(
        "AWS4-HMAC-SHA256 Credential=A/20150830/eu-west-1/aps/aws4_request, SignedHeaders=host;x-amz-date, Signature="
    ));
    assert_eq!(request.headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&request.body[..]), &mut text).unwrap();
    assert_eq!(text, "a\n");
}

#[test]
fn mistakes_in_options() {
    let refused = |options: Options| output(options, AwsOptions::default()).err().unwrap_or_default();
    expect![[r#"url: invalid address "nowhere": relative URL without a base"#]]
        .assert_eq(&refused(Options { url: "nowhere".into(), ..Default::default() }));
    expect![[r#"method: method "GET" is none of POST, PUT, PATCH"#]]
        .assert_eq(&refused(Options { method: "get".into(), ..Default::default() }));
    expect![[r#"headers: "a b" is no name of a header"#]]
        .assert_eq(&refused(Options { headers: headers(&[("a b", "c")]), ..Default::default() }));
}
