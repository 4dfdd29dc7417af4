//! Where an input puts its metrics.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::error::BoxError;
use crate::model::{Batch, Field, Interner, Key, Kind, Origin, SeriesBuilder, SeriesRef, Value};
use crate::parse::{ParseOutput, ParseProblem, Parser};
use crate::stage::{InputRules, InputStage};
use crate::states::States;
use crate::stats::Count;
use crate::throttle::Throttle;

/// Most metrics in a batch that is handed on.
pub const BATCH_METRICS: usize = 500;

/// Collects what an input finds and hands it on in batches.
///
/// [`Self::flush`] applies the input's filters, names, tags and precision, and waits while the pipeline is full: that is
/// the back-pressure. Gathering inputs need not call it, the agent does after each gather.
pub struct Accumulator {
    batch: Batch,
    interner: Interner,
    stage: InputStage,
    clock: Clock,
    sink: mpsc::Sender<Batch>,
    plugin: Arc<str>,
    gathered: Vec<Count>,
    // Scratch of the metric under construction.
    builder: SeriesBuilder,
    fields: Vec<Field>,
    throttle: Throttle,
    problems: u64,
    time_override: Option<i64>,
    delivery: Option<Delivery>,
    states: States,
}

/// How an input learns what is safe.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Index of the input in the running pipeline, as in [`Origin::input`].
    pub input: u32,
    /// The newest message up to which all is safe.
    pub watermark: watch::Receiver<u64>,
    /// Asks for it to move as soon as it can.
    pub hurry: Hurry,
}

/// Tells whoever makes messages safe that somebody waits for it, and that it is no use to wait for more of them.
#[derive(Clone)]
pub struct Hurry {
    ask: Arc<dyn Fn(u64) + Send + Sync>,
    is_cheap: bool,
}

impl Hurry {
    /// Asks by calling this with the number of a message. It is cheap if it costs no more than a commit of the journal, and
    /// not if outputs write for it.
    pub fn new(is_cheap: bool, ask: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), is_cheap }
    }

    /// Asks for the watermark to reach this message.
    pub fn ask(&self, message: u64) {
        (self.ask)(message);
    }

    /// Whether it may be asked on suspicion.
    pub fn is_cheap(&self) -> bool {
        self.is_cheap
    }
}

impl std::fmt::Debug for Hurry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hurry")
    }
}

impl std::fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accumulator")
            .field("plugin", &self.plugin)
            .field("batch", &self.batch.len())
            .finish_non_exhaustive()
    }
}

impl Accumulator {
    /// An accumulator for one input; `gathered` counts the metrics that pass its filters.
    pub fn new(
        rules: Arc<InputRules>,
        precision: i64,
        clock: Clock,
        sink: mpsc::Sender<Batch>,
        gathered: Vec<Count>,
    ) -> Self {
        Self {
            batch: Batch::new(),
            interner: Interner::default(),
            plugin: rules.plugin.clone(),
            stage: InputStage::new(rules, precision),
            clock,
            sink,
            gathered,
            builder: SeriesBuilder::new(),
            fields: Vec::new(),
            throttle: Throttle::new(),
            problems: 0,
            time_override: None,
            delivery: None,
            states: States::default(),
        }
    }

    /// Lets the input ask for a watermark.
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// The watermark of this input, for those that acknowledge what is safe; `None` where nothing is ever delivered
    /// (`--test`).
    pub fn delivery(&self) -> Option<Delivery> {
        self.delivery.clone()
    }

    /// Lets the input keep a state beyond its own life.
    pub fn with_states(mut self, states: States) -> Self {
        self.states = states;
        self
    }

