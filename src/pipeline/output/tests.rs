//! An output that runs over a backend of a script: when it tries, and what becomes of the metrics.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use heliograph_core::error::WriteError;
use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value};

use super::*;
use crate::journal::Journal;
use crate::pipeline::stop;

/// Answers a write: the number of the attempt, from 1 on, and the times of the metrics.
type Answer = Box<dyn FnMut(usize, &[i64]) -> Result<(), WriteError> + Send>;

/// A backend that notes when it is written to, and answers as told.
struct Scripted {
    times: Arc<Mutex<Vec<Instant>>>,
    answer: Answer,
}

#[async_trait]
impl Output for Scripted {
    async fn connect(&mut self) -> Result<(), StartError> {
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        let attempt = {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.push(Instant::now());
            times.len()
        };
        let metrics: Vec<i64> = batch.iter().map(|metric| metric.time).collect();
        (self.answer)(attempt, &metrics)
    }
}

fn slot() -> OutputSlot {
    OutputSlot {
        name: "outputs.scripted".into(),
        id: "1".into(),
        carried: WriteBatch::new(),
        admit: Box::new(|batch| Some(batch.clone())),
        limit: 100,
        max_age: None,
        added: Count::default(),
        dropped: vec![],
        expired: Count::default(),
        size: Count::default(),
    }
}

fn plan(times: &Arc<Mutex<Vec<Instant>>>, answer: Answer) -> OutputPlan {
    let flush_interval = Duration::from_secs(10);
    OutputPlan {
        name: "outputs.scripted".into(),
        plugin: Box::new(Scripted { times: times.clone(), answer }),
        slot: slot(),
        flush_interval,
        flush_jitter: Duration::ZERO,
        batch_size: 10,
        retry: Policy::new(None, None, flush_interval),
        quarantine: None,
        startup_errors: StartupErrorBehavior::default(),
        stats: OutputStats::default(),
    }
}

fn batch(times: std::ops::Range<i64>) -> Batch {
    let mut batch = Batch::new();
    for time in times {
        batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped);
        batch.push_field(Key::fixed("v"), Value::Int(1));
    }
    batch
}

/// Seconds after the start at which writes were tried, with one metric that waits and a stop after `running` seconds.
async fn attempts(
    running: u64,
    answer: impl FnMut(usize, &[i64]) -> Result<(), WriteError> + Send + 'static,
) -> Vec<f64> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (slot, output) = plan(&times, Box::new(answer)).split(Connected::Yes);
    let (journal, mut readers) = Journal::start(None, vec![slot], 1).await.expect("nothing can fail in memory");
    journal.append(batch(0..1));
    let (stopper, stop) = stop::channel();
    let (_flush, flush_now) = watch::channel(0);
    let begin = Instant::now();
    let task = tokio::spawn(output(readers.remove(0)).run(stop, flush_now));
    tokio::time::sleep(Duration::from_secs(running)).await;
    stopper.stop();
    task.await.expect("the output ends");
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    times.iter().map(|time| time.duration_since(begin).as_secs_f64()).collect()
}

/// Asks for a minute and a half at the first attempt.
fn busy(attempt: usize, _: &[i64]) -> Result<(), WriteError> {
    match attempt {
        1 => Err(WriteError { retry_after: Some(Duration::from_secs(90)), ..WriteError::retry("busy") }),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_left_alone_for_as_long_as_it_asks() {
    assert_eq!(attempts(200, busy).await, [10.0, 100.0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_does_not_wait() {
    assert_eq!(attempts(55, busy).await, [10.0, 55.0]);
}

#[tokio::test(start_paused = true)]
async fn retries_come_soon_and_then_more_rarely() {
    let times = attempts(100, |attempt, _| if attempt < 8 { Err(WriteError::retry("away")) } else { Ok(()) }).await;
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((times[0], times.len()), (10.0, 8), "a success ends it");
    for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]) {
        // The runtime's timer counts milliseconds.
        assert!((longest / 2.0..=longest + 0.002).contains(pause), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_backlog_follows_at_once() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let (times, seen) = (Arc::default(), written.clone());
    let answer = move |attempt, metrics: &[i64]| match attempt {
        1 => Err(WriteError::retry("away")),
        _ => {
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(metrics);
            Ok(())
        }
    };
    let (slot, output) = plan(&times, Box::new(answer)).split(Connected::Yes);
    let (journal, mut readers) = Journal::start(None, vec![slot], 1).await.expect("nothing can fail in memory");
    let (_stopper, stop) = stop::channel();
    let (_flush, flush_now) = watch::channel(0);
    let task = tokio::spawn(output(readers.remove(0)).run(stop, flush_now));
    journal.append(batch(0..10));
    tokio::time::sleep(Duration::from_millis(10)).await;
    journal.append(batch(10..45));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let written = written.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(written, (0..45).collect::<Vec<_>>());
    task.abort();
}

#[tokio::test]
async fn what_is_refused_is_kept_aside_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (times, written) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let seen = written.clone();
    let mut plan = plan(
        &times,
        Box::new(move |_, metrics: &[i64]| {
            if metrics.contains(&5) {
                return Err(WriteError::reject_batch(metrics.len(), "400: five is not a number"));
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(metrics);
            Ok(())
        }),
    );
    let clock = heliograph_core::clock::Clock::manual(0);
    let figures = QuarantineStats::default();
    plan.quarantine = Some(Quarantine::new(folder.path(), "outputs.scripted", 1 << 20, clock, figures.clone()));
    let rejected = Count::default();
    plan.stats.rejected.push(rejected.clone());
    let (slot, output) = plan.split(Connected::Yes);
    let (journal, mut readers) = Journal::start(None, vec![slot], 1).await.expect("nothing can fail in memory");
    journal.append(batch(0..10));
    let mut output = output(readers.remove(0));
    output.flush().await;
    assert_eq!(*written.lock().unwrap_or_else(PoisonError::into_inner), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((journal.waiting(), rejected.get(), figures.metrics.get()), (0, 1, 1));
    let kept = std::fs::read_to_string(folder.path().join("outputs.scripted.influx")).expect("the file is there");
    assert_eq!(kept, "# 1970-01-01T00:00:00Z outputs.scripted 400: five is not a number\nm v=1i 5\n");
}
