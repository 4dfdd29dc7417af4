//! The demonstration: a broker, devices and the ordinary agent in one process, and a view of what happens.

mod broker;
mod config;
mod devices;
mod figures;
mod tail;
mod view;

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use heliograph_core::stats::Stats;

use self::devices::Sent;
use self::figures::Figures;
pub use self::figures::{BudgetFigures, DeviceFigures, Files, Frame, InputFigures, OutputFigures};
use self::view::Screen;
use crate::agent::{self, Mode, Stopper};
use crate::config::{LoadOptions, os_hostname};
use crate::logging::{Control, Settings};

/// What the demonstration is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Simulated devices.
    pub devices: usize,
    /// Messages a second of all devices together.
    pub rate: u32,
    /// How long it lasts; zero until it is told to end.
    pub duration: Duration,
    /// Folder for its files; a fresh one among the temporary files without it.
    pub folder: Option<PathBuf>,
    /// Graphite server to send to as well, as `host:port`.
    pub graphite: Option<String>,
    /// Remote-write receiver to send to as well.
    pub remote_write: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { devices: 300, rate: 500, duration: Duration::ZERO, folder: None, graphite: None, remote_write: None }
    }
}

/// How often the screen is drawn.
const REFRESH: Duration = Duration::from_millis(500);
/// How often a pipe gets a line.
const LINE: Duration = Duration::from_secs(2);

/// Warnings and errors at the end of the log among which those to show are sought.
const COMPLAINTS: usize = 100;

/// Runs the demonstration and shows it on standard output, until it ends by itself or by a signal.
///
/// # Errors
/// If it cannot be prepared, and those of the agent.
pub fn show(options: &Options, log: &Control) -> anyhow::Result<()> {
    let demo = Demo::prepare(options)?;
    let mut out = io::stdout();
    let terminal = rustix::termios::isatty(&out);
    // An error is that nobody reads any more, which the first picture finds out.
    let _ = writeln!(out, "configuration   {}", demo.files.config.display());
    let _ = writeln!(out, "graphite lines  {}", demo.files.lines.display());
    let _ = writeln!(out, "log             {}", demo.files.log.display());
    let mut screen = None;
    let mut show = |frame: &Frame| -> io::Result<()> {
        if !terminal {
            return writeln!(io::stdout(), "{}", view::line_of(frame));
        }
        if screen.is_none() {
            screen = Some(Screen::open()?);
        }
        screen.as_mut().map_or(Ok(()), |screen| screen.draw(frame))
    };
    let result = demo.run(log, if terminal { REFRESH } else { LINE }, |frame| match show(frame) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    drop(screen);
    let uptime = result?;
    let _ = writeln!(out, "ended after {}; the files are still there", view::time(uptime));
    Ok(())
}

/// A demonstration that is ready to run: its broker listens, its configuration is written.
#[derive(Debug)]
pub struct Demo {
    options: Options,
    broker: SocketAddr,
    files: Files,
}

impl Demo {
    /// Starts the broker and writes the configuration.
    ///
    /// # Errors
    /// If one of the two cannot be done.
    pub fn prepare(options: &Options) -> anyhow::Result<Self> {
        let folder = match &options.folder {
            Some(folder) => given_folder(folder)?,
            None => fresh_folder(&std::env::temp_dir())?,
        };
        if folder.to_str().is_none() {
            bail!("cannot use folder {}: its name is not UTF-8, and so no configuration can name it", folder.display());
        }
        let broker = broker::start()?;
        let text = config::text(&config::Settings {
            broker,
            devices: options.devices,
            folder: &folder,
            graphite: options.graphite.as_deref(),
            remote_write: options.remote_write.as_deref(),
        });
        let files = Files {
            config: config::config_file(&folder),
            log: config::log_file(&folder),
            lines: config::lines_file(&folder),
        };
        fs::write(&files.config, text).with_context(|| format!("cannot write {}", files.config.display()))?;
        Ok(Self { options: options.clone(), broker, files })
    }

    /// Where its files are.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Runs devices and agent; every so often `watch` gets a picture of them and says whether to go on. Returns how long
    /// that went.
    ///
    /// # Errors
    /// Those of the agent, and if there is no thread for the devices.
    pub fn run(
        &self,
        log: &Control,
        every: Duration,
        watch: impl FnMut(&Frame) -> ControlFlow<()> + Send,
    ) -> anyhow::Result<Duration> {
        // From the first message on, so that none gets between the pictures.
        log.configure(&Settings { file: Some(self.files.log.clone()), ..Settings::default() })
            .with_context(|| format!("cannot open the log file {}", self.files.log.display()))?;
        let load = LoadOptions {
            configs: vec![self.files.config.to_string_lossy().into_owned()],
            known: agent::known_plugins(),
            os_hostname: os_hostname(),
            ..LoadOptions::default()
        };
        let agent_options = agent::Options {
            load,
            mode: Mode::Run,
            debug: false,
            quiet: false,
            print_sources: false,
            watch: agent::WatchOptions::default(),
        };
        let (stats, sent) = (Stats::default(), Sent::default());
        let begun = Instant::now();
        let watcher =
            Watcher { demo: self, begun, sent: sent.clone(), figures: Figures::new(stats.clone()), folded_line: None };
        thread::scope(|scope| {
            let (end, end_agent) = agent::stop_channel();
            let (end_devices, stop) = agent::stop_channel();
            // Dropped when the agent has ended, which the watcher sees.
            let (_running, ended) = mpsc::channel();
            let Options { devices, rate, .. } = self.options;
            let devices = thread::Builder::new()
                .name("devices".to_owned())
                .spawn_scoped(scope, move || devices::run(self.broker, devices, rate, &sent, stop))?;
            thread::Builder::new()
                .name("view".to_owned())
                .spawn_scoped(scope, move || watcher.run(every, watch, &ended, &end))?;
            agent::run_with(&agent_options, log, stats, end_agent).map_err(|error| anyhow!(error))?;
            end_devices.stop();
            devices.join().map_err(|_| anyhow!("the devices have failed"))?
        })?;
        Ok(begun.elapsed())
    }
}

/// Makes pictures and hands them on.
struct Watcher<'a> {
    demo: &'a Demo,
    begun: Instant,
    sent: Sent,
    figures: Figures,
    /// Comes once an interval, so it may not be among the last lines.
    folded_line: Option<String>,
}

