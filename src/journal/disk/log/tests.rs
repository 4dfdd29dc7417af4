//! The log under power cuts, full disks and damage.

use expect_test::expect;
use heliograph_core::model::{Key, Kind, SeriesBuilder, Value};
use proptest::prelude::*;

use super::*;
use crate::journal::disk::fake::{EIO, ENOSPC, FakeDisk, Faults};
use crate::journal::disk::segment::{Batches, Next, Records};

const LIMITS: Limits = Limits { size: 1 << 20, segment_size: 300, age: None, output_age: None, sync: true };
const START: Moment = Moment { wall: 1_700_000_000_000_000_000, steady: 0 };

/// A batch of two metrics that tells its number.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    for half in 0..2 {
        let tag = (number % 5).to_string();
        batch.start(SeriesBuilder::new().start(b"m").set_tag(b"t", tag.as_bytes()).build(), half, Kind::Gauge);
        batch.push_field(Key::fixed("v"), Value::Uint(number));
    }
    batch
}

fn place(position: u64) -> Place {
    Place { position, metrics: 2 * position }
}

fn open(disk: &FakeDisk, limits: Limits) -> (Log, Recovered) {
    Log::open(Arc::new(disk.clone()), limits, START).unwrap()
}

/// The numbers of the batches a new start would find.
fn read(disk: &FakeDisk) -> Vec<u64> {
    let (log, _) = open(disk, LIMITS);
    let mut found = vec![];
    for segment in log.segments() {
        let records = Records::new(Disk::open(disk, &file_name(segment.sequence)).unwrap()).unwrap().unwrap();
        let mut batches = Batches::new(records);
        while let Next::Batch(place, batch) = batches.next(segment.bytes).unwrap() {
            if place.position > segment.last.position {
                break;
            }
            assert_eq!(batch.len(), 2);
            let Value::Uint(number) = batch.get(1).fields[0].value else { panic!("not a number") };
            assert_eq!((place.position, place.metrics), (number, 2 * number));
            found.push(number);
        }
    }
    found
}

