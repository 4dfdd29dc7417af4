//! Keeps what a backend refuses for good, with its answer, in a file of bounded size.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heliograph_core::clock::Clock;
use heliograph_core::error::{BoxError, Chain};
use heliograph_core::model::WriteBatch;
use heliograph_core::serialize::Serializer;
use heliograph_core::stats::Count;
use heliograph_plugins::serializers::influx::{InfluxOptions, InfluxSerializer};
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::split::Rejection;

/// Longest answer of a backend that is kept, in characters.
const ANSWER: usize = 1024;
/// How long the disk may take before the output goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Figures of a quarantine, among those of its output.
#[derive(Debug, Clone, Default)]
pub struct QuarantineStats {
    /// Metrics that were written to the file.
    pub metrics: Count,
    /// Writes that failed.
    pub errors: Count,
}

/// The file of one output, `<output>.influx`, and the one before it, `<output>.influx.1`.
///
/// Lines of the influx protocol behind a comment that says when, by whom and why they were refused, so that
/// `inputs.file` reads them as they are.
pub struct Quarantine {
    output: String,
    path: PathBuf,
    /// Most bytes of both files.
    max_size: u64,
    clock: Clock,
    stats: QuarantineStats,
    serializer: InfluxSerializer,
    /// A write that the disk has not ended in time.
    late: Option<JoinHandle<io::Result<()>>>,
    was_failing: bool,
}

impl Quarantine {
    /// For this output, in this folder; touches neither before something is refused.
    pub fn new(directory: &Path, output: &str, max_size: u64, clock: Clock, stats: QuarantineStats) -> Self {
        let name: String = output.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
        let options = InfluxOptions { influx_sort_fields: true, influx_uint_support: true, ..InfluxOptions::default() };
        Self {
            output: output.to_owned(),
            path: directory.join(format!("{name}.influx")),
            max_size,
            clock,
            stats,
            serializer: InfluxSerializer::new(options),
            late: None,
            was_failing: false,
        }
    }

    /// Keeps what was refused of a batch. Never stops the output: what cannot be written is counted, and told once.
    pub async fn keep(&mut self, batch: &WriteBatch, rejections: &[Rejection]) {
        let (text, metrics) = self.text(batch, rejections);
        if metrics == 0 {
            return;
        }
        match self.write(text).await {
            Ok(()) => {
                self.stats.metrics.add(metrics);
                self.was_failing = false;
            }
            Err(error) => {
                self.stats.errors.increment();
                if !std::mem::replace(&mut self.was_failing, true) {
                    tracing::error!(
                        output = self.output,
                        path = %self.path.display(),
                        error = %Chain(&*error),
                        "cannot keep what was refused: it is lost until the file can be written again"
                    );
                }
            }
        }
    }

    async fn write(&mut self, text: Vec<u8>) -> Result<(), BoxError> {
        if self.late.as_ref().is_some_and(|late| !late.is_finished()) {
            return Err("the disk hangs".into());
        }
        let (path, limit) = (self.path.clone(), self.max_size / 2);
        let mut writing = tokio::task::spawn_blocking(move || append(&path, &text, limit));
        match tokio::time::timeout(PATIENCE, &mut writing).await {
            Ok(ended) => Ok(ended??),
            Err(_) => {
                self.late = Some(writing);
                Err("the disk hangs".into())
            }
        }
    }

    /// The lines of what was refused, as many as fit, and how many metrics they hold.
    fn text(&mut self, batch: &WriteBatch, rejections: &[Rejection]) -> (Vec<u8>, usize) {
        let limit = (self.max_size / 2) as usize;
        let time = Timestamp::from_nanosecond(self.clock.now().into()).unwrap_or_default();
        let mut refused: Vec<(usize, &str)> = rejections
            .iter()
            .flat_map(|rejection| rejection.metrics.iter().map(|&index| (index, rejection.answer.as_str())))
            .collect();
        refused.sort_unstable_by_key(|(index, _)| *index);
        let mut refused = refused.into_iter().peekable();
        let (mut text, mut metrics, mut told) = (Vec::new(), 0, None);
        for (index, metric) in batch.iter().enumerate() {
            let Some((_, answer)) = refused.next_if(|(refused, _)| *refused == index) else { continue };
            let before = text.len();
            if told != Some(answer) {
                text.extend_from_slice(format!("# {time:.0} {} {}\n", self.output, one_line(answer)).as_bytes());
            }
            // What the format cannot say is lost, and missing in the count.
            if self.serializer.serialize(metric, &mut text).is_err() || text.len() > limit {
                text.truncate(before);
                continue;
            }
            told = Some(answer);
            metrics += 1;
        }
        (text, metrics)
    }
}

