//! Puts environment variables into a configuration: into its strings after parsing, or into its text before.

use std::{fmt, sync::LazyLock};

use heliograph_core::config::{
    ConfigError,
    tree::{Node, OffsetMap, Source, Table, Value},
};
use regex::{Captures, Regex};

/// How variables are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvironmentMode {
    /// True to put values into strings of the parsed file, so that they cannot change its structure; false to put them
    /// into the text, where they are read as TOML.
    pub strict: bool,
    /// True to leave `$$` as it is, as Telegraf once did; false to read it as a lone `$`.
    pub old_behavior: bool,
}

impl Default for EnvironmentMode {
    fn default() -> Self {
        EnvironmentMode { strict: true, old_behavior: false }
    }
}

/// Looks up a variable by its exact name.
pub type Lookup<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The variables of this process; bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A variable that must have a value, and has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    name: String,
    reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "required variable {} is missing a value: {}", self.name, self.reason)
    }
}

/// Puts variables into all strings of a tree that are values.
pub(super) fn substitute_tree(
    table: &mut Table,
    source: &Source,
    mode: EnvironmentMode,
    lookup: Lookup<'_>,
) -> Result<(), ConfigError> {
    let expander = Expander::new(mode, lookup);
    for (kind, entry) in table.iter_mut() {
        match &mut entry.node.value {
            Value::Table(plugins) if KINDS.contains(&kind) => {
                for (name, entry) in plugins.iter_mut() {
                    expander.node(&mut entry.node, source, &format!("{kind}.{name}"))?;
                }
            }
            _ => expander.node(&mut entry.node, source, kind)?,
        }
    }
    Ok(())
}

/// Tables whose keys are plugins.
const KINDS: &[&str] = &["inputs", "outputs", "processors", "aggregators", "secretstores", "plugins"];

/// Puts variables into a text. Also the way back to the offsets of `text`, or the offset of a reference that needs a
/// value and has none.
pub(super) fn substitute_text(
    text: &str,
    mode: EnvironmentMode,
    lookup: Lookup<'_>,
) -> Result<(String, OffsetMap), (usize, Missing)> {
    Expander::new(mode, lookup).text(text)
}

/// `$$`, `$NAME`, `${NAME}` or `${NAME<operator>…}`. The last reaches to the last brace of the line; what it really
/// holds is cut out afterwards. `${` with anything else is matched as well, to pass over it.
const FORMS: &str =
    r"(?P<named>[_A-Za-z][_A-Za-z0-9]*)|\{(?:(?P<braced>[_A-Za-z][_A-Za-z0-9]*(?::?[-+?].*)?)\}|(?P<invalid>))";

static WITH_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"\$(?:(?P<escaped>\$)|{FORMS})")).expect("a fixed pattern"));

static WITHOUT_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"\$(?:{FORMS})")).expect("a fixed pattern"));

/// Deepest nesting of references in defaults; deeper ones count as invalid.
const MAX_DEPTH: usize = 50;

/// What stops an expansion.
#[derive(Debug)]
enum Stop {
    /// Not a form that exists; the text around it stays as it is.
    Invalid,
    /// A required variable without a value.
    Missing(Missing),
}

/// Expands references the way the reference implementation does, with its two sets of rules: at the top, an unset
/// variable stays as it is written; inside defaults, and between an expression and the last brace of its line, it
/// becomes empty.
struct Expander<'a> {
    pattern: &'static Regex,
    lookup: Lookup<'a>,
}

