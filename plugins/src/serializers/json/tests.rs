//! Tests of the JSON writer.

use super::*;
use crate::serializers::testing::{batch, metric, options};
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn single(json: &str, batch: &WriteBatch) -> String {
    let mut serializer = JsonSerializer::new(&options(json)).unwrap();
    let mut out = b"kept\n".to_vec();
    for metric in batch.iter() {
        if let Err(error) = serializer.serialize(metric, &mut out) {
            out.extend_from_slice(format!("error: {error}\n").as_bytes());
        }
    }
    String::from_utf8(out).unwrap().strip_prefix("kept\n").unwrap().to_owned()
}

fn check(json: &str, line: &str, want: Expect) {
    want.assert_eq(&single(json, &batch(&[line])));
}

fn check_batch(json: &str, lines: &[&str], want: Expect) {
    let mut serializer = JsonSerializer::new(&options(json)).unwrap();
    let mut out = Vec::new();
    let result = serializer.serialize_batch(&batch(lines), &mut out);
    let text = String::from_utf8(out).unwrap();
    want.assert_eq(&result.map_or_else(|error| format!("error: {error}\n"), |()| text));
}

#[test]
fn every_type() {
    check(
        "",
        r#"cpu\ <a>,e=,host=a&b f=1.0,g=1e21,h=1e-7,i=-3i,u=18446744073709551615u,b=true,s="q\"<",n=NaN 1700000000123456789"#,
        expect![[r#"
        {"fields":{"b":true,"f":1,"g":1e+21,"h":1e-7,"i":-3,"s":"q\"\u003c","u":18446744073709551615},"name":"cpu \u003ca\u003e","tags":{"e":"","host":"a\u0026b"},"timestamp":1700000000}
    "#]],
    );
    check(
        "",
        "m n=NaN -1500000000",
        expect![[r#"
        {"fields":{},"name":"m","tags":{},"timestamp":-1}
    "#]],
    );
}

#[test]
fn batches() {
    check_batch(
        "",
        &["m v=1 0", "n v=2 0"],
        expect![[r#"
        {"metrics":[{"fields":{"v":1},"name":"m","tags":{},"timestamp":0},{"fields":{"v":2},"name":"n","tags":{},"timestamp":0}]}
    "#]],
    );
    check_batch(
        "",
        &[],
        expect![[r#"
        {"metrics":[]}
    "#]],
    );
}

#[test]
fn timestamps() {
    let line = "m v=1i 1700000000123456789";
    for (units, want) in [
        ("15ms", "170000000012"),
        ("1m", "170000000"),
        ("1ns", "1700000000123456789"),
        ("0s", "1700000000"),
        ("-1s", "1700000000"),
    ] {
        let text = single(&format!(r#"{{"json_timestamp_units": "{units}"}}"#), &batch(&[line]));
        assert!(text.ends_with(&format!("\"timestamp\":{want}}}\n")), "{text}");
    }
    check(
        r#"{"json_timestamp_format": "2006-01-02T15:04:05.000Z07:00"}"#,
        line,
        expect![[r#"
        {"fields":{"v":1},"name":"m","tags":{},"timestamp":"2023-11-14T22:13:20.123Z"}
    "#]],
    );
    check(
        r#"{"json_timestamp_format": "unix"}"#,
        line,
        expect![[r#"
        {"fields":{"v":1},"name":"m","tags":{},"timestamp":"unix"}
    "#]],
    );
}

#[test]
fn nested_fields() {
    let fields: &[(&[u8], Value)] = &[
        (b"s_obj", r#" {"b":[1.50,"<"],"a":null} "#.into()),
        (b"s_bad", "{not".into()),
        (b"s_not", "[1]".into()),
        (b"other", "1".into()),
    ];
    let metrics = metric(b"m", &[], fields, 0);
    expect![[r#"
        {"fields":{"other":"1","s_bad":"{not","s_not":"[1]","s_obj":{"a":null,"b":[1.5,"\u003c"]}},"name":"m","tags":{},"timestamp":0}
    "#]]
    .assert_eq(&single(r#"{"json_nested_fields_include": ["s_*"], "json_nested_fields_exclude": ["s_not"]}"#, &metrics));
    expect![[r#"
        {"fields":{"other":1,"s_bad":"{not","s_not":"[1]","s_obj":{"a":null,"b":[1.5,"\u003c"]}},"name":"m","tags":{},"timestamp":0}
    "#]]
    .assert_eq(&single(r#"{"json_nested_fields_exclude": ["s_not"]}"#, &metrics));
}

const METRICS: &[&str] =
    &["m,host=a v=1 1700000000000000001", "skip,host=a v=9 0", "n,host=b v=4i,u=18446744073709551615u 0"];

fn transformed(expression: &str, want: Expect) {
    let json = serde_json::json!({"json_transformation": expression, "json_timestamp_units": "1ns"}).to_string();
    check_batch(&json, METRICS, want);
}

#[test]
fn transformations() {
    transformed(
        r#"metrics[name != "skip"].{"k": name & "." & tags.host, "v": fields.v}"#,
        expect![[r#"
        [{"k":"m.a","v":1},{"k":"n.b","v":4}]
    "#]],
    );
    transformed(
        "{'sum': $sum(metrics.fields.v), 'top': metrics^(>fields.v)[0].name, 'all': $count(metrics.*)}",
        expect![[r#"
        {"all":12,"sum":14,"top":"skip"}
    "#]],
    );
    transformed(
        "$map(metrics, function($m) { $uppercase($m.name) })",
        expect![[r#"
        ["M","SKIP","N"]
    "#]],
    );
    transformed(
        "$filter(metrics, function($m) { $m.fields.v > 3 }).name",
        expect![[r#"
        ["skip","n"]
    "#]],
    );
    transformed(
        "metrics{tags.host: $sum(fields.v)}",
        expect![[r#"
        {"a":10,"b":4}
    "#]],
    );
    transformed(
        "( $f := function($x) { $x * 2 }; metrics.fields.v ~> $map($f) )",
        expect![[r#"
        [2,18,8]
    "#]],
    );
    transformed(
        "$merge(metrics.{name: fields.v})",
        expect![[r#"
        {"m":1,"n":4,"skip":9}
    "#]],
    );
    transformed(
        "$string(metrics[0].fields) & '<'",
        expect![[r#"
        "{\"v\":1}\u003c"
    "#]],
    );
    transformed(
        "$reduce(metrics.fields.v, function($a, $b) { $a + $b })",
        expect![[r#"
        14
    "#]],
    );
    transformed(
        "metrics.**.v",
        expect![[r#"
        [1,9,4]
    "#]],
    );
}

#[test]
fn large_integers_keep_their_digits() {
    transformed(
        "metrics.[timestamp, fields.u]",
        expect![[r#"
        [[1700000000000000001],[0],[0,18446744073709551615]]
    "#]],
    );
}

#[test]
fn transformations_that_fail() {
    transformed(
        "metrics[",
        expect![[r#"
            error: cannot compile `json_transformation` "metrics[": S0207: Unexpected end of expression
        "#]],
    );
    transformed(
        "fields.v",
        expect![[r#"
            error: `json_transformation` "fields.v" yields nothing with `use_batch_format = true`; in batch mode the document is {"metrics": [...]}, in non-batch mode a single metric
        "#]],
    );
    transformed(
        "metrics.name * 2",
        expect![[r#"
            error: cannot evaluate `json_transformation` "metrics.name * 2": Type error: T2001: The left side of the * operator must evaluate to a number
        "#]],
    );
    check(
        r#"{"json_transformation": "metrics"}"#,
        "m v=1 0",
        expect![[r#"
            error: `json_transformation` "metrics" yields nothing with `use_batch_format = false`; in batch mode the document is {"metrics": [...]}, in non-batch mode a single metric
        "#]],
    );
}

proptest! {
    #[test]
    fn any_bytes_make_a_document(
        name in prop::collection::vec(any::<u8>(), 0..9),
        key in prop::collection::vec(any::<u8>(), 0..9),
        time in any::<i64>(),
    ) {
        let metrics = metric(&name, &[(&key, &name)], &[(&key, Value::from(name.as_slice())), (b"n", 1.5.into())], time);
        let text = single(r#"{"json_nested_fields_include": ["*"]}"#, &metrics);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
    }
}
