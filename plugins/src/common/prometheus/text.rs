//! The text format of Prometheus, version 0.0.4.

use heliograph_core::model::Kind;
use heliograph_core::number::{write_i64, write_prometheus_f64};
use memchr::memchr3;

use super::collection::{Collection, Family, Labels, Sample, SampleValue};
use super::names::{is_legacy_metric, write_underscored};
use super::value::milliseconds;

/// What is written and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextStyle {
    /// Whether each line has the time of its metric, in milliseconds.
    pub has_timestamps: bool,
    /// Whether families have a line `# HELP`.
    pub has_help: bool,
    /// Whether families and samples are sorted.
    pub is_sorted: bool,
}

/// Appends all families of a collection.
pub fn write(collection: &Collection, style: TextStyle, out: &mut Vec<u8>) {
    if style.is_sorted {
        collection.sorted_families().into_iter().for_each(|family| write_family(family, style, out));
    } else {
        collection.families().for_each(|family| write_family(family, style, out));
    }
}

/// Appends one family with its header.
pub fn write_family(family: &Family, style: TextStyle, out: &mut Vec<u8>) {
    write_header(&family.name, family.kind, style.has_help, out);
    let mut line = Lines { name: &family.name, has_timestamps: style.has_timestamps, out };
    if style.is_sorted {
        family.sorted_samples().into_iter().for_each(|(labels, sample)| line.write_sample(labels, sample));
    } else {
        family.samples().for_each(|(labels, sample)| line.write_sample(labels, sample));
    }
}

/// Appends the lines that precede the samples of a family.
pub fn write_header(name: &[u8], kind: Kind, has_help: bool, out: &mut Vec<u8>) {
    if has_help {
        out.extend_from_slice(b"# HELP ");
        write_underscored(name, out);
        out.extend_from_slice(b" Telegraf collected metric\n");
    }
    out.extend_from_slice(b"# TYPE ");
    write_underscored(name, out);
    let kind: &[u8] = match kind {
        Kind::Counter => b" counter\n",
        Kind::Gauge => b" gauge\n",
        Kind::Untyped => b" untyped\n",
        Kind::Summary => b" summary\n",
        Kind::Histogram => b" histogram\n",
    };
    out.extend_from_slice(kind);
}

/// Writes the lines of samples.
struct Lines<'a> {
    name: &'a [u8],
    has_timestamps: bool,
    out: &'a mut Vec<u8>,
}

impl Lines<'_> {
    fn write_sample(&mut self, labels: &Labels, sample: &Sample) {
        let time = sample.time;
        match &sample.value {
            SampleValue::Number(value) => self.write("", labels, None, *value, time),
            SampleValue::Summary { quantiles, sum, count } => {
                for (quantile, value) in quantiles {
                    self.write("", labels, Some(("quantile", *quantile)), *value, time);
                }
                self.write("_sum", labels, None, *sum, time);
                self.write("_count", labels, None, *count as f64, time);
            }
            SampleValue::Histogram { buckets, sum, count } => {
                for (bound, up_to) in buckets {
                    self.write("_bucket", labels, Some(("le", *bound)), *up_to as f64, time);
                }
                if !buckets.iter().any(|(bound, _)| *bound == f64::INFINITY) {
                    self.write("_bucket", labels, Some(("le", f64::INFINITY)), *count as f64, time);
                }
                self.write("_sum", labels, None, *sum, time);
                self.write("_count", labels, None, *count as f64, time);
            }
        }
    }

    fn write(&mut self, ending: &str, labels: &Labels, last: Option<(&str, f64)>, value: f64, time: i64) {
        let out = &mut *self.out;
        write_underscored(self.name, out);
        out.extend_from_slice(ending.as_bytes());
        let mut separator = b'{';
        for (name, value) in labels.iter() {
            out.push(std::mem::replace(&mut separator, b','));
            write_underscored(name, out);
            out.extend_from_slice(b"=\"");
            if name == b"__name__" && !is_legacy_metric(value) {
                write_underscored(value, out);
            } else {
                write_label_value(value, out);
            }
            out.push(b'"');
        }
        if let Some((name, bound)) = last {
            out.push(std::mem::replace(&mut separator, b','));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            write_prometheus_f64(out, bound);
            out.push(b'"');
        }
        if separator == b',' {
            out.push(b'}');
        }
        out.push(b' ');
        write_prometheus_f64(out, value);
        if self.has_timestamps {
            out.push(b' ');
            write_i64(out, milliseconds(time));
        }
        out.push(b'\n');
    }
}

/// Appends the value of a label with backslashes, quotes and line ends escaped.
pub fn write_label_value(mut value: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr3(b'\\', b'"', b'\n', value) {
        out.extend_from_slice(&value[..at]);
        out.extend_from_slice(match value[at] {
            b'\\' => b"\\\\",
            b'"' => b"\\\"",
            _ => b"\\n",
        });
        value = &value[at + 1..];
    }
    out.extend_from_slice(value);
}
