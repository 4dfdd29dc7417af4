//! From messages to metrics: parse, name, hand on, and tell what may be acknowledged.

use std::borrow::Cow;
use std::sync::Arc;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::memo::FingerprintHasher;
use heliograph_core::model::{Interner, Key, Origin, SeriesRef, Value};
use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::stats::{Count, StatSeries, Stats};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use tokio::sync::mpsc;

use super::acknowledge::Acknowledge;
use super::client::Message;
use super::config::{Retained, Settings};
use super::connection::Lot;
use super::label::Labels;
use super::topic::{filter_matches, shared_group};

/// Metrics after which a batch goes on even if more messages wait.
const BATCH: usize = 256;
/// Topics remembered; a broker that invents topics starts the memory anew.
const TOPICS: usize = 65_536;

/// The handler's state.
pub struct Consumer {
    settings: Arc<Settings>,
    parser: Box<dyn Parser>,
    accumulator: Accumulator,
    /// By the seeded hash of the topic: 64 bits tell all topics apart, and nobody outside knows the seed.
    topics: HashMap<u64, Topic, BuildHasherDefault<FingerprintHasher>>,
    hasher: foldhash::fast::RandomState,
    /// Whether a series alone decides if its metrics are selected.
    resolves: bool,
    stats: ConsumerStats,
    /// Number of the newest message.
    message: u64,
    acknowledge: Option<Acknowledge>,
}

/// What a topic means, worked out once. Small, since with ten thousand devices each message finds another one, and none
/// of them in the cache of the processor.
#[derive(Default)]
struct Topic {
    /// The first series of the parser, and what topic and filters make of it; most topics only ever see one.
    first: Option<Named>,
    /// What only few topics have.
    extra: Option<Box<Extra>>,
}

/// A series as the parser gives it, and as it goes on; nothing, if it is not selected.
struct Named(SeriesRef, Option<SeriesRef>);

#[derive(Default)]
struct Extra {
    /// Copies of each message beside the first: one for every further filter that matches.
    copies: usize,
    /// Fields that the topic gives.
    fields: Vec<(Key, Value)>,
    /// Why it cannot give them.
    error: Option<String>,
    /// Further series, the newest last.
    others: Vec<Named>,
}

/// Series remembered of one topic besides its first; one that invents them does not remember them all.
const OTHERS: usize = 16;

/// Counters: the consumer's own, and what could not be read by reason.
pub struct ConsumerStats {
    received: Count,
    payload_size: Count,
    retained_dropped: Count,
    stats: Stats,
    input: String,
    reasons: HashMap<&'static str, Count>,
}

impl ConsumerStats {
    pub fn new(stats: &Stats, input: &str) -> Self {
        let series = StatSeries::new("mqtt_consumer", &[]);
        Self {
            received: stats.count(&series, "messages_received"),
            payload_size: stats.count(&series, "payload_size"),
            retained_dropped: stats.count(&series, "retained_dropped"),
            stats: stats.clone(),
            input: input.to_string(),
            reasons: HashMap::new(),
        }
    }

    /// Connections after the first.
    pub fn reconnects(stats: &Stats) -> Count {
        stats.count(&StatSeries::new("mqtt_consumer", &[]), "reconnects")
    }

    /// Messages that the agent was too slow for.
    pub fn overload(stats: &Stats, input: &str) -> Count {
        stats.count(&StatSeries::new("parse_problems", &[("input", input), ("reason", "overload")]), "problems")
    }

    /// Counts something that could not be read.
    pub fn refused(&mut self, reason: &'static str) {
        let Self { stats, input, reasons, .. } = self;
        let count = reasons.entry(reason).or_insert_with(|| {
            stats.count(&StatSeries::new("parse_problems", &[("input", input), ("reason", reason)]), "problems")
        });
        count.increment();
    }
}

impl Consumer {
    /// A handler; with `acknowledge`, messages are acknowledged once they are safe.
    pub fn new(
        settings: Arc<Settings>,
        parser: Box<dyn Parser>,
        accumulator: Accumulator,
        stats: ConsumerStats,
        acknowledge: Option<Acknowledge>,
    ) -> Self {
        let resolves = accumulator.resolves();
        let (topics, hasher) = (HashMap::default(), Default::default());
        Self { settings, parser, accumulator, topics, hasher, resolves, stats, message: 0, acknowledge }
    }

    /// Handles messages until the connections are gone; then hands on the rest.
    pub async fn run(mut self, mut lots: mpsc::Receiver<Lot>) {
        while let Some(lot) = next(&mut lots, self.acknowledge.as_mut()).await {
            if let Err(error) = self.handle(lot).await {
                tracing::error!(plugin = &**self.accumulator.plugin(), error = %error, "giving up");
                return;
            }
        }
    }

    async fn handle(&mut self, lot: Lot) -> Result<(), BoxError> {
        // One reading of the clock a lot, a nanosecond more for each message: times stay unique and in order, as with a
        // reading per message, which would cost as much as parsing a small payload.
        let mut now = self.accumulator.now();
        self.stats.received.add(lot.messages.len());
        self.stats.payload_size.add(lot.messages.iter().map(|message| message.payload.len()).sum());
        let Lot { connection, epoch, messages } = lot;
        for message in messages {
            self.message += 1;
            now += 1;
            self.message(&message, now);
            if let Some(acknowledge) = &mut self.acknowledge {
                acknowledge.note(connection, epoch, self.message, &message);
            }
            if self.accumulator.pending() >= BATCH {
                self.flush().await?;
            }
        }
        self.flush().await?;
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.handed_on(connection, epoch);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BoxError> {
        let message = self.message;
        let origin = self.acknowledge.as_ref().map(|a| Origin { input: a.delivery.input, message });
        match self.resolves {
            true => self.accumulator.flush_resolved(origin).await?,
            false => self.accumulator.flush_with(origin).await?,
        }
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.make_room(message).await;
        }
        Ok(())
    }