/// An answer without line ends, cut to a length.
fn one_line(answer: &str) -> String {
    answer.chars().take(ANSWER).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Appends to the file; if it would become too large, it takes the place of the one before it.
fn append(path: &Path, text: &[u8], limit: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let size = match fs::metadata(path) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if size > 0 && size + text.len() as u64 > limit {
        fs::rename(path, path.with_extension("influx.1"))?;
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use heliograph_core::model::{Batch, Key, Kind, SeriesBuilder, Value};

    fn quarantine(directory: &Path, max_size: u64) -> Quarantine {
        let clock = Clock::manual(1_767_323_045_600_000_000);
        Quarantine::new(directory, "outputs.http::a/b", max_size, clock, QuarantineStats::default())
    }

    fn batch() -> WriteBatch {
        let mut batch = Batch::new();
        for number in 0..4 {
            let series = SeriesBuilder::new().start(b"m").set_tag(b"t", b"x y").build();
            batch.start(series, number, Kind::Untyped);
            let value = if number == 2 { Value::Float(f64::NAN) } else { Value::Uint(number as u64) };
            batch.push_field(Key::fixed("v"), value);
        }
        batch.into()
    }

    fn refused(metrics: &[usize], answer: &str) -> Rejection {
        Rejection { metrics: metrics.to_vec(), answer: answer.to_owned() }
    }

    fn check(path: &Path, expect: Expect) {
        expect.assert_eq(&fs::read_to_string(path).unwrap());
    }

    #[tokio::test]
    async fn lines_behind_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = quarantine(&folder.path().join("deep/er"), 1 << 20);
        let (stats, path) = (quarantine.stats.clone(), quarantine.path.clone());
        quarantine.keep(&batch(), &[refused(&[0, 2, 3], "400: no\nsuch field"), refused(&[1], "too old")]).await;
        quarantine.keep(&batch(), &[refused(&[2], "not a number")]).await;
        assert_eq!((stats.metrics.get(), stats.errors.get()), (3, 0));
        check(
            &path,
            expect![[r#"
            # 2026-01-02T03:04:05Z outputs.http::a/b 400: no such field
            m,t=x\ y v=0u 0
            # 2026-01-02T03:04:05Z outputs.http::a/b too old
            m,t=x\ y v=1u 1
            # 2026-01-02T03:04:05Z outputs.http::a/b 400: no such field
            m,t=x\ y v=3u 3
        "#]],
        );
    }

    #[tokio::test]
    async fn the_bound_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = quarantine(folder.path(), 300);
        for number in 0..20 {
            quarantine.keep(&batch(), &[refused(&[0, 1, 3], &format!("no {number}"))]).await;
            let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
            let sizes: Vec<u64> = files.collect();
            assert!(sizes.len() <= 2 && sizes.iter().sum::<u64>() <= 300, "{sizes:?}");
        }
        let newest = fs::read_to_string(&quarantine.path).unwrap();
        assert!(newest.contains("no 19") && !newest.contains("no 17"), "{newest}");
        // What is too large for a file alone is cut.
        quarantine.keep(&batch(), &[refused(&[0, 1, 3], &"x".repeat(80))]).await;
        check(
            &quarantine.path,
            expect![[r#"
            # 2026-01-02T03:04:05Z outputs.http::a/b xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
            m,t=x\ y v=0u 0
        "#]],
        );
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_counted_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut quarantine = quarantine(file.path(), 1 << 20);
        for _ in 0..3 {
            quarantine.keep(&batch(), &[refused(&[0], "no")]).await;
        }
        assert_eq!((quarantine.stats.metrics.get(), quarantine.stats.errors.get()), (0, 3));
    }
}
