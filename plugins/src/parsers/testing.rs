//! What a parser makes of a payload, as text for tests.

use bstr::ByteSlice;
use heliograph_core::model::{Batch, Interner, MetricRef, Value};
use heliograph_core::number::write_plain_f64;
use heliograph_core::parse::{ParseOutput, Parser};

/// The time of parsing; shown as `now`.
pub(crate) const NOW: i64 = 1_600_000_000_123_456_789;

/// The outcome of parsing one payload.
pub(crate) struct Run {
    pub(crate) batch: Batch,
    pub(crate) problems: Vec<String>,
}

impl Run {
    pub(crate) fn new(parser: &mut dyn Parser, payload: &[u8]) -> Self {
        let (mut batch, mut interner) = (Batch::new(), Interner::default());
        let mut out = ParseOutput::new(&mut batch, &mut interner, NOW);
        parser.parse(payload, &mut out);
        let (problems, _) = out.into_problems();
        Self { batch, problems: problems.into_iter().map(|problem| problem.message).collect() }
    }
}

/// Metrics much as in line protocol, then problems behind a `!`, joined by semicolons.
pub(crate) fn run(parser: &mut dyn Parser, payload: &[u8]) -> String {
    let Run { batch, problems } = Run::new(parser, payload);
    let problems = problems.into_iter().map(|problem| format!("! {problem}"));
    batch.iter().map(metric).chain(problems).collect::<Vec<_>>().join("; ")
}

fn metric(metric: MetricRef<'_>) -> String {
    let fields: Vec<String> = metric.fields.iter().map(|f| format!("{}={}", f.key, value(&f.value))).collect();
    let time = if metric.time == NOW { "now".to_owned() } else { metric.time.to_string() };
    format!("{} {} {time}", metric.series, fields.join(","))
}

fn value(value: &Value) -> String {
    match value {
        Value::Float(v) => {
            let mut out = Vec::new();
            write_plain_f64(&mut out, *v);
            out.to_str_lossy().into_owned()
        }
        Value::Int(v) => format!("{v}i"),
        Value::Uint(v) => format!("{v}u"),
        Value::Bool(v) => v.to_string(),
        Value::Text(v) => format!("\"{v}\""),
    }
}