fn append(log: &mut Log, numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|number| assert!(log.append(place(number), &batch(number)).unwrap()));
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Commit,
    Cursors,
    FailingSync,
    FailingWrite,
    Free(u64),
    PowerCut(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..8).prop_map(Step::Append),
        6 => Just(Step::Commit),
        1 => Just(Step::Cursors),
        1 => Just(Step::FailingSync),
        1 => Just(Step::FailingWrite),
        1 => (0_u64..30).prop_map(Step::Free),
        2 => prop::collection::vec(any::<usize>(), 1..40).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// What is found after a power cut: all that was safe, in order, and a part of what came after it without a gap.
    #[test]
    fn a_power_cut_costs_nothing_that_was_safe(steps in prop::collection::vec(step(), 1..40)) {
        let mut disk = FakeDisk::default();
        let (mut log, _) = open(&disk, LIMITS);
        let cursor = |position| vec![Cursor { output: "o".into(), position, offset: 0 }];
        let (mut last, mut freed, mut done) = (0, 0, 0);
        for step in steps {
            log.set_cursors(cursor(done));
            match step {
                Step::Append(count) => {
                    append(&mut log, last + 1..=last + count);
                    last += count;
                }
                Step::Commit => {
                    log.commit().unwrap();
                    prop_assert_eq!(log.synced(), place(last));
                }
                Step::Cursors => log.save_cursors().unwrap(),
                Step::FailingSync | Step::FailingWrite => {
                    let sync = matches!(step, Step::FailingSync);
                    disk.set_faults(Faults {
                        sync: sync.then_some(EIO),
                        write: (!sync).then_some(ENOSPC),
                        ..Faults::default()
                    });
                    let failed = log.save_cursors().and_then(|()| log.commit()).is_err();
                    prop_assert!(failed);
                    disk.set_faults(Faults::default());
                    log.abandon();
                    // What is not safe is written again.
                    let safe = log.synced().position;
                    append(&mut log, safe + 1..=last);
                }
                Step::Free(count) => {
                    done = (done + count).min(log.synced().position);
                    log.free(done);
                    freed = log.segments().next().map_or(done, |segment| segment.before.position);
                }
                Step::PowerCut(choices) => {
                    let safe = log.synced().position;
                    let mut choices = choices.into_iter().cycle();
                    disk = disk.after_power_cut(&mut |below| choices.next().unwrap() % below);
                    let found = read(&disk);
                    let (reopened, recovered) = open(&disk, LIMITS);
                    log = reopened;
                    let end = recovered.end.position;
                    // Of the segments that were removed, any may be back.
                    prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
                    let kept: Vec<_> = found.iter().copied().filter(|&number| number > freed).collect();
                    prop_assert_eq!(kept, (freed + 1..=end).collect::<Vec<_>>());
                    if safe > freed {
                        prop_assert!(end >= safe && end <= last, "{end} of {safe} to {last}");
                        let cursor = recovered.cursors.unwrap()[0].position;
                        prop_assert!(cursor <= done && cursor <= end);
                    }
                    // Outputs that were done with more start again at the end.
                    (last, done) = (end, done.min(end));
                    freed = found.first().map_or(end, |first| first - 1).max(freed.min(end));
                }
            }
        }
    }

    /// A log may be cut or changed anywhere: it opens, gives what is before the damage, and takes more.
    #[test]
    fn damage_is_survived(which in 0_usize..6, at in any::<usize>(), cut in any::<bool>(), bit in 0_u32..8) {
        let disk = FakeDisk::default();
        let (mut log, _) = open(&disk, LIMITS);
        append(&mut log, 1..=60);
        log.commit().unwrap();
        let names = disk.names().unwrap();
        let name = &names[which % names.len()];
        disk.spoil(name, |bytes| {
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        });
        let found = read(&disk);
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        let segments = names.len() as u64;
        prop_assert!(found.len() as u64 >= 60 - 60_u64.div_ceil(segments) - 10, "{} of 60 found", found.len());
        let (mut log, recovered) = open(&disk, LIMITS);
        let next = recovered.end.position + 1;
        append(&mut log, next..=next + 3);
        log.commit().unwrap();
        prop_assert!(read(&disk).ends_with(&[next, next + 1, next + 2, next + 3]));
    }
}

#[test]
fn a_start_goes_on_where_the_last_one_ended() {
    let disk = FakeDisk::default();
    let (mut log, recovered) = open(&disk, LIMITS);
    assert_eq!(recovered, Recovered::default());
    let cursor = |position, offset| vec![Cursor { output: "o".into(), position, offset }];
    append(&mut log, 1..=3);
    log.set_cursors(cursor(2, 1));
    log.save_cursors().unwrap();
    log.commit().unwrap();
    let (mut log, recovered) = open(&disk, LIMITS);
    assert_eq!((recovered.end, recovered.cursors), (place(3), Some(cursor(2, 1))));
    append(&mut log, 4..=5);
    log.commit().unwrap();
    assert_eq!(read(&disk), [1, 2, 3, 4, 5]);
}

#[test]
fn a_cursor_is_never_ahead_of_the_disk() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    log.set_cursors(vec![Cursor { output: "o".into(), position: 9, offset: 3 }]);
    append(&mut log, 1..=3);
    log.save_cursors().unwrap();
    log.commit().unwrap();
    let (_, recovered) = open(&disk, LIMITS);
    assert_eq!(recovered.cursors.unwrap(), [Cursor { output: "o".into(), position: 3, offset: 0 }]);
}

#[test]
fn what_every_output_has_is_removed() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    append(&mut log, 1..=100);
    log.commit().unwrap();
    let before = log.segments().len();
    log.free(50);
    let first = log.segments().next().unwrap();
    assert!(first.before.position <= 50 && first.last.position > 50 && log.segments().len() < before);
    log.free(100);
    assert_eq!((log.segments().len(), disk.names().unwrap().len()), (1, 1));
    assert!(log.take_dropped().is_empty());
}

