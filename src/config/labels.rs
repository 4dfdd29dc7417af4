//! Labels of plugins, and the selectors of `--select` that choose by them.

use heliograph_core::{
    config::{ConfigError, Section},
    glob::GlobSet,
};

/// One value of `--select`: pairs that must all match.
#[derive(Debug)]
pub struct Selector {
    pairs: Vec<(String, GlobSet)>,
}

impl Selector {
    /// Reads `key=value;key2=value2`; values may hold `*` and `?`. `None` for an empty text.
    ///
    /// # Errors
    /// If a pair has no `=`, a key comes twice, or a key or value is empty or has other characters.
    pub fn parse(text: &str) -> Result<Option<Selector>, ConfigError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let wrong =
            |problem: String| ConfigError::new(format!("invalid label selector {text:?} of --select: {problem}"));
        let mut pairs: Vec<(String, GlobSet)> = Vec::new();
        for pair in text.split(';') {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(format!("{pair:?} has no \"=\"")));
            };
            let (key, value) = (key.trim(), value.trim());
            if !is_label(key) || !is_label(&value.replace(['*', '?'], "x")) {
                return Err(wrong(format!("{pair:?} may hold only letters, digits, \".\", \"_\" and \"-\"")));
            }
            if pairs.iter().any(|(known, _)| known == key) {
                return Err(wrong(format!("key {key:?} is given twice")));
            }
            let globs = GlobSet::new([value], "").map_err(|error| wrong(error.to_string()))?;
            pairs.push((key.to_owned(), globs));
        }
        Ok(Some(Selector { pairs }))
    }

    fn matches(&self, labels: &[(String, String)]) -> bool {
        self.pairs
            .iter()
            .all(|(key, globs)| labels.iter().any(|(label, value)| label == key && globs.matches(value.as_bytes())))
    }
}

/// Reads the labels of a plugin, and says whether the selectors let it run.
pub(super) fn is_selected(section: &Section, selectors: &[Selector]) -> Result<bool, ConfigError> {
    let labels = labels(section)?;
    Ok(labels.is_empty() || selectors.is_empty() || selectors.iter().any(|selector| selector.matches(&labels)))
}

fn labels(section: &Section) -> Result<Vec<(String, String)>, ConfigError> {
    let Some(table) = section.table().get("labels").and_then(|entry| entry.node.as_table()) else {
        return Ok(Vec::new());
    };
    let mut labels = Vec::new();
    for (key, entry) in table.iter() {
        let Some(value) = entry.node.as_str() else { continue };
        for text in [key, value] {
            if !is_label(text) {
                let message =
                    format!("option \"labels\": invalid label {text:?}: only letters, digits, \".\", \"_\" and \"-\"");
                return Err(ConfigError::at(section.source(), entry.key_span, section.name(), message));
            }
        }
        labels.push((key.to_owned(), value.to_owned()));
    }
    Ok(labels)
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let found = Selector::parse(selector).unwrap().unwrap().matches(&labels);
        assert_eq!(found, expected, "{selector} {labels:?}");
    }

    #[test]
    fn selects() {
        check("app=web", &[("app", "web"), ("tier", "x")], true);
        check("app=w?b; tier = b*", &[("app", "web"), ("tier", "back")], true);
        check("app=web;tier=back", &[("app", "web")], false);
        check("app=*", &[("tier", "web")], false);
    }

    #[test]
    fn refuses() {
        assert!(Selector::parse("").unwrap().is_none());
        for text in ["a", "a=", "=b", "a=b;", "a=b;a=c", "a=b c", "a!=b", "a=[b]"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
