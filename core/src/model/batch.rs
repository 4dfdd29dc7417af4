//! Batches: the unit that moves through the agent.

use std::ops::Range;
use std::sync::Arc;

use super::{Field, Key, Series, SeriesRef, Value};

/// What the values of a metric mean; one per metric, not per field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not said.
    #[default]
    Untyped,
    /// Only grows, but for restarts.
    Counter,
    /// A level.
    Gauge,
    /// Quantiles with sum and count.
    Summary,
    /// Buckets with sum and count.
    Histogram,
}

/// Where a batch comes from, and up to which message of that input it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the input in the running pipeline.
    pub input: u32,
    /// Everything of the input up to this message number is in this batch or in an earlier one.
    pub message: u64,
}

/// Up to some hundred metrics, stored without a heap block of their own each.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    heads: Vec<Head>,
    /// The fields of all metrics; a head names its range. Metrics that grew leave holes behind.
    fields: Vec<Field>,
    /// Set by inputs that acknowledge what is safe; passes even if no metric is left.
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug)]
struct Head {
    series: SeriesRef,
    time: i64,
    kind: Kind,
    start: u32,
    len: u32,
}

impl Head {
    #[inline]
    fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// A metric as outputs, serializers and aggregators see it.
#[derive(Clone, Copy, Debug)]
pub struct MetricRef<'a> {
    /// Measurement and tags.
    pub series: &'a SeriesRef,
    /// Nanoseconds since the Unix epoch.
    pub time: i64,
    /// What the values mean.
    pub kind: Kind,
    /// Never two of one key.
    pub fields: &'a [Field],
}

impl<'a> MetricRef<'a> {
    /// The value of the field of this key.
    pub fn field(&self, key: &[u8]) -> Option<&'a Value> {
        self.fields.iter().find(|field| field.key.as_bytes() == key).map(|field| &field.value)
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for this many metrics and fields.
    pub fn with_capacity(metrics: usize, fields: usize) -> Self {
        Self { heads: Vec::with_capacity(metrics), fields: Vec::with_capacity(fields), origin: None }
    }

    /// Number of metrics.
    #[inline]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there is no metric (there may still be an origin).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Number of fields of all metrics, holes included: what a batch like this one needs room for.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// Forgets metrics and origin, keeps the memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.fields.clear();
        self.origin = None;
    }

    /// Starts a metric without fields; the fields pushed next are its own.
    #[inline]
    pub fn start(&mut self, series: SeriesRef, time: i64, kind: Kind) {
        let start = self.fields.len() as u32;
        self.heads.push(Head { series, time, kind, start, len: 0 });
    }

    /// Adds a field to the metric started last. The caller sees to it that keys are unique; where data decides,
    /// [`Self::set_field`] does.
    #[inline]
    pub fn push_field(&mut self, key: Key, value: Value) {
        let head = self.heads.last_mut().expect("start comes before push_field");
        debug_assert_eq!(head.range().end, self.fields.len(), "the metric started last ends the batch");
        head.len += 1;
        self.fields.push(Field { key, value });
    }

    /// Sets a field of the metric started last, replacing the value of an equal key.
    pub fn set_field(&mut self, key: Key, value: Value) {
        let head = self.heads.last().expect("start comes before set_field");
        match self.fields[head.range()].iter_mut().find(|field| field.key == key) {
            Some(field) => field.value = value,
            None => self.push_field(key, value),
        }
    }

    /// Adds a whole metric.
    pub fn push(&mut self, series: SeriesRef, time: i64, kind: Kind, fields: impl IntoIterator<Item = Field>) {
        self.start(series, time, kind);
        fields.into_iter().for_each(|field| self.push_field(field.key, field.value));
    }

    /// Adds a copy of a metric of another batch.
    #[inline]
    pub fn push_copy(&mut self, metric: MetricRef<'_>) {
        self.start(metric.series.clone(), metric.time, metric.kind);
        self.fields.extend_from_slice(metric.fields);
        self.heads.last_mut().expect("just started").len = metric.fields.len() as u32;
    }

    /// Moves all metrics of `other` behind those of this batch; the origins stay as they are.
    pub fn append(&mut self, other: &mut Self) {
        let shift = self.fields.len() as u32;
        self.heads.extend(other.heads.drain(..).map(|mut head| {
            head.start += shift;
            head
        }));
        self.fields.append(&mut other.fields);
    }

    /// Takes the metrics back that came after the first `len`: what a parser does with a half-read document.
    pub fn truncate(&mut self, len: usize) {
        if len < self.heads.len() {
            self.fields.truncate(self.heads[len..].iter().map(|head| head.start as usize).min().unwrap_or(0));
            self.heads.truncate(len);
        }
    }

    /// Moves the metrics from index `at` on into a batch of their own, which gets the origin.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut rest = Self { origin: self.origin.take(), ..Self::default() };
        for head in self.heads.split_off(at.min(self.heads.len())) {
            let range = head.range();
            rest.start(head.series, head.time, head.kind);
            self.fields[range].iter_mut().for_each(|field| {
                let field = std::mem::replace(field, hole());
                rest.push_field(field.key, field.value);
            });
        }
        rest
    }

    /// The metrics.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MetricRef<'_>> + Clone {
        self.heads.iter().map(|head| self.view(head))
    }

    /// The metric of this index.
    #[inline]
    pub fn get(&self, index: usize) -> MetricRef<'_> {
        self.view(&self.heads[index])
    }

    /// The metric of this index, to be changed in place.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> MetricMut<'_> {
        MetricMut { head: &mut self.heads[index], fields: &mut self.fields }
    }

    /// Takes the metric of this index out; its fields leave a hole.
    pub fn remove(&mut self, index: usize) {
        let head = self.heads.remove(index);
        self.fields[head.range()].fill(hole());
    }

    /// The metrics, to be changed in place.
    #[inline]
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut MetricMut<'_>)) {
        self.for_each_from(0, &mut change);
    }

    /// The metrics from index `first` on, to be changed in place.
    pub fn for_each_from(&mut self, first: usize, mut change: impl FnMut(&mut MetricMut<'_>)) {
        for index in first..self.heads.len() {
            change(&mut self.get_mut(index));
        }
    }

    /// Changes metrics in place and keeps those for which `keep` holds.
    #[inline]
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut MetricMut<'_>) -> bool) {
        let fields = &mut self.fields;
        self.heads.retain_mut(|head| keep(&mut MetricMut { head, fields }));
    }

    #[inline]
    fn view<'a>(&'a self, head: &'a Head) -> MetricRef<'a> {
        MetricRef { series: &head.series, time: head.time, kind: head.kind, fields: &self.fields[head.range()] }
    }
}