#[test]
fn the_oldest_go_when_the_size_is_reached() {
    let disk = FakeDisk::default();
    let limits = Limits { size: 2000, ..LIMITS };
    let (mut log, _) = open(&disk, limits);
    for number in 1..=1000 {
        append(&mut log, number..=number);
        log.commit().unwrap();
        assert!(disk.bytes() <= 2000, "{} bytes", disk.bytes());
    }
    let first = log.segments().next().unwrap().before;
    assert_eq!(log.take_dropped().last().unwrap().last, first);
    assert_eq!(read(&disk), (first.position + 1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_batch_larger_than_all_is_passed_over() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, Limits { size: 2000, ..LIMITS });
    let mut large = batch(1);
    large.push_field(Key::fixed("text"), Value::Text(vec![b'x'; 2000].into()));
    assert!(!log.append(place(1), &large).unwrap());
    append(&mut log, 2..=3);
    log.commit().unwrap();
    assert_eq!(read(&disk), [2, 3]);
}

#[test]
fn what_never_was_on_the_disk_is_a_gap() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    append(&mut log, 1..=2);
    log.commit().unwrap();
    log.abandon();
    append(&mut log, 7..=7);
    append(&mut log, 9..=9);
    log.commit().unwrap();
    assert_eq!(read(&disk), [1, 2, 7, 9]);
    let (log, recovered) = open(&disk, LIMITS);
    let lasts: Vec<_> = log.segments().map(|segment| segment.last).collect();
    assert_eq!((lasts, recovered.end), (vec![place(2), place(9)], place(9)));
}

#[test]
fn old_segments_go_by_the_steady_clock() {
    let disk = FakeDisk::default();
    let hour = 3_600_000_000_000;
    let limits = Limits { age: Some(Duration::from_secs(3600)), ..LIMITS };
    let (mut log, _) = open(&disk, limits);
    let at = |log: &mut Log, steady, wall, number| {
        log.tick(Moment { steady, wall });
        append(log, number..=number);
        log.commit().unwrap();
        log.free(0);
        log.take_dropped().len()
    };
    assert_eq!(at(&mut log, 0, START.wall, 1), 0);
    // The wall clock jumps ahead by a day, then back by two.
    assert_eq!(at(&mut log, hour / 2, START.wall + 24 * hour, 2), 0);
    assert_eq!(at(&mut log, hour, START.wall - 24 * hour, 3), 0);
    assert_eq!(at(&mut log, 2 * hour, START.wall, 4), 1);
}

#[test]
fn files_that_are_no_segments_are_put_aside_or_left_alone() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    append(&mut log, 1..=40);
    log.commit().unwrap();
    disk.spoil("0000000000000002.journal", |bytes| bytes[20] ^= 1);
    // The power went when the newest had just got its name.
    disk.create("0000000000000099.journal").unwrap().write(b"HELIO").unwrap();
    disk.create("lost+found").unwrap();
    let (log, recovered) = open(&disk, LIMITS);
    assert_eq!(recovered.damaged, ["0000000000000002.journal"]);
    assert_eq!(recovered.end, place(40));
    let names = disk.names().unwrap();
    assert!(names.contains(&"0000000000000002.journal.damaged".into()) && names.contains(&"lost+found".into()));
    assert!(!names.contains(&"0000000000000099.journal".into()));
    // The segment before the lost one says how much is missing.
    let first = log.segments().next().unwrap();
    assert_eq!(first.last, log.segments().nth(1).unwrap().before);
}

#[test]
fn a_start_reads_the_headers_and_the_newest_file_alone() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    for number in 1..=4000 {
        append(&mut log, number..=number);
        log.commit().unwrap();
    }
    let before = disk.read();
    let (log, recovered) = open(&disk, LIMITS);
    let (files, newest) = (log.segments().len(), log.segments().last().unwrap().bytes as usize);
    assert_eq!((recovered.end, files > 300), (place(4000), true), "{files} files");
    // The header once more for the one that is read through.
    assert_eq!(disk.read() - before, files * HEADER + HEADER + newest - HEADER);
}