impl<'a> Expander<'a> {
    fn new(mode: EnvironmentMode, lookup: Lookup<'a>) -> Expander<'a> {
        Expander { pattern: if mode.old_behavior { &WITHOUT_ESCAPE } else { &WITH_ESCAPE }, lookup }
    }

    fn node(&self, node: &mut Node, source: &Source, owner: &str) -> Result<(), ConfigError> {
        match &mut node.value {
            Value::String(text) if text.contains('$') => {
                let (changed, _) = self
                    .text(text)
                    .map_err(|(_, missing)| ConfigError::at(source, node.span, owner, missing.to_string()))?;
                if changed != *text {
                    *text = changed;
                    node.substituted = true;
                }
            }
            Value::Array(array) => {
                for item in &mut array.items {
                    self.node(item, source, owner)?;
                }
            }
            Value::Table(table) => {
                for (_, entry) in table.iter_mut() {
                    self.node(&mut entry.node, source, owner)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&self, text: &str) -> Result<(String, OffsetMap), (usize, Missing)> {
        let mut output = String::with_capacity(text.len());
        let mut map = OffsetMap::default();
        let mut copied = 0;
        for captures in self.pattern.captures_iter(text) {
            let whole = captures.get_match();
            map.copied(output.len(), copied);
            output.push_str(&text[copied..whole.start()]);
            map.replaced(output.len(), whole.start());
            match self.reference(&captures, self.pattern, 0) {
                Ok(Some(value)) => output.push_str(&value),
                Ok(None) | Err(Stop::Invalid) => output.push_str(whole.as_str()),
                Err(Stop::Missing(missing)) => return Err((whole.start(), missing)),
            }
            copied = whole.end();
        }
        map.copied(output.len(), copied);
        output.push_str(&text[copied..]);
        Ok((output, map))
    }

    /// Expands a text inside an expression: what is unset becomes empty, what is invalid stops.
    fn inner(&self, text: &str, pattern: &Regex, depth: usize) -> Result<String, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Invalid);
        }
        let mut output = String::new();
        let mut copied = 0;
        for captures in pattern.captures_iter(text) {
            let whole = captures.get_match();
            output.push_str(&text[copied..whole.start()]);
            output.push_str(&self.reference(&captures, pattern, depth)?.unwrap_or_default());
            copied = whole.end();
        }
        output.push_str(&text[copied..]);
        Ok(output)
    }

    /// The value of one match; `None` for an unset variable.
    fn reference(&self, captures: &Captures<'_>, pattern: &Regex, depth: usize) -> Result<Option<String>, Stop> {
        if captures.name("escaped").is_some() {
            return Ok(Some("$".to_owned()));
        }
        if let Some(name) = captures.name("named") {
            return Ok((self.lookup)(name.as_str()));
        }
        if captures.name("braced").is_none() {
            return Err(Stop::Invalid);
        }
        // The match reaches to the last brace of the line: here it is cut at its own.
        let whole = captures.get_match().as_str();
        let (own, rest) = match own_brace(whole) {
            Some(end) => whole.split_at(end + 1),
            None => (whole, ""),
        };
        let body = &own[2..own.len() - 1];
        let name_length = body.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(body.len());
        let (name, operation) = body.split_at(name_length);
        let value = (self.lookup)(name);
        let (colon, operation) = match operation.strip_prefix(':') {
            Some(operation) => (true, operation),
            None => (false, operation),
        };
        let Some(operator) = operation.chars().next() else { return Ok(value) };
        // Expanded even when it is not used, and always with the escape.
        let argument = self.inner(&operation[1..], &WITH_ESCAPE, depth + 1)?;
        let present = value.as_deref().is_some_and(|value| !colon || !value.is_empty());
        let result = match operator {
            '-' if present => value.unwrap_or_default(),
            '-' => argument,
            '+' if present => argument,
            '+' => String::new(),
            _ if present => value.unwrap_or_default(),
            _ => return Err(Stop::Missing(Missing { name: name.to_owned(), reason: argument })),
        };
        Ok(Some(result + &self.inner(rest, pattern, depth + 1)?))
    }
}

/// The offset of the brace that closes the `${` at the start. Only `${` opens another level, a bare `{` does not.
fn own_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'}' {
            open -= 1;
            if open == 0 {
                return Some(at);
            }
        } else if bytes[at..].starts_with(b"${") {
            open += 1;
            at += 1;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "V" | "VAR" => "v",
            "A" => "a",
            "B" => "b",
            "E" => "",
            "X" => "$V",
            "SET" => "s",
            "SET2" => "two",
            "_P" => "under",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn expand(text: &str, old_behavior: bool) -> String {
        match substitute_text(text, EnvironmentMode { strict: true, old_behavior }, &lookup) {
            Ok((text, _)) => text,
            Err((_, missing)) => format!("error: {missing}"),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(expand(text, false), expected, "{text}");
    }

    #[test]
    fn forms() {
        for (form, unset, empty, set) in [
            ("$?", "$U", "", "v"),
            ("${?}", "${U}", "", "v"),
            ("${?:-d}", "d", "d", "v"),
            ("${?-d}", "d", "", "v"),
            ("${?:+p}", "", "", "p"),
            ("${?+p}", "", "p", "p"),
        ] {
            check(&form.replace('?', "U"), unset);
            check(&form.replace('?', "E"), empty);
            check(&form.replace('?', "V"), set);
        }
        check("${U:?m}", "error: required variable U is missing a value: m");
        check("${E:?m}", "error: required variable E is missing a value: m");
        check("${V:?m}", "v");
        check("${U?m}", "error: required variable U is missing a value: m");
        check("${E?m}", "");
    }

    #[test]
    fn escapes_and_names() {
        check("$$", "$");
        check("$$X", "$X");
        check("$$$V", "$v");
        check("$X", "$V");
        check("$SETy", "$SETy");
        check("${SET}y", "sy");
        check("$SET.x-$SET2$SETé", "s.x-twosé");
        check("$_P/$set", "under/$set");
        check("pa$$w pa$w ^a$", "pa$w pa$w ^a$");
        assert_eq!(expand("$$V $$ ${V:-d} ${U:-$$}", true), "$v $$ v $");
    }

    #[test]
    fn not_references() {
        for text in
            ["$", "$1", "${1}", "${}", "${VAR }", "${VAR:=d}", "${VAR#x}", "$(x)", "%X%", "@{s:k}", "${VAR", "$ VAR"]
        {
            check(text, text);
        }
        check("${VAR:=$V}", "${VAR:=v}");
        check("\\$V", "\\v");
        check("${1VAR:-x}", "${1VAR:-x}");
        check("${U:-a\nb}", "${U:-a\nb}");
    }

    #[test]
    fn operators() {
        check("${U-a:-b}", "a:-b");
        check("${A-1}", "a");
        check("${U:-a-b}", "a-b");
        check("${V:+a:-b}", "a:-b");
        check("${U:-a?b}", "a?b");
        check("<${U-}${U:-}${V:+}>", "<>");
        check("${U:-http://x:80/?q=1}", "http://x:80/?q=1");
        check("${V?a:-b}", "v");
    }

    #[test]
    fn nested() {
        check("${U:-${B:-z}}", "b");
        check("${U:-${NOPE:-z}}", "z");
        check("${U:-$B}", "b");
        check("${U:-${NOPE}}", "");
        check("${U:-{\"a\":1}}", "{\"a\":1}");
        check("${U:-a}b}", "ab}");
        check("${B:+${B}${B}}", "bb");
        check("${A:-${U:?m}}", "error: required variable U is missing a value: m");
        check("${U:-{a}x}", "{ax}");
        check("${U:?see $B}", "error: required variable U is missing a value: see b");
    }

    #[test]
    fn an_expression_claims_its_line_to_the_last_brace() {
        check("${A:-x} $UNSET ${B}", "a  b");
        check("${A:-x} $UNSET", "a $UNSET");
        check("${UNSET} ${A:-x}", "${UNSET} a");
        check("${A:-x} ${1} ${B}", "${A:-x} ${1} ${B}");
        check("${A:-${1}} $V", "${A:-${1}} v");
        check("${A:-x} $UNSET\n${B}", "a $UNSET\nb");
        check("${A:-x} $U } $U", "a  } $U");
    }

    #[test]
    fn positions_lead_back() {
        let text = "a = $V$SET2\nb = ${U:-long default} c";
        let (changed, map) = substitute_text(text, EnvironmentMode::default(), &lookup).unwrap();
        let offset = changed.find('c').unwrap();
        assert_eq!(map.original(offset), text.rfind('c').unwrap());
        assert_eq!(map.original(changed.find("two").unwrap()), text.find("$SET2").unwrap());
    }

    proptest! {
        #[test]
        fn any_text(text in "[$V{}A:?+1 \n-]{0,40}") {
            expand(&text, false);
            expand(&text, true);
        }

        #[test]
        fn text_without_a_dollar_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(expand(&text, false), text);
        }
    }
}
