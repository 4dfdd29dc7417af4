//! Both versions against a plain model, and against the bytes of worked examples.

use std::collections::BTreeMap;

use expect_test::expect;
use heliograph_core::model::{Kind, WriteBatch};
use proptest::prelude::*;

use super::testing::{Series, decode};
use super::*;
use crate::serializers::testing::{batch, metric, typed};

fn strict() -> LabelRules {
    LabelRules { strict: true, ..LabelRules::default() }
}

fn collect(collector: &mut Collector, version: Version, batch: &WriteBatch) {
    collector.start(version);
    (0..).zip(batch.iter()).for_each(|(number, metric)| collector.add(metric, number, (0, b"")));
    collector.set_mut().order();
}

/// Everything collected, in requests within these limits; each is checked against them.
fn requests(collector: &Collector, encoder: &mut Encoder, version: Version, limits: Limits) -> Vec<Vec<Series>> {
    let most = u32::try_from(limits.samples).unwrap_or(u32::MAX);
    let pieces: Vec<Piece> = collector.set().pieces(most).collect();
    let mut rest = &pieces[..];
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let count = encoder.encode(collector, rest, limits);
        assert!(count > 0);
        assert!(count == 1 || encoder.raw().len() <= limits.bytes);
        rest = &rest[count..];
        let request = decode(encoder.compressed().unwrap(), version);
        let samples: usize = request.iter().map(|series| series.samples.len() + series.histograms.len()).sum();
        assert!(samples <= limits.samples);
        requests.push(request);
    }
    requests
}

