//! What the configuration and the command line say about the log.

use std::path::PathBuf;

use heliograph_core::config::ConfigError;
use heliograph_core::timestamp::Zone;
use heliograph_plugins::common::rotate::RotateRules;
use tracing::{Level, warn};

use super::MAIN;
use crate::config::AgentConfig;

/// Settings of the log. By default it goes to standard error as text, at level info, in UTC.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most talkative level that is shown, of plugins without a level of their own.
    pub level: Level,
    /// Form of the lines.
    pub format: Format,
    /// Zone of the times.
    pub zone: Zone,
    /// File that the log is appended to; `None` for standard error.
    pub file: Option<PathBuf>,
    /// When the file is put aside.
    pub rotation: RotateRules,
}

/// Form of the lines of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `<time> <L>! [<source>] <message>`
    Text,
    /// A JSON object.
    Structured {
        /// Key of the message.
        message_key: String,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::INFO, format: Format::Text, zone: Zone::UTC, file: None, rotation: RotateRules::default() }
    }
}

impl Settings {
    /// The settings of `[agent]`; `debug` and `quiet` are the flags of the command line, of which quiet wins.
    ///
    /// # Errors
    /// For a format or time zone that does not exist, and for `logtarget = "eventlog"`.
    pub fn new(agent: &AgentConfig, debug: bool, quiet: bool) -> Result<Self, ConfigError> {
        let level = if quiet || agent.quiet {
            Level::ERROR
        } else if debug || agent.debug {
            Level::DEBUG
        } else {
            Level::INFO
        };
        let format = match agent.logformat.as_str() {
            "text" => Format::Text,
            "structured" => {
                let key = agent.structured_log_message_key.as_str();
                Format::Structured { message_key: if key.is_empty() { "msg" } else { key }.to_owned() }
            }
            other => {
                let message =
                    format!("agent: option \"logformat\" is {other:?}, but must be \"text\" or \"structured\"");
                return Err(ConfigError::new(message));
            }
        };
        let zone = match agent.log_with_timezone.as_str() {
            zone if zone.eq_ignore_ascii_case("local") => Zone::load("Local"),
            zone => Zone::load(zone),
        };
        let zone = zone.map_err(|error| ConfigError::new("agent: option \"log_with_timezone\"").caused_by(error))?;
        let file = match agent.logtarget.as_str() {
            "" | "file" => &agent.logfile,
            "stderr" => "",
            other => {
                let message = format!("agent: option \"logtarget\" is {other:?}, but must be \"stderr\" or \"file\"");
                return Err(ConfigError::new(message));
            }
        };
        Ok(Self {
            level,
            format,
            zone,
            file: (!file.is_empty()).then(|| PathBuf::from(file)),
            rotation: RotateRules::from_options(
                agent.logfile_rotation_interval.positive(),
                agent.logfile_rotation_max_size.as_usize() as u64,
                agent.logfile_rotation_max_archives,
            ),
        })
    }

    /// Warns of options of the log that are on their way out; once a start, when the log is set up.
    pub fn warn_about(agent: &AgentConfig) {
        if !agent.logtarget.is_empty() {
            warn!(
                target: MAIN,
                "DeprecationWarning: option \"logtarget\" of [agent] is deprecated; use \"logfile\", which is empty for \
                 standard error"
            );
        }
        if agent.snmp_translator != AgentConfig::default().snmp_translator {
            warn!(target: MAIN, "Option \"snmp_translator\" of [agent] has no effect: no plugin here speaks SNMP");
        }
        if agent.skip_processors_after_aggregators.is_none() {
            warn!(
                "The default of \"skip_processors_after_aggregators\" is to become true; set it to keep what you have"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut AgentConfig)) -> Result<Settings, String> {
        let mut agent = AgentConfig::default();
        change(&mut agent);
        Settings::new(&agent, false, false).map_err(|error| error.line())
    }

    #[test]
    fn quiet_wins_over_debug() {
        let level = |debug, quiet| Settings::new(&AgentConfig::default(), debug, quiet).unwrap().level;
        assert_eq!(
            [level(false, false), level(true, false), level(true, true)],
            [Level::INFO, Level::DEBUG, Level::ERROR]
        );
        assert_eq!(of(|agent| agent.debug = true).unwrap().level, Level::DEBUG);
    }

    #[test]
    fn targets() {
        let file = |target: &str| {
            of(|agent| {
                agent.logfile = "a.log".into();
                agent.logtarget = target.into();
            })
            .map(|settings| settings.file)
        };
        assert_eq!(file("").unwrap(), Some("a.log".into()));
        assert_eq!(file("file").unwrap(), Some("a.log".into()));
        assert_eq!(file("stderr").unwrap(), None);
        assert!(file("eventlog").unwrap_err().contains("eventlog"));
    }

    #[test]
    fn formats_and_zones() {
        let key = |key: &str| {
            of(|agent| {
                agent.logformat = "structured".into();
                agent.structured_log_message_key = key.into();
            })
        };
        assert_eq!(key("").unwrap().format, Format::Structured { message_key: "msg".into() });
        assert_eq!(key("message").unwrap().format, Format::Structured { message_key: "message".into() });
        assert!(of(|agent| agent.logformat = "xml".into()).unwrap_err().contains("\"xml\""));
        assert!(of(|agent| agent.log_with_timezone = "LOCAL".into()).is_ok());
        assert!(of(|agent| agent.log_with_timezone = "Mars/Base".into()).unwrap_err().contains("Mars/Base"));
    }
}
