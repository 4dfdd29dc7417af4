//! Tests of the text exposition.

use super::*;
use crate::serializers::testing::{batch, metric, options, typed};
use expect_test::{Expect, expect};
use heliograph_core::model::{Kind, Value};
use proptest::prelude::*;

fn text(json: &str, batch: &WriteBatch) -> String {
    let mut options: PrometheusOptions = options(json);
    options.prometheus_sort_metrics = true;
    let mut serializer = PrometheusSerializer::new(options).unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    serializer.serialize_batch(batch, &mut first).unwrap();
    serializer.serialize_batch(batch, &mut second).unwrap();
    assert_eq!(first, second, "nothing is kept from call to call");
    String::from_utf8_lossy(&first).into_owned()
}

fn check(json: &str, batch: &WriteBatch, want: Expect) {
    want.assert_eq(&text(json, batch));
}

const CPU: &str = r#"cpu,c-pu=0,e=,host=a usage.idle=1234567,s="str",b=true,i=5i 1700000000999999999"#;

#[test]
fn untyped() {
    check(
        "",
        &batch(&[CPU]),
        expect![[r#"
        # HELP cpu_b Telegraf collected metric
        # TYPE cpu_b untyped
        cpu_b{c_pu="0",e="",host="a"} 1
        # HELP cpu_i Telegraf collected metric
        # TYPE cpu_i untyped
        cpu_i{c_pu="0",e="",host="a"} 5
        # HELP cpu_usage_idle Telegraf collected metric
        # TYPE cpu_usage_idle untyped
        cpu_usage_idle{c_pu="0",e="",host="a"} 1.234567e+06
    "#]],
    );
}

#[test]
fn all_options() {
    let json = r#"{"prometheus_export_timestamp": true, "prometheus_string_as_label": true, "prometheus_compact_encoding": true,
        "prometheus_metric_types": {"counter": ["cpu_*"], "gauge": ["cpu_i"]}}"#;
    check(
        json,
        &batch(&[CPU]),
        expect![[r#"
        # TYPE cpu_b counter
        cpu_b{c_pu="0",e="",host="a",s="str"} 1 1700000000999
        # TYPE cpu_i gauge
        cpu_i{c_pu="0",e="",host="a",s="str"} 5 1700000000999
        # TYPE cpu_usage_idle counter
        cpu_usage_idle{c_pu="0",e="",host="a",s="str"} 1.234567e+06 1700000000999
    "#]],
    );
}

const COMPACT: &str = r#"{"prometheus_compact_encoding": true}"#;

#[test]
fn histograms_in_parts() {
    let metrics = [
        (Kind::Histogram, "prometheus,job=x,le=0.1 lat_bucket=1 0"),
        (Kind::Histogram, "prometheus,job=x,le=1000000 lat_bucket=3 0"),
        (Kind::Histogram, "prometheus,job=x,le=+Inf lat_bucket=4 0"),
        (Kind::Histogram, "prometheus,job=x lat_sum=12.5,lat_count=4,other=9 0"),
        (Kind::Histogram, "prometheus,job=x,le=0.10 lat_bucket=2 -1000000"),
        (Kind::Histogram, "prometheus,le=0.1 lat_bucket=1 0"),
        (Kind::Histogram, "lat count=4,sum=2,0.5=1 0"),
    ];
    check(
        COMPACT,
        &typed(&metrics),
        expect![[r#"
        # TYPE lat histogram
        lat_bucket{le="0.1"} 1
        lat_bucket{le="+Inf"} 0
        lat_sum 0
        lat_count 0
        lat_bucket{job="x",le="0.1"} 1
        lat_bucket{job="x",le="1e+06"} 3
        lat_bucket{job="x",le="+Inf"} 4
        lat_sum{job="x"} 12.5
        lat_count{job="x"} 4
    "#]],
    );
}

#[test]
fn summaries() {
    let metrics = [
        (Kind::Summary, "prometheus,quantile=0.5 rpc=1.5 0"),
        (Kind::Summary, "prometheus,quantile=0.99 rpc=NaN 0"),
        (Kind::Summary, "prometheus rpc_sum=2.5,rpc_count=1234567i,rpc_count2=true 0"),
        (Kind::Summary, "prometheus,quantile=0.50 rpc=1.25 1"),
    ];
    check(
        COMPACT,
        &typed(&metrics),
        expect![[r#"
        # TYPE rpc summary
        rpc{quantile="0.5"} 1.25
        rpc{quantile="0.99"} NaN
        rpc_sum 2.5
        rpc_count 1.234567e+06
    "#]],
    );
}

#[test]
fn forced_types_leave_histograms_alone() {
    let json = r#"{"prometheus_compact_encoding": true, "prometheus_metric_types": {"gauge": ["*"]}}"#;
    check(
        json,
        &typed(&[(Kind::Histogram, "h x_count=1 0"), (Kind::Counter, "h y=1 0")]),
        expect![[r#"
        # TYPE h_x histogram
        h_x_bucket{le="+Inf"} 1
        h_x_sum 0
        h_x_count 1
        # TYPE h_y gauge
        h_y 1
    "#]],
    );
}

#[test]
fn names_of_other_scripts() {
    let metrics = batch(&["é,é=1,a.b=2,__name__=x.y v=1 0", "9 a=1 0", "a.b v=1 0", "a_b v=2 0"]);
    check(
        r#"{"prometheus_compact_encoding": true, "prometheus_name_sanitization": "utf8"}"#,
        &metrics,
        expect![[r#"
        # TYPE __a untyped
        __a 1
        # TYPE a_b_v untyped
        a_b_v 1
        # TYPE a_b_v untyped
        a_b_v 2
        # TYPE __v untyped
        __v{__name__="x_y",a_b="2",_="1"} 1
    "#]],
    );
}

#[test]
fn the_newest_value_counts() {
    let metrics = [
        (Kind::Untyped, r#"m,h=q\n v=1 2000000000"#),
        (Kind::Untyped, r#"m,h=q\n v=2 1000000000"#),
        (Kind::Counter, r#"m,h=q\n v=3 1000000000"#),
        (Kind::Untyped, r#"m,h=b v=-0,w=-Inf 0"#),
    ];
    check(
        COMPACT,
        &typed(&metrics),
        expect![[r#"
        # TYPE m_v counter
        m_v{h="q\n"} 3
        # TYPE m_v untyped
        m_v{h="b"} 0
        m_v{h="q\n"} 1
        # TYPE m_w untyped
        m_w{h="b"} -Inf
    "#]],
    );
}

#[test]
fn samples_expire_by_the_time_of_their_addition() {
    let mut collection = Collection::new(&CollectionOptions::default()).unwrap();
    let metrics = batch(&["m,h=a v=1 100", "m,h=b v=1 100", "m,h=a v=1 50"]);
    let metrics: Vec<_> = metrics.iter().collect();
    collection.add(metrics[0], 1000);
    collection.add(metrics[1], 1500);
    // Older than what is there: it does not refresh.
    collection.add(metrics[2], 1800);
    collection.expire(1900, 500);
    assert_eq!(collection.len(), 1);
    collection.expire(2100, 500);
    assert!(collection.is_empty() && collection.families().count() == 0);
}

proptest! {
    #[test]
    fn any_bytes_are_written(
        name in prop::collection::vec(any::<u8>(), 0..9),
        key in prop::collection::vec(any::<u8>(), 0..9),
        rule in prop::sample::select(vec!["legacy", "utf8"]),
    ) {
        let batch = metric(&name, &[(&key, &name)], &[(&key, 1.5.into()), (b"s", Value::from(name.as_slice()))], i64::MIN);
        let json = format!(r#"{{"prometheus_name_sanitization": "{rule}", "prometheus_string_as_label": true}}"#);
        for line in text(&json, &batch).lines() {
            let value = line.rsplit(' ').next().unwrap();
            prop_assert!(["metric", "untyped", "1.5"].contains(&value), "{}", line);
        }
    }
}
