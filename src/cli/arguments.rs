//! Splits a command line into words, flags and arguments, by the rules of the table.

use std::time::Duration;

use heliograph_core::config::{self, nearest};

use super::flags::{Flag, Kind, ROOT, Word};

/// A command line, taken apart.
#[derive(Debug)]
pub(super) struct Arguments {
    /// The program and the words after it, each with the flags that stood behind it.
    levels: Vec<(&'static Word, Vec<(&'static str, Value)>)>,
    /// What follows the last flag.
    pub rest: Vec<String>,
    /// `--help` or the word `help` was there.
    pub help: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Switch(bool),
    Text(String),
    List(Vec<String>),
    Int(i64),
    Duration(Duration),
}

/// A mistake in the flags of a word.
#[derive(Debug)]
pub(super) struct Mistake {
    pub path: Vec<&'static Word>,
    pub message: String,
}

impl Arguments {
    /// Takes a command line apart; `args` are those after the name of the program.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, Mistake> {
        let mut args = args.into_iter().peekable();
        let mut found = Self { levels: vec![(&ROOT, Vec::new())], rest: Vec::new(), help: false };
        loop {
            let word = found.word();
            // Flags come before the word that follows; `-` alone is none, and `--` ends them.
            let mut ended = false;
            while let Some(arg) = args.next_if(|arg| arg.len() > 1 && arg.starts_with('-')) {
                if arg == "--" {
                    ended = true;
                    break;
                }
                let mistake = |message| Mistake { path: found.path(), message };
                match take(word, &arg, &mut args).map_err(mistake)? {
                    Some(value) => found.levels.last_mut().expect("the program is always there").1.push(value),
                    None => found.help = true,
                }
            }
            if found.help {
                return Ok(found);
            }
            let next = if ended { None } else { args.peek().and_then(|arg| word.word(arg)) };
            if next.is_none()
                && !ended
                && args.next_if(|arg| can_help(word) && matches!(arg.as_str(), "help" | "h")).is_some()
            {
                found.help = true;
            }
            let Some(next) = next else {
                found.rest = args.collect();
                return Ok(found);
            };
            args.next();
            found.levels.push((next, Vec::new()));
        }
    }

    /// The program and the words after it.
    pub fn path(&self) -> Vec<&'static Word> {
        self.levels.iter().map(|(word, _)| *word).collect()
    }

    /// The names of the words after the program.
    pub fn names(&self) -> Vec<&'static str> {
        self.levels[1..].iter().map(|(word, _)| word.name).collect()
    }

    fn word(&self) -> &'static Word {
        self.levels[self.levels.len() - 1].0
    }

    /// The values of a flag, as given behind the innermost word that has it.
    fn values(&self, name: &str) -> impl Iterator<Item = &Value> {
        let level = self.levels.iter().rev().find(|(word, _)| word.flag(name).is_some());
        level
            .into_iter()
            .flat_map(|(_, values)| values)
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    pub fn switch(&self, name: &str) -> bool {
        self.values(name).last() == Some(&Value::Switch(true))
    }

    /// The last text, empty without one.
    pub fn text(&self, name: &str) -> String {
        match self.values(name).last() {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let parts =
            self.values(name).filter_map(|value| if let Value::List(parts) = value { Some(parts) } else { None });
        parts.flatten().cloned().collect()
    }

    pub fn int(&self, name: &str) -> i64 {
        self.given_int(name).unwrap_or(0)
    }

    /// The last number; `None` without one.
    pub fn given_int(&self, name: &str) -> Option<i64> {
        match self.values(name).last() {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn duration(&self, name: &str) -> Duration {
        match self.values(name).last() {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// The names of a filter `a:b`, joined over all words that have it; the last flag behind each counts.
    pub fn names_of_filter(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (_, values) in &self.levels {
            if let Some((_, Value::Text(text))) = values.iter().rev().find(|(known, _)| *known == name) {
                names.extend(text.split(':').filter(|part| !part.is_empty()).map(str::to_owned));
            }
        }
        names
    }
}

/// Whether the word `help` may stand behind a word: where other words may.
fn can_help(word: &Word) -> bool {
    !word.words.is_empty()
}

/// Reads one flag with its value; `None` for a request for help.
fn take(
    word: &Word,
    arg: &str,
    args: &mut impl Iterator<Item = String>,
) -> Result<Option<(&'static str, Value)>, String> {
    let text = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or(arg);
    if text.is_empty() || text.starts_with(['-', '=']) {
        return Err(format!("bad flag syntax: {arg}"));
    }
    let (name, given) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let Some(flag) = word.flag(name) else {
        if matches!(name, "help" | "h") {
            return Ok(None);
        }
        let flags = word.flags.iter().copied().flatten().map(|flag| flag.name);
        let hint = nearest(name, flags).map(|name| format!("; did you mean --{name}?")).unwrap_or_default();
        return Err(format!("flag provided but not defined: -{name}{hint}"));
    };
    let given = match (flag.kind, given) {
        (Kind::Switch, None) => return Ok(Some((flag.name, Value::Switch(true)))),
        (_, given) => given.or_else(|| args.next()).ok_or_else(|| format!("flag needs an argument: -{name}"))?,
    };
    Ok(Some((flag.name, value(flag, given)?)))
}

fn value(flag: &Flag, given: String) -> Result<Value, String> {
    let invalid = |what: &str| format!("invalid value {given:?} for flag -{}: not {what}", flag.name);
    Ok(match flag.kind {
        Kind::Switch => match given.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Switch(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Switch(false),
            _ => return Err(format!("invalid boolean value {given:?} for -{}", flag.name)),
        },
        Kind::List => Value::List(given.split(',').map(|part| part.trim().to_owned()).collect()),
        Kind::Int => Value::Int(given.parse().map_err(|_| invalid("a whole number"))?),
        Kind::Duration => Value::Duration(
            config::Duration::parse_common(&given).map_err(|_| invalid("a duration like 1m30s"))?.to_std(),
        ),
        Kind::Text => Value::Text(given),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned)).map_err(|mistake| mistake.message)
    }

    #[test]
    fn forms_of_flags() {
        let found = parse("-config a.conf --config=b.conf,c.conf -debug --quiet=false --test-wait -5").unwrap();
        assert_eq!(found.list("config"), ["a.conf", "b.conf", "c.conf"]);
        assert!(found.switch("debug") && !found.switch("quiet"));
        assert_eq!(found.int("test-wait"), -5);
        assert_eq!(parse("--watch-config poll --watch-config notify").unwrap().text("watch-config"), "notify");
        assert_eq!(parse("--config=").unwrap().list("config"), [""]);
        let list = Arguments::parse(["--config".to_owned(), " a , ,b".to_owned()]).unwrap().list("config");
        assert_eq!(list, ["a", "", "b"]);
    }

    proptest::proptest! {
        #[test]
        fn takes_any_line(args in proptest::collection::vec("(-{0,3}(config|debug|test-wait|x)?=?[a1,:]?|config|check|help)", 0..6)) {
            let count = args.len();
            if let Ok(found) = Arguments::parse(args) {
                assert!(found.rest.len() + found.names().len() <= count);
            }
        }
    }

    #[test]
    fn durations() {
        let duration =
            |text: &str| parse(&format!("--watch-interval {text}")).map(|found| found.duration("watch-interval"));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("-5s"), Ok(Duration::ZERO));
        for text in ["1d", "10", "x", "1h2d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        let check = |line: &str, want: &str| assert_eq!(parse(line).map(drop), Err(want.to_owned()));
        check("--once --no-such-flag", "flag provided but not defined: -no-such-flag");
        check("--confg x", "flag provided but not defined: -confg; did you mean --config?");
        check("--config", "flag needs an argument: -config");
        check("--debug=maybe", "invalid boolean value \"maybe\" for -debug");
        check("--test-wait 1.5", "invalid value \"1.5\" for flag -test-wait: not a whole number");
        check("---debug", "bad flag syntax: ---debug");
        check("config check --debug", "flag provided but not defined: -debug");
    }

    #[test]
    fn words_and_the_flags_behind_them() {
        let found = parse("--debug --config a config --config b check --config c stray --config d").unwrap();
        assert_eq!(found.names(), ["config", "check"]);
        assert_eq!(found.list("config"), ["c"]);
        assert!(found.switch("debug"));
        assert_eq!(found.rest, ["stray", "--config", "d"]);
        // Without a flag of its own, the innermost word that has it still counts.
        assert!(parse("config --config a check").unwrap().list("config").is_empty());
        assert_eq!(parse("--config x secrets list").unwrap().list("config"), ["x"]);
    }

    #[test]
    fn filters_are_joined() {
        let found = parse("--input-filter a:: config --input-filter b create --input-filter :c").unwrap();
        assert_eq!(found.names_of_filter("input-filter"), ["a", "b", "c"]);
    }

    #[test]
    fn help_and_stray_words() {
        assert!(
            parse("--help").unwrap().help && parse("config -h").unwrap().help && parse("help config").unwrap().help
        );
        assert_eq!(parse("help config").unwrap().rest, ["config"]);
        assert_eq!(parse("nonsense --debug").unwrap().rest, ["nonsense", "--debug"]);
        assert_eq!(parse("-- version").unwrap().rest, ["version"]);
        assert_eq!(parse("-").unwrap().rest, ["-"]);
    }
}
