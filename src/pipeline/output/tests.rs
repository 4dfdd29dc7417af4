//! An output that runs over a backend of a script: when it tries, and what becomes of the metrics.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use heliograph_core::error::WriteError;
use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value};
use proptest::prelude::*;

use super::*;
use crate::journal::{Journal, disk};
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
async fn a_backlog_does_not_hold_up_the_end() {
    struct Slow(Arc<Mutex<(usize, bool)>>);

    #[async_trait]
    impl Output for Slow {
        async fn connect(&mut self) -> Result<(), StartError> {
            Ok(())
        }

        async fn write(&mut self, _: &WriteBatch) -> Result<(), WriteError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
            Ok(())
        }

        async fn close(&mut self) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        }
    }

    let state = Arc::new(Mutex::new((0, false)));
    let mut plan = plan(&Arc::default(), Box::new(busy));
    plan.plugin = Box::new(Slow(state.clone()));
    plan.slot.limit = usize::MAX;
    let (slot, output) = plan.split(Connected::Yes);
    let (journal, mut readers) = Journal::start(None, vec![slot], 1).await.expect("nothing can fail in memory");
    journal.append(batch(0..1000));
    let (stopper, stop) = stop::channel();
    let (_flush, flush_now) = watch::channel(0);
    let task = tokio::spawn(output(readers.remove(0)).run(stop, flush_now));
    tokio::time::sleep(Duration::from_millis(4500)).await;
    stopper.stop();
    let begin = Instant::now();
    task.await.expect("the output ends");
    assert!(begin.elapsed() < Duration::from_secs(17), "{:?}", begin.elapsed());
    assert_eq!((*state.lock().unwrap_or_else(PoisonError::into_inner), journal.waiting()), ((20, true), 800));
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
    output.flush(|| false).await;
    assert_eq!(*written.lock().unwrap_or_else(PoisonError::into_inner), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((journal.waiting(), rejected.get(), figures.metrics.get()), (0, 1, 1));
    let kept = std::fs::read_to_string(folder.path().join("outputs.scripted.influx")).expect("the file is there");
    assert_eq!(kept, "# 1970-01-01T00:00:00Z outputs.scripted 400: five is not a number\nm v=1i 5\n");
}

/// What a backend does with a batch.
#[derive(Debug, Clone)]
enum Fate {
    Takes,
    Away,
    /// Refuses the batch as a whole if it has a metric whose time is a multiple of this.
    RefusesAll(i64),
    /// Of each series takes so many, refuses every so-manieth of them, and leaves the rest.
    Some([usize; 3], usize),
}

const SERIES: i64 = 3;

impl Fate {
    /// The answer to metrics of these times, and which of them arrived.
    fn answer(&self, times: &[i64]) -> (Result<(), WriteError>, Vec<i64>) {
        match self {
            Self::Takes => (Ok(()), times.to_vec()),
            Self::Away => (Err(WriteError::retry("away")), vec![]),
            Self::RefusesAll(bad) if times.iter().any(|time| time % bad == 0) => {
                (Err(WriteError::reject_batch(times.len(), "bad")), vec![])
            }
            Self::RefusesAll(_) => (Ok(()), times.to_vec()),
            Self::Some(taken, refused) => {
                let mut taken = *taken;
                let mut error = WriteError::retry("busy");
                for (index, time) in times.iter().enumerate() {
                    let left = &mut taken[(time % SERIES) as usize];
                    if *left > 0 {
                        *left -= 1;
                        let list = if index % refused == 0 { &mut error.rejected } else { &mut error.written };
                        list.push(index);
                    }
                }
                let arrived = error.written.iter().map(|&index| times[index]).collect();
                (Err(error), arrived)
            }
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Takes),
        Just(Fate::Away),
        (2_i64..9).prop_map(Fate::RefusesAll),
        (prop::array::uniform3(0_usize..5), 1_usize..5).prop_map(|(taken, refused)| Fate::Some(taken, refused)),
    ]
}

/// Runs an output over a backend with these fates while metrics come in lots of these sizes; checks that each arrives once
/// and in the order of its series, or is counted as refused.
async fn deliver(journal: Option<disk::Settings>, lots: Vec<i64>, fates: Vec<Fate>) {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut fates) = (arrived.clone(), fates.into_iter());
    let answer = move |_, times: &[i64]| {
        let (answer, arrived) = fates.next().unwrap_or(Fate::Takes).answer(times);
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(arrived);
        answer
    };
    let mut plan = plan(&Arc::default(), Box::new(answer));
    plan.slot.limit = usize::MAX;
    let (written, rejected) = (Count::default(), Count::default());
    plan.stats.written.push(written.clone());
    plan.stats.rejected.push(rejected.clone());
    let (slot, output) = plan.split(Connected::Yes);
    let (journal, mut readers) = Journal::start(journal, vec![slot], 1).await.expect("a folder of our own");
    let mut output = output(readers.remove(0));
    let mut next = 0;
    for lot in lots {
        journal.append(batch(next..next + lot));
        next += lot;
        output.flush(|| false).await;
        output.retry.last_chance();
    }
    while journal.waiting() > 0 {
        output.flush(|| false).await;
        output.retry.last_chance();
    }
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!((written.get(), written.get() + rejected.get()), (arrived.len() as i64, next));
    for series in 0..SERIES {
        let of_series: Vec<_> = arrived.iter().filter(|time| *time % SERIES == series).collect();
        assert!(of_series.windows(2).all(|pair| pair[0] < pair[1]), "{of_series:?}");
    }
    journal.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a backend takes, refuses or leaves: nothing is lost, doubled or out of the order of its series.
    #[test]
    fn every_metric_arrives_once_or_is_counted(
        lots in prop::collection::vec(0_i64..30, 1..12),
        fates in prop::collection::vec(fate(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            let settings = disk::Settings {
                directory: folder.path().to_owned(),
                limits: disk::Limits { size: 1 << 20, segment_size: 300, age: None, output_age: None, sync: false },
                commit_interval: Duration::ZERO,
                stats: disk::JournalStats::default(),
                clock: heliograph_core::clock::Clock::system(),
            };
            deliver(None, lots.clone(), fates.clone()).await;
            deliver(Some(settings), lots, fates).await;
        });
    }
}
