//! Runs one command, within limits of time and output.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::config::Argv;

/// What came of a command.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Why it counts as failed.
    pub(super) failure: Option<String>,
}

/// Most output that is taken, in bytes; a command that prints more has failed.
const STDOUT_LIMIT: u64 = 64 << 20;
/// Error output that is kept, in bytes; the rest is thrown away.
const STDERR_LIMIT: u64 = 1 << 20;
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// From SIGKILL to giving up on a process that another one keeps the pipes of open.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Runs a command in a process group of its own. After `limit` the group gets SIGTERM, 5 s later SIGKILL.
pub(super) async fn run(argv: &Argv, environment: &[(String, String)], limit: Duration) -> Outcome {
    let spawned = Command::new(&argv.program)
        .args(argv.arguments.iter())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Outcome { failure: Some(format!("cannot start: {error}")), ..Outcome::default() },
    };
    let mut group = Group::of(&child);
    let stdout = child.stdout.take().map(|pipe| read(pipe, STDOUT_LIMIT));
    let stderr = child.stderr.take().map(|pipe| read_and_drain(pipe, STDERR_LIMIT));
    let work = async {
        let (stdout, stderr) = tokio::join!(optional(stdout), optional(stderr));
        (stdout, stderr, child.wait().await)
    };
    tokio::pin!(work);

    let mut timed_out = false;
    let ended = match timeout(limit, &mut work).await {
        Ok(ended) => Some(ended),
        Err(_) => {
            timed_out = true;
            group.signal(Signal::TERM);
            match timeout(GRACE, &mut work).await {
                Ok(ended) => Some(ended),
                Err(_) => {
                    group.signal(Signal::KILL);
                    timeout(LAST_GRACE, &mut work).await.ok()
                }
            }
        }
    };
    let Some((mut stdout, stderr, status)) = ended else {
        return Outcome { failure: Some(timed_out_after(limit)), ..Outcome::default() };
    };
    group.is_over();
    let mut failure = match status {
        Ok(status) => failure_of(status, timed_out, limit),
        Err(error) => Some(format!("cannot wait for it: {error}")),
    };
    if stdout.len() as u64 > STDOUT_LIMIT {
        failure = Some(format!("it printed more than {} MiB", STDOUT_LIMIT >> 20));
        stdout.clear();
    }
    Outcome { stdout, stderr, failure }
}

/// A command that ends well after SIGTERM has not failed.
fn failure_of(status: ExitStatus, timed_out: bool, limit: Duration) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        _ if timed_out => Some(timed_out_after(limit)),
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(signal)) => Some(format!("killed by signal {signal}")),
        (None, None) => Some(status.to_string()),
    }
}

fn timed_out_after(limit: Duration) -> String {
    format!("command timed out after {limit:?}")
}

async fn optional(read: Option<impl Future<Output = Vec<u8>>>) -> Vec<u8> {
    match read {
        Some(read) => read.await,
        None => Vec::new(),
    }
}

/// Up to one byte more than `limit`. The pipe is closed then, which ends a command that goes on printing.
async fn read(pipe: impl AsyncRead + Unpin, limit: u64) -> Vec<u8> {
    let mut content = Vec::new();
    // What was read before an error is what there is.
    let _ = pipe.take(limit + 1).read_to_end(&mut content).await;
    content
}

/// Up to `limit`; the rest is read and thrown away, so that the command can go on.
async fn read_and_drain(mut pipe: impl AsyncRead + Unpin, limit: u64) -> Vec<u8> {
    let mut content = Vec::new();
    let _ = (&mut pipe).take(limit).read_to_end(&mut content).await;
    let _ = copy(&mut pipe, &mut sink()).await;
    content
}

/// The process group of a command; killed when it is dropped while the command runs, as when a gather is cut off.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Fails only if the group is gone, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// The command was waited for, so its number may belong to another process from now on.
    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    #[track_caller]
    fn check(raw: i32, timed_out: bool, expected: Option<&str>) {
        assert_eq!(failure_of(ExitStatus::from_raw(raw), timed_out, LIMIT).as_deref(), expected);
    }

    #[test]
    fn statuses() {
        check(0, false, None);
        check(3 << 8, false, Some("exit status 3"));
        check(9, false, Some("killed by signal 9"));
    }

    #[test]
    fn a_good_end_after_the_timeout_is_no_failure() {
        check(0, true, None);
        check(15, true, Some("command timed out after 500ms"));
    }

    fn argv(words: &[&str]) -> Argv {
        let arguments: Vec<String> = words[1..].iter().map(|word| word.to_string()).collect();
        Argv { program: words[0].into(), arguments: arguments.into() }
    }

    #[tokio::test]
    async fn output_and_errors_are_taken() {
        let outcome =
            run(&argv(&["sh", "-c", "cat; echo out; echo err >&2; exit 4"]), &[], Duration::from_secs(60)).await;
        assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(outcome.failure.as_deref(), Some("exit status 4"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist() {
        let outcome = run(&argv(&["/does/not/exist"]), &[], Duration::from_secs(60)).await;
        assert_eq!(outcome.failure.as_deref(), Some("cannot start: No such file or directory (os error 2)"));
    }

    #[tokio::test]
    async fn endless_output_ends() {
        let outcome = run(&argv(&["yes"]), &[], Duration::from_secs(60)).await;
        assert_eq!((outcome.stdout.len(), outcome.failure.as_deref()), (0, Some("it printed more than 64 MiB")));
    }
}
