//! Which form of the exposition a scraper asks for.

use super::text::Escaping;

/// Forms of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Protobuf,
}

impl Format {
    pub(super) fn content_type(self, escaping: Escaping) -> &'static str {
        match (self, escaping) {
            (Self::Text, Escaping::Underscores) => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            (Self::Text, Escaping::Allow) => "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
            (Self::Protobuf, Escaping::Underscores) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=underscores"
            }
            (Self::Protobuf, Escaping::Allow) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=allow-utf-8"
            }
        }
    }
}

/// The form and how names are to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) format: Format,
    pub(super) escaping: Escaping,
}

/// Codings of the body besides none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// By the header `Accept`, as Prometheus's library reads it: the first form that is known, best quality first; the escaping
/// may stand in front of it, in a form that is not known.
pub(super) fn format(accept: Option<&[u8]>) -> Wanted {
    let mut wanted = Wanted { format: Format::Text, escaping: Escaping::Underscores };
    let header = String::from_utf8_lossy(accept.unwrap_or_default());
    let mut clauses: Vec<Clause<'_>> = header.split(',').map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in clauses {
        match clause.parameter("escaping") {
            Some("allow-utf-8") => wanted.escaping = Escaping::Allow,
            Some("underscores" | "dots" | "values") => wanted.escaping = Escaping::Underscores,
            _ => {}
        }
        let protobuf = clause.name == "application/vnd.google.protobuf"
            && clause.parameter("proto") == Some("io.prometheus.client.MetricFamily")
            && clause.parameter("encoding") == Some("delimited");
        if protobuf {
            return Wanted { format: Format::Protobuf, ..wanted };
        }
        if clause.name == "text/plain" && matches!(clause.parameter("version"), None | Some("" | "0.0.4")) {
            return wanted;
        }
    }
    wanted
}

/// By the header `Accept-Encoding`; of those of equal quality the first of: none, gzip, zstd.
pub(super) fn coding(accept: Option<&[u8]>) -> Option<Coding> {
    let header = String::from_utf8_lossy(accept.unwrap_or_default());
    let clauses: Vec<Clause<'_>> = header.split(',').map(Clause::parse).collect();
    let (mut best, mut quality) = (None, 0.0);
    let offers = [("identity", None), ("gzip", Some(Coding::Gzip)), ("zstd", Some(Coding::Zstd))];
    for (name, coding) in offers.into_iter().filter(|(name, _)| *name != "zstd" || cfg!(feature = "zstd")) {
        for clause in clauses.iter().filter(|clause| clause.name == "*" || clause.name == name) {
            if clause.quality > quality {
                (best, quality) = (coding, clause.quality);
            }
        }
    }
    best
}

/// A part of such a header: a name, parameters, a quality from 0 to 1.
struct Clause<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let quality = parameters.iter().find(|(key, _)| *key == "q").and_then(|(_, value)| value.parse().ok());
        Self { name, quality: quality.unwrap_or(1.0), parameters }
    }

    fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMETHEUS: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                              text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    fn wanted(accept: &str) -> (Format, Escaping) {
        let found = format(Some(accept.as_bytes()));
        (found.format, found.escaping)
    }

    #[test]
    fn forms() {
        let (text, protobuf) = (Format::Text, Format::Protobuf);
        assert_eq!(wanted(""), (text, Escaping::Underscores));
        assert_eq!(wanted(PROMETHEUS), (protobuf, Escaping::Underscores));
        assert_eq!(
            wanted("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.9,text/plain;q=0.1"),
            (text, Escaping::Allow)
        );
        assert_eq!(wanted("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"), (text, Escaping::Allow));
        assert_eq!(wanted("text/plain;q=0.9,application/vnd.google.protobuf;q=1"), (text, Escaping::Underscores));
    }

    #[test]
    fn codings() {
        let coding = |accept: &str| coding(Some(accept.as_bytes())).map(Coding::name);
        assert_eq!(coding("gzip"), Some("gzip"));
        assert_eq!(coding("zstd, gzip"), Some("gzip"));
        assert_eq!(coding("gzip;q=0.5, zstd;q=0.8"), Some("zstd"));
        assert_eq!((coding(""), coding("*"), coding("br"), coding("gzip;q=0")), (None, None, None, None));
    }
}
