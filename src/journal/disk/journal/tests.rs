//! The whole journal over a disk that fails, fills up and forgets; the writer's steps are made by hand.

use std::collections::BTreeSet;
use std::ops::Range;

use heliograph_core::model::{Key, Kind, Origin, SeriesBuilder, Value, WriteBatch};
use heliograph_core::plugin::Doubt;
use heliograph_core::stats::Count;
use proptest::prelude::*;

use super::*;
use crate::journal::disk::fake::{EIO, ENOSPC, FakeDisk, Faults};
use crate::journal::queue::Resolution;

struct Test {
    disk: FakeDisk,
    limits: Limits,
    journal: Journal,
    readers: Vec<Reader>,
    writer: Writer,
    stats: JournalStats,
    clock: Clock,
}

/// The wall clock at the first start.
const NOW: i64 = 1_700_000_000_000_000_000;

fn slot(name: &str) -> OutputSlot {
    OutputSlot {
        name: name.into(),
        id: "0123456789abcdef0123".into(),
        carried: WriteBatch::new(),
        admit: Box::new(|batch| Some(batch.clone())),
        limit: 100,
        max_age: None,
        added: Count::default(),
        dropped: vec![Count::default()],
        expired: Count::default(),
        size: Count::default(),
    }
}

fn test(limits: Limits, outputs: &[&str]) -> Test {
    start(&FakeDisk::default(), limits, outputs.iter().map(|name| slot(name)).collect())
}

fn start(disk: &FakeDisk, limits: Limits, outputs: Vec<OutputSlot>) -> Test {
    start_at(NOW, disk, limits, outputs)
}

fn start_at(wall: i64, disk: &FakeDisk, limits: Limits, outputs: Vec<OutputSlot>) -> Test {
    let clock = Clock::manual(wall);
    let stats = JournalStats::default();
    let settings = Settings {
        directory: PathBuf::new(),
        limits,
        commit_interval: Duration::ZERO,
        stats: stats.clone(),
        clock: clock.clone(),
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, recovered) = Log::open(shared.clone(), limits, Moment { wall, steady: 0 }).unwrap();
    let (journal, readers, writer) = Journal::build(settings, Some((shared, log, recovered)), outputs, 1);
    Test { disk: disk.clone(), limits, journal, readers, writer, stats, clock }
}

const LIMITS: Limits = Limits { size: 1 << 20, segment_size: 2000, age: None, output_age: None, sync: true };

impl Test {
    /// Appends metrics of these times, as one batch and one message.
    fn append(&self, times: Range<i64>) {
        let mut batch = Batch::new();
        for time in times.clone() {
            batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped);
            batch.push_field(Key::fixed("v"), Value::Int(time));
        }
        batch.origin = Some(Origin { input: 0, message: times.end as u64 });
        self.journal.append(batch);
    }

    fn append_without_origin(&self, times: Range<i64>) {
        let mut batch = Batch::new();
        for time in times {
            batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped);
        }
        self.journal.append(batch);
    }

    fn safe(&self) -> u64 {
        *self.journal.watermark(0).borrow()
    }

    fn commit(&mut self) {
        self.writer.step(true);
    }

    /// What the output gets, and whether it keeps it.
    async fn write(&mut self, output: usize, max: usize, resolution: Resolution) -> Vec<i64> {
        let taken = self.readers[output].take(max).await;
        self.readers[output].resolve(resolution);
        taken.iter().map(|metric| metric.time).collect()
    }

    async fn all(&mut self, output: usize) -> Vec<i64> {
        let mut all = vec![];
        while self.readers[output].waiting() > 0 {
            all.extend(self.write(output, 7, Resolution::Done).await);
        }
        all
    }

    fn restart(&self, disk: &FakeDisk, outputs: &[&str]) -> Self {
        start(disk, self.limits, outputs.iter().map(|name| slot(name)).collect())
    }
}