#[test]
fn an_end_that_cannot_be_read_is_not_cut_off() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, Limits { segment_size: 10_000, ..LIMITS });
    append(&mut log, 1..=40);
    log.commit().unwrap();
    let whole = disk.content("0000000000000001.journal");
    disk.set_faults(Faults { lost: Some(("0000000000000001.journal", 500)), ..Faults::default() });
    let (mut log, recovered) = open(&disk, LIMITS);
    let end = recovered.end.position;
    assert!(end > 5 && end < 40 && recovered.cut == 0, "{recovered:?}");
    append(&mut log, end + 1..=end + 3);
    log.commit().unwrap();
    disk.set_faults(Faults::default());
    assert_eq!((read(&disk), disk.content("0000000000000001.journal")), ((1..=end + 3).collect(), whole));
    log.free(end);
    assert!(disk.names().unwrap().contains(&"0000000000000001.journal.damaged".into()));
}

#[test]
fn files_of_a_newer_version_are_kept_as_they_are() {
    let disk = FakeDisk::default();
    let limits = Limits { size: 4000, ..LIMITS };
    let (mut log, _) = open(&disk, limits);
    append(&mut log, 1..=40);
    log.commit().unwrap();
    let newer = |bytes: &mut Vec<u8>| {
        bytes[8] = 2;
        bytes.resize(3000, 7);
        let check = xxhash_rust::xxh3::xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&check.to_le_bytes());
    };
    disk.spoil("0000000000000001.journal", newer);
    disk.spoil("0000000000000002.journal", |bytes| bytes[20] ^= 1);
    let last = log.segments().last().unwrap().sequence;
    disk.spoil(&file_name(last), newer);
    let (mut log, recovered) = open(&disk, limits);
    assert_eq!(recovered.damaged.len(), 3);
    // They take nothing from the space, and go neither for it nor for a file of the same number.
    assert!(log.bytes() < 4000);
    append(&mut log, 40..=400);
    log.commit().unwrap();
    let names = disk.names().unwrap();
    for name in [format!("{:016}.journal.newer", 1), format!("{last:016}.journal.newer")] {
        assert!(names.contains(&name) && disk.content(&name).len() == 3000, "{name} in {names:?}");
    }
    assert!(log.segments().last().unwrap().sequence > last);
}

#[test]
fn a_full_disk_keeps_what_was_safe() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    append(&mut log, 1..=9);
    log.commit().unwrap();
    disk.set_faults(Faults { space: Some(disk.bytes() + 50), ..Faults::default() });
    let outcome = (10..=90).try_for_each(|number| log.append(place(number), &batch(number)).map(drop));
    assert_eq!(outcome.and_then(|()| log.commit()).unwrap_err().kind(), io::ErrorKind::StorageFull);
    log.abandon();
    assert_eq!(read(&disk), (1..=log.synced().position).collect::<Vec<_>>());
    disk.set_faults(Faults::default());
    append(&mut log, 30..=31);
    log.commit().unwrap();
    assert!(read(&disk).ends_with(&[9, 30, 31]) || read(&disk).ends_with(&[30, 31]));
}

#[test]
fn a_read_only_disk_can_be_read() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    append(&mut log, 1..=9);
    log.commit().unwrap();
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let (mut log, recovered) = open(&disk, LIMITS);
    assert_eq!(recovered.end, place(9));
    assert!(log.append(place(10), &batch(10)).is_err());
    log.abandon();
    assert_eq!(read(&disk), (1..=9).collect::<Vec<_>>());
}

/// The format is a promise: a journal that this version wrote has to be read by every later one.
#[test]
fn version_1_reads_as_it_was_written() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk, LIMITS);
    log.set_cursors(vec![Cursor { output: "outputs.file/00".into(), position: 0, offset: 0 }]);
    append(&mut log, 1..=2);
    log.commit().unwrap();
    let hex: Vec<_> = disk
        .content("0000000000000001.journal")
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        .collect();
    expect![[r#"
        48454c494f4a4e4c010000000000000000000000000000000000000000000000
        0000000000000000000000000000000000002a36fe9c97172ed3624ed0196fcd
        1400000057a33c6aebbd6f8202010f6f7574707574732e66696c652f30300000
        19000000fd4145b1cee5557201000002010200016d0101740131000a02017601
        01020a0a0117000000f6dbfe0641dc006701000002000200016d010174013200
        0a0a0202020a0a02"#]]
    .assert_eq(&hex.join("\n"));
}
