//! How full file systems are, without waiting for those that do not answer.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest a file system may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Enough for one system call and its path, in bytes.
const STACK: usize = 64 << 10;

/// Space and inodes of a file system; space in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) total: u64,
    /// What users may still take; the part that is reserved for root does not count.
    pub(super) free: u64,
    pub(super) used: u64,
    pub(super) inodes_total: u64,
    pub(super) inodes_free: u64,
    pub(super) inodes_used: u64,
}

impl Usage {
    /// Asks the file system of a path. Fails as `statfs(2)`, and may not return for as long as its server is away.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statfs(path)?;
        let bytes = |blocks: u64| blocks.wrapping_mul(stat.f_bsize as u64);
        Ok(Self {
            total: bytes(stat.f_blocks),
            free: bytes(stat.f_bavail),
            used: bytes(stat.f_blocks.wrapping_sub(stat.f_bfree)),
            inodes_total: stat.f_files,
            inodes_free: stat.f_ffree,
            inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
        })
    }

    /// Percentage of the space that users can reach, so that it shows 100 when they can write no more.
    pub(super) fn used_percent(&self) -> f64 {
        percent(self.used, self.free)
    }

    /// Percentage of the inodes.
    pub(super) fn inodes_used_percent(&self) -> f64 {
        percent(self.inodes_used, self.inodes_free)
    }
}

fn percent(used: u64, free: u64) -> f64 {
    if used.wrapping_add(free) == 0 { 0.0 } else { used as f64 / (used as f64 + free as f64) * 100.0 }
}

/// What came of asking a file system.
#[derive(Debug)]
pub(super) enum Answer {
    /// It answered.
    Usage(Usage),
    /// It refused, or is gone.
    Failed(io::Error),
    /// It did not answer in time, now or when it was asked last.
    Stuck,
}

type Ask = dyn Fn(&Path) -> io::Result<Usage> + Send + Sync;

/// Asks file systems that may hang: those of networks, and those that programs serve.
///
/// The calls run on a thread of our own, one after the other. One that hangs keeps its thread, which cannot be helped, but
/// never more than that: its path counts as busy until the call returns, and is not asked again before. The runtime's
/// threads for blocking work would do as well, if it did not wait for them at the end of the program.
pub(super) struct Prober {
    ask: Arc<Ask>,
    busy: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Prober {
    /// Asks with `statfs(2)`.
    pub(super) fn new() -> Self {
        Self::with(Usage::of)
    }

    /// Asks as a test wants.
    fn with(ask: impl Fn(&Path) -> io::Result<Usage> + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), busy: Arc::default() }
    }

    /// The answers, in the order of the paths. It may be dropped at any time: a thread that hangs is remembered.
    pub(super) async fn ask(&self, paths: Vec<PathBuf>) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::with_capacity(paths.len());
        while answers.len() < paths.len() {
            let mut received = match self.start(paths[answers.len()..].to_vec()) {
                Ok(received) => received,
                Err(error) => {
                    answers.push(Answer::Failed(error));
                    continue;
                }
            };
            while answers.len() < paths.len() {
                match timeout(DEADLINE, received.recv()).await {
                    Ok(Some(answer)) => answers.push(answer),
                    // This path hangs; the ones behind it get another thread.
                    Ok(None) | Err(_) => {
                        answers.push(Answer::Stuck);
                        break;
                    }
                }
            }
        }
        answers
    }

    /// Starts a thread that sends an answer for each path, until nobody listens any more.
    fn start(&self, paths: Vec<PathBuf>) -> io::Result<mpsc::UnboundedReceiver<Answer>> {
        // Never holds more answers than there are paths.
        let (sender, received) = mpsc::unbounded_channel();
        let (ask, busy) = (self.ask.clone(), self.busy.clone());
        let work = move || {
            for path in paths {
                if sender.is_closed() {
                    return;
                }
                let answer = if lock(&busy).insert(path.clone()) {
                    let answer = ask(&path).map_or_else(Answer::Failed, Answer::Usage);
                    lock(&busy).remove(&path);
                    answer
                } else {
                    Answer::Stuck
                };
                // Fails if nobody listens any more, which the next round notices.
                let _ = sender.send(answer);
            }
        };
        std::thread::Builder::new().name("disk-probe".into()).stack_size(STACK).spawn(work)?;
        Ok(received)
    }
}

fn lock(busy: &Mutex<HashSet<PathBuf>>) -> MutexGuard<'_, HashSet<PathBuf>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn show(answers: &[Answer]) -> Vec<String> {
        let show = |answer: &Answer| match answer {
            Answer::Usage(usage) => usage.total.to_string(),
            Answer::Failed(error) => error.to_string(),
            Answer::Stuck => "stuck".into(),
        };
        answers.iter().map(show).collect()
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[tokio::test]
    async fn every_path_has_its_answer() {
        let prober = Prober::with(|path| match path.to_str() {
            Some("gone") => Err(io::Error::other("gone")),
            path => Ok(Usage { total: path.unwrap().len() as u64, ..Usage::default() }),
        });
        assert_eq!(show(&prober.ask(paths(&["a", "gone", "ccc"])).await), ["1", "gone", "3"]);
        assert!(prober.ask(Vec::new()).await.is_empty());
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_is_asked_once_and_holds_nobody_back() {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let (hang, asked) = (Mutex::new(hang), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let prober = Prober::with(move |path| {
            if path == Path::new("dead") {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = hang.lock().unwrap().recv();
            }
            Ok(Usage { total: 1, ..Usage::default() })
        });
        // Once the question hangs, only the deadline can end it; a paused clock jumps there.
        let hangs = async {
            while asked.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            tokio::time::pause();
        };
        let (first, ()) = tokio::join!(prober.ask(paths(&["dead"])), hangs);
        tokio::time::resume();
        assert_eq!(show(&first), ["stuck"]);
        for _ in 0..3 {
            assert_eq!(show(&prober.ask(paths(&["a", "dead", "b"])).await), ["1", "stuck", "1"]);
        }
        drop(release);
        while prober.busy.lock().unwrap().contains(Path::new("dead")) {
            std::thread::yield_now();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(show(&prober.ask(paths(&["dead"])).await), ["1"]);
    }

    #[test]
    fn percentages() {
        let usage = Usage { used: 24_576, free: 14_336, inodes_used: 160, inodes_free: 2400, ..Usage::default() };
        assert_eq!((usage.used_percent(), usage.inodes_used_percent()), (63.1578947368421, 6.25));
        assert_eq!(Usage::default().used_percent(), 0.0);
    }

    #[test]
    fn the_root_file_system_has_a_size() {
        let usage = Usage::of(Path::new("/")).unwrap();
        assert!(usage.total > 0 && usage.used <= usage.total, "{usage:?}");
    }
}
