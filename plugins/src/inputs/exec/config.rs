//! Options of the input, and what they are checked into.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use heliograph_core::config::Duration;
use heliograph_core::file_glob::FileGlob;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::shell_words;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) commands: Commands,
    pub(super) command: String,
    pub(super) environment: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) ignore_error: bool,
    pub(super) log_stderr: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            commands: Commands::default(),
            command: String::new(),
            environment: Vec::new(),
            timeout: Duration::from_secs(5),
            ignore_error: false,
            log_stderr: false,
        }
    }
}

/// The option `commands`: all elements are of one kind.
#[derive(Debug, PartialEq)]
pub(super) enum Commands {
    /// Each a line to be split like a shell does.
    Lines(Vec<String>),
    /// Each a program and its arguments.
    Argv(Vec<Vec<String>>),
}

impl Default for Commands {
    fn default() -> Self {
        Self::Argv(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Commands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CommandsVisitor)
    }
}

struct CommandsVisitor;

impl<'de> Visitor<'de> for CommandsVisitor {
    type Value = Commands;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of commands, each a list of program and arguments, such as [[\"/bin/check\", \"-v\"]]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Commands, A::Error> {
        let (mut lines, mut argvs) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next_element::<Element>()? {
            match element {
                Element::Line(line) => lines.push(line),
                Element::Argv(argv) => argvs.push(argv),
            }
        }
        match (lines.is_empty(), argvs.is_empty()) {
            (false, false) => Err(serde::de::Error::custom(
                "commands must be all lists or all strings, not both; write each as a list of program and arguments",
            )),
            (false, true) => Ok(Commands::Lines(lines)),
            (true, _) => Ok(Commands::Argv(argvs)),
        }
    }
}

enum Element {
    Line(String),
    Argv(Vec<String>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of program and arguments, all of them strings")
    }

    fn visit_str<E>(self, line: &str) -> Result<Element, E> {
        Ok(Element::Line(line.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Element, A::Error> {
        let mut argv = Vec::new();
        while let Some(word) = words.next_element()? {
            argv.push(word);
        }
        Ok(Element::Argv(argv))
    }
}

/// The options, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) commands: Arc<[Command]>,
    pub(super) environment: Arc<[(String, String)]>,
    pub(super) timeout: std::time::Duration,
    pub(super) ignore_error: bool,
    pub(super) log_stderr: bool,
}

/// A command whose program may be a glob.
#[derive(Debug)]
pub(super) struct Command {
    program: String,
    arguments: Arc<[String]>,
}

/// A command to run.
#[derive(Clone, Debug)]
pub(super) struct Argv {
    pub(super) program: OsString,
    pub(super) arguments: Arc<[String]>,
}

impl Options {
    pub(super) fn check(self) -> Result<Settings, String> {
        let mut argvs = match self.commands {
            Commands::Argv(argvs) => argvs,
            Commands::Lines(lines) => lines.iter().map(|line| split(line)).collect::<Result<_, _>>()?,
        };
        if !self.command.is_empty() {
            argvs.push(split(&self.command)?);
        }
        if argvs.is_empty() {
            return Err("no command to run; give at least one in `commands`".into());
        }
        let timeout = self.timeout.positive().ok_or("option `timeout` must be above zero")?;
        Ok(Settings {
            commands: argvs.into_iter().map(Command::new).collect::<Result<_, _>>()?,
            environment: self.environment.iter().map(|entry| variable(entry)).collect::<Result<_, _>>()?,
            timeout,
            ignore_error: self.ignore_error,
            log_stderr: self.log_stderr,
        })
    }
}

fn split(line: &str) -> Result<Vec<String>, String> {
    shell_words::split(line).map_err(|problem| format!("cannot split command {line:?}: {problem}"))
}

fn variable(entry: &str) -> Result<(String, String), String> {
    match entry.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("entry {entry:?} of `environment` must be KEY=value")),
    }
}

impl Command {
    fn new(argv: Vec<String>) -> Result<Self, String> {
        let mut words = argv.into_iter();
        match words.next().filter(|program| !program.is_empty()) {
            Some(program) => Ok(Self { program, arguments: words.collect() }),
            None => Err("a command of `commands` is empty; give a program".into()),
        }
    }

    /// The commands for the programs that match now; the program as it is, if none does. Reads directories.
    pub(super) fn expand(&self) -> Result<Vec<Argv>, String> {
        let argv = |program| Argv { program, arguments: Arc::clone(&self.arguments) };
        let is_glob = self.program.contains(['*', '?', '[', '\\']);
        let found = match is_glob.then(|| FileGlob::shell(&self.program)) {
            None => Vec::new(),
            Some(Ok(glob)) => glob.paths(),
            Some(Err(error)) => return Err(format!("cannot run command {:?}: {error}", self.program)),
        };
        if found.is_empty() {
            return Ok(vec![argv(self.program.clone().into())]);
        }
        Ok(found.into_iter().map(|path| argv(path.into_os_string())).collect())
    }
}

impl Argv {
    /// The words, separated by blanks: for messages.
    pub(super) fn line(&self) -> String {
        let program = self.program.to_string_lossy().into_owned();
        self.arguments.iter().fold(program, |line, argument| line + " " + argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Options {
        Options { commands: Commands::Lines(lines.iter().map(|line| line.to_string()).collect()), ..Default::default() }
    }

    #[track_caller]
    fn check(options: Options, expected: &str) {
        let shown = match options.check() {
            Ok(settings) => format!("{:?}", settings.commands),
            Err(problem) => problem,
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn lines_are_split() {
        check(
            lines(&["/opt/check.sh --x 'a b'"]),
            r#"[Command { program: "/opt/check.sh", arguments: ["--x", "a b"] }]"#,
        );
    }

    #[test]
    fn the_old_option_comes_last() {
        let options = Options { command: "b".into(), ..lines(&["a"]) };
        check(options, r#"[Command { program: "a", arguments: [] }, Command { program: "b", arguments: [] }]"#);
    }

    #[test]
    fn mistakes() {
        check(Options::default(), "no command to run; give at least one in `commands`");
        check(lines(&[""]), "a command of `commands` is empty; give a program");
        check(lines(&["echo 'a"]), r#"cannot split command "echo 'a": a single quote is not closed"#);
        check(Options { timeout: Duration::ZERO, ..lines(&["a"]) }, "option `timeout` must be above zero");
        check(
            Options { environment: vec!["A".into()], ..lines(&["a"]) },
            r#"entry "A" of `environment` must be KEY=value"#,
        );
    }

    #[test]
    fn lists_and_strings_but_not_both() {
        let read = |json: &str| serde_json::from_str::<Commands>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"["a b"]"#), Ok(Commands::Lines(vec!["a b".into()])));
        assert_eq!(read(r#"[["a", "b"], []]"#), Ok(Commands::Argv(vec![vec!["a".into(), "b".into()], vec![]])));
        for bad in [r#"["a", ["b"]]"#, r#""a""#, "[1]", "[[1]]"] {
            assert!(read(bad).is_err(), "{bad} is accepted");
        }
    }
}
