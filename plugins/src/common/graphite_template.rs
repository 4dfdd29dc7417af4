//! Templates that turn dotted names into measurement, tags and field, as Graphite users know them.

use bstr::ByteSlice;

/// A set of templates, each for the names that its filter matches.
#[derive(Clone, Debug)]
pub struct Templates {
    /// Joins parts that belong together.
    joiner: Vec<u8>,
    /// For names that no filter matches.
    default: Template,
    root: Node,
    /// Splits names for the filters: the separator of the template that came last.
    separator: Vec<u8>,
}

/// What a template makes of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The measurement; empty if the template finds none in this name.
    pub measurement: Vec<u8>,
    /// Key and value of each tag; keys are unique.
    pub tags: Vec<(Vec<u8>, Vec<u8>)>,
    /// The field; empty if the template finds none in this name.
    pub field: Vec<u8>,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No part of it says where the measurement is.
    #[error("template {0:?} has no `measurement` part")]
    NoMeasurement(String),
    /// A constant tag is not written as `key=value`.
    #[error("template {template:?}: {item:?} is no tag; write key=value")]
    Tag {
        /// The whole line.
        template: String,
        /// The piece at fault.
        item: String,
    },
    /// It has more words than a template can have.
    #[error("template {0:?} has too many words; write \"[separator] [filter] template [tag=value,…]\"")]
    Words(String),
    /// It asks for all that is left twice.
    #[error("template {0:?} has both `measurement*` and `field*`; use one of them")]
    TwoGreedy(String),
}

#[derive(Clone, Debug)]
struct Template {
    text: String,
    separator: Vec<u8>,
    parts: Vec<Part>,
    tags: Vec<(Vec<u8>, Vec<u8>)>,
    two_greedy: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Measurement,
    Measurements,
    Field,
    Fields,
    Skip,
    Tag(Vec<u8>),
}

/// A part of filters, with the parts that may follow.
#[derive(Clone, Debug, Default)]
struct Node {
    children: Vec<(Vec<u8>, Node)>,
    template: Option<Template>,
}

/// A template as it is written.
struct Spec<'a> {
    separator: &'a str,
    filter: &'a str,
    template: &'a str,
    tags: &'a str,
}

const DOT: &str = ".";

impl Templates {
    /// Compiles `[separator] [filter] template [tag=value,…]` lines; `joiner` joins parts of one target.
    ///
    /// Fails on a template without measurement, on constant tags that are none and on surplus words.
    /// Source: the `templating` package of Telegraf.
    pub fn new<S: AsRef<str>>(lines: &[S], joiner: &str) -> Result<Self, TemplateError> {
        let mut specs = Vec::new();
        for line in lines {
            specs.extend(Spec::new(line.as_ref())?);
        }
        // Those without filter come first; a later one of the same filter wins, so that the longer template does.
        specs.sort_by_key(|spec| (!spec.filter.is_empty(), spec.template.matches(spec.separator).count()));
        let mut templates = Self {
            joiner: joiner.as_bytes().to_vec(),
            default: Template::new(&Spec { separator: DOT, filter: "", template: "measurement*", tags: "" })?,
            root: Node::default(),
            separator: DOT.as_bytes().to_vec(),
        };
        for spec in specs {
            let template = Template::new(&spec)?;
            templates.separator = template.separator.clone();
            if spec.filter.is_empty() {
                templates.default = template;
            } else {
                let parts = spec.filter.as_bytes().split_str(&templates.separator);
                templates.root.insert(parts, template);
            }
        }
        Ok(templates)
    }

    /// Takes a name apart.
    ///
    /// Fails if its template asks twice for all that is left.
    pub fn apply(&self, name: &[u8]) -> Result<Applied, TemplateError> {
        let parts: Vec<&[u8]> = name.split_str(&self.separator).collect();
        self.root.search(&parts).unwrap_or(&self.default).apply(name, &self.joiner)
    }
}

impl<'a> Spec<'a> {
    fn new(line: &'a str) -> Result<Option<Self>, TemplateError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let tagged = words.last().is_some_and(|last| last.contains('='));
        let (separator, filter, template, tags) = match *words {
            [] => return Ok(None),
            // Blanks around a lone template belong to it.
            [_] => (DOT, "", line, ""),
            [template, tags] if tagged => (DOT, "", template, tags),
            [filter, template] => (DOT, filter, template, ""),
            [filter, template, tags] if tagged => (DOT, filter, template, tags),
            [separator, filter, template] => (separator, filter, template, ""),
            [separator, filter, template, tags] => (separator, filter, template, tags),
            _ => return Err(TemplateError::Words(line.to_owned())),
        };
        Ok(Some(Self { separator, filter, template, tags }))
    }
}