#[tokio::test]
async fn safe_is_what_is_synced() {
    let mut test = test(LIMITS, &["a"]);
    test.append(0..3);
    assert_eq!(test.safe(), 0);
    test.commit();
    assert_eq!((test.safe(), test.disk.syncs()), (3, 1));
    test.append(3..3);
    assert_eq!(test.safe(), 3);
    test.append(3..4);
    test.append(4..4);
    assert_eq!(test.safe(), 3);
    test.commit();
    assert_eq!(test.safe(), 4);
    assert_eq!(test.all(0).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn safe_is_also_what_every_output_has_written() {
    let mut test = test(LIMITS, &["a", "b"]);
    test.append(0..3);
    test.all(0).await;
    assert_eq!(test.safe(), 0);
    test.all(1).await;
    assert_eq!(test.safe(), 3);
}

#[tokio::test]
async fn without_a_disk_it_goes_on_in_memory_and_comes_back() {
    for faults in [
        Faults { write: Some(ENOSPC), ..Faults::default() },
        Faults { sync: Some(EIO), ..Faults::default() },
        Faults { read_only: true, ..Faults::default() },
    ] {
        let mut test = test(LIMITS, &["a", "b"]);
        test.append(0..2);
        test.commit();
        test.disk.set_faults(faults);
        test.append(2..4);
        test.commit();
        test.append(4..6);
        test.commit();
        assert_eq!((test.safe(), test.stats.errors.get(), test.stats.in_memory.get()), (2, 2, 1));
        assert_eq!(test.all(0).await, [0, 1, 2, 3, 4, 5]);
        assert_eq!(test.write(1, 4, Resolution::Done).await, [0, 1, 2, 3]);
        assert_eq!(test.safe(), 4);
        test.disk.set_faults(Faults::default());
        test.commit();
        assert_eq!((test.safe(), test.stats.in_memory.get()), (6, 0));
        test.append(6..8);
        test.commit();
        let mut next = test.restart(&test.disk.after_power_cut(&mut |_| 0), &["a", "b"]);
        assert_eq!((next.all(0).await, next.all(1).await), (vec![6, 7], vec![4, 5, 6, 7]));
    }
}

#[tokio::test]
async fn memory_is_bounded_while_the_disk_fails() {
    let mut test = test(LIMITS, &["a", "b"]);
    test.append_without_origin(0..10);
    test.commit();
    test.disk.set_faults(Faults { write: Some(ENOSPC), ..Faults::default() });
    for i in 1..100 {
        test.append_without_origin(10 * i..10 * i + 10);
        test.commit();
    }
    // 100 are kept in memory, and 10 on the disk.
    assert_eq!(test.all(0).await, (0..10).chain(900..1000).collect::<Vec<_>>());
    assert_eq!((test.readers[0].take_overflow(), test.stats.lost.get()), (890, 2 * 890));
    test.disk.set_faults(Faults::default());
    test.commit();
    test.append(1000..1001);
    test.commit();
    assert_eq!(test.safe(), 1001);
    assert_eq!(test.all(1).await, (0..10).chain(900..1001).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_output_goes_on_where_it_was() {
    let mut test = test(LIMITS, &["a", "b", "c"]);
    for i in 0..10 {
        test.append(3 * i..3 * i + 3);
    }
    assert_eq!(test.write(0, 7, Resolution::Done).await.len(), 7);
    assert_eq!(test.write(1, 7, Resolution::KeepSome(vec![0, 5])).await.len(), 7);
    test.commit();
    let mut next = test.restart(&test.disk, &["b", "a", "new", "c"]);
    assert_eq!(next.all(1).await, (7..30).collect::<Vec<_>>());
    // What was kept out of several batches stands for all of them: rather twice than never.
    assert_eq!(next.all(0).await, (0..30).collect::<Vec<_>>());
    assert_eq!(next.all(2).await, [0; 0]);
    assert_eq!(next.all(3).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn twins_have_a_cursor_each() {
    let mut test = test(LIMITS, &["a", "a"]);
    test.append(0..3);
    test.all(0).await;
    test.commit();
    let mut next = test.restart(&test.disk, &["a", "a"]);
    assert_eq!((next.all(0).await.len(), next.all(1).await.len()), (0, 3));
}

#[tokio::test]
async fn an_output_that_is_far_behind_reads_from_the_disk() {
    let mut test = test(Limits { segment_size: 20_000, ..LIMITS }, &["a"]);
    for i in 0..300 {
        test.append(200 * i..200 * i + 200);
        test.commit();
    }
    let held = test.journal.shared.lock().tail.len();
    assert!(held <= 100, "{held} batches in memory");
    assert!(test.all(0).await.into_iter().eq(0..60_000));
    test.commit();
    assert_eq!(test.stats.segments.get(), 1);
}

#[tokio::test]
async fn what_the_size_has_no_room_for_is_counted() {
    let mut test = test(Limits { size: 4000, segment_size: 1000, ..LIMITS }, &["a"]);
    for i in 0..300 {
        test.append(200 * i..200 * i + 200);
        test.commit();
        assert!(test.disk.bytes() <= 4000);
    }
    let got = test.all(0).await;
    let lost = test.readers[0].take_overflow();
    assert_eq!((got.len() + lost, got[0], got.is_sorted()), (60_000, lost as i64, true));
    assert!(lost > 30_000 && test.stats.lost.get() == lost as i64, "{lost} lost");
}

#[tokio::test]
async fn a_batch_that_one_record_cannot_hold_is_divided() {
    let mut test = test(Limits { size: 4000, segment_size: 1000, ..LIMITS }, &["a"]);
    let mut batch = Batch::new();
    for time in 0..20 {
        batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped);
        let len = if time == 13 { 3000 } else { 150 };
        batch.push_field(Key::fixed("v"), Value::Text(vec![b'x'; len].into()));
    }
    batch.origin = Some(Origin { input: 0, message: 7 });
    test.journal.append(batch);
    assert_eq!(test.safe(), 0);
    test.commit();
    assert_eq!(test.safe(), 7);
    let mut next = test.restart(&test.disk, &["a"]);
    // One metric is too large even alone, and nothing went for it.
    assert_eq!(next.all(0).await, (0..20).filter(|&time| time != 13).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_that_the_disk_has_lost_is_skipped_and_put_aside() {
    let test = &mut test(Limits { segment_size: 20_000, ..LIMITS }, &["a"]);
    for i in 0..300 {
        test.append(200 * i..200 * i + 200);
        test.commit();
    }
    // The middle of one, and all of another.
    for (file, from, most) in [("0000000000000003.journal", 10_000, 10_000), ("0000000000000002.journal", 0, 10_000)] {
        test.disk.set_faults(Faults { lost: Some((file, from)), ..Faults::default() });
        let mut next = test.restart(&test.disk, &["a"]);
        let got = next.all(0).await;
        let lost = next.readers[0].take_overflow();
        assert_eq!((got.len() + lost, next.stats.lost.get()), (60_000, lost as i64));
        assert!(lost > 1_000 && lost < most && got.windows(2).all(|pair| pair[0] < pair[1]), "{lost} lost");
    }
    assert!(test.disk.names().unwrap().contains(&"0000000000000002.journal.damaged".to_owned()));
}

const HOUR: Duration = Duration::from_secs(3600);

/// Metrics of one batch an hour for ten hours, each of the time it came at; what is not in memory is read from files.
async fn ten_hours(test: &mut Test) {
    for _ in 0..10 {
        let now = test.clock.now();
        test.append_without_origin(now..now + 10);
        test.commit();
        test.journal.shared.lock().tail.clear();
        tokio::time::advance(HOUR).await;
        test.clock.advance(HOUR);
    }
}

fn aged(name: &str, hours: u32) -> OutputSlot {
    OutputSlot { max_age: Some(hours * HOUR), ..slot(name) }
}

#[tokio::test(start_paused = true)]
async fn an_output_drops_what_waits_for_too_long() {
    let limits = Limits { output_age: Some(4 * HOUR), segment_size: 20_000, ..LIMITS };
    let mut test = start(&FakeDisk::default(), limits, vec![aged("a", 4), slot("b")]);
    ten_hours(&mut test).await;
    // The last four came 1, 2, 3 and 4 hours ago, and each is in a file of its own.
    assert_eq!((test.readers[0].expire(), test.readers[1].expire()), (60, 0));
    let (a, b) = (test.all(0).await, test.all(1).await);
    assert_eq!((a.len(), b.len(), a[0]), (40, 100, NOW + 6 * HOUR.as_nanos() as i64));
    assert_eq!(test.readers[0].expire(), 0);
}

#[tokio::test(start_paused = true)]
async fn ages_go_on_over_a_restart() {
    let limits = Limits { output_age: Some(4 * HOUR), segment_size: 20_000, ..LIMITS };
    let mut test = start(&FakeDisk::default(), limits, vec![aged("a", 4)]);
    ten_hours(&mut test).await;
    let later = test.clock.now() + 2 * HOUR.as_nanos() as i64;
    let mut next = start_at(later, &test.disk, limits, vec![aged("a", 4)]);
    next.readers[0].expire();
    let got = next.all(0).await;
    // What came 5 hours ago is in a file that may have been written to until the next was begun, 4 hours ago; the newest
    // file tells by its metrics.
    assert_eq!((got.len(), got[0]), (30, NOW + 7 * HOUR.as_nanos() as i64));
    assert_eq!(next.journal.shared.lock().slots[0].output.expired.get(), 70);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_nothing_old() {
    const YEARS: i64 = 1_000_000_000_000_000_000;
    let limits = Limits { age: Some(20 * HOUR), output_age: Some(20 * HOUR), segment_size: 20_000, ..LIMITS };
    for jump in [YEARS, -YEARS] {
        let mut test = start(&FakeDisk::default(), limits, vec![aged("a", 20)]);
        ten_hours(&mut test).await;
        test.clock.set(test.clock.now() + jump);
        ten_hours(&mut test).await;
        // By the clock that nobody sets the first came twenty hours ago.
        test.commit();
        assert_eq!((test.readers[0].expire(), test.all(0).await.len()), (0, 200), "{jump}");
    }
    // A start with a clock that is behind, and one after the clock was behind.
    for (first, second) in [(NOW, NOW - YEARS), (0, NOW)] {
        let mut test = start_at(first, &FakeDisk::default(), limits, vec![aged("a", 20)]);
        ten_hours(&mut test).await;
        let mut next = start_at(second, &test.disk, limits, vec![aged("a", 20)]);
        next.commit();
        assert_eq!(next.all(0).await.len(), 100, "{first} and then {second}");
    }
}

#[tokio::test]
async fn a_damaged_segment_in_the_middle_is_skipped_and_kept_aside() {
    let test = &mut test(Limits { segment_size: 20_000, ..LIMITS }, &["a"]);
    for i in 0..300 {
        test.append(200 * i..200 * i + 200);
        test.commit();
    }
    test.disk.spoil("0000000000000003.journal", |bytes| bytes[10_000] ^= 1);
    let mut next = test.restart(&test.disk, &["a"]);
    let got = next.all(0).await;
    let lost = next.readers[0].take_overflow();
    assert_eq!(got.len() + lost, 60_000);
    assert!(lost > 1_000 && lost < 10_000 && got.windows(2).all(|pair| pair[0] < pair[1]), "{lost} lost");
    next.commit();
    assert!(next.disk.names().unwrap().contains(&"0000000000000003.journal.damaged".to_owned()));
}

#[tokio::test]
async fn filters_are_asked_when_an_output_reads() {
    let mut even = slot("even");
    even.admit = Box::new(|batch| {
        let mut admitted = Batch::new();
        batch.iter().filter(|metric| metric.time % 2 == 0).for_each(|metric| admitted.push_copy(metric));
        (!admitted.is_empty()).then(|| Arc::new(admitted))
    });
    let mut none = slot("none");
    none.admit = Box::new(|_| None);
    let mut test = start(&FakeDisk::default(), LIMITS, vec![even, none]);
    test.append(0..9);
    assert_eq!(test.write(0, 2, Resolution::Done).await, [0, 2]);
    assert_eq!(test.write(1, 2, Resolution::Done).await, [0; 0]);
    assert_eq!((test.safe(), test.readers[1].waiting()), (0, 0));
    assert_eq!(test.all(0).await, [4, 6, 8]);
    assert_eq!(test.safe(), 9);
}

#[tokio::test]
async fn what_is_in_memory_only_is_carried_over() {
    let mut test = test(LIMITS, &["a"]);
    test.append(0..2);
    test.commit();
    assert!(test.journal.take_rest().is_empty());
    test.disk.set_faults(Faults { write: Some(ENOSPC), ..Faults::default() });
    test.append(2..5);
    test.commit();
    let mut rest = test.journal.take_rest();
    let mut output = slot("a");
    output.carried = rest.remove(0).metrics;
    assert_eq!(output.carried.len(), 3);
    test.disk.set_faults(Faults::default());
    let mut next = start(&test.disk, LIMITS, vec![output]);
    let mut got = next.all(0).await;
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_is_waited_for_and_one_that_hangs_is_not() {
    let mut test = test(LIMITS, &["a"]);
    for i in 0..40 {
        test.journal.ready().await;
        test.append(500 * i..500 * i + 500);
    }
    let began = tokio::time::Instant::now();
    let journal = test.journal.clone();
    tokio::join!(journal.ready(), async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        test.commit();
    });
    assert_eq!((began.elapsed(), test.stats.in_memory.get()), (Duration::from_secs(9), 0));
    for i in 40..80 {
        test.append(500 * i..500 * i + 500);
    }
    test.journal.ready().await;
    assert_eq!((began.elapsed(), test.stats.in_memory.get()), (Duration::from_secs(19), 1));
    assert_eq!(test.safe(), 20_000);
    // It comes back, and nothing of what an input waits for was let go.
    test.commit();
    assert_eq!((test.safe(), test.stats.in_memory.get(), test.stats.lost.get()), (40_000, 0, 0));
    assert!(test.all(0).await.into_iter().eq(0..40_000));
}

#[tokio::test]
async fn while_a_sync_takes_long_nothing_is_acknowledged_and_memory_is_bounded() {
    let Test { disk, journal, writer, stats, .. } = test(LIMITS, &["a"]);
    let thread = std::thread::spawn(|| writer.run());
    disk.hold_syncs(true);
    let mut appended = 0;
    // The one who appends is to wait as soon as there is no room.
    while journal.shared.lock().has_room() {
        let mut batch = Batch::new();
        for time in appended..appended + 500 {
            batch.start(SeriesBuilder::new().start(b"m").build(), time, Kind::Untyped);
        }
        appended += 500;
        batch.origin = Some(Origin { input: 0, message: appended as u64 });
        journal.append(batch);
    }
    assert_eq!((appended, *journal.watermark(0).borrow(), stats.in_memory.get()), (20_000, 0, 0));
    let waiting = tokio::time::timeout(Duration::from_millis(20), journal.ready()).await;
    assert!(waiting.is_err(), "there is no room before the sync has ended");
    disk.hold_syncs(false);
    journal.ready().await;
    journal.watermark(0).wait_for(|&safe| safe == appended as u64).await.unwrap();
    journal.shared.lock().stop = true;
    journal.shared.wake.notify_all();
    thread.join().unwrap();
}

#[tokio::test]
async fn a_real_folder_and_a_thread() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || Settings {
        directory: folder.path().join("journal"),
        limits: LIMITS,
        commit_interval: Duration::from_millis(1),
        stats: JournalStats::default(),
        clock: Clock::system(),
    };
    let (journal, _readers) = Journal::start(settings(), vec![slot("a")], 1).await.unwrap();
    let second = Journal::start(settings(), vec![slot("a")], 1).await.err().unwrap().to_string();
    assert!(second.contains("another agent is using it"), "{second}");
    let mut batch = Batch::new();
    batch.start(SeriesBuilder::new().start(b"m").build(), 5, Kind::Untyped);
    batch.origin = Some(Origin { input: 0, message: 9 });
    journal.append(batch);
    journal.watermark(0).wait_for(|&safe| safe == 9).await.unwrap();
    assert!(journal.close().await.is_empty());
    let (journal, mut readers) = Journal::start(settings(), vec![slot("a")], 1).await.unwrap();
    assert_eq!(readers[0].take(10).await.iter().next().unwrap().time, 5);
    readers[0].resolve(Resolution::Done);
    journal.close().await;
    let (journal, mut readers) = Journal::start(settings(), vec![slot("a")], 1).await.unwrap();
    assert!(readers[0].take(10).await.is_empty());
    journal.close().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_no_reason_not_to_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stats = JournalStats::default();
    let settings = Settings {
        directory: file.path().join("journal"),
        limits: LIMITS,
        commit_interval: Duration::from_millis(1),
        stats: stats.clone(),
        clock: Clock::system(),
    };
    let (journal, mut readers) = Journal::start(settings, vec![slot("a")], 1).await.unwrap();
    let mut batch = Batch::new();
    batch.start(SeriesBuilder::new().start(b"m").build(), 5, Kind::Untyped);
    journal.append(batch);
    assert_eq!((readers[0].take(10).await.len(), stats.errors.get()), (1, 1));
    readers[0].resolve(Resolution::Keep);
    assert_eq!(journal.close().await[0].metrics.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Append(i64),
    Commit,
    Write(usize, usize),
    Fail(usize, usize),
    Faults(u8),
    PowerCut(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_i64..9).prop_map(Step::Append),
        6 => Just(Step::Commit),
        3 => (0_usize..2, 1_usize..20).prop_map(|(output, max)| Step::Write(output, max)),
        1 => (0_usize..2, 1_usize..20).prop_map(|(output, max)| Step::Fail(output, max)),
        2 => (0_u8..5).prop_map(Step::Faults),
        1 => prop::collection::vec(any::<usize>(), 1..40).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to the disk and the power: what was acknowledged reaches every output.
    #[test]
    fn nothing_acknowledged_is_lost(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { segment_size: 400, ..LIMITS };
            let mut test = test(limits, &["a", "b"]);
            let mut got = [BTreeSet::new(), BTreeSet::new()];
            let mut acknowledged = BTreeSet::new();
            let mut next = 0;
            // Messages of this run of the agent begin here.
            let mut begun = 0;
            for step in steps {
                match step {
                    Step::Append(count) => {
                        test.append(next..next + count);
                        next += count;
                    }
                    Step::Commit => test.commit(),
                    Step::Write(output, max) => got[output].extend(test.write(output, max, Resolution::Done).await),
                    Step::Fail(output, max) => drop(test.write(output, max, Resolution::Keep).await),
                    Step::Faults(which) => test.disk.set_faults(Faults {
                        write: (which == 1).then_some(ENOSPC),
                        sync: (which == 2).then_some(EIO),
                        space: (which == 3).then(|| test.disk.bytes() + 100),
                        read_only: which == 4,
                        lost: None,
                    }),
                    Step::PowerCut(choices) => {
                        let mut choices = choices.into_iter().cycle();
                        let disk = test.disk.after_power_cut(&mut |below| choices.next().unwrap() % below);
                        acknowledged.extend(begun..(test.safe() as i64).max(begun));
                        test = test.restart(&disk, &["a", "b"]);
                        begun = next;
                    }
                }
            }
            acknowledged.extend(begun..(test.safe() as i64).max(begun));
            test.disk.set_faults(Faults::default());
            for (output, got) in got.iter_mut().enumerate() {
                got.extend(test.all(output).await);
                let missing: Vec<_> = acknowledged.difference(got).collect();
                prop_assert!(missing.is_empty(), "output {output} never got {missing:?}");
            }
            Ok(())
        })?;
    }
}

/// What the output gets after a restart with all that was synced and nothing else.
async fn after_a_crash(test: &Test) -> Vec<i64> {
    test.restart(&test.disk.after_power_cut(&mut |_| 0), &["a"]).all(0).await
}

#[tokio::test]
async fn another_process_repeats_what_waited_to_be_sent_again() {
    let mut test = test(LIMITS, &["a"]);
    // Files of some 2000 bytes: the writes in doubt must outlive those that every output is done with.
    for (write, from) in (1..=20).zip((0..2000).step_by(100)) {
        test.append(from..from + 100);
        test.commit();
        test.readers[0].begin(write);
        test.write(0, 100, Resolution::Done).await;
        test.readers[0].doubt(Doubt { unread: Some(write.max(6) - 5), lost: None });
    }
    test.commit();
    let kept = test.stats.segments.get();
    assert!((3..=12).contains(&kept), "{kept} files for the six writes in doubt");
    assert_eq!(after_a_crash(&test).await, [0; 0], "no connection has broken");

    test.readers[0].doubt(Doubt { unread: None, lost: Some(17) });
    test.append_without_origin(2000..2001);
    test.commit();
    let all: Vec<i64> = (1600..2001).collect();
    assert_eq!(after_a_crash(&test).await, all);

    test.readers[0].doubt(Doubt::default());
    test.all(0).await;
    test.commit();
    assert_eq!(after_a_crash(&test).await, [0; 0]);
}

#[tokio::test]
async fn an_output_without_work_costs_no_commit() {
    let mut test = test(LIMITS, &["a"]);
    test.append(0..3);
    test.readers[0].begin(1);
    test.write(0, 3, Resolution::Done).await;
    test.readers[0].doubt(Doubt { unread: Some(1), lost: None });
    test.commit();
    let before = test.disk.syncs();
    test.readers[0].doubt(Doubt { unread: Some(1), lost: None });
    test.writer.step(true);
    assert_eq!(test.disk.syncs(), before);
    test.readers[0].doubt(Doubt { unread: Some(1), lost: Some(1) });
    test.writer.step(true);
    assert_eq!(test.disk.syncs(), before + 1, "the cursor moves back");
}

#[tokio::test]
async fn a_file_that_was_only_kept_in_doubt_is_not_lost() {
    let mut test = test(Limits { size: 8000, ..LIMITS }, &["a"]);
    for (write, from) in (1..=40).zip((0..4000).step_by(100)) {
        test.append(from..from + 100);
        test.commit();
        test.readers[0].begin(write);
        test.write(0, 100, Resolution::Done).await;
        test.readers[0].doubt(Doubt { unread: Some(1), lost: None });
    }
    test.commit();
    assert_eq!((test.stats.lost.get(), test.stats.lost_bytes.get()), (0, 0));
    assert!(test.stats.bytes.get() <= 8000);
}
