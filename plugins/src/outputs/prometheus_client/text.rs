//! The text format, with names in quotes for readers that know them.

use heliograph_core::model::Kind;
use heliograph_core::number::{write_i64, write_prometheus_f64};

use super::exposition::{Family, Sample, SampleValue};
use crate::common::prometheus::names::{is_legacy_metric, write_underscored};
use crate::common::prometheus::text::write_label_value;

/// How names are shown that the old rule does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// Foreign signs become `_`.
    Underscores,
    /// In quotes, as they are.
    Allow,
}

/// Appends all families.
pub(super) fn write(families: &[Family], escaping: Escaping, out: &mut Vec<u8>) {
    for family in families {
        let mut text = Text { escaping, out };
        text.header(family);
        family.samples.iter().for_each(|sample| text.sample(&family.name, sample));
    }
}

/// Appends a name as it stands in messages of the binary format, and in headers.
pub(super) fn write_name(name: &[u8], escaping: Escaping, out: &mut Vec<u8>) {
    match escaping {
        Escaping::Underscores => write_underscored(name, out),
        Escaping::Allow => out.extend_from_slice(name),
    }
}

struct Text<'a> {
    escaping: Escaping,
    out: &'a mut Vec<u8>,
}

impl Text<'_> {
    fn header(&mut self, family: &Family) {
        self.out.extend_from_slice(b"# HELP ");
        self.name(&family.name);
        self.out.push(b' ');
        self.out.extend_from_slice(family.help.as_bytes());
        self.out.extend_from_slice(b"\n# TYPE ");
        self.name(&family.name);
        self.out.extend_from_slice(match family.kind {
            Kind::Counter => b" counter\n",
            Kind::Gauge => b" gauge\n",
            Kind::Untyped => b" untyped\n",
            Kind::Summary => b" summary\n",
            Kind::Histogram => b" histogram\n",
        });
    }

    fn sample(&mut self, name: &[u8], sample: &Sample) {
        match &sample.value {
            SampleValue::Number(value) => self.line(name, "", sample, None, *value),
            SampleValue::Summary { quantiles, sum, count } => {
                for (quantile, value) in quantiles {
                    self.line(name, "", sample, Some(("quantile", *quantile)), *value);
                }
                self.line(name, "_sum", sample, None, *sum);
                self.line(name, "_count", sample, None, *count as f64);
            }
            SampleValue::Histogram { buckets, sum, count } => {
                for (bound, up_to) in buckets {
                    self.line(name, "_bucket", sample, Some(("le", *bound)), *up_to as f64);
                }
                if !buckets.iter().any(|(bound, _)| *bound == f64::INFINITY) {
                    self.line(name, "_bucket", sample, Some(("le", f64::INFINITY)), *count as f64);
                }
                self.line(name, "_sum", sample, None, *sum);
                self.line(name, "_count", sample, None, *count as f64);
            }
        }
    }

    fn line(&mut self, name: &[u8], ending: &str, sample: &Sample, last: Option<(&str, f64)>, value: f64) {
        let full = [name, ending.as_bytes()].concat();
        // A name in quotes stands among the labels.
        let quoted = self.escaping == Escaping::Allow && !is_legacy_metric(&full);
        let mut separator = b'{';
        if quoted {
            self.out.push(std::mem::replace(&mut separator, b','));
        }
        self.name(&full);
        for (label, value) in &sample.labels {
            self.out.push(std::mem::replace(&mut separator, b','));
            self.name(label);
            self.out.extend_from_slice(b"=\"");
            write_label_value(value, self.out);
            self.out.push(b'"');
        }
        if let Some((label, bound)) = last {
            self.out.push(std::mem::replace(&mut separator, b','));
            self.out.extend_from_slice(label.as_bytes());
            self.out.extend_from_slice(b"=\"");
            write_prometheus_f64(self.out, bound);
            self.out.push(b'"');
        }
        if separator == b',' {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_prometheus_f64(self.out, value);
        if let Some(time) = sample.time {
            self.out.push(b' ');
            write_i64(self.out, time);
        }
        self.out.push(b'\n');
    }

    fn name(&mut self, name: &[u8]) {
        if self.escaping == Escaping::Allow && !is_legacy_metric(name) {
            self.out.push(b'"');
            write_label_value(name, self.out);
            self.out.push(b'"');
        } else {
            write_underscored(name, self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::exposition::HELP;
    use super::*;

    fn check(escaping: Escaping, name: &str, value: SampleValue, expected: Expect) {
        let labels = vec![(b"a.b".to_vec(), b"x\"y".to_vec())];
        let sample = Sample { labels, time: Some(5), value };
        let kind = match &sample.value {
            SampleValue::Number(_) => Kind::Gauge,
            SampleValue::Summary { .. } => Kind::Summary,
            SampleValue::Histogram { .. } => Kind::Histogram,
        };
        let family = Family { name: name.into(), help: HELP, kind, samples: vec![sample] };
        let mut out = Vec::new();
        write(&[family], escaping, &mut out);
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn kinds() {
        check(
            Escaping::Underscores,
            "h",
            SampleValue::Histogram { buckets: vec![(0.5, 1)], sum: 2.0, count: 4 },
            expect![[r#"
                # HELP h Telegraf collected metric
                # TYPE h histogram
                h_bucket{a_b="x\"y",le="0.5"} 1 5
                h_bucket{a_b="x\"y",le="+Inf"} 4 5
                h_sum{a_b="x\"y"} 2 5
                h_count{a_b="x\"y"} 4 5
            "#]],
        );
        check(
            Escaping::Underscores,
            "s",
            SampleValue::Summary { quantiles: vec![(0.99, 3.5)], sum: 7.0, count: 1_234_567 },
            expect![[r#"
                # HELP s Telegraf collected metric
                # TYPE s summary
                s{a_b="x\"y",quantile="0.99"} 3.5 5
                s_sum{a_b="x\"y"} 7 5
                s_count{a_b="x\"y"} 1.234567e+06 5
            "#]],
        );
    }

    #[test]
    fn foreign_names() {
        let value = || SampleValue::Number(1.0);
        check(
            Escaping::Underscores,
            "temp.é",
            value(),
            expect![[r#"
            # HELP temp__ Telegraf collected metric
            # TYPE temp__ gauge
            temp__{a_b="x\"y"} 1 5
        "#]],
        );
        check(
            Escaping::Allow,
            "temp.é",
            value(),
            expect![[r#"
            # HELP "temp.é" Telegraf collected metric
            # TYPE "temp.é" gauge
            {"temp.é","a.b"="x\"y"} 1 5
        "#]],
        );
    }
}