/// What stands where a field has moved away.
fn hole() -> Field {
    Field { key: Key::fixed(""), value: Value::Bool(false) }
}

/// A metric that can be changed in place.
#[derive(Debug)]
pub struct MetricMut<'a> {
    head: &'a mut Head,
    fields: &'a mut Vec<Field>,
}

impl MetricMut<'_> {
    /// The metric as it is now.
    #[inline]
    pub fn view(&self) -> MetricRef<'_> {
        MetricRef {
            series: &self.head.series,
            time: self.head.time,
            kind: self.head.kind,
            fields: &self.fields[self.head.range()],
        }
    }

    /// Measurement and tags.
    #[inline]
    pub fn series(&self) -> &SeriesRef {
        &self.head.series
    }

    /// The measurement.
    pub fn name(&self) -> &[u8] {
        Series::name(&self.head.series)
    }

    /// Replaces measurement and tags; the new series comes from [`Interner::edit`](super::Interner::edit).
    #[inline]
    pub fn set_series(&mut self, series: SeriesRef) {
        self.head.series = series;
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub fn time(&self) -> i64 {
        self.head.time
    }

    /// Replaces the time, in nanoseconds since the Unix epoch.
    #[inline]
    pub fn set_time(&mut self, time: i64) {
        self.head.time = time;
    }

    /// Replaces the kind.
    pub fn set_kind(&mut self, kind: Kind) {
        self.head.kind = kind;
    }

    /// The fields; keys are to stay unique.
    #[inline]
    pub fn fields_mut(&mut self) -> &mut [Field] {
        &mut self.fields[self.head.range()]
    }

    /// Sets a field, replacing the value of an equal key.
    pub fn set_field(&mut self, key: Key, value: Value) {
        if let Some(field) = self.fields_mut().iter_mut().find(|field| field.key == key) {
            field.value = value;
            return;
        }
        if self.head.range().end != self.fields.len() {
            let start = self.fields.len() as u32;
            for i in self.head.range() {
                let field = std::mem::replace(&mut self.fields[i], hole());
                self.fields.push(field);
            }
            self.head.start = start;
        }
        self.fields.push(Field { key, value });
        self.head.len += 1;
    }

    /// Takes a field out.
    pub fn remove_field(&mut self, key: &[u8]) -> Option<Value> {
        let at = self.view().fields.iter().position(|field| field.key.as_bytes() == key)?;
        let fields = self.fields_mut();
        fields[at..].rotate_left(1);
        let last = fields.last_mut().expect("position found one");
        let removed = std::mem::replace(last, hole());
        self.head.len -= 1;
        Some(removed.value)
    }

    /// Keeps the fields for which `keep` holds; tells whether any is left.
    #[inline]
    pub fn retain_fields(&mut self, mut keep: impl FnMut(&mut Field) -> bool) -> bool {
        let fields = self.fields_mut();
        let mut kept = 0;
        for i in 0..fields.len() {
            if keep(&mut fields[i]) {
                fields.swap(kept, i);
                kept += 1;
            }
        }
        fields[kept..].iter_mut().for_each(|field| *field = hole());
        self.head.len = kept as u32;
        kept > 0
    }
}

/// What an output is asked to write: a run of metrics out of one or more batches, none of them copied.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    parts: Vec<(Arc<Batch>, Range<usize>)>,
    len: usize,
}