    /// Parses a message and names its metrics after its topic.
    fn message(&mut self, message: &Message, now: i64) {
        if message.retain && self.settings.options.retained == Retained::Drop {
            return self.stats.retained_dropped.increment();
        }
        let Self { settings, parser, accumulator, topics, hasher, resolves, stats, .. } = self;
        let labels = Labels::of(settings, message);
        let hash = labels.hash(hasher, &message.topic);
        if topics.len() >= TOPICS && !topics.contains_key(&hash) {
            topics.clear();
        }
        let topic = topics.entry(hash).or_insert_with(|| Topic::new(settings, &message.topic));
        let copies = topic.extra.as_ref().map_or(0, |extra| extra.copies);
        for _ in 0..=copies {
            let (batch, interner) = accumulator.batch();
            let before = batch.len();
            let mut out = ParseOutput::new(batch, interner, now);
            parser.parse(&message.payload, &mut out);
            if !out.is_clean() {
                let (problems, _) = out.into_problems();
                for problem in problems {
                    stats.refused(problem.reason);
                    accumulator.frequent_problem(format_args!("topic {:?}: {problem}", text(&message.topic)));
                }
            }
            if accumulator.pending() == before {
                continue;
            }
            if let Err(error) = topic.apply(settings, &message.topic, &labels, accumulator, before, *resolves) {
                accumulator.batch().0.truncate(before);
                stats.refused("topic");
                accumulator.frequent_problem(format_args!("topic {:?}: {error}", text(&message.topic)));
            } else if labels.has_properties() {
                labels.apply(&message.topic, accumulator, before, stats);
            }
        }
    }
}

/// The next lot; none comes after the end of all connections.
async fn next(lots: &mut mpsc::Receiver<Lot>, acknowledge: Option<&mut Acknowledge>) -> Option<Lot> {
    let Some(acknowledge) = acknowledge else { return lots.recv().await };
    tokio::select! {
        biased;
        lot = lots.recv() => lot,
        never = acknowledge.hurry_on() => match never {},
    }
}

/// A topic as text: brokers see to it that it is UTF-8.
pub(super) fn text(topic: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(topic)
}

impl Topic {
    fn new(settings: &Settings, topic: &[u8]) -> Self {
        let topic = &*text(topic);
        // Of filters that overlap a broker makes one message, but each shared group gets a message of its own.
        let matching = settings.filters.iter().filter(|filter| shared_group(filter).is_none());
        let matching = matching.filter(|filter| filter_matches(filter, topic)).count();
        let mut extra = Extra { copies: matching.saturating_sub(1), ..Extra::default() };
        let outcome = settings.topic_parsing.iter().try_for_each(|entry| entry.add_fields(topic, &mut extra.fields));
        extra.error = outcome.err().map(|error| error.to_string());
        let plain = extra.copies == 0 && extra.fields.is_empty() && extra.error.is_none();
        Self { first: None, extra: (!plain).then(|| Box::new(extra)) }
    }

    /// Puts topic tag, names, tags and fields on the metrics from index `first` on; with `resolve` also what the input's
    /// filters, names and tags make of the series, and takes out what they do not select.
    fn apply(
        &mut self,
        settings: &Settings,
        topic: &[u8],
        labels: &Labels<'_>,
        accumulator: &mut Accumulator,
        first: usize,
        resolve: bool,
    ) -> Result<(), String> {
        if let Some(error) = self.extra.as_ref().and_then(|extra| extra.error.clone()) {
            return Err(error);
        }
        let mut index = first;
        while index < accumulator.pending() {
            let parsed = accumulator.batch().0.get(index).series;
            if !self.knows(parsed) {
                let parsed = parsed.clone();
                let named = name_series(settings, topic, labels, &parsed, accumulator.batch().1);
                let named = if resolve { accumulator.resolve(&named) } else { Some(named) };
                self.learn(Named(parsed, named));
            }
            let batch = accumulator.batch().0;
            let Some(named) = self.name(batch.get(index).series) else {
                batch.remove(index);
                continue;
            };
            let mut metric = batch.get_mut(index);
            metric.set_series(named.clone());
            if let Some(extra) = &self.extra {
                extra.fields.iter().for_each(|(key, value)| metric.set_field(key.clone(), value.clone()));
            }
            index += 1;
        }
        Ok(())
    }

    fn find(&self, parsed: &SeriesRef) -> Option<&Named> {
        let others = self.extra.iter().flat_map(|extra| &extra.others);
        self.first.iter().chain(others).find(|Named(known, _)| Arc::ptr_eq(known, parsed))
    }

    fn knows(&self, parsed: &SeriesRef) -> bool {
        self.find(parsed).is_some()
    }

    fn name(&self, parsed: &SeriesRef) -> Option<&SeriesRef> {
        self.find(parsed)?.1.as_ref()
    }

    fn learn(&mut self, named: Named) {
        if self.first.is_none() {
            self.first = Some(named);
            return;
        }
        let others = &mut self.extra.get_or_insert_default().others;
        if others.len() >= OTHERS {
            others.remove(0);
        }
        others.push(named);
    }
}

fn name_series(
    settings: &Settings,
    topic: &[u8],
    labels: &Labels<'_>,
    parsed: &SeriesRef,
    interner: &mut Interner,
) -> SeriesRef {
    interner.edit(parsed, |builder| {
        labels.name_series(builder);
        let tag = settings.options.topic_tag.as_bytes();
        if !tag.is_empty() {
            builder.set_tag(tag, topic);
        }
        settings.topic_parsing.iter().for_each(|entry| entry.name_series(&text(topic), builder));
    })
}
