//! What the view shows: rates and levels, out of the agent's figures about itself.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use heliograph_core::stats::{StatSeries, Stats};

/// Everything that one picture shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// Time since the start.
    pub uptime: Duration,
    /// In order of their names.
    pub inputs: Vec<InputFigures>,
    /// In order of their names.
    pub outputs: Vec<OutputFigures>,
    /// Measurements in the guard, the fullest budget first.
    pub budgets: Vec<BudgetFigures>,
    /// Metrics a second that were summed up in a series of others.
    pub folded: f64,
    /// Metrics a second that the guard dropped.
    pub dropped: f64,
    /// The devices.
    pub devices: DeviceFigures,
    /// Where things are.
    pub files: Files,
    /// The last Graphite lines, oldest first.
    pub lines: Vec<String>,
    /// The last Graphite line of a series of others, once there is one.
    pub folded_line: Option<String>,
    /// The last warnings and errors, oldest first.
    pub log: Vec<String>,
}

/// An input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputFigures {
    /// Name of the plugin.
    pub name: String,
    /// Metrics a second.
    pub metrics: f64,
    /// Mean time of a gather; `None` for an input that gathers by itself.
    pub gather: Option<Duration>,
    /// Errors since the start.
    pub errors: i64,
}

/// An output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutputFigures {
    /// Name of the plugin.
    pub name: String,
    /// Metrics a second that were written.
    pub metrics: f64,
    /// Metrics that wait.
    pub backlog: i64,
    /// The most that may wait.
    pub limit: i64,
    /// Metrics since the start that found no room to wait.
    pub dropped: i64,
    /// Errors since the start, of its own and of its writes.
    pub errors: i64,
}

/// A measurement in the guard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BudgetFigures {
    /// Its name.
    pub measurement: String,
    /// Series in use.
    pub series: i64,
    /// The most there may be.
    pub limit: i64,
}

/// The simulated devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceFigures {
    /// How many there are, beside the newcomer and those that send what cannot be read.
    pub count: usize,
    /// Messages a second that they publish.
    pub sent: f64,
    /// Messages a second that the agent receives.
    pub received: f64,
    /// Messages since the start that the agent could not read.
    pub unreadable: i64,
    /// Ids that the newcomer has invented since the start.
    pub invented: u64,
}

/// Paths of the demonstration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    /// The configuration.
    pub config: PathBuf,
    /// The log.
    pub log: PathBuf,
    /// The Graphite lines.
    pub lines: PathBuf,
}

/// Length of the window that rates are taken over: three intervals of the configuration, so that they are steady.
const WINDOW: Duration = Duration::from_secs(6);

/// Readings of the agent's figures, for rates over the last few seconds.
#[derive(Debug)]
pub(super) struct Figures {
    stats: Stats,
    readings: VecDeque<Reading>,
}

#[derive(Debug, Clone)]
struct Reading {
    uptime: Duration,
    sent: u64,
    values: BTreeMap<StatSeries, BTreeMap<&'static str, i64>>,
}

impl Figures {
    /// Of an agent with these figures.
    pub fn new(stats: Stats) -> Self {
        Self { stats, readings: VecDeque::new() }
    }

    /// Reads the figures; `sent` are the messages that were published so far. What is no figure of the agent is left empty.
    pub fn frame(&mut self, uptime: Duration, sent: u64) -> Frame {
        let values = self.stats.peek().into_iter().map(|(series, fields)| (series, fields.into_iter().collect()));
        let now = Reading { uptime, sent, values: values.collect() };
        while self.readings.len() > 1 && uptime.saturating_sub(self.readings[1].uptime) >= WINDOW {
            self.readings.pop_front();
        }
        let nothing = Reading { uptime: Duration::ZERO, sent: 0, values: BTreeMap::new() };
        let rates = Rates { before: self.readings.front().unwrap_or(&nothing), now: &now };
        let frame = rates.frame();
        self.readings.push_back(now);
        frame
    }
}

struct Rates<'a> {
    before: &'a Reading,
    now: &'a Reading,
}