impl WriteBatch {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range of a batch's metrics.
    pub fn push(&mut self, batch: Arc<Batch>, range: Range<usize>) {
        self.len += range.len();
        self.parts.push((batch, range));
    }

    /// Number of metrics.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The metrics of these indices, none of them copied.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = Self::new();
        let mut at = 0;
        for (batch, part) in &self.parts {
            let (start, end) = (range.start.max(at), range.end.min(at + part.len()));
            if start < end {
                slice.push(batch.clone(), part.start + start - at..part.start + end - at);
            }
            at += part.len();
        }
        slice
    }

    /// The batches and the ranges of their metrics, in order.
    pub fn into_parts(self) -> Vec<(Arc<Batch>, Range<usize>)> {
        self.parts
    }

    /// The metrics, in order.
    pub fn iter(&self) -> impl Iterator<Item = MetricRef<'_>> + Clone {
        self.parts.iter().flat_map(|(batch, range)| range.clone().map(|i| batch.get(i)))
    }
}

/// A batch alone.
impl From<Batch> for WriteBatch {
    fn from(batch: Batch) -> Self {
        let mut write = Self::new();
        let len = batch.len();
        write.push(Arc::new(batch), 0..len);
        write
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeriesBuilder;

    fn field(key: &'static str, value: i64) -> Field {
        Field { key: Key::fixed(key), value: Value::Int(value) }
    }

    fn batch() -> Batch {
        let mut batch = Batch::new();
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            let series = SeriesBuilder::new().start(name.as_bytes()).build();
            batch.push(series, i as i64, Kind::Untyped, [field("x", 1), field("y", 2), field("z", 3)]);
        }
        batch
    }

    fn show(batch: &Batch) -> String {
        let metric = |m: MetricRef<'_>| {
            let fields: Vec<String> = m.fields.iter().map(|f| format!("{}={:?}", f.key, f.value)).collect();
            format!("{} {}", m.series, fields.join(",").replace("Int(", "").replace(')', ""))
        };
        batch.iter().map(metric).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn growing_a_metric_in_the_middle_leaves_its_neighbours_alone() {
        let mut batch = batch();
        let mut n = 0;
        batch.for_each_mut(|metric| {
            n += 1;
            if n == 2 {
                metric.set_field(Key::fixed("w"), Value::Int(9));
                metric.set_field(Key::fixed("x"), Value::Int(8));
            }
        });
        assert_eq!(show(&batch), "a x=1,y=2,z=3; b x=8,y=2,z=3,w=9; c x=1,y=2,z=3");
    }

    #[test]
    fn removing_keeps_the_order_of_the_rest() {
        let mut batch = batch();
        batch.for_each_mut(|metric| assert_eq!(metric.remove_field(b"x"), Some(Value::Int(1))));
        batch.retain_mut(|metric| metric.retain_fields(|field| field.key.as_bytes() == b"z"));
        assert_eq!(show(&batch), "a z=3; b z=3; c z=3");
    }

    #[test]
    fn a_metric_without_fields_can_be_dropped() {
        let mut batch = batch();
        batch.retain_mut(|metric| metric.name() != b"b" && metric.retain_fields(|_| true));
        assert_eq!(show(&batch), "a x=1,y=2,z=3; c x=1,y=2,z=3");
    }

    #[test]
    fn split_and_append_give_the_whole_again() {
        let mut first = batch();
        first.origin = Some(Origin { input: 1, message: 7 });
        let whole = show(&first);
        let mut rest = first.split_off(1);
        assert_eq!((first.len(), rest.len(), first.origin.is_none(), rest.origin.is_some()), (1, 2, true, true));
        first.append(&mut rest);
        assert_eq!(show(&first), whole);
    }

    #[test]
    fn a_slice_reaches_over_batches() {
        let mut write = WriteBatch::new();
        write.push(Arc::new(batch()), 1..3);
        write.push(Arc::new(batch()), 0..2);
        let names = |range| write.slice(range).iter().map(|m| m.series.to_string()).collect::<String>();
        assert_eq!([names(0..4), names(1..3), names(3..9), names(2..2)], ["bcab", "ca", "b", ""]);
        assert_eq!(write.slice(1..3).len(), 2);
    }

    #[test]
    fn truncate_takes_metrics_back() {
        let mut batch = batch();
        batch.truncate(1);
        batch.push(SeriesBuilder::new().start(b"d").build(), 0, Kind::Gauge, [field("v", 5)]);
        assert_eq!(show(&batch), "a x=1,y=2,z=3; d v=5");
    }

    #[test]
    fn a_write_batch_walks_its_parts() {
        let shared = Arc::new(batch());
        let mut write = WriteBatch::new();
        write.push(shared.clone(), 2..3);
        write.push(shared, 0..2);
        let names: Vec<_> = write.iter().map(|m| m.series.to_string()).collect();
        assert_eq!((write.len(), names.join("")), (3, "cab".to_string()));
    }
}
