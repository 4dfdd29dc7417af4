//! Scrapes over the loopback.

use expect_test::{Expect, expect};
use heliograph_core::model::{Batch, Field, Key, Kind, SeriesBuilder, Value};
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::common::http_client::{Address, HttpClient, HttpClientOptions, Request, read_body};
use crate::common::tls::TlsClientOptions;
use crate::common::tls::testing::Authority;

/// A metric: `name,tag=value field=1,text="x"` with the kind and the time in seconds.
fn metric(batch: &mut Batch, kind: Kind, series: &str, fields: &[(&'static str, Value)], time: i64) {
    let mut parts = series.split(',');
    let mut builder = SeriesBuilder::new();
    builder.start(parts.next().unwrap().as_bytes());
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        builder.set_tag(key.as_bytes(), value.as_bytes());
    }
    let fields = fields.iter().map(|(key, value)| Field { key: Key::fixed(key), value: value.clone() });
    batch.push(builder.build(), time * 1_000_000_000, kind, fields);
}

fn quiet() -> Options {
    Options { listen: "127.0.0.1:0".into(), collectors_exclude: vec!["process".into()], ..Default::default() }
}

fn output(options: Options, clock: &Clock) -> PrometheusClient {
    PrometheusClient::new(options, TlsServerOptions::default(), clock.clone()).unwrap()
}

async fn get(
    output: &PrometheusClient,
    path: &str,
    headers: &[(reqwest::header::HeaderName, &str)],
) -> (String, String) {
    get_with(output, "http", path, headers, HttpClientOptions::default()).await
}

async fn get_with(
    output: &PrometheusClient,
    scheme: &str,
    path: &str,
    headers: &[(reqwest::header::HeaderName, &str)],
    options: HttpClientOptions,
) -> (String, String) {
    let address = output.server.as_ref().unwrap().address();
    let url = format!("{scheme}://{address}{path}");
    let mut request = Request::new(Method::GET, Address::parse(&url).unwrap());
    for (name, value) in headers {
        request.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let response = HttpClient::new(options).send(request).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| format!(" {name}={}", value.to_str().unwrap()));
    let shown = ["content-type", "content-encoding", "www-authenticate", "x-own"].map(header);
    let head = format!("{}{}", response.status().as_u16(), shown.into_iter().flatten().collect::<String>());
    let body = read_body(response, 1 << 20).await.unwrap();
    (head, String::from_utf8_lossy(&body).into_owned())
}

/// What is served, without the lines of help.
async fn page(output: &PrometheusClient) -> String {
    let (_, body) = get(output, "/metrics", &[]).await;
    body.lines().filter(|line| !line.starts_with("# HELP")).collect::<Vec<_>>().join("\n")
}

async fn check(options: Options, batch: Batch, expected: Expect) {
    let mut output = output(options, &Clock::manual(0));
    output.connect().await.unwrap();
    output.write(&batch.into()).await.unwrap();
    expected.assert_eq(&page(&output).await);
    output.close().await;
}

fn both(version: i64) -> Options {
    Options { metric_version: version, ..quiet() }
}

fn cpu_and_temp() -> Batch {
    let mut batch = Batch::new();
    let fields = [("usage_idle", Value::Float(98.5)), ("ok", Value::Bool(true)), ("state", Value::from("up"))];
    metric(&mut batch, Kind::Untyped, "cpu,host=a", &fields, 1);
    metric(&mut batch, Kind::Gauge, "temp,r=1", &[("value", Value::Int(20))], 1);
    metric(&mut batch, Kind::Gauge, "temp,r=2,x=y", &[("value", Value::Int(21))], 1);
    batch
}

#[tokio::test]
async fn version_1() {
    check(
        both(1),
        cpu_and_temp(),
        expect![[r#"
            # TYPE cpu_usage_idle untyped
            cpu_usage_idle{host="a",state="up"} 98.5
            # TYPE temp gauge
            temp{r="1",x=""} 20
            temp{r="2",x="y"} 21"#]],
    )
    .await;
}

#[tokio::test]
async fn version_2() {
    check(
        both(2),
        cpu_and_temp(),
        expect![[r#"
            # TYPE cpu_ok untyped
            cpu_ok{host="a",state="up"} 1
            # TYPE cpu_usage_idle untyped
            cpu_usage_idle{host="a",state="up"} 98.5
            # TYPE temp_value gauge
            temp_value{r="1"} 20
            temp_value{r="2",x="y"} 21"#]],
    )
    .await;
}

#[tokio::test]
async fn histograms_of_version_1() {
    let histogram = || {
        let mut batch = Batch::new();
        let fields = [("count", Value::Float(4.0)), ("sum", Value::Int(2)), ("0.5", Value::Int(1))];
        metric(&mut batch, Kind::Histogram, "lat,j=x", &fields, 1);
        batch
    };
    check(
        Options { export_timestamp: true, ..both(1) },
        histogram(),
        expect![[r#"
            # TYPE lat histogram
            lat_bucket{j="x",le="0.5"} 1 1000
            lat_bucket{j="x",le="+Inf"} 4 1000
            lat_sum{j="x"} 2 1000
            lat_count{j="x"} 4 1000"#]],
    )
    .await;
    check(both(2), histogram(), expect![[""]]).await;
}

#[tokio::test]
async fn of_one_time_the_first_stays_in_version_1_and_the_last_in_version_2() {
    let batch = || {
        let mut batch = Batch::new();
        for value in [1, 2, 3] {
            metric(&mut batch, Kind::Counter, "m", &[("counter", Value::Int(value))], 5);
        }
        metric(&mut batch, Kind::Counter, "m", &[("counter", Value::Int(9))], 4);
        batch
    };
    check(both(1), batch(), expect!["# TYPE m counter\nm 1"]).await;
    check(both(2), batch(), expect!["# TYPE m_counter counter\nm_counter 3"]).await;
}

#[tokio::test]
async fn samples_expire_by_the_clock() {
    for version in [1, 2] {
        let clock = Clock::manual(0);
        let mut output = output(both(version), &clock);
        output.connect().await.unwrap();
        let mut batch = Batch::new();
        metric(&mut batch, Kind::Gauge, "a,old=1", &[("x", Value::Int(1))], 1);
        output.write(&batch.into()).await.unwrap();
        clock.advance(time::Duration::from_secs(40));
        let mut batch = Batch::new();
        metric(&mut batch, Kind::Gauge, "a", &[("x", Value::Int(2))], 1);
        output.write(&batch.into()).await.unwrap();
        assert_eq!(page(&output).await.lines().count(), 3);
        clock.advance(time::Duration::from_secs(30));
        assert_eq!(page(&output).await, "# TYPE a_x gauge\na_x 2", "version {version}");
        clock.advance(time::Duration::from_secs(60));
        assert_eq!(page(&output).await, "");
    }
}

#[tokio::test]
async fn labels_of_replaced_samples_linger_in_version_1() {
    let clock = Clock::manual(0);
    let mut output = output(both(1), &clock);
    output.connect().await.unwrap();
    for second in 0..2 {
        let mut batch = Batch::new();
        metric(&mut batch, Kind::Gauge, "a,old=1", &[("x", Value::Int(1))], second);
        output.write(&batch.into()).await.unwrap();
    }
    clock.advance(time::Duration::from_secs(50));
    let mut batch = Batch::new();
    metric(&mut batch, Kind::Gauge, "a,new=1", &[("x", Value::Int(2))], 1);
    output.write(&batch.into()).await.unwrap();
    clock.advance(time::Duration::from_secs(20));
    assert_eq!(page(&output).await, "# TYPE a_x gauge\na_x{new=\"1\",old=\"\"} 2");
}

#[tokio::test]
async fn refusals_paths_and_headers() {
    let options = Options {
        basic_username: "anna".into(),
        basic_password: "pw".into(),
        http_headers: BTreeMap::from([("X-Own".to_owned(), "1".into())]),
        path: "/m/".into(),
        ..quiet()
    };
    let mut first = output(options, &Clock::manual(0));
    first.connect().await.unwrap();
    let (head, body) = get(&first, "/m/", &[]).await;
    assert_eq!(head, "401 content-type=text/plain; charset=utf-8 www-authenticate=Basic realm=\"prometheus\" x-own=1");
    assert_eq!(body, "Unauthorized\n");
    let token = [(AUTHORIZATION, "Token anna:pw")];
    let (head, body) = get(&first, "/other", &token).await;
    assert_eq!(head, "200 content-type=text/plain; charset=utf-8 x-own=1");
    assert_eq!(body, "Telegraf Output Plugin: Prometheus Client ");
    let exposition = "200 content-type=text/plain; version=0.0.4; charset=utf-8; escaping=underscores x-own=1";
    assert_eq!(get(&first, "/m/below?x=y", &token).await, (exposition.to_owned(), String::new()));

    let mut far = output(Options { ip_range: vec!["10.0.0.0/8".into()], ..quiet() }, &Clock::manual(0));
    far.connect().await.unwrap();
    let refused = ("403 content-type=text/plain; charset=utf-8".to_owned(), "Forbidden\n".to_owned());
    assert_eq!(get(&far, "/metrics", &[]).await, refused);
}

#[tokio::test]
async fn forms_and_codings() {
    let mut output = output(Options { name_sanitization: "utf8".into(), ..both(2) }, &Clock::manual(0));
    output.connect().await.unwrap();
    let mut batch = Batch::new();
    metric(&mut batch, Kind::Gauge, "é", &[("v", Value::Int(1))], 1);
    output.write(&batch.into()).await.unwrap();
    let (_, body) = get(&output, "/metrics", &[]).await;
    assert!(body.ends_with("\n__v 1\n"), "{body}");
    let (head, body) = get(&output, "/metrics", &[(ACCEPT, "text/plain;escaping=allow-utf-8")]).await;
    assert!(head.ends_with("escaping=allow-utf-8") && body.ends_with("\n{\"é_v\"} 1\n"), "{head} {body}");
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (head, body) = get(&output, "/metrics", &[(ACCEPT, protobuf)]).await;
    assert!(head.contains("encoding=delimited; escaping=underscores") && body.contains("__v"), "{head}");
    let (head, _) = get(&output, "/metrics", &[(ACCEPT_ENCODING, "zstd")]).await;
    assert!(head.ends_with("content-encoding=zstd"), "{head}");
    // The client decodes gzip by itself and hides the header.
    let mut stream = tokio::net::TcpStream::connect(output.server.as_ref().unwrap().address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("content-encoding: gzip"));
}

#[tokio::test]
async fn with_tls_and_the_process() {
    let authority = Authority::new();
    let files = authority.leaf("127.0.0.1");
    let tls = TlsServerOptions { tls_cert: files.cert, tls_key: files.key, ..Default::default() };
    let options = Options { collectors_exclude: vec!["gocollector".into()], ..quiet() };
    let mut output = PrometheusClient::new(options, tls, Clock::manual(0)).unwrap();
    output.connect().await.unwrap();
    let client = TlsClientOptions { tls_ca: authority.path(), ..Default::default() };
    let client = HttpClientOptions { tls: client, ..Default::default() };
    let (head, body) = get_with(&output, "https", "/metrics", &[], client).await;
    assert!(head.starts_with("200") && body.contains("\nprocess_resident_memory_bytes "), "{head} {body}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut output = output(Options { listen: listen.clone(), ..quiet() }, &Clock::manual(0));
    let error = output.connect().await.unwrap_err();
    let text = Chain(error.cause()).to_string();
    assert!(text.starts_with(&format!("cannot listen on \"{listen}\": Address already in use")), "{text}");
}

#[test]
fn mistakes_in_options() {
    let refused = |options: Options| {
        let result = PrometheusClient::new(options, TlsServerOptions::default(), Clock::manual(0));
        result.err().map(|refusal| format!("{}: {}", refusal.option, refusal.reason)).unwrap_or_default()
    };
    let path = |path: &str| refused(Options { path: path.into(), ..quiet() });
    expect![[r#"path: "/" must begin with / and name something, as in "/metrics""#]].assert_eq(&path("/"));
    expect![[r#"path: "metrics" must begin with / and name something, as in "/metrics""#]].assert_eq(&path("metrics"));
    expect![[r#"ip_range: "10.0.0.1" is no network as in "10.0.0.0/8""#]]
        .assert_eq(&refused(Options { ip_range: vec!["10.0.0.1".into()], ..quiet() }));
    expect![[r#"name_sanitization: "ascii" is none of "legacy", "utf8""#]]
        .assert_eq(&refused(Options { name_sanitization: "ascii".into(), ..quiet() }));
}
