//! What the unit tests of several plugins share: metrics from plain lines and back.

use std::sync::Arc;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::clock::Clock;
use heliograph_core::model::{Batch, Field, Interner, Key, Kind, MetricRef, SeriesBuilder, Value};
use heliograph_core::number::{write_i64, write_plain_f64, write_u64};
use heliograph_core::parse::{ParseOutput, Parser, ParserBuilder};
use heliograph_core::plugin::{Aggregator, ProcessContext, Processor, Verdict};
use heliograph_core::stage::InputRules;
use tokio::sync::mpsc;

/// Metrics of lines like `m,tag=a v=1i,s="x" 10`, with times in nanoseconds; without escapes.
pub(crate) fn batch(lines: &str) -> Batch {
    let mut batch = Batch::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (series, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (fields, time) = match rest.rsplit_once(' ') {
            Some((fields, time)) if time.parse::<i64>().is_ok() => (fields, time.parse().unwrap()),
            _ => (rest, 0),
        };
        let mut builder = SeriesBuilder::new();
        let mut parts = series.split(',');
        builder.start(parts.next().unwrap().as_bytes());
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            builder.set_tag(key.as_bytes(), value.as_bytes());
        }
        let fields = fields
            .split(',')
            .filter_map(|field| field.split_once('='))
            .map(|(key, text)| Field { key: Key::intern(key.as_bytes()), value: value(text) });
        batch.push(builder.build(), time, Kind::Untyped, fields);
    }
    batch
}

fn value(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ if text.starts_with('"') => text.trim_matches('"').into(),
        _ => match (text.strip_suffix('i'), text.strip_suffix('u')) {
            (Some(int), _) => int.parse::<i64>().unwrap().into(),
            (_, Some(uint)) => uint.parse::<u64>().unwrap().into(),
            _ => text.parse::<f64>().unwrap().into(),
        },
    }
}

/// The metrics as such lines.
pub(crate) fn show(batch: &Batch) -> String {
    batch.iter().map(show_metric).collect::<Vec<_>>().join("\n")
}

fn show_metric(metric: MetricRef<'_>) -> String {
    let fields: Vec<String> =
        metric.fields.iter().map(|field| format!("{}={}", field.key, show_value(&field.value))).collect();
    format!("{} {} {}", metric.series, fields.join(","), metric.time)
}

fn show_value(value: &Value) -> String {
    let mut out = Vec::new();
    match value {
        Value::Float(v) => write_plain_f64(&mut out, *v),
        Value::Int(v) => write_i64(&mut out, *v),
        Value::Uint(v) => write_u64(&mut out, *v),
        Value::Bool(v) => return v.to_string(),
        Value::Text(text) => return format!("{text:?}"),
    }
    let suffix = match value {
        Value::Int(_) => "i",
        Value::Uint(_) => "u",
        _ => "",
    };
    String::from_utf8(out).unwrap() + suffix
}

/// The lines behind a processor, with what it emitted at the end.
pub(crate) fn process(processor: &mut dyn Processor, lines: &str) -> String {
    let (mut batch, mut emit, mut interner) = (batch(lines), Batch::new(), Interner::default());
    batch.retain_mut(|metric| {
        let mut context =
            ProcessContext { interner: &mut interner, now: 0, emit: &mut emit, plugin: "processors.test" };
        processor.apply(metric, &mut context) == Verdict::Keep
    });
    batch.append(&mut emit);
    show(&batch)
}

/// Adds the lines to an aggregator.
pub(crate) fn add(aggregator: &mut dyn Aggregator, lines: &str) {
    batch(lines).iter().for_each(|metric| aggregator.add(metric));
}

/// Pushes and resets an aggregator, as at the end of a period.
pub(crate) fn push(aggregator: &mut dyn Aggregator, now: i64) -> String {
    let (mut emit, mut interner) = (Batch::new(), Interner::default());
    aggregator.push(&mut ProcessContext { interner: &mut interner, now, emit: &mut emit, plugin: "aggregators.test" });
    aggregator.reset();
    show(&emit)
}

/// An accumulator that changes nothing; its metrics stay in [`Accumulator::batch`].
pub(crate) fn accumulator(clock: Clock) -> Accumulator {
    let rules = InputRules { plugin: "inputs.test".into(), ..InputRules::default() };
    Accumulator::new(Arc::new(rules), 1, clock, mpsc::channel(1).0, Vec::new())
}

/// Makes parsers that read the lines of [`batch`], of which those without a field are problems.
pub(crate) fn line_parser() -> ParserBuilder {
    struct Lines;
    impl Parser for Lines {
        fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
            for line in String::from_utf8_lossy(payload).lines() {
                match line.contains('=') {
                    true => out.batch.append(&mut batch(line)),
                    false => out.problem("syntax", format_args!("cannot parse {line:?}")),
                }
            }
        }
    }
    Box::new(|| Ok(Box::new(Lines)))
}
