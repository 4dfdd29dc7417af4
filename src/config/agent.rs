//! The `[agent]` table.

use std::path::PathBuf;

use heliograph_core::config::{ConfigError, Duration, Position, Section, Size};

/// Options that Telegraf matches without regard to case and underscores.
const LOOSE: &[&str] = &[
    "interval",
    "round_interval",
    "metric_batch_size",
    "metric_buffer_limit",
    "collection_jitter",
    "collection_offset",
    "flush_interval",
    "flush_jitter",
    "precision",
    "hostname",
    "omit_hostname",
];

/// Where metrics wait for their outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BufferStrategy {
    /// In memory; lost with the process.
    #[default]
    Memory,
    /// In files.
    Disk,
}

/// The settings of the agent as a whole, merged over all files. The defaults stand in its `Default` alone.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// How often inputs gather; above zero.
    pub interval: Duration,
    /// Gather at multiples of the interval.
    pub round_interval: bool,
    /// Largest number of metrics in a write; above zero.
    pub metric_batch_size: usize,
    /// Largest number of metrics that wait for an output; above zero.
    pub metric_buffer_limit: usize,
    /// Largest random delay of a gather.
    pub collection_jitter: Duration,
    /// Shift of the schedule of gathers.
    pub collection_offset: Duration,
    /// How often outputs write; above zero.
    pub flush_interval: Duration,
    /// Largest random delay of a write.
    pub flush_jitter: Duration,
    /// Unit that times are rounded to; zero or less to derive it from the interval.
    pub precision: Duration,
    /// Log at debug level.
    pub debug: bool,
    /// Log errors only; wins over `debug`.
    pub quiet: bool,
    /// Deprecated choice of where logs go: empty, `stderr`, `file` or `eventlog`.
    pub logtarget: String,
    /// `text` or `structured`.
    pub logformat: String,
    /// Key of the message in structured logs.
    pub structured_log_message_key: String,
    /// File that logs go to; empty for standard error.
    pub logfile: String,
    /// Age at which the log file is rotated; zero for never.
    pub logfile_rotation_interval: Duration,
    /// Size at which the log file is rotated; zero for never.
    pub logfile_rotation_max_size: Size,
    /// Number of rotated log files that are kept; -1 for all.
    pub logfile_rotation_max_archives: i64,
    /// Time zone of log lines: empty for UTC, `local`, or an IANA name.
    pub log_with_timezone: String,
    /// Value of the `host` tag; empty for that of the operating system.
    pub hostname: String,
    /// No `host` tag.
    pub omit_hostname: bool,
    /// `netsnmp` or `gosmi`.
    pub snmp_translator: String,
    /// File that keeps the state of plugins over restarts; empty for none.
    pub statefile: String,
    /// Add an input's own tags again after its tag filter; read when the input's file is loaded.
    pub always_include_local_tags: bool,
    /// Add the global tags again after an input's tag filter; read when the input's file is loaded.
    pub always_include_global_tags: bool,
    /// Do not run processors on aggregates; `None` if not set.
    pub skip_processors_after_aggregators: Option<bool>,
    /// Do not run processors before aggregators.
    pub skip_processors_before_aggregators: bool,
    /// Further attempts to fetch a configuration from an address: 0 for 3, -1 for no end.
    pub config_url_retry_attempts: i64,
    /// Where metrics wait for outputs.
    pub buffer_strategy: BufferStrategy,
    /// Folder of the journal on disk; empty for the working directory.
    pub buffer_directory: String,
    /// Sync the journal at each commit.
    pub buffer_disk_sync: bool,
    /// Bytes that the journal may take; at least 1 MiB. An option of heliograph, as those that follow.
    pub buffer_max_size: Size,
    /// Age at which what waits in the journal goes; zero for never.
    pub buffer_max_age: Duration,
    /// Bytes of a file of the journal; zero for a share of `buffer_max_size`.
    pub buffer_segment_size: Size,
    /// How long a batch may wait for others before it is written and synced.
    pub buffer_commit_interval: Duration,
    /// Folder for what backends refuse; empty for one in that of a journal on disk, if there is one.
    pub quarantine_directory: String,
    /// Most bytes kept there for each output; zero for none.
    pub quarantine_max_size: Size,
    /// Threads that the agent works on; above zero. An option of heliograph.
    pub worker_threads: usize,
    /// Where options were set that [`AgentConfig::validate`] may refuse.
    places: Vec<(&'static str, Position)>,
}

