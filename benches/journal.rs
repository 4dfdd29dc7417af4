//! The journal on disk: what a metric costs to append and commit, to read back, and in bytes.
//!
//! `cargo bench --bench journal [-- --folder /var/tmp] [--metrics 5000000] [--series 10000] [--no-sync]`
//!
//! Batches as `inputs.mqtt_consumer` makes them: 500 metrics of three floats and a text, of as many series as devices. The
//! time on the CPU is that of all threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph::journal::disk::{Journal, JournalStats, Limits, Settings};
use heliograph::journal::{OutputSlot, Resolution};
use heliograph_core::clock::Clock;
use heliograph_core::model::{Batch, Key, Kind, Origin, SeriesBuilder, SeriesRef, Value, WriteBatch};
use heliograph_core::stats::Count;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BATCH: usize = 500;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|i| args.get(i + 1)).cloned();
    let number = |name: &str, default: usize| option(name).map_or(Ok(default), |text| text.parse());
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("heliograph-journal-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(
        folder.clone(),
        number("--metrics", 5_000_000)?,
        number("--series", 10_000)?,
        !args.iter().any(|arg| arg == "--no-sync"),
    ));
    std::fs::remove_dir_all(folder)?;
    outcome
}

async fn measure(folder: PathBuf, metrics: usize, series: usize, sync: bool) -> Outcome<()> {
    let settings = |stats: &JournalStats| Settings {
        directory: folder.clone(),
        limits: Limits { size: 64 << 30, segment_size: 16 << 20, age: None, output_age: None, sync },
        commit_interval: Duration::from_millis(5),
        stats: stats.clone(),
        clock: Clock::system(),
    };
    let devices: Vec<SeriesRef> = (0..series).map(device).collect();
    let metrics = metrics / BATCH * BATCH;
    println!("{metrics} metrics of {series} series, {BATCH} a batch, sync {sync}");

    let stats = JournalStats::default();
    let (journal, _readers) = Journal::start(settings(&stats), vec![slot()], 1).await?;
    let mut watermark = journal.watermark(0);
    let mut figures = Figures::start();
    let mut made = Duration::ZERO;
    for number in 0..metrics / BATCH {
        let before = cpu()?;
        let batch = batch(&devices, number);
        made += cpu()?.saturating_sub(before);
        journal.append(batch);
        journal.ready().await;
        // Lets the tasks of an agent run that would be there.
        tokio::task::yield_now().await;
    }
    watermark.wait_for(|&safe| safe as usize == metrics).await?;
    figures.made = made;
    figures.print("append and commit", metrics)?;
    println!(
        "{:<18} {:>7.1} bytes a metric, {} commits, {} files",
        "",
        stats.bytes.get() as f64 / metrics as f64,
        stats.commits.get(),
        stats.segments.get(),
    );
    journal.close().await;
    drop(journal);

    let opened = Instant::now();
    let (journal, mut readers) = Journal::start(settings(&JournalStats::default()), vec![slot()], 1).await?;
    println!("{:<18} {:>7.1} ms", "open", opened.elapsed().as_secs_f64() * 1e3);
    let figures = Figures::start();
    let mut read = 0;
    while read < metrics {
        read += readers[0].take(1000).await.len();
        readers[0].resolve(Resolution::Done);
    }
    figures.print("read back", metrics)?;
    journal.close().await;
    Ok(())
}

struct Figures {
    began: Instant,
    cpu: Duration,
    /// Time on the CPU that is not the journal's.
    made: Duration,
}

impl Figures {
    fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu().unwrap_or_default(), made: Duration::ZERO }
    }

    fn print(&self, what: &str, metrics: usize) -> Outcome<()> {
        let cpu = cpu()?.saturating_sub(self.cpu + self.made);
        println!(
            "{what:<18} {:>7.1} ns CPU a metric, {:>10.0} metrics/s",
            cpu.as_secs_f64() * 1e9 / metrics as f64,
            metrics as f64 / self.began.elapsed().as_secs_f64(),
        );
        Ok(())
    }
}

fn slot() -> OutputSlot {
    OutputSlot {
        name: Arc::from("outputs.bench"),
        id: "0".repeat(64),
        carried: WriteBatch::new(),
        admit: Box::new(|batch| Some(batch.clone())),
        limit: 10_000,
        max_age: None,
        added: Count::default(),
        dropped: vec![],
        expired: Count::default(),
        size: Count::default(),
    }
}

fn device(number: usize) -> SeriesRef {
    let mut series = SeriesBuilder::new();
    let (device, room) = (format!("device-{number:05}"), format!("room-{}", number % 100));
    series.start(b"mqtt_consumer").set_tag(b"device", device.as_bytes()).set_tag(b"host", b"gateway");
    series.set_tag(b"room", room.as_bytes()).build()
}

fn batch(devices: &[SeriesRef], number: usize) -> Batch {
    let mut batch = Batch::with_capacity(BATCH, 4 * BATCH);
    for i in number * BATCH..(number + 1) * BATCH {
        let time = 1_700_000_000_000_000_000 + 20_000 * i as i64;
        batch.start(devices[i % devices.len()].clone(), time, Kind::Untyped);
        batch.push_field(Key::fixed("temperature"), Value::Float(20.0 + (i % 97) as f64 / 10.0));
        batch.push_field(Key::fixed("humidity"), Value::Float((i % 89) as f64));
        batch.push_field(Key::fixed("battery"), Value::Float(3.0 + (i % 83) as f64 / 100.0));
        batch.push_field(Key::fixed("state"), Value::Text("ok".into()));
    }
    batch.origin = Some(Origin { input: 0, message: ((number + 1) * BATCH) as u64 });
    batch
}

/// Time on the CPU of all threads of this process.
fn cpu() -> Outcome<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
