//! Templates of device names: text with `$PROPERTY` and `${PROPERTY}`.

/// A template, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Property(String),
}

impl Template {
    /// Any text is a template; a `$` that names nothing stands for itself.
    pub(super) fn new(template: &str) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            match variable(&rest[1..]) {
                Some((name, length)) => {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                    parts.push(Part::Property(name.to_string()));
                    rest = &rest[1 + length..];
                }
                None => {
                    text.push('$');
                    rest = &rest[1..];
                }
            }
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Self(parts)
    }

    /// The name, if the device has all properties that the template names; empty values count.
    pub(super) fn fill<'a>(&self, property: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        for part in &self.0 {
            name.extend_from_slice(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Property(key) => property(key.as_bytes())?,
            });
        }
        Some(name)
    }
}

/// The name at the start of `text`, in braces or not, and how many bytes it takes there.
fn variable(text: &str) -> Option<(&str, usize)> {
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (start, end) = match text.strip_prefix('{') {
        Some(inner) => (1, 1 + word(inner)),
        None => (0, word(text)),
    };
    let closed = start == 0 || text[end..].starts_with('}');
    (end > start && closed).then(|| (&text[start..end], end + start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: Option<&str>) {
        let properties = [("DM_VG_NAME", "vg0"), ("DM_LV_NAME", "data"), ("EMPTY", "")];
        let found = |key: &[u8]| properties.iter().find(|(name, _)| name.as_bytes() == key);
        let property = |key: &[u8]| found(key).map(|(_, value)| value.as_bytes());
        let filled = Template::new(template).fill(property);
        assert_eq!(filled.as_deref(), expected.map(str::as_bytes));
    }

    #[test]
    fn filled() {
        check("$DM_VG_NAME/$DM_LV_NAME", Some("vg0/data"));
        check("a-${DM_VG_NAME}x$EMPTY", Some("a-vg0x"));
        check("$DM_VG_NAMEx", None);
        check("$ID_FS_LABEL", None);
        check("plain", Some("plain"));
        check("", Some(""));
    }

    #[test]
    fn a_dollar_without_a_name() {
        check("$", Some("$"));
        check("$$DM_LV_NAME$-", Some("$data$-"));
        check("${DM_VG_NAME", Some("${DM_VG_NAME"));
        check("${}", Some("${}"));
    }
}