impl Default for AgentConfig {
    fn default() -> AgentConfig {
        AgentConfig {
            interval: Duration::from_secs(10),
            round_interval: true,
            metric_batch_size: 1000,
            metric_buffer_limit: 10_000,
            collection_jitter: Duration::ZERO,
            collection_offset: Duration::ZERO,
            flush_interval: Duration::from_secs(10),
            flush_jitter: Duration::ZERO,
            precision: Duration::ZERO,
            debug: false,
            quiet: false,
            logtarget: String::new(),
            logformat: "text".to_owned(),
            structured_log_message_key: "msg".to_owned(),
            logfile: String::new(),
            logfile_rotation_interval: Duration::ZERO,
            logfile_rotation_max_size: Size::ZERO,
            logfile_rotation_max_archives: 5,
            log_with_timezone: String::new(),
            hostname: String::new(),
            omit_hostname: false,
            snmp_translator: "netsnmp".to_owned(),
            statefile: String::new(),
            always_include_local_tags: false,
            always_include_global_tags: false,
            skip_processors_after_aggregators: None,
            skip_processors_before_aggregators: false,
            config_url_retry_attempts: 0,
            buffer_strategy: BufferStrategy::Memory,
            buffer_directory: String::new(),
            buffer_disk_sync: true,
            buffer_max_size: Size::from_mib(1024),
            buffer_max_age: Duration::ZERO,
            buffer_segment_size: Size::ZERO,
            buffer_commit_interval: Duration::from_millis(10),
            quarantine_directory: String::new(),
            quarantine_max_size: Size::from_mib(10),
            worker_threads: 1,
            places: Vec::new(),
        }
    }
}

impl AgentConfig {
    /// Reads the `[agent]` table of one file onto the settings of the files before it: what it has wins.
    pub(super) fn read(&mut self, mut section: Section) -> Result<(), ConfigError> {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }

