//! The log: what the agent and its plugins say, as lines of text or JSON on standard error or in a file.

mod format;
mod layer;
mod settings;
mod sink;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use heliograph_core::clock::Clock;
use heliograph_core::stats::Count;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;

use format::Record;
use layer::LogLayer;
pub use settings::{Format, Settings};
use sink::Sink;

/// Target of messages of the main program (`info!(target: logging::MAIN, …)`), which carry no source.
pub const MAIN: &str = "heliograph::main";

/// Steers the log while the agent runs. Clones steer the same log.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    rules: RwLock<Rules>,
    sink: Mutex<Sink>,
}

/// Which messages are shown, and whose errors are counted.
#[derive(Debug)]
struct Rules {
    level: Level,
    plugin_levels: HashMap<String, Level>,
    error_counts: HashMap<String, Count>,
}

thread_local! {
    /// Whether this thread holds the sink.
    static HOLDS_SINK: Cell<bool> = const { Cell::new(false) };
    /// What the log file has to say about itself (a failed rotation) while this thread holds the sink.
    static ABOUT_SINK: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// Installs the log of this process: until [`Control::configure`] it goes to standard error at level info, and is
/// remembered for a log file. To be called once, first of all; a second call leaves the first log in place.
pub fn init(clock: Clock) -> Control {
    let control = Control::new(clock, Box::new(io::stderr()));
    let log = tracing_subscriber::registry().with(control.layer());
    // The one error is that a log is installed already.
    let _ = tracing::subscriber::set_global_default(log);
    control
}

impl Control {
    /// A log that writes to `stderr` what does not go to a file.
    fn new(clock: Clock, stderr: Box<dyn Write + Send>) -> Self {
        let rules = Rules { level: Level::INFO, plugin_levels: HashMap::new(), error_counts: HashMap::new() };
        Self(Arc::new(Shared { clock, rules: RwLock::new(rules), sink: Mutex::new(Sink::early(stderr)) }))
    }

    fn layer(&self) -> LogLayer {
        LogLayer::new(self.clone())
    }

    /// Switches to the settings of the configuration, at the start and at each reload; a log file is opened anew.
    /// Levels and counters of plugins are forgotten: the plugins of the new configuration set theirs again.
    ///
    /// # Errors
    /// If the log file or its folder cannot be made; the log stays as it was.
    pub fn configure(&self, settings: &Settings) -> io::Result<()> {
        self.with_sink(|sink| sink.configure(settings, &self.0.clock))?;
        self.change(|rules| {
            rules.level = settings.level;
            rules.plugin_levels.clear();
            rules.error_counts.clear();
        });
        Ok(())
    }

    /// Shows errors only until the settings are known (`--quiet`).
    pub fn quieten(&self) {
        self.change(|rules| rules.level = Level::ERROR);
    }

    /// Shows messages of a plugin (`inputs.cpu`, with an alias `inputs.cpu::lab`) up to this level, whatever the level
    /// of the agent is. Of plugins with the same name the most talkative one counts.
    pub fn set_plugin_level(&self, plugin: &str, level: Level) {
        self.change(|rules| {
            let known = rules.plugin_levels.entry(plugin.to_owned()).or_insert(level);
            *known = (*known).max(level);
        });
    }

    /// Counts every message of level error of a plugin, whether it is shown or not.
    pub fn count_errors(&self, plugin: &str, count: Count) {
        // Not a rule on what is shown, so call sites need not be asked again.
        self.0.rules.write().unwrap_or_else(PoisonError::into_inner).error_counts.insert(plugin.to_owned(), count);
    }

    /// Logs the error that ends the agent, without a source: to the log, and also to standard error if the log is a file.
    /// Lines after the first (the excerpt of a configuration) follow as they are.
    pub fn fatal(&self, message: &str) {
        let record = Record::new(self.0.clock.now(), Level::ERROR, None, message.to_owned());
        self.with_sink(|sink| {
            if sink.is_file() {
                sink.write_to_stderr(&record);
            }
            sink.write(record);
        });
    }

    fn write(&self, record: Record) {
        if HOLDS_SINK.get() {
            ABOUT_SINK.with_borrow_mut(|records| records.push(record));
        } else {
            self.with_sink(|sink| sink.write(record));
        }
    }

    fn with_sink<T>(&self, act: impl FnOnce(&mut Sink) -> T) -> T {
        let mut sink = self.0.sink.lock().unwrap_or_else(PoisonError::into_inner);
        HOLDS_SINK.set(true);
        let result = act(&mut sink);
        HOLDS_SINK.set(false);
        ABOUT_SINK.take().iter().for_each(|record| sink.write_to_stderr(record));
        result
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.0.rules.write().unwrap_or_else(PoisonError::into_inner));
        // Call sites remember whether they are of interest; the lock is free again, as they ask for it.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Rules {
    /// The most talkative level of any plugin or the agent.
    fn max_level(&self) -> Level {
        self.plugin_levels.values().copied().fold(self.level, Level::max)
    }

    /// Whether a message is shown; `plugin` is its source if that is a plugin.
    fn shows(&self, plugin: Option<&str>, level: Level) -> bool {
        let limit = plugin.and_then(|plugin| self.plugin_levels.get(plugin)).unwrap_or(&self.level);
        level <= *limit
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use tracing::{debug, error, info, trace, warn};

    use super::*;

    const NOON: i64 = 1_767_322_800_123_456_789;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn check(&self, expected: Expect) {
            expected.assert_eq(&String::from_utf8(self.0.lock().unwrap().clone()).unwrap());
        }
    }

    /// What arrives on standard error while `talk` runs.
    fn log(talk: impl FnOnce(&Control)) -> Captured {
        let captured = Captured::default();
        let control = Control::new(Clock::manual(NOON), Box::new(captured.clone()));
        let log = tracing_subscriber::registry().with(control.layer());
        tracing::subscriber::with_default(log, || talk(&control));
        captured
    }

    fn structured() -> Settings {
        Settings { format: Format::Structured { message_key: "msg".into() }, ..Settings::default() }
    }

    #[test]
    fn sources_and_fields() {
        log(|_| {
            let problem = io::Error::other("no such device");
            error!(plugin = "inputs.disk::lab", error = %problem, suppressed = 3u64, path = "/mnt/a b", "cannot read");
            warn!(
                plugin = "outputs.graphite",
                error = "reset",
                suppressed = 0u64,
                count = 5,
                ok = true,
                "write failed"
            );
            info!(target: MAIN, "Loaded inputs: cpu");
            info!(target: "heliograph::agent", "Config: Interval:10s");
            info!(target: "heliograph_core::config", server = "", other = ?Some("x"), "odd\u{1b}[31m\nline");
            debug!(plugin = "inputs.cpu", "hidden");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z E! [inputs.disk::lab] cannot read: no such device path="/mnt/a b" (3 more suppressed)
            2026-01-02T03:00:00Z W! [outputs.graphite] write failed: reset count=5 ok=true
            2026-01-02T03:00:00Z I! Loaded inputs: cpu
            2026-01-02T03:00:00Z I! [agent] Config: Interval:10s
            2026-01-02T03:00:00Z I! [agent] odd\u{1b}[31m\nline server="" other="Some(\"x\")"
        "#]]);
    }

    #[test]
    fn json() {
        log(|control| {
            info!(plugin = "inputs.cpu", "early");
            control.configure(&structured()).unwrap();
            error!(plugin = "inputs.disk::lab", error = "no \"such\"", suppressed = 3u64, n = -1, f = 0.5, "cannot read");
            info!(target: "heliograph::pipeline::input", elapsed = ?Duration::from_millis(5), time = 7, "done");
            info!(target: MAIN, "Loaded inputs: cpu");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z I! [inputs.cpu] early
            {"time":"2026-01-02T03:00:00.123456789Z","level":"INFO","msg":"early","category":"inputs","plugin":"cpu"}
            {"time":"2026-01-02T03:00:00.123456789Z","level":"ERROR","msg":"cannot read: no \"such\"","category":"inputs","plugin":"disk","alias":"lab","n":-1,"f":0.5,"suppressed":3}
            {"time":"2026-01-02T03:00:00.123456789Z","level":"INFO","msg":"[agent] done","elapsed":"5ms","time_":7}
            {"time":"2026-01-02T03:00:00.123456789Z","level":"INFO","msg":"Loaded inputs: cpu"}
        "#]]);
    }

    #[test]
    fn levels_of_agent_and_plugins() {
        log(|control| {
            control.configure(&Settings { level: Level::ERROR, ..Settings::default() }).unwrap();
            control.set_plugin_level("inputs.cpu", Level::TRACE);
            control.set_plugin_level("inputs.cpu", Level::WARN);
            info!(plugin = "inputs.mem", "hidden");
            trace!(plugin = "inputs.cpu", "shown");
            trace!(plugin = "inputs.cpu::other", "hidden");
            control.configure(&Settings { level: Level::DEBUG, ..Settings::default() }).unwrap();
            trace!(plugin = "inputs.cpu", "hidden");
            debug!(plugin = "inputs.cpu", "shown");
            control.set_plugin_level("inputs.cpu", Level::ERROR);
            warn!(plugin = "inputs.cpu", "hidden");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z T! [inputs.cpu] shown
            2026-01-02T03:00:00Z D! [inputs.cpu] shown
        "#]]);
    }

    #[test]
    fn errors_are_counted() {
        let count = Count::default();
        log(|control| {
            control.count_errors("inputs.cpu", count.clone());
            error!(plugin = "inputs.cpu", "one");
            error!(plugin = %"inputs.cpu", "two");
            warn!(plugin = "inputs.cpu", "no error");
            error!(plugin = "inputs.mem", "another's");
        });
        assert_eq!(count.get(), 2);
    }

    #[test]
    fn foreign_crates_speak_at_level_debug() {
        log(|control| {
            error!(target: "hyper::client", "hidden");
            control.configure(&Settings { level: Level::DEBUG, ..Settings::default() }).unwrap();
            error!(target: "hyper::client", "shown");
            info!(target: "rumqttc", "hidden");
            debug!(target: "heliographic", "hidden");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z D! [hyper] shown
        "#]]);
    }

    #[test]
    fn time_zone() {
        log(|control| {
            let zone = heliograph_core::timestamp::Zone::load("Europe/Berlin").unwrap();
            control.configure(&Settings { zone, ..Settings::default() }).unwrap();
            info!(target: MAIN, "x");
        })
        .check(expect![[r#"
            2026-01-02T04:00:00+01:00 I! x
        "#]]);
    }

    #[test]
    fn a_log_file_gets_what_was_said_before_it_and_the_last_error_is_also_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/agent.log");
        log(|control| {
            info!(target: MAIN, "Loading config: a.conf");
            let settings = Settings { level: Level::ERROR, file: Some(path.clone()), ..Settings::default() };
            control.configure(&settings).unwrap();
            warn!(target: MAIN, "hidden");
            error!(plugin = "inputs.cpu", "only in the file");
            control.fatal("it is over\n  | excerpt");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z I! Loading config: a.conf
            2026-01-02T03:00:00Z E! it is over
              | excerpt
        "#]]);
        expect![[r#"
            2026-01-02T03:00:00Z I! Loading config: a.conf
            2026-01-02T03:00:00Z E! [inputs.cpu] only in the file
            2026-01-02T03:00:00Z E! it is over
              | excerpt
        "#]]
        .assert_eq(&std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_leaves_the_log_as_it_was() {
        log(|control| {
            let settings = Settings { file: Some("/dev/null/agent.log".into()), ..Settings::default() };
            assert!(control.configure(&settings).is_err());
            info!(target: MAIN, "still here");
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z I! still here
        "#]]);
    }

    #[test]
    fn a_log_file_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings { file: Some(folder.path().join("agent.log")), ..Settings::default() };
        settings.rotation.max_size = Some(20);
        settings.rotation.max_archives = Some(1);
        log(|control| {
            control.configure(&settings).unwrap();
            info!(target: MAIN, "first");
            info!(target: MAIN, "second");
        });
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let contents: Vec<_> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert_eq!(contents, ["2026-01-02T03:00:00Z I! second\n", ""]);
    }

    #[test]
    fn what_the_file_does_not_take_is_not_lost() {
        log(|control| {
            let settings = Settings { file: Some("/dev/full".into()), ..Settings::default() };
            control.configure(&settings).unwrap();
            info!(target: MAIN, "not lost");
            let about = Record::new(NOON, Level::WARN, None, "cannot rotate the file".into());
            control.with_sink(|_| control.write(about));
        })
        .check(expect![[r#"
            2026-01-02T03:00:00Z I! not lost
            2026-01-02T03:00:00Z W! cannot rotate the file
        "#]]);
    }
}