impl Watcher<'_> {
    /// Until the agent has ended, which it is told to when time is up or nobody wants to see more.
    fn run(
        mut self,
        every: Duration,
        mut watch: impl FnMut(&Frame) -> ControlFlow<()>,
        ended: &mpsc::Receiver<()>,
        end: &Stopper,
    ) {
        let duration = self.demo.options.duration;
        let mut watching = true;
        loop {
            let uptime = self.begun.elapsed();
            let left = if duration.is_zero() { every } else { duration.saturating_sub(uptime) };
            let wait = if left.is_zero() { every } else { left.min(every) };
            if ended.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            watching = watching && watch(&self.frame()).is_continue();
            if !watching || (!duration.is_zero() && self.begun.elapsed() >= duration) {
                end.stop();
            }
        }
    }

    fn frame(&mut self) -> Frame {
        let mut frame = self.figures.frame(self.begun.elapsed(), self.sent.messages());
        frame.devices.count = self.demo.options.devices;
        frame.devices.invented = self.sent.invented();
        frame.files = self.demo.files.clone();
        let lines = |count, wanted: fn(&str) -> bool| tail::last_lines(&frame.files.lines, count, wanted);
        let (last, folded) =
            (lines(view::LINES, |_| true), lines(1, |line| line.contains(".other.temperature_count ")));
        self.folded_line = folded.into_iter().next().or(self.folded_line.take());
        frame.lines = last;
        frame.folded_line.clone_from(&self.folded_line);
        frame.log = complaints(&frame.files.log);
        frame
    }
}

/// The last warnings and errors of the log; one that was said many times is there once, with its last time.
fn complaints(log: &Path) -> Vec<String> {
    let is_complaint =
        |line: &str| line.split_once(' ').is_some_and(|(_, text)| text.starts_with("W!") || text.starts_with("E!"));
    let text_of = |line: &str| line.split_once(' ').map(|(_, text)| text.to_owned());
    let mut found: Vec<(String, usize)> = Vec::new();
    for line in tail::last_lines(log, COMPLAINTS, is_complaint).into_iter().rev() {
        let text = text_of(&line);
        match found.iter().position(|(known, _)| text_of(known) == text) {
            Some(known) => found[known].1 += 1,
            None if found.len() < view::LOG_LINES => found.push((line, 1)),
            None => {}
        }
    }
    let show = |(line, times)| if times > 1 { format!("{line} ({times} times)") } else { line };
    found.into_iter().rev().map(show).collect()
}

/// A folder that the user named. A configuration in it that is not ours stays as it is.
fn given_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = std::path::absolute(folder).with_context(|| format!("cannot use folder {}", folder.display()))?;
    DirBuilder::new()
        .recursive(true)
        .create(&folder)
        .with_context(|| format!("cannot make folder {}", folder.display()))?;
    let config = config::config_file(&folder);
    match fs::read(&config) {
        Ok(text) if !text.starts_with(config::FIRST_LINE.as_bytes()) => {
            bail!("{} is not of a demonstration and is left alone; name another --folder", config.display())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot read {}", config.display()))
        }
        _ => Ok(folder),
    }
}

/// A new folder that nobody else can read.
fn fresh_folder(parent: &Path) -> anyhow::Result<PathBuf> {
    for number in 0..1000 {
        let folder = parent.join(format!("heliograph-demo-{}", std::process::id() + number));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make folder {}", folder.display())),
        }
    }
    bail!("cannot find a free name for a folder in {}; name one with --folder", parent.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_is_new_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folders = [fresh_folder(parent.path()).unwrap(), fresh_folder(parent.path()).unwrap()];
        assert_ne!(folders[0], folders[1]);
        assert_eq!(fs::metadata(&folders[0]).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(fresh_folder(&parent.path().join("missing")).is_err());
    }

    #[test]
    fn complaints_are_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "1 E! a\n2 I! b\n3 W! c\n4 E! a\n").unwrap();
        assert_eq!(complaints(&log), ["3 W! c", "4 E! a (2 times)"]);
    }

    #[test]
    fn somebody_elses_configuration_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = given_folder(&parent.path().join("a/b")).unwrap();
        fs::write(config::config_file(&folder), config::FIRST_LINE).unwrap();
        assert_eq!(given_folder(&folder).unwrap(), folder);
        fs::write(config::config_file(&folder), "[agent]\n").unwrap();
        assert!(given_folder(&folder).unwrap_err().to_string().contains("left alone"));
    }
}