        section.match_loosely(LOOSE);
        for option in CHECKED_LATER {
            if section.contains(option) {
                self.places.retain(|(known, _)| known != option);
                self.places.push((option, section.position_of(option)));
            }
        }
        let s = &mut section;
        set(&mut self.interval, s.take("interval")?);
        set(&mut self.round_interval, s.take("round_interval")?);
        set(&mut self.metric_batch_size, count(s, "metric_batch_size", 1000)?);
        set(&mut self.metric_buffer_limit, count(s, "metric_buffer_limit", 10_000)?);
        set(&mut self.collection_jitter, s.take("collection_jitter")?);
        set(&mut self.collection_offset, s.take("collection_offset")?);
        set(&mut self.flush_interval, s.take("flush_interval")?);
        set(&mut self.flush_jitter, s.take("flush_jitter")?);
        set(&mut self.precision, s.take("precision")?);
        set(&mut self.debug, s.take("debug")?);
        set(&mut self.quiet, s.take("quiet")?);
        set(&mut self.logtarget, s.take("logtarget")?);
        set(&mut self.logformat, s.take("logformat")?);
        set(&mut self.structured_log_message_key, s.take("structured_log_message_key")?);
        set(&mut self.logfile, s.take("logfile")?);
        set(&mut self.logfile_rotation_interval, s.take("logfile_rotation_interval")?);
        set(&mut self.logfile_rotation_max_size, s.take("logfile_rotation_max_size")?);
        set(&mut self.logfile_rotation_max_archives, s.take("logfile_rotation_max_archives")?);
        set(&mut self.log_with_timezone, s.take("log_with_timezone")?);
        set(&mut self.hostname, s.take("hostname")?);
        set(&mut self.omit_hostname, s.take("omit_hostname")?);
        set(&mut self.snmp_translator, s.take("snmp_translator")?);
        set(&mut self.statefile, s.take("statefile")?);
        set(&mut self.always_include_local_tags, s.take("always_include_local_tags")?);
        set(&mut self.always_include_global_tags, s.take("always_include_global_tags")?);
        set(&mut self.skip_processors_before_aggregators, s.take("skip_processors_before_aggregators")?);
        set(&mut self.config_url_retry_attempts, s.take("config_url_retry_attempts")?);
        set(&mut self.buffer_directory, s.take("buffer_directory")?);
        set(&mut self.buffer_disk_sync, s.take("buffer_disk_sync")?);
        set(&mut self.buffer_max_size, s.take("buffer_max_size")?);
        set(&mut self.buffer_max_age, s.take("buffer_max_age")?);
        set(&mut self.buffer_segment_size, s.take("buffer_segment_size")?);
        set(&mut self.buffer_commit_interval, s.take("buffer_commit_interval")?);
        set(&mut self.quarantine_directory, s.take("quarantine_directory")?);
        set(&mut self.quarantine_max_size, s.take("quarantine_max_size")?);
        if let Some(skip) = s.take("skip_processors_after_aggregators")? {
            self.skip_processors_after_aggregators = Some(skip);
        }
        if let Some(strategy) = s.take::<String>("buffer_strategy")? {
            self.buffer_strategy = match strategy.as_str() {
                "" | "memory" => BufferStrategy::Memory,
                "disk" | "disk_write_through" => BufferStrategy::Disk,
                other => {
                    return Err(s.unknown_value("buffer_strategy", other, ["memory", "disk", "disk_write_through"]));
                }
            };
        }
        if let Some(threads) = s.take::<usize>("worker_threads")? {
            if !(1..=1024).contains(&threads) {
                let message = format!("option \"worker_threads\" is {threads}, but must be from 1 to 1024");
                return Err(s.error_at("worker_threads", message));
            }
            self.worker_threads = threads;
        }
        if s.contains("status_address") {
            return Err(s.error_at("status_address", "option \"status_address\" is not in this version: remove it"));
        }
        if self.config_url_retry_attempts < -1 {
            let message = format!(
                "option \"config_url_retry_attempts\" is {}, but must be -1 (no end) or more",
                self.config_url_retry_attempts
            );
            return Err(s.error_at("config_url_retry_attempts", message));
        }
        section.finish_nothing()
    }

    /// Checks what a running agent needs, over the merged settings of all files.
    ///
    /// # Errors
    /// For intervals of zero or less, negative jitters and offset, unknown log settings, and if both runs of the
    /// processors are skipped.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (option, value) in [("interval", self.interval), ("flush_interval", self.flush_interval)] {
            if !value.is_positive() {
                return Err(self.error(option, format!("option \"{option}\" is {value}, but must be above zero")));
            }
        }
        for (option, value) in [
            ("collection_jitter", self.collection_jitter),
            ("collection_offset", self.collection_offset),
            ("flush_jitter", self.flush_jitter),
            ("buffer_max_age", self.buffer_max_age),
            ("buffer_commit_interval", self.buffer_commit_interval),
        ] {
            if value.is_negative() {
                return Err(self.error(option, format!("option \"{option}\" is {value}, but must not be negative")));
            }
        }
        let (size, segment) = (self.buffer_max_size, self.buffer_segment_size);
        if size < Size::from_mib(1) {
            let message = format!("option \"buffer_max_size\" is {size}, but must be 1MiB or more");
            return Err(self.error("buffer_max_size", message));
        }
        if segment > Size::ZERO && (segment < Size::from_kib(64) || segment.bytes() > size.bytes() / 4) {
            let message = format!(
                "option \"buffer_segment_size\" is {segment}, but must be from 64KiB to a quarter of buffer_max_size ({size})"
            );
            return Err(self.error("buffer_segment_size", message));
        }
        let quarantine = self.quarantine_max_size;
        if quarantine > Size::ZERO && quarantine < Size::from_kib(64) {
            let message = format!("option \"quarantine_max_size\" is {quarantine}, but must be 0 or 64KiB or more");
            return Err(self.error("quarantine_max_size", message));
        }
        let one_of = |option: &'static str, value: &str, known: &[&str]| {
            if known.contains(&value) {
                return Ok(());
            }
            let names: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            Err(self
                .error(option, format!("option \"{option}\" is {value:?}, but must be one of {}", names.join(", "))))
        };
        one_of("logformat", &self.logformat, &["text", "structured"])?;
        one_of("logtarget", &self.logtarget, &["", "stderr", "file"])?;
        let zone = &self.log_with_timezone;
        if !zone.is_empty() && !zone.eq_ignore_ascii_case("local") && jiff::tz::TimeZone::get(zone).is_err() {
            let message = format!("option \"log_with_timezone\" is {zone:?}, which is not a known time zone");
            return Err(self.error("log_with_timezone", message));
        }
        if self.skip_processors_before_aggregators && self.skip_processors_after_aggregators == Some(true) {
            let message = "options \"skip_processors_before_aggregators\" and \"skip_processors_after_aggregators\" \
                           are both true: no processor would ever run";
            return Err(self.error("skip_processors_before_aggregators", message));
        }
        Ok(())
    }

    /// Bytes of a file of the journal: as set, or a sixteenth of all within reasonable limits.
    pub fn segment_size(&self) -> u64 {
        match self.buffer_segment_size.bytes() {
            0 => (self.buffer_max_size.bytes() / 16).clamp(64 << 10, 16 << 20),
            bytes => bytes,
        }
    }

    /// Folder of the journal on disk.
    pub fn journal_directory(&self) -> PathBuf {
        if self.buffer_directory.is_empty() { "." } else { &self.buffer_directory }.into()
    }

    /// Folder for what backends refuse, and most bytes for each output; `None` if nothing is to be kept.
    pub fn quarantine(&self) -> Option<(PathBuf, u64)> {
        let directory = match (&*self.quarantine_directory, self.buffer_strategy) {
            ("", BufferStrategy::Memory) => return None,
            ("", BufferStrategy::Disk) => self.journal_directory().join("quarantine"),
            (directory, _) => directory.into(),
        };
        Some((directory, self.quarantine_max_size.bytes())).filter(|(_, size)| *size > 0)
    }

    fn error(&self, option: &str, message: impl Into<String>) -> ConfigError {
        match self.places.iter().find(|(known, _)| *known == option) {
            Some((_, position)) => position.error(message),
            None => ConfigError::new(format!("agent: {}", message.into())),
        }
    }
}

/// Options that are checked once all files are merged.
const CHECKED_LATER: &[&str] = &[
    "interval",
    "flush_interval",
    "collection_jitter",
    "collection_offset",
    "flush_jitter",
    "logformat",
    "logtarget",
    "log_with_timezone",
    "skip_processors_before_aggregators",
    "buffer_max_size",
    "buffer_max_age",
    "buffer_segment_size",
    "buffer_commit_interval",
    "quarantine_max_size",
];

/// A number of metrics; zero stands for the default.
fn count(section: &mut Section, key: &str, default: usize) -> Result<Option<usize>, ConfigError> {
    match section.take::<i64>(key)? {
        None => Ok(None),
        Some(0) => Ok(Some(default)),
        Some(value) => usize::try_from(value)
            .map(Some)
            .map_err(|_| section.error_at(key, format!("option {key:?} is {value}, but must not be negative"))),
    }
}