    /// What inputs want to know again after a reload or a restart.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Starts a metric: tags and fields follow, [`MetricBuilder::push`] adds it.
    pub fn metric(&mut self, measurement: impl AsRef<[u8]>, kind: Kind) -> MetricBuilder<'_> {
        self.builder.start(measurement.as_ref());
        self.fields.clear();
        MetricBuilder { accumulator: self, kind, time: None }
    }

    /// The metrics not handed on yet, and the interner for more: for inputs on the hot path.
    pub fn batch(&mut self) -> (&mut Batch, &mut Interner) {
        (&mut self.batch, &mut self.interner)
    }

    /// Metrics not handed on yet.
    pub fn pending(&self) -> usize {
        self.batch.len()
    }

    /// Parses a payload into the batch. Returns how many metrics it gave, and what could not be read.
    pub fn parse(&mut self, parser: &mut dyn Parser, payload: &[u8]) -> (usize, Vec<ParseProblem>) {
        let before = self.batch.len();
        let mut out = ParseOutput::new(&mut self.batch, &mut self.interner, self.clock.now());
        parser.parse(payload, &mut out);
        let (problems, _) = out.into_problems();
        (self.batch.len() - before, problems)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The input's full name, for its log lines.
    pub fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Reports a part of a gather, or a message, that failed; the rest goes on.
    pub fn problem(&mut self, error: impl std::fmt::Display) {
        self.problems += 1;
        tracing::error!(plugin = &*self.plugin, error = %error, "error in plugin");
    }

    /// As [`Self::problem`], for what can happen once a message: logged at once, then at most once a minute.
    pub fn frequent_problem(&mut self, error: impl std::fmt::Display) {
        self.problems += 1;
        if let Some(suppressed) = self.throttle.admit() {
            tracing::error!(plugin = &*self.plugin, suppressed, error = %error, "error in plugin");
        }
    }

    /// How many problems were reported since the last call.
    pub fn take_problems(&mut self) -> u64 {
        std::mem::take(&mut self.problems)
    }

    /// Gives all metrics of the next flushes this time (`time_source`), in nanoseconds; `None` leaves them theirs.
    pub fn set_time(&mut self, time: Option<i64>) {
        self.time_override = time;
    }

    /// Throws away what was not handed on: what a gather leaves that was cut off in its middle.
    pub fn discard(&mut self) {
        self.batch.clear();
    }

    /// What the input's filters, names and tags make of a series, for inputs that remember it with what they know of the
    /// series anyway (a topic); `None` if it is not selected. See [`Self::resolves`].
    pub fn resolve(&mut self, series: &SeriesRef) -> Option<SeriesRef> {
        self.stage.resolve(series, &mut self.interner)
    }

    /// Whether [`Self::resolve`] can decide by the series alone. An input that resolves all series of a batch hands it
    /// on with [`Self::flush_resolved`].
    pub fn resolves(&self) -> bool {
        self.stage.decides_by_series()
    }

    /// Hands the metrics on. Fails only when the pipeline is gone.
    pub async fn flush(&mut self) -> Result<(), BoxError> {
        self.flush_with(None).await
    }

    /// As [`Self::flush_with`], for metrics whose series are resolved.
    pub async fn flush_resolved(&mut self, origin: Option<Origin>) -> Result<(), BoxError> {
        self.stage.apply_resolved(&mut self.batch);
        self.hand_on(origin).await
    }

    /// Hands the metrics on and tells up to which message of the input they reach; goes on even without a metric.
    pub async fn flush_with(&mut self, origin: Option<Origin>) -> Result<(), BoxError> {
        self.stage.apply(&mut self.batch, &mut self.interner, self.clock.now());
        self.hand_on(origin).await
    }

    async fn hand_on(&mut self, origin: Option<Origin>) -> Result<(), BoxError> {
        if let Some(time) = self.time_override {
            self.batch.for_each_mut(|metric| metric.set_time(time));
        }
        self.gathered.iter().for_each(|count| count.add(self.batch.len()));
        self.batch.origin = origin;
        if self.batch.is_empty() && origin.is_none() {
            self.batch.clear();
            return Ok(());
        }
        let (metrics, fields) = (self.batch.len(), self.batch.field_count());
        let mut batch = std::mem::replace(
            &mut self.batch,
            Batch::with_capacity(metrics.min(BATCH_METRICS), fields.min(8 * BATCH_METRICS)),
        );
        if batch.len() <= BATCH_METRICS {
            return self.send(batch).await;
        }
        // From the back: what is cut off is moved, and a file of a million lines must not be moved a thousand times.
        let mut parts = Vec::new();
        while batch.len() > BATCH_METRICS {
            let last = (batch.len() - 1) / BATCH_METRICS * BATCH_METRICS;
            parts.push(batch.split_off(last));
        }
        // What is left has room for all, and is moved as well.
        parts.push(batch.split_off(0));
        for part in parts.into_iter().rev() {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&self, batch: Batch) -> Result<(), BoxError> {
        self.sink.send(batch).await.map_err(|_| "the pipeline has ended".into())
    }
}

/// A metric under construction.
#[derive(Debug)]
pub struct MetricBuilder<'a> {
    accumulator: &'a mut Accumulator,
    kind: Kind,
    time: Option<i64>,
}

impl MetricBuilder<'_> {
    /// Sets a tag.
    pub fn tag(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.accumulator.builder.set_tag(key.as_ref(), value.as_ref());
        self
    }

    /// Adds a field; of two with one key the later wins.
    pub fn field(self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        let (key, value) = (key.into(), value.into());
        match self.accumulator.fields.iter_mut().find(|field| field.key == key) {
            Some(field) => field.value = value,
            None => self.accumulator.fields.push(Field { key, value }),
        }
        self
    }

    /// Adds fields; of two with one key the later wins.
    pub fn fields<K: Into<Key>, V: Into<Value>>(self, fields: impl IntoIterator<Item = (K, V)>) -> Self {
        fields.into_iter().fold(self, |metric, (key, value)| metric.field(key, value))
    }

    /// Sets the time, in nanoseconds since the Unix epoch; without it the metric gets the time of [`Self::push`].
    pub fn time(mut self, time: i64) -> Self {
        self.time = Some(time);
        self
    }

    /// Adds the metric.
    pub fn push(self) {
        let Accumulator { batch, interner, builder, fields, clock, .. } = self.accumulator;
        let series = interner.intern(builder);
        batch.push(series, self.time.unwrap_or_else(|| clock.now()), self.kind, fields.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_too_much_for_a_batch_goes_on_in_order() {
        for count in [1, BATCH_METRICS, BATCH_METRICS + 1, 3 * BATCH_METRICS, 3 * BATCH_METRICS + 7] {
            let (sink, mut batches) = mpsc::channel(10);
            let mut accumulator = Accumulator::new(Arc::default(), 1, Clock::manual(0), sink, Vec::new());
            for number in 0..count {
                accumulator.metric("m", Kind::Untyped).field("n", number as i64).time(number as i64).push();
            }
            let origin = Origin { input: 0, message: 7 };
            accumulator.flush_with(Some(origin)).await.unwrap();
            drop(accumulator);
            let mut next = 0;
            while let Some(batch) = batches.recv().await {
                assert!(batch.len() <= BATCH_METRICS && batch.field_count() <= BATCH_METRICS);
                for metric in batch.iter() {
                    assert_eq!((metric.time, metric.field(b"n")), (next, Some(&Value::Int(next))));
                    next += 1;
                }
                assert_eq!(batch.origin, (next == count as i64).then_some(origin), "the last one reaches that far");
            }
            assert_eq!(next, count as i64);
        }
    }
}
