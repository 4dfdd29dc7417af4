//! The agent's figures about parsers: `internal_parser`, by data format.

use std::time::Instant;

use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::stats::{Count, StatSeries, Stats};

/// The counters of one data format; parsers of the same format share them.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    metrics_parsed: Count,
    parse_time_ns: Count,
    errors: Count,
}

impl Figures {
    /// The counters of the format `data_format`.
    pub(super) fn new(stats: &Stats, data_format: &str) -> Self {
        let series = StatSeries::new("parser", &[("type", data_format)]);
        Self {
            metrics_parsed: stats.count(&series, "metrics_parsed"),
            parse_time_ns: stats.count(&series, "parse_time_ns"),
            errors: stats.count(&series, "errors"),
        }
    }
}

/// A parser that is counted and timed.
pub(super) struct Measured {
    pub(super) parser: Box<dyn Parser>,
    pub(super) figures: Figures,
    /// Short payloads so far.
    pub(super) calls: u32,
}

/// Reading the clock twice takes as long as parsing a short payload. Of short ones only every so manieth is timed and
/// counted that often; the first ones and the long ones are all timed.
const SAMPLED: u32 = 64;
/// Payloads from this length on are long, in bytes.
const LONG: usize = 4096;

impl Measured {
    /// For how many payloads the time of this one stands.
    #[inline]
    fn weight(&mut self, payload: &[u8]) -> u32 {
        if payload.len() >= LONG {
            return 1;
        }
        self.calls = self.calls.wrapping_add(1);
        match self.calls {
            ..=SAMPLED => 1,
            calls if calls % SAMPLED == 0 => SAMPLED,
            _ => 0,
        }
    }
}

impl Parser for Measured {
    fn parse(&mut self, payload: &[u8], out: &mut ParseOutput<'_>) {
        let (metrics, problems) = (out.batch.len(), out.problem_count());
        match self.weight(payload) {
            0 => self.parser.parse(payload, out),
            weight => {
                let start = Instant::now();
                self.parser.parse(payload, out);
                self.figures.parse_time_ns.add_time(start.elapsed() * weight);
            }
        }
        self.figures.metrics_parsed.add(out.batch.len() - metrics);
        let problems = out.problem_count() - problems;
        if problems > 0 {
            self.figures.errors.add(problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use heliograph_core::model::{Batch, Interner, SeriesBuilder};

    use super::*;

    struct Two;

    impl Parser for Two {
        fn parse(&mut self, _payload: &[u8], out: &mut ParseOutput<'_>) {
            let series = SeriesBuilder::new().start(b"m").build();
            out.start(series.clone(), 0);
            out.start(series, 0);
            out.problem("syntax", "bad");
        }
    }

    #[test]
    fn metrics_problems_and_time_are_counted() {
        let stats = Stats::default();
        let figures = Figures::new(&stats, "json");
        let mut parser = Measured { parser: Box::new(Two), figures: figures.clone(), calls: 0 };
        let (mut batch, mut interner) = (Batch::new(), Interner::default());
        let mut out = ParseOutput::new(&mut batch, &mut interner, 0);
        (0..100).for_each(|_| parser.parse(b"x", &mut out));
        assert_eq!((figures.metrics_parsed.get(), figures.errors.get()), (200, 100));
        assert!(figures.parse_time_ns.get() > 0);
        let (series, fields) = stats.read().remove(0);
        assert_eq!((series.measurement.as_str(), series.tags), ("parser", vec![("type", "json".to_owned())]));
        assert_eq!(
            fields.iter().map(|(field, _)| *field).collect::<Vec<_>>(),
            ["errors", "metrics_parsed", "parse_time_ns"]
        );
    }

    #[test]
    fn the_first_are_timed_and_then_one_for_many() {
        let stats = Stats::default();
        let mut parser = Measured { parser: Box::new(Two), figures: Figures::new(&stats, "json"), calls: 0 };
        let weights: Vec<u32> = (0..192).map(|_| parser.weight(b"x")).filter(|&weight| weight > 0).collect();
        assert_eq!(weights.iter().sum::<u32>(), 192);
        assert_eq!(weights.len(), 66);
        assert_eq!(parser.weight(&[0; LONG]), 1);
    }
}