impl Template {
    fn new(spec: &Spec<'_>) -> Result<Self, TemplateError> {
        let text = spec.template.to_owned();
        let parts: Vec<&str> = spec.template.split(spec.separator).collect();
        if !parts.iter().any(|part| part.starts_with("measurement")) {
            return Err(TemplateError::NoMeasurement(text));
        }
        let parts: Vec<Part> = parts
            .into_iter()
            .map(|part| match part {
                "measurement" => Part::Measurement,
                "measurement*" => Part::Measurements,
                "field" => Part::Field,
                "field*" => Part::Fields,
                "" => Part::Skip,
                tag => Part::Tag(tag.as_bytes().to_vec()),
            })
            .collect();
        let mut tags = Vec::new();
        for item in spec.tags.split(',').filter(|_| !spec.tags.is_empty()) {
            let mut halves = item.split('=').map(|half| half.as_bytes().to_vec());
            let (Some(key), Some(value)) = (halves.next(), halves.next()) else {
                return Err(TemplateError::Tag { template: text, item: item.to_owned() });
            };
            set(&mut tags, key, value);
        }
        let two_greedy = parts.contains(&Part::Measurements) && parts.contains(&Part::Fields);
        Ok(Self { text, separator: spec.separator.as_bytes().to_vec(), parts, tags, two_greedy })
    }

    fn apply(&self, name: &[u8], joiner: &[u8]) -> Result<Applied, TemplateError> {
        if self.two_greedy {
            return Err(TemplateError::TwoGreedy(self.text.clone()));
        }
        let words: Vec<&[u8]> = name.split_str(&self.separator).collect();
        let (mut measurement, mut field) = (Vec::new(), Vec::new());
        let mut tags: Vec<(&[u8], Vec<&[u8]>)> =
            self.tags.iter().map(|(key, value)| (key.as_slice(), vec![value.as_slice()])).collect();
        for (i, part) in self.parts.iter().enumerate().take(words.len()) {
            match part {
                Part::Measurement => measurement.push(words[i]),
                Part::Measurements => measurement.extend(&words[i..]),
                Part::Field => field.push(words[i]),
                Part::Fields => field.extend(&words[i..]),
                Part::Skip => {}
                Part::Tag(key) => match tags.iter_mut().find(|(k, _)| k == key) {
                    Some((_, values)) => values.push(words[i]),
                    None => tags.push((key, vec![words[i]])),
                },
            }
        }
        Ok(Applied {
            measurement: measurement.join(joiner),
            tags: tags.into_iter().map(|(key, values)| (key.to_vec(), values.join(joiner))).collect(),
            field: field.join(joiner),
        })
    }
}

impl Node {
    fn insert<'a>(&mut self, mut parts: impl Iterator<Item = &'a [u8]>, template: Template) {
        let Some(part) = parts.next() else {
            self.template = Some(template);
            return;
        };
        let place = match self.children.iter().position(|(value, _)| value == part) {
            Some(place) => place,
            None => {
                self.children.push((part.to_vec(), Self::default()));
                self.children.len() - 1
            }
        };
        self.children[place].1.insert(parts, template);
    }

    /// The exact part first, if anything is found below it; else the star, whose answer is final; else what is here.
    fn search(&self, parts: &[&[u8]]) -> Option<&Template> {
        let child = |wanted: &[u8]| self.children.iter().find(|(value, _)| value == wanted).map(|(_, node)| node);
        if let Some((part, rest)) = parts.split_first() {
            if let Some(found) = child(part).and_then(|node| node.search(rest)) {
                return Some(found);
            }
            if let Some(star) = child(b"*") {
                return star.search(rest);
            }
        }
        self.template.as_ref()
    }
}

