//! From Go's pattern syntax to that of the `regex` crate.

use super::GoRegexError;

pub(super) struct Translated {
    pub(super) pattern: String,
    pub(super) names: Vec<String>,
}

/// Largest count of a repetition that Go takes.
const REPEAT_LIMIT: u32 = 1000;

const POSIX_CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Rewrites what the crate reads differently; what both refuse is left to the crate.
pub(super) fn translate(pattern: &str) -> Result<Translated, GoRegexError> {
    let mut translator =
        Translator { rest: pattern, out: String::with_capacity(pattern.len() + 16), names: vec![String::new()] };
    while let Some(c) = translator.next() {
        translator.outside_class(c)?;
    }
    Ok(Translated { pattern: translator.out, names: translator.names })
}

struct Translator<'p> {
    rest: &'p str,
    out: String,
    names: Vec<String>,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let stripped = self.rest.strip_prefix(prefix);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn outside_class(&mut self, c: char) -> Result<(), GoRegexError> {
        match c {
            '\\' => self.escape(),
            '[' => self.class(),
            '(' => self.group(),
            '{' => self.brace(),
            _ => {
                self.out.push(c);
                Ok(())
            }
        }
    }

    /// A backslash outside of a class.
    fn escape(&mut self) -> Result<(), GoRegexError> {
        let Some(c) = self.next() else { return Err(problem("the pattern ends in a backslash")) };
        match c {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[\t\n\f\r ]"),
            'S' => self.out.push_str(r"[^\t\n\f\r ]"),
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'A' | 'z' => self.out.extend(['\\', c]),
            'Q' => {
                let (quoted, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                quoted.chars().for_each(|c| push_literal(&mut self.out, c));
                self.rest = rest;
            }
            // Go ignores an end without a start.
            'E' => {}
            'p' | 'P' => self.unicode_class(c == 'P')?,
            _ => {
                let literal = self.escaped_character(c)?;
                push_literal(&mut self.out, literal);
            }
        }
        Ok(())
    }

    /// The character that a backslash and `c` stand for.
    fn escaped_character(&mut self, c: char) -> Result<char, GoRegexError> {
        match c {
            'a' => Ok('\u{7}'),
            'f' => Ok('\u{c}'),
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            'v' => Ok('\u{b}'),
            'x' => self.hexadecimal(),
            // Up to three octal digits; a single one other than 0 would be a back-reference.
            '0'..='7' if c == '0' || self.rest.starts_with(|next: char| next.is_digit(8)) => {
                let mut code = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|next| next.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.next();
                }
                char::from_u32(code).ok_or_else(|| problem("invalid octal escape"))
            }
            '1'..='9' => Err(problem(format!("invalid escape \\{c}: back-references are not supported"))),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            c => Err(problem(format!("invalid escape \\{c}"))),
        }
    }

    fn hexadecimal(&mut self) -> Result<char, GoRegexError> {
        let digits = if self.skip("{") {
            let (digits, rest) = self.rest.split_once('}').ok_or_else(|| problem("invalid escape \\x{: no }"))?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or_else(|| problem("invalid escape \\x"))?;
            self.rest = rest;
            digits
        };
        let code =
            digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        code.and_then(char::from_u32).ok_or_else(|| problem(format!("invalid escape \\x with {digits:?}")))
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn unicode_class(&mut self, negated: bool) -> Result<(), GoRegexError> {
        let Some(first) = self.next() else { return Err(problem("incomplete escape \\p")) };
        let negate = |negated: bool| if negated { 'P' } else { 'p' };
        if first != '{' {
            self.out.push_str(&format!("\\{}{{{first}}}", negate(negated)));
            return Ok(());
        }
        let inverted = self.skip("^");
        let (name, rest) = self.rest.split_once('}').ok_or_else(|| problem("invalid escape \\p{: no }"))?;
        self.rest = rest;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(problem(format!("unknown character class {name:?}")));
        }
        self.out.push_str(&format!("\\{}{{{name}}}", negate(negated != inverted)));
        Ok(())
    }

    fn class(&mut self) -> Result<(), GoRegexError> {
        self.out.push('[');
        if self.skip("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.posix_class()? {
                first = false;
                continue;
            }
            let Some(c) = self.next() else { return Err(problem("character class without ]")) };
            match c {
                ']' if !first => break,
                '\\' if self.perl_class()? => {}
                c => self.range(c)?,
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// `[:alpha:]` inside a class.
    fn posix_class(&mut self) -> Result<bool, GoRegexError> {
        let named = self.rest.strip_prefix("[:").and_then(|inside| inside.split_once(":]"));
        let Some((name, rest)) = named else { return Ok(false) };
        if !POSIX_CLASSES.contains(&name.trim_start_matches('^')) {
            return Err(problem(format!("unknown character class [:{name}:]")));
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = rest;
        Ok(true)
    }

    /// What stands for a set of characters inside a class, behind its backslash.
    fn perl_class(&mut self) -> Result<bool, GoRegexError> {
        let set = match self.rest.chars().next() {
            Some('d') => "0-9",
            Some('D') => "[^0-9]",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "[^0-9A-Za-z_]",
            Some('s') => r"\t\n\f\r ",
            Some('S') => r"[^\t\n\f\r ]",
            Some(c @ ('p' | 'P')) => {
                self.next();
                self.unicode_class(c == 'P')?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.next();
        self.out.push_str(set);
        Ok(true)
    }

    /// One character of a class, or a range that starts with it.
    fn range(&mut self, c: char) -> Result<(), GoRegexError> {
        let low = self.class_character(c)?;
        push_literal(&mut self.out, low);
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.next();
            let Some(c) = self.next() else { return Err(problem("character class without ]")) };
            let high = self.class_character(c)?;
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    fn class_character(&mut self, c: char) -> Result<char, GoRegexError> {
        if c != '\\' {
            return Ok(c);
        }
        let Some(escaped) = self.next() else { return Err(problem("the pattern ends in a backslash")) };
        self.escaped_character(escaped)
    }

    /// An opening parenthesis: names are kept aside, since Go's may begin with a digit.
    fn group(&mut self) -> Result<(), GoRegexError> {
        self.out.push('(');
        if !self.skip("?") {
            self.names.push(String::new());
            return Ok(());
        }
        if self.rest.starts_with(['=', '!']) || self.rest.starts_with("<=") || self.rest.starts_with("<!") {
            return Err(problem("look-around, including look-ahead and look-behind, is not supported"));
        }
        if self.skip("P<") || self.skip("<") {
            let (name, rest) = self.rest.split_once('>').ok_or_else(|| problem("group name without >"))?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(problem(format!("invalid group name {name:?}")));
            }
            if self.names.iter().any(|known| known == name) {
                return Err(problem(format!("group name {name:?} is given twice")));
            }
            self.names.push(name.to_owned());
            self.rest = rest;
            return Ok(());
        }
        let end = self.rest.find([':', ')']).ok_or_else(|| problem("group without )"))?;
        let flags = &self.rest[..end];
        if let Some(unknown) = flags.chars().find(|c| !matches!(c, 'i' | 'm' | 's' | 'U' | '-')) {
            return Err(problem(format!("unknown flag {unknown:?} in (?{flags}; the flags are i, m, s and U")));
        }
        self.out.push('?');
        self.out.push_str(&self.rest[..=end]);
        self.rest = &self.rest[end + 1..];
        Ok(())
    }

    /// A brace that starts no repetition stands for itself.
    fn brace(&mut self) -> Result<(), GoRegexError> {
        let repeat = self.rest.split_once('}').and_then(|(inside, rest)| {
            let (low, high) = inside.split_once(',').map_or((inside, None), |(low, high)| (low, Some(high)));
            let is_number = |text: &str| {
                !text.is_empty()
                    && text.bytes().all(|b| b.is_ascii_digit())
                    && (text.len() == 1 || !text.starts_with('0'))
            };
            (is_number(low) && high.is_none_or(|high| high.is_empty() || is_number(high)))
                .then_some((inside, low, high, rest))
        });
        let Some((inside, low, high, rest)) = repeat else {
            self.out.push_str("\\{");
            return Ok(());
        };
        let too_large = |number: &str| number.parse::<u32>().map_or(true, |number| number > REPEAT_LIMIT);
        if too_large(low) || high.is_some_and(|high| !high.is_empty() && too_large(high)) {
            return Err(problem(format!("invalid repeat count {{{inside}}}: at most {REPEAT_LIMIT}")));
        }
        self.out.push_str(&format!("{{{inside}}}"));
        self.rest = rest;
        Ok(())
    }
}

fn problem(text: impl Into<String>) -> GoRegexError {
    GoRegexError { problem: text.into() }
}

/// Writes a character so that the crate takes it for itself, in a class and outside.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '<' | '>') && !c.is_ascii_control() {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: &str) {
        let shown = match translate(pattern) {
            Ok(translated) => translated.pattern,
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{pattern}");
    }

    #[test]
    fn plain_patterns_stay() {
        check(r"^plant/([^/]+)/(a|b)+?.*$", r"^plant/([^\/]+)/(a|b)+?.*$");
        check(r"\.\-x{2,3}y{4}z{5,}", r"\.\-x{2,3}y{4}z{5,}");
    }

    #[test]
    fn names_are_kept_aside() {
        check(r"(?P<a>x)(?<b>y)(?:z)(?i)(?s-m:w)", r"(x)(y)(?:z)(?i)(?s-m:w)");
    }

    #[test]
    fn perl_classes() {
        check(r"\d\S[\w-][^\D]", r"[0-9][^\t\n\f\r ][0-9A-Za-z_\-][^[^0-9]]");
        check(r"\p{^Greek}\PL[\pN]", r"\P{Greek}\P{L}[\p{N}]");
    }

    #[test]
    fn classes_hold_no_classes() {
        check("[[a&&b]", r"[\[a\&\&b]");
        check("[]a]", r"[\]a]");
        check("[^]a-]", r"[^\]a\-]");
        check("[[:alpha:]_]", r"[[:alpha:]\_]");
        check("[a-c-e]", r"[a-c\-e]");
        check("[--a]", r"[\--a]");
        check("[[:foo:]]", "error: unknown character class [:foo:]");
        check("[[:a]", r"[\[\:a]");
    }

    #[test]
    fn literal_braces_and_escapes() {
        check("a{,2}{x}{", r"a\{,2}\{x}\{");
        check(r"\<\Qa.b\E\x41\x{263a}\101", "<a\\.bA\u{263a}A");
    }
}
