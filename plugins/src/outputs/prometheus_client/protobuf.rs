//! The binary format: a length and a message `io.prometheus.client.MetricFamily` for each family.

use heliograph_core::model::Kind;

use super::exposition::{Family, Sample, SampleValue};
use super::text::{Escaping, write_name};

/// Appends all families.
pub(super) fn write(families: &[Family], escaping: Escaping, out: &mut Vec<u8>) {
    for family in families {
        let mut message = Vec::new();
        let mut name = Vec::new();
        write_name(&family.name, escaping, &mut name);
        bytes(1, &name, &mut message);
        bytes(2, family.help.as_bytes(), &mut message);
        unsigned(3, type_number(family.kind), &mut message);
        for sample in &family.samples {
            nested(4, &mut message, |out| write_sample(family.kind, sample, escaping, out));
        }
        varint(message.len() as u64, out);
        out.extend_from_slice(&message);
    }
}

fn type_number(kind: Kind) -> u64 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Summary => 2,
        Kind::Untyped => 3,
        Kind::Histogram => 4,
    }
}

fn write_sample(kind: Kind, sample: &Sample, escaping: Escaping, out: &mut Vec<u8>) {
    for (name, value) in &sample.labels {
        let mut shown = Vec::new();
        write_name(name, escaping, &mut shown);
        nested(1, out, |out| {
            bytes(1, &shown, out);
            bytes(2, value, out);
        });
    }
    match &sample.value {
        SampleValue::Number(value) => {
            let field = match kind {
                Kind::Gauge => 2,
                Kind::Counter => 3,
                Kind::Untyped | Kind::Summary | Kind::Histogram => 5,
            };
            nested(field, out, |out| double(1, *value, out));
        }
        SampleValue::Summary { quantiles, sum, count } => nested(4, out, |out| {
            unsigned(1, *count, out);
            double(2, *sum, out);
            for (quantile, value) in quantiles {
                nested(3, out, |out| {
                    double(1, *quantile, out);
                    double(2, *value, out);
                });
            }
        }),
        SampleValue::Histogram { buckets, sum, count } => nested(7, out, |out| {
            unsigned(1, *count, out);
            double(2, *sum, out);
            for (bound, up_to) in buckets {
                nested(3, out, |out| {
                    unsigned(1, *up_to, out);
                    double(2, *bound, out);
                });
            }
        }),
    }
    if let Some(time) = sample.time {
        unsigned(6, time as u64, out);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unsigned(field: u64, value: u64, out: &mut Vec<u8>) {
    varint(field << 3, out);
    varint(value, out);
}

fn double(field: u64, value: f64, out: &mut Vec<u8>) {
    varint(field << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn nested(field: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(field, &inner, out);
}

#[cfg(test)]
mod tests {
    use super::super::exposition::HELP;
    use super::*;

    fn encoded(kind: Kind, value: SampleValue) -> String {
        let sample = Sample { labels: vec![(b"l".to_vec(), b"v".to_vec())], time: Some(-1), value };
        let family = Family { name: b"m".to_vec(), help: HELP, kind, samples: vec![sample] };
        let mut out = Vec::new();
        write(&[family], Escaping::Underscores, &mut out);
        assert_eq!(out[0] as usize, out.len() - 1, "the length is in front");
        let head = [b"\x0a\x01m\x12\x19" as &[u8], HELP.as_bytes()].concat();
        out[1..].strip_prefix(&head[..]).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The time, -1, is a varint of ten bytes.
    const TIME: &str = "30ffffffffffffffffff01";
    /// `l="v"`
    const LABEL: &str = "0a060a016c120176";
    const TWO: &str = "0000000000000040";

    #[test]
    fn numbers() {
        for (kind, number, field) in
            [(Kind::Counter, "00", "1a"), (Kind::Gauge, "01", "12"), (Kind::Untyped, "03", "2a")]
        {
            let expected = format!("18{number}221e{LABEL}{field}0909{TWO}{TIME}");
            assert_eq!(encoded(kind, SampleValue::Number(2.0)), expected);
        }
    }

    #[test]
    fn histograms_and_summaries() {
        let histogram = SampleValue::Histogram { buckets: vec![(2.0, 3)], sum: 2.0, count: 300 };
        let expected = format!("180422 2c {LABEL} 3a17 08ac02 11{TWO} 1a0b 0803 11{TWO} {TIME}");
        let length = |hex: &str| hex.replace(' ', "");
        assert_eq!(encoded(Kind::Histogram, histogram).len(), length(&expected).len());
        assert!(
            encoded(Kind::Histogram, SampleValue::Histogram { buckets: vec![(2.0, 3)], sum: 2.0, count: 300 })
                .ends_with(&length(&format!("08ac02 11{TWO} 1a0b 0803 11{TWO} {TIME}")))
        );
        assert!(
            encoded(Kind::Summary, SampleValue::Summary { quantiles: vec![(2.0, 2.0)], sum: 2.0, count: 1 })
                .ends_with(&length(&format!("22 1f 0801 11{TWO} 1a12 09{TWO} 11{TWO} {TIME}")))
        );
    }
}