fn set(tags: &mut Vec<(Vec<u8>, Vec<u8>)>, key: Vec<u8>, value: Vec<u8>) {
    match tags.iter_mut().find(|(k, _)| *k == key) {
        Some(tag) => tag.1 = value,
        None => tags.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use bstr::BStr;
    use proptest::prelude::*;

    use super::*;

    fn show(templates: &Templates, name: &str) -> String {
        match templates.apply(name.as_bytes()) {
            Ok(Applied { measurement, mut tags, field }) => {
                tags.sort();
                let tags: String = tags.iter().map(|(k, v)| format!(",{}={}", BStr::new(k), BStr::new(v))).collect();
                format!("{}{tags} {}", BStr::new(&measurement), BStr::new(&field))
            }
            Err(error) => format!("! {error}"),
        }
    }

    #[track_caller]
    fn check(lines: &[&str], joiner: &str, name: &str, want: &str) {
        assert_eq!(show(&Templates::new(lines, joiner).unwrap(), name), want);
    }

    #[test]
    fn parts_go_where_the_template_says() {
        check(&[], ".", "a.b.c", "a.b.c ");
        check(&[], "_", "a.b.c", "a_b_c ");
        check(&["measurement.host.field*"], "_", "cpu.web01.user.total", "cpu,host=web01 user_total");
        check(&["measurement.measurement.field*"], ".", "a", "a ");
        check(&["measurement*.host"], ".", "a.b.c", "a.b.c,host=b ");
        check(&["..measurement.host.field x=1"], ".", "a.b.m.h", "m,host=h,x=1 ");
        check(&["host.measurement host=zz,k=a=b,e="], ".", "h1.m", "m,e=,host=zz.h1,k=a ");
        check(&["host.measurement.host"], "-", "a.m.b", "m,host=a-b ");
        check(&["measurement.host "], ".", "m.h", "m,host =h ");
    }

    #[test]
    fn filters_choose_the_template() {
        let lines = ["*.app env.service.resource.measurement region=us", "measurement*"];
        check(&lines, ".", "p.app.cpu.idle", "idle,env=p,region=us,resource=cpu,service=app ");
        check(&lines, ".", "p.app", ",env=p,region=us,service=app ");
        check(&lines, ".", "q.x", "q.x ");
        let lines = ["a.* measurement.host.field", "a.b.* .measurement.field"];
        check(&lines, ".", "a.b.c", "b c");
        check(&lines, ".", "a.c.d", "a,host=c d");
        check(&lines, ".", "a.b", "a,host=b ");
        check(&lines, ".", "b", "b ");
        check(&["_ a_* _measurement_host"], "/", "a_m_h", "m,host=h ");
    }

    #[test]
    fn the_longer_template_of_one_filter_wins() {
        check(&["a .measurement.x.y", "a measurement.z"], ".", "a.b.c.d", "b,x=c,y=d ");
        check(&["measurement.x.y", "measurement.z"], ".", "a.b.c", "a,x=b,y=c ");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let error = |line| Templates::new(&[line], ".").unwrap_err().to_string();
        assert_eq!(error("host.field"), "template \"host.field\" has no `measurement` part");
        assert_eq!(error("a measurement x"), "template \"x\" has no `measurement` part");
        assert_eq!(error(". a measurement x"), "template \"measurement\": \"x\" is no tag; write key=value");
        assert!(error(". a measurement x=1 y").contains("too many words"));
        check(
            &["measurement*.field*"],
            ".",
            "a.b",
            "! template \"measurement*.field*\" has both `measurement*` and `field*`; use one of them",
        );
        check(&[" "], ".", "a.b", "a.b ");
    }

    proptest! {
        #[test]
        fn each_part_goes_to_its_target(
            parts in prop::collection::vec(prop::sample::select(vec!["measurement", "field", "", "x", "y"]), 0..5),
            name in prop::collection::vec("[ab]{0,2}", 1..6),
        ) {
            let mut parts = parts;
            parts.push("measurement");
            let templates = Templates::new(&[parts.join(".")], "_").unwrap();
            let of = |target: &str| {
                let taken = parts.iter().zip(&name).filter(|(part, _)| **part == target).map(|(_, word)| word.as_str());
                taken.collect::<Vec<_>>()
            };
            let applied = templates.apply(name.join(".").as_bytes()).unwrap();
            prop_assert_eq!(applied.measurement, of("measurement").join("_").into_bytes());
            prop_assert_eq!(applied.field, of("field").join("_").into_bytes());
            for tag in ["x", "y"] {
                let got = applied.tags.iter().find(|(key, _)| key == tag.as_bytes()).map(|(_, value)| value.clone());
                prop_assert_eq!(got, (!of(tag).is_empty()).then(|| of(tag).join("_").into_bytes()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(line in "[a-c.=,* measurement_]{0,20}", name in "[a-c._é]{0,12}") {
            if let Ok(templates) = Templates::new(&[line], ".") {
                let _ = templates.apply(name.as_bytes());
            }
        }
    }
}