impl Rates<'_> {
    fn frame(&self) -> Frame {
        let guard = StatSeries::new("cardinality", &[]);
        let mqtt = StatSeries::new("mqtt_consumer", &[]);
        let mut frame = Frame {
            uptime: self.now.uptime,
            folded: self.rate(&guard, "metrics_folded"),
            dropped: self.rate(&guard, "metrics_dropped"),
            ..Frame::default()
        };
        frame.devices.sent = self.per_second(self.now.sent as f64 - self.before.sent as f64);
        frame.devices.received = self.rate(&mqtt, "messages_received");
        for (series, values) in &self.now.values {
            let level = |field| values.get(field).copied().unwrap_or(0);
            match series.measurement.as_str() {
                "gather" => frame.inputs.push(InputFigures {
                    name: tag(series, "input"),
                    metrics: self.rate(series, "metrics_gathered"),
                    gather: u64::try_from(level("gather_time_ns")).ok().filter(|&ns| ns > 0).map(Duration::from_nanos),
                    errors: level("errors"),
                }),
                "write" => frame.outputs.push(OutputFigures {
                    name: tag(series, "output"),
                    metrics: self.rate(series, "metrics_written"),
                    backlog: level("buffer_size"),
                    limit: level("buffer_limit"),
                    dropped: level("metrics_dropped"),
                    errors: level("errors") + level("write_errors"),
                }),
                "cardinality_measurement" => frame.budgets.push(BudgetFigures {
                    measurement: tag(series, "measurement"),
                    series: level("series"),
                    limit: level("max_series"),
                }),
                "parse_problems" => frame.devices.unreadable += level("problems"),
                _ => {}
            }
        }
        frame.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        frame.outputs.sort_by(|a, b| a.name.cmp(&b.name));
        let share = |budget: &BudgetFigures| budget.series as f64 / budget.limit.max(1) as f64;
        frame.budgets.sort_by(|a, b| share(b).total_cmp(&share(a)).then_with(|| a.measurement.cmp(&b.measurement)));
        frame
    }

    fn rate(&self, series: &StatSeries, field: &'static str) -> f64 {
        let at =
            |reading: &Reading| reading.values.get(series).and_then(|values| values.get(field)).copied().unwrap_or(0);
        self.per_second((at(self.now) - at(self.before)) as f64)
    }

    fn per_second(&self, difference: f64) -> f64 {
        let seconds = self.now.uptime.saturating_sub(self.before.uptime).as_secs_f64();
        if seconds > 0.0 { difference / seconds } else { 0.0 }
    }
}

fn tag(series: &StatSeries, key: &str) -> String {
    series.tags.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn rates_are_taken_over_the_window() {
        let stats = Stats::default();
        let mut figures = Figures::new(stats.clone());
        let series = StatSeries::new("gather", &[("input", "cpu"), ("_id", "1")]);
        let gathered = stats.count(&series, "metrics_gathered");
        let mut rate = |seconds, more| {
            gathered.add(more);
            figures.frame(Duration::from_secs(seconds), 0).inputs[0].metrics
        };
        assert_eq!(rate(0, 0), 0.0);
        assert_eq!(rate(2, 10), 5.0);
        assert_eq!(rate(4, 10), 5.0);
        assert_eq!(rate(10, 30), 5.0);
        assert_eq!(rate(16, 0), 0.0, "what is older than the window does not count");
    }

    #[test]
    fn every_figure_finds_its_place() {
        let stats = Stats::default();
        let set = |measurement: &str, tags: &[(&'static str, &str)], field, value| {
            stats.count(&StatSeries::new(measurement, tags), field).set(value);
        };
        let input = StatSeries::new("gather", &[("input", "mem")]);
        stats.mean_time(&input, "gather_time_ns").record(Duration::from_micros(250));
        stats.count(&input, "errors").increment();
        set("write", &[("output", "file")], "buffer_size", 7);
        set("write", &[("output", "file")], "buffer_limit", 100);
        set("write", &[("output", "file")], "metrics_written", 20);
        set("write", &[("output", "file")], "metrics_dropped", 5);
        set("write", &[("output", "file")], "errors", 1);
        set("write", &[("output", "file")], "write_errors", 2);
        set("cardinality_measurement", &[("measurement", "cpu")], "series", 3);
        set("cardinality_measurement", &[("measurement", "cpu")], "max_series", 1000);
        set("cardinality_measurement", &[("measurement", "climate")], "series", 9);
        set("cardinality_measurement", &[("measurement", "climate")], "max_series", 10);
        set("cardinality", &[], "metrics_folded", 4);
        set("cardinality", &[], "metrics_dropped", 2);
        set("mqtt_consumer", &[], "messages_received", 30);
        set("parse_problems", &[("input", "a"), ("reason", "x")], "problems", 1);
        set("parse_problems", &[("input", "a"), ("reason", "y")], "problems", 2);
        let frame = Figures::new(stats).frame(Duration::from_secs(2), 40);
        expect![[r#"
            [
                InputFigures {
                    name: "mem",
                    metrics: 0.0,
                    gather: Some(
                        250µs,
                    ),
                    errors: 1,
                },
            ]
        "#]]
        .assert_debug_eq(&frame.inputs);
        expect![[r#"
            [
                OutputFigures {
                    name: "file",
                    metrics: 10.0,
                    backlog: 7,
                    limit: 100,
                    dropped: 5,
                    errors: 3,
                },
            ]
        "#]]
        .assert_debug_eq(&frame.outputs);
        let budgets: Vec<_> = frame.budgets.iter().map(|b| (b.measurement.as_str(), b.series, b.limit)).collect();
        assert_eq!(budgets, [("climate", 9, 10), ("cpu", 3, 1000)]);
        assert_eq!((frame.folded, frame.dropped), (2.0, 1.0));
        let DeviceFigures { sent, received, unreadable, .. } = frame.devices;
        assert_eq!((sent, received, unreadable), (20.0, 15.0, 3));
    }
}