fn bytes(version: Version, kind: Kind) -> String {
    let mut collector = Collector::new(strict(), Late::Sort);
    collect(&mut collector, version, &typed(&[(kind, "cpu,host=a usage=1.5 1700000000123000000")]));
    let mut encoder = Encoder::default();
    let pieces: Vec<Piece> = collector.set().pieces(1).collect();
    encoder.encode(&collector, &pieces, Limits { metadata: true, ..Limits::default() });
    encoder.raw().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn worked_examples() {
    assert_eq!(
        bytes(Version::One, Kind::Gauge),
        "0a340a150a085f5f6e616d655f5f12096370755f75736167650a090a04686f7374120161121009000000000000f83f10fbd095ffbc31"
    );
    assert_eq!(
        bytes(Version::Two, Kind::Gauge),
        "220022085f5f6e616d655f5f22096370755f75736167652204686f73742201612a1c0a0401020304121009000000000000f83f10fbd095\
         ffbc312a020802"
    );
}

#[test]
fn what_a_receiver_would_refuse_is_mended() {
    let mut rules = strict();
    rules.external = vec![(b"zone".to_vec(), b"z".to_vec()), (b"host".to_vec(), b"no".to_vec())];
    rules.without = Some(b"tenant".to_vec());
    let mut collector = Collector::new(rules, Late::Sort);
    let tags: &[(&[u8], &[u8])] =
        &[(b"__name__", b"x"), (b"a-b", b"1"), (b"a_b", b"2"), (b"host", b"\xff"), (b"tenant", b"t"), (b"void", b"")];
    for version in [Version::One, Version::Two] {
        collect(&mut collector, version, &metric(b"m", tags, &[(b"v", 1.5.into())], 0));
        let got = requests(&collector, &mut Encoder::default(), version, Limits::default());
        assert_eq!(testing::show(&got[0][0]), "{__name__=\"m_v\",a_b=\"1\",host=\"\u{fffd}\",zone=\"z\"} 1.5@0\n");
    }
}

#[test]
fn no_number_is_taken_for_the_end_of_a_series() {
    let mut collector = Collector::new(strict(), Late::Sort);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    collect(&mut collector, Version::One, &metric(b"m", &[], &[(b"v", stale.into())], 0));
    let value = requests(&collector, &mut Encoder::default(), Version::One, Limits::default())[0][0].samples[0].0;
    assert_eq!(value.to_bits(), 0x7ff8_0000_0000_0001);
    let series = collector.set().get(0);
    let labels = collector.labels(series, b"");
    collector.start(Version::Two);
    collector.add_stale(&labels, (0, b""), false, 7);
    let marks = requests(&collector, &mut Encoder::default(), Version::Two, Limits::default());
    assert_eq!(marks[0][0].labels, [(b"__name__".to_vec(), b"m_v".to_vec())]);
    assert_eq!((marks[0][0].samples[0].0.to_bits(), marks[0][0].samples[0].1), (stale.to_bits(), 7));
}

#[test]
fn settled_samples_are_left_out() {
    let mut collector = Collector::new(strict(), Late::Sort);
    let both = batch(&["m v=1 1000000", "m v=2 2000000"]);
    collect(&mut collector, Version::One, &both);
    let first = collector.set().pieces(1).next().unwrap();
    collector.set_mut().settle(first);
    collect(&mut collector, Version::One, &both);
    assert_eq!(
        requests(&collector, &mut Encoder::default(), Version::One, Limits::default())[0][0].samples,
        [(2.0, 2)]
    );
    collector.set_mut().unsettle();
    collect(&mut collector, Version::One, &both);
    assert_eq!(requests(&collector, &mut Encoder::default(), Version::One, Limits::default())[0][0].samples.len(), 2);
}

#[test]
fn since_when_it_counts() {
    let metrics = typed(&[
        (Kind::Counter, "http requests_total=7,requests_created=1700000000.5,errors=1 1700000010000000000"),
        (Kind::Counter, "early n=7,created=1700000020 1700000010000000000"),
        (Kind::Gauge, "level v=1,created=1700000000 1700000010000000000"),
        (Kind::Summary, "prometheus,quantile=0.5 lat_sum=1.5,lat_count=2,created=1700000000i 1700000010000000000"),
        (
            Kind::Histogram,
            "native count=0,sum=0,schema=0i,counter_reset_hint=0u,zero_threshold=0,zero_count=0,created=2 \
             1700000010000000000",
        ),
    ]);
    let shown = |version, created_timestamps| {
        let mut collector = Collector::new(LabelRules { created_timestamps, ..strict() }, Late::Sort);
        collect(&mut collector, version, &metrics);
        let requests = requests(&collector, &mut Encoder::default(), version, Limits::default());
        requests.iter().flatten().map(super::testing::show).collect::<String>()
    };
    // At the end of the native one: 78… is its time, field 15, and 8801d00f is 2000 as field 17.
    expect![[r#"
        {__name__="http_requests_total"} 7@1700000010000 since 1700000000500
        {__name__="http_errors"} 1@1700000010000
        {__name__="early_n"} 7@1700000010000
        {__name__="level_v"} 1@1700000010000
        {__name__="level_created"} 1700000000@1700000010000
        {__name__="lat_sum"} 1.5@1700000010000 since 1700000000000
        {__name__="lat_count"} 2@1700000010000 since 1700000000000
        {__name__="native"} [11000000000000000039000000000000000078909e96ffbc318801d00f]
    "#]]
    .assert_eq(&shown(Version::Two, true));
    assert!(shown(Version::Two, false).contains("requests_created"));
    assert_eq!(shown(Version::One, true), shown(Version::One, false));
}

proptest! {
    /// Series with their samples in order, the last of each millisecond, whatever the version, the limits and the order.
    #[test]
    fn what_goes_in_comes_out(
        rounds in prop::collection::vec(prop::collection::vec(
            ("[a-c]{1,2}", prop::collection::btree_map("[a-c]", "[x-z]{1,3}", 0..3), -3i64..9, -5i32..5), 0..40), 1..4),
        second in any::<bool>(),
        samples in 1usize..20,
        bytes in 20usize..400,
    ) {
        let version = if second { Version::Two } else { Version::One };
        let mut collector = Collector::new(strict(), Late::Sort);
        let mut encoder = Encoder::default();
        for metrics in &rounds {
            let mut lines = Vec::new();
            type Labels = Vec<(Vec<u8>, Vec<u8>)>;
            let mut want: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
            for (name, tags, time, value) in metrics {
                let tag_text: String = tags.iter().map(|(key, value)| format!(",{key}={value}")).collect();
                lines.push(format!("{name}{tag_text} v={value} {}", time * 1_000_000));
                let mut labels = vec![(b"__name__".to_vec(), format!("{name}_v").into_bytes())];
                labels.extend(tags.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone().into_bytes())));
                want.entry(labels).or_default().insert(*time, f64::from(*value));
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            collect(&mut collector, version, &batch(&lines));
            let limits = Limits { samples, bytes, metadata: true, time_first: second };
            let mut got: BTreeMap<Labels, Vec<(f64, i64)>> = BTreeMap::new();
            for series in requests(&collector, &mut encoder, version, limits).into_iter().flatten() {
                got.entry(series.labels).or_default().extend(series.samples);
            }
            let want: BTreeMap<Labels, Vec<(f64, i64)>> = want
                .into_iter()
                .map(|(labels, samples)| (labels, samples.into_iter().map(|(time, value)| (value, time)).collect()))
                .collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn any_bytes_make_a_request(
        name in prop::collection::vec(any::<u8>(), 0..9),
        key in prop::collection::vec(any::<u8>(), 0..9),
        ending in prop::sample::select(vec!["", "_bucket", "_sum", "_count"]),
        kind in prop::sample::select(vec![Kind::Untyped, Kind::Histogram, Kind::Summary]),
        utf8 in any::<bool>(),
    ) {
        let key = [&key, ending.as_bytes()].concat();
        let plain = metric(&name, &[(&key, &name), (b"le", b"0x1p-2")], &[(&key, 1.5.into()), (b"s", name.as_slice().into())], i64::MIN);
        let names = if utf8 { crate::common::prometheus::names::NameRule::Utf8 } else { Default::default() };
        let rules = LabelRules { names, strings_are_labels: true, ..strict() };
        for version in [Version::One, Version::Two] {
            let mut collector = Collector::new(rules.clone(), Late::Sort);
            collector.start(version);
            for metric in plain.iter() {
                collector.add(heliograph_core::model::MetricRef { kind, ..metric }, 0, (0, b""));
            }
            for series in requests(&collector, &mut Encoder::default(), version, Limits::default()).concat() {
                prop_assert!(series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0));
                prop_assert!(series.labels.iter().all(|(name, value)| !value.is_empty() && !name.is_empty()));
                prop_assert!(series.labels.iter().all(|(_, value)| std::str::from_utf8(value).is_ok()));
            }
        }
    }
}
