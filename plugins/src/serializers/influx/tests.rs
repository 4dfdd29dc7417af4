//! Tests of the line protocol writer.

use super::*;
use crate::serializers::testing::{batch, metric, options};
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn lines(json: &str, batch: &WriteBatch) -> Vec<u8> {
    let mut serializer = InfluxSerializer::new(options(json));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    serializer.serialize_batch(batch, &mut first).unwrap();
    serializer.serialize_batch(batch, &mut second).unwrap();
    assert_eq!(first, second, "a known series reads as a new one");
    first
}

fn check(json: &str, metrics: &[&str], want: Expect) {
    want.assert_eq(&String::from_utf8(lines(json, &batch(metrics))).unwrap());
}

fn error(json: &str, batch: &WriteBatch) -> String {
    let mut out = b"kept".to_vec();
    let error = InfluxSerializer::new(options(json)).serialize(batch.iter().next().unwrap(), &mut out).unwrap_err();
    assert_eq!(out, b"kept");
    error.to_string()
}

#[test]
fn every_type() {
    check(
        r#"{"influx_sort_fields": true}"#,
        &[
            r#"cpu\ load\,x\=1,ho\ st=a\,b\=c,e=,nl=a\nb u=18446744073709551615u,a\ b=1,b=true,f=1e21,g=1e-7,i=-3i,s="q\"uo\\te",n=NaN 5"#,
        ],
        expect![[r#"
            cpu\ load\,x=1,ho\ st=a\,b\=c,nl=a\nb a\ b=1,b=true,f=1000000000000000000000,g=0.0000001,i=-3i,s="q\"uo\\te",u=9223372036854775807i 5
        "#]],
    );
    check(
        r#"{"influx_uint_support": true, "influx_omit_timestamp": true}"#,
        &["c u=5u 7"],
        expect![[r#"
        c u=5u
    "#]],
    );
}

#[test]
fn backslashes_at_the_end_of_tags_go() {
    let tags: &[(&[u8], &[u8])] = &[(b"bs", br"x\"), (br"k\\", b"v"), (br"\", b"gone"), (b"gone", br"\\")];
    let out = lines("", &metric(b"m\\", tags, &[(br"t\", 2.0.into()), (b"", 5.0.into())], 1));
    assert_eq!(out, b"m\\,bs=x,k=v t\\=2 1\n");
}

const LONG: &str = "c,h=a a=1,bb=22,ccc=333,dddd=4 1700000000999999999";

#[test]
fn long_metrics_are_spread_over_lines() {
    check(
        r#"{"influx_max_line_bytes": 40}"#,
        &[LONG],
        expect![[r#"
        c,h=a a=1,bb=22 1700000000999999999
        c,h=a ccc=333 1700000000999999999
        c,h=a dddd=4 1700000000999999999
    "#]],
    );
    check(
        r#"{"influx_max_line_bytes": 32}"#,
        &[LONG, "d v=1 0"],
        expect![[r#"
        c,h=a a=1 1700000000999999999
        c,h=a bb=22 1700000000999999999
        d v=1 0
    "#]],
    );
}

#[test]
fn errors() {
    expect![[r#""c,h=a": need more space for field "ccc" than 32 bytes; raise `influx_max_line_bytes`"#]]
        .assert_eq(&error(r#"{"influx_max_line_bytes": 32}"#, &batch(&[LONG])));
    expect![[r#""c,h=a": no serializable fields"#]].assert_eq(&error("", &batch(&["c,h=a v=NaN 1"])));
    expect![[r#"invalid name: a measurement must not be empty; tags ",h=a""#]]
        .assert_eq(&error("", &batch(&[",h=a v=1 1"])));
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads one line the plain way: name, tags, and fields as texts.
fn read(line: &[u8]) -> (Vec<u8>, Pairs, Pairs) {
    let words = split(line, b' ');
    let series = split(&words[0], b',');
    let pairs = |texts: &[Vec<u8>]| {
        texts
            .iter()
            .map(|text| {
                let pair = split(text, b'=');
                (unescape(&pair[0]), pair[1..].join(&b'='))
            })
            .collect::<Vec<_>>()
    };
    let tags = pairs(&series[1..]).into_iter().map(|(key, value)| (key, unescape(&value))).collect();
    (unescape(&series[0]), tags, pairs(&split(&words[1], b',')))
}

fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let (mut parts, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for &byte in text {
        if byte == separator && !quoted && !escaped {
            parts.push(Vec::new());
            continue;
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        parts.last_mut().unwrap().push(byte);
    }
    parts
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.push(match bytes.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'f') => 0x0c,
                Some(b'r') => b'\r',
                Some(&other) => other,
                None => b'\\',
            }),
            _ => out.push(byte),
        }
    }
    out
}

/// Names of the characters that matter, but for quotes and backslashes, which have no escape in names.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab,= \t\n\r\x0c\x00\xff\xc3".to_vec()), 1..6)
}

proptest! {
    #[test]
    fn a_plain_reader_reads_it_back(
        name in word(),
        tags in prop::collection::btree_map(word(), word(), 0..4),
        fields in prop::collection::btree_map(word(), prop::collection::vec(prop::sample::select(b"ab,= \"\\\n".to_vec()), 0..6), 1..4),
    ) {
        // An unescaped `=` in a measurement is what the format has.
        let tag_list: Vec<_> = tags.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        let field_list: Vec<_> = fields.iter().map(|(key, text)| (key.as_slice(), Value::from(text.as_slice()))).collect();
        let out = lines(r#"{"influx_sort_fields": true}"#, &metric(&name, &tag_list, &field_list, 7));
        let line = out.strip_suffix(b" 7\n").unwrap();
        let (got_name, got_tags, got_fields) = read(line);
        prop_assert_eq!(got_name, name);
        prop_assert_eq!(got_tags, tags.into_iter().collect::<Vec<_>>());
        let got_fields: Vec<_> = got_fields.into_iter().map(|(key, text)| {
            let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap();
            (key, unescape_text(inner))
        }).collect();
        prop_assert_eq!(got_fields, fields.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_line_is_longer_than_the_limit_but_for_commas(
        limit in 20i64..80,
        keys in prop::collection::btree_set("[a-z]{1,12}", 1..8),
    ) {
        let fields: Vec<_> = keys.iter().map(|key| (key.as_bytes(), Value::Float(1.5))).collect();
        let out = lines(&format!(r#"{{"influx_max_line_bytes": {limit}}}"#), &metric(b"m", &[], &fields, 1_000_000));
        for line in out.split_inclusive(|&byte| byte == b'\n') {
            let fields = line.iter().filter(|&&byte| byte == b'=').count();
            prop_assert!(line.len() <= limit as usize + fields.saturating_sub(2));
        }
    }

    #[test]
    fn any_bytes_are_written(name in prop::collection::vec(any::<u8>(), 0..9), key in prop::collection::vec(any::<u8>(), 0..9)) {
        lines("", &metric(&name, &[(&key, &name)], &[(&key, Value::from(name.as_slice()))], i64::MIN));
    }
}

/// In texts only `"` and `\` are escaped.
fn unescape_text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { *bytes.next().unwrap() } else { byte });
    }
    out
}
