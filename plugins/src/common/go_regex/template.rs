//! Replacement templates: `$1`, `${name}`, `$$`.

/// A template with the numbers of its groups looked up.
///
/// `$name` takes as many letters, digits and underscores as there are, so `$1x` is a group called `1x`; `${1}x` is not.
/// Unknown groups are empty, a `$` that starts no name stands for itself. Source: `Regexp.Expand` of Go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Literal(String),
    Group(usize),
}

impl Template {
    /// Reads a template for a pattern with groups of these names, the whole match first.
    pub fn new(text: &str, names: &[String]) -> Self {
        let mut template = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            template.literal(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                template.literal("$");
                rest = after;
                continue;
            }
            let Some((name, after)) = split_name(rest) else {
                template.literal("$");
                continue;
            };
            rest = after;
            let group = match number(name) {
                Some(number) => (number < names.len()).then_some(number),
                None => names.iter().position(|known| known == name),
            };
            template.0.extend(group.map(Part::Group));
        }
        template.literal(rest);
        template
    }

    /// Appends the text with the groups that `group` gives by number.
    pub fn expand<'t>(&self, out: &mut Vec<u8>, group: impl Fn(usize) -> Option<&'t [u8]>) {
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Group(number) => out.extend_from_slice(group(*number).unwrap_or_default()),
            }
        }
    }

    fn literal(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Part::Literal(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Part::Literal(text.to_owned())),
        }
    }
}

/// The name at the start of what follows a `$`, in braces or not, and the rest.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let (braces, text) = match text.strip_prefix('{') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braces { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// The number of a group; none if the name is no number, has leading zeros or is far too large.
fn number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    if plain && name.len() <= 9 { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let names = ["", "first", "", "third"].map(String::from);
        let groups = ["whole", "1", "2", "3"];
        let mut out = Vec::new();
        Template::new(template, &names).expand(&mut out, |i| groups.get(i).map(|group| group.as_bytes()));
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{template}");
    }

    #[test]
    fn groups() {
        check("$0-$1-${2}x", "whole-1-2x");
        check("$first ${third}", "1 3");
    }

    #[test]
    fn a_name_takes_all_it_can() {
        check("$1x", "");
        check("$first_b-", "-");
        check("$1é-", "-");
    }

    #[test]
    fn unknown_groups_are_empty() {
        check("a$9b$nope-$01-${00}.", "a-- .".replace(' ', "").as_str());
    }

    #[test]
    fn dollars() {
        check("$$1", "$1");
        check("cost: $", "cost: $");
        check("$-${-}${first", "$-${-}${first");
        check("${}", "${}");
    }
}
