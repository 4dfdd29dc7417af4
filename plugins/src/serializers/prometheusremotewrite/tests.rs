//! Tests of the remote-write writer.

use std::collections::BTreeMap;

use super::*;
use crate::common::prometheus::remote_write::testing::{Series, decode, show};
use crate::serializers::testing::{batch, metric, options, typed};
use expect_test::{Expect, expect};
use heliograph_core::model::{Kind, Value};
use proptest::prelude::*;

fn request(json: &str, batch: &WriteBatch) -> Vec<Series> {
    let mut serializer = RemoteWriteSerializer::new(options(json));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    serializer.serialize_batch(batch, &mut first).unwrap();
    serializer.serialize_batch(batch, &mut second).unwrap();
    assert_eq!(first, second, "known series are written as new ones");
    decode(&first, Version::One)
}

fn check(json: &str, batch: &WriteBatch, want: Expect) {
    want.assert_eq(&request(json, batch).iter().map(show).collect::<String>());
}

#[test]
fn untyped() {
    let metrics = batch(&[r#"cpu,c-pu=0,e=,host=a,Zone=z usage.idle=7,b=true,i=5i,s="x",-=3 1700000000999999999"#]);
    check(
        "",
        &metrics,
        expect![[r#"
        {Zone="z",__name__="cpu_usage_idle",c_pu="0",host="a"} 7@1700000000999
        {Zone="z",__name__="cpu_b",c_pu="0",host="a"} 1@1700000000999
        {Zone="z",__name__="cpu_i",c_pu="0",host="a"} 5@1700000000999
        {Zone="z",__name__="cpu",c_pu="0",host="a"} 3@1700000000999
    "#]],
    );
    check(
        r#"{"prometheus_string_as_label": true}"#,
        &batch(&[r#"m,host=a s="x",v=1,host="no",e="" 0"#, r#"m,host=a s="y",v=1 0"#]),
        expect![[r#"
            {__name__="m_v",e="",host="a",s="x"} 1@0
            {__name__="m_v",host="a",s="y"} 1@0
        "#]],
    );
}

#[test]
fn several_values_of_a_series() {
    let metrics = batch(&[
        "m v=1 0",
        "m v=7 5000000000",
        "m v=8 1000000000",
        "m v=9 5000900000",
        "m v=10 6000000000",
        "m v=11 7000000000",
        "m v=-0 -1500000",
    ]);
    check(
        "",
        &metrics,
        expect![[r#"
        {__name__="m_v"} 1@0 9@5000 10@6000 11@7000
    "#]],
    );
}

#[test]
fn histograms() {
    let bucket = (Kind::Histogram, "prometheus,job=x,le=0.10 lat_bucket=1.9,other=1 5000000");
    check(
        "",
        &typed(&[bucket]),
        expect![[r#"
        {__name__="lat_sum",job="x"} 0@5
        {__name__="lat_count",job="x"} 0@5
        {__name__="lat_bucket",job="x",le="+Inf"} 0@5
        {__name__="lat_bucket",job="x",le="0.1"} 1@5
    "#]],
    );
    let sums = (Kind::Histogram, "prometheus,job=x lat_sum=12.5,lat_count=4 6000000");
    let infinity = (Kind::Histogram, "prometheus,job=x,le=+Inf lat_bucket=4 6000000");
    check(
        "",
        &typed(&[bucket, infinity, sums]),
        expect![[r#"
        {__name__="lat_sum",job="x"} 0@5 12.5@6
        {__name__="lat_count",job="x"} 0@5 4@6
        {__name__="lat_bucket",job="x",le="+Inf"} 0@5 4@6
        {__name__="lat_bucket",job="x",le="0.1"} 1@5
    "#]],
    );
    let bad = [(Kind::Histogram, "http,le=x lat_count=4,lat_bucket=true,sum=1,lat_sum=false 0")];
    check(
        "",
        &typed(&bad),
        expect![[r#"
        {__name__="http_lat_bucket",le="+Inf"} 4@0
        {__name__="http_lat_count"} 4@0
        {__name__="http_lat_sum"} 0@0
    "#]],
    );
}

#[test]
fn summaries() {
    let metrics = [
        (Kind::Summary, "prometheus,quantile=1.0 rpc=true,rpc_sum=2.5,rpc_count=4i 0"),
        (Kind::Summary, "rpc,quantile=x count=1,0.5=2 0"),
        (Kind::Counter, "n,_=u,le=1,quantile=2 nan=NaN 0"),
    ];
    check(
        "",
        &typed(&metrics),
        expect![[r#"
        {__name__="rpc",quantile="1"} 1@0
        {__name__="rpc_sum"} 2.5@0
        {__name__="rpc_count"} 4@0
        {_="u",__name__="n_nan",le="1",quantile="2"} NaN@0
    "#]],
    );
}

#[test]
fn one_series_with_two_kinds_is_two() {
    let metrics = [(Kind::Untyped, "m,le=1 x_sum=1 0"), (Kind::Histogram, "m,le=1 x_sum=2 0")];
    check(
        "",
        &typed(&metrics),
        expect![[r#"
        {__name__="m_x_sum",le="1"} 1@0
        {__name__="m_x_sum"} 2@0
    "#]],
    );
}

const NATIVE: &str = "na-tive,le=1,h=a count=6,sum=18.5,schema=1i,counter_reset_hint=2u,zero_threshold=0.001,zero_count=1,\
    positive_span_0_offset=0i,positive_span_0_length=2u,positive_bucket_0=3,positive_bucket_1=2 1000000";

#[test]
fn native_histograms() {
    check(
        "",
        &typed(&[(Kind::Histogram, NATIVE)]),
        expect![[r#"
        {__name__="na-tive",h="a"} [110000000000001840190000000000803240200229fca9f1d24d62503f39000000000000f03f5a0210026a100000000000000840000000000000004070027801]
    "#]],
    );
    let uncounted = NATIVE.replace("positive_bucket_1=2", "positive_bucket_9=2");
    check(
        "",
        &typed(&[(Kind::Histogram, &uncounted)]),
        expect![[r#"
        {__name__="na_tive_zero_bucket",h="a",le="+Inf"} 1@1
        {__name__="na_tive_zero_count",h="a"} 1@1
    "#]],
    );
    let mixed = [(Kind::Untyped, "na_tive,h=a x=1 0"), (Kind::Histogram, NATIVE), (Kind::Histogram, NATIVE)];
    assert_eq!(request("", &typed(&mixed)).iter().map(|one| one.histograms.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn sorted() {
    let metrics = batch(&["m,a=2 v=1 0", "m,a=1,b=1 v=2 0", "m v=3 0", "m,a=1 v=4 0", "l,b=0 v=5 0"]);
    check(
        r#"{"prometheus_sort_metrics": true}"#,
        &metrics,
        expect![[r#"
        {__name__="m_v"} 3@0
        {__name__="l_v",b="0"} 5@0
        {__name__="m_v",a="1"} 4@0
        {__name__="m_v",a="2"} 1@0
        {__name__="m_v",a="1",b="1"} 2@0
    "#]],
    );
}

#[test]
fn nothing_is_an_empty_request() {
    let mut out = Vec::new();
    RemoteWriteSerializer::new(options("")).serialize_batch(&batch(&[r#"m s="x" 0"#]), &mut out).unwrap();
    assert_eq!(out, [0]);
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        metrics in prop::collection::vec(("[a-c]{1,2}", prop::collection::btree_map("[a-c]", "[x-z]{1,3}", 0..3), -3i64..9, any::<f64>()), 0..40),
    ) {
        let mut lines = Vec::new();
        // A plain model: by labels, the last value of each millisecond that is not older than the one before.
        type Labels = Vec<(Vec<u8>, Vec<u8>)>;
        let mut want: BTreeMap<Labels, Vec<(f64, i64)>> = BTreeMap::new();
        for (name, tags, time, value) in &metrics {
            let tag_text: String = tags.iter().map(|(key, value)| format!(",{key}={value}")).collect();
            lines.push(format!("{name}{tag_text} v={value} {}", time * 1_000_000));
            let mut labels = vec![(b"__name__".to_vec(), format!("{name}_v").into_bytes())];
            labels.extend(tags.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone().into_bytes())));
            let samples = want.entry(labels).or_default();
            match samples.last_mut() {
                Some(last) if last.1 > *time => {}
                Some(last) if last.1 == *time => last.0 = *value,
                _ => samples.push((*value, *time)),
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let got: BTreeMap<_, _> = request("", &batch(&lines)).into_iter().map(|one| (one.labels, one.samples)).collect();
        prop_assert_eq!(format!("{got:?}").replace("-0.0", "0.0"), format!("{want:?}").replace("-0.0", "0.0"));
    }

    #[test]
    fn any_bytes_make_a_request(
        name in prop::collection::vec(any::<u8>(), 0..9),
        key in prop::collection::vec(any::<u8>(), 0..9),
        ending in prop::sample::select(vec!["", "_bucket", "_sum", "_count"]),
    ) {
        let key = [&key, ending.as_bytes()].concat();
        let batch = metric(&name, &[(&key, &name), (b"le", b"0x1p-2")], &[(&key, 1.5.into()), (b"s", Value::from(name.as_slice()))], i64::MIN);
        request(r#"{"prometheus_string_as_label": true, "prometheus_sort_metrics": true}"#, &batch);
    }
}
