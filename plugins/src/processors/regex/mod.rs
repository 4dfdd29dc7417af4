//! Rewrites tags, fields and names by regular expressions.

mod config;
mod fields;
mod series;

use heliograph_core::memo::SeriesMemo;
use heliograph_core::model::{MetricMut, SeriesRef};
use heliograph_core::plugin::{ProcessContext, Processor, ProcessorSpec, Verdict};

use config::{Options, Rename, Rules, Values};
use fields::KeyRename;

pub(super) static SPEC: ProcessorSpec = ProcessorSpec {
    name: "regex",
    sample: include_str!("sample.conf"),
    build: |section, context| {
        let position = section.position();
        let options: Options = section.finish()?;
        let rules = options.compile(&context.name).map_err(|problem| position.error(problem))?;
        Ok(Box::new(Regex::new(rules)))
    },
};

/// The order is fixed: tags, fields, names of tags, names of fields, measurement; in each the order of the file.
struct Regex {
    tags: Vec<Values>,
    fields: Vec<Values>,
    tag_rename: Vec<Rename>,
    field_rename: Vec<KeyRename>,
    metric_rename: Vec<Rename>,
    series: SeriesMemo<Stages>,
}

/// What becomes of a series; all of it depends on the series alone.
struct Stages {
    /// With rewritten tags, as the entries for fields see it.
    tagged: SeriesRef,
    done: SeriesRef,
}

impl Regex {
    fn new(rules: Rules) -> Self {
        Self {
            tags: rules.tags,
            fields: rules.fields,
            tag_rename: rules.tag_rename,
            field_rename: rules.field_rename.into_iter().map(KeyRename::new).collect(),
            metric_rename: rules.metric_rename,
            series: SeriesMemo::default(),
        }
    }
}

impl Processor for Regex {
    fn apply(&mut self, metric: &mut MetricMut<'_>, context: &mut ProcessContext<'_>) -> Verdict {
        let Self { tags, fields, tag_rename, field_rename, metric_rename, series } = self;
        if tags.is_empty() && tag_rename.is_empty() && metric_rename.is_empty() {
            let series = metric.series().clone();
            change_fields(fields, field_rename, metric, &series);
            return Verdict::Keep;
        }
        let stages = series.get(metric.series().fingerprint(), || {
            let tagged = context.interner.edit(metric.series(), |builder| {
                tags.iter_mut().for_each(|entry| series::rewrite_tags(entry, builder));
            });
            let done = context.interner.edit(&tagged, |builder| {
                tag_rename.iter_mut().for_each(|entry| series::rename_tags(entry, builder));
                metric_rename.iter_mut().for_each(|entry| series::rename_measurement(entry, builder));
            });
            Stages { tagged, done }
        });
        change_fields(fields, field_rename, metric, &stages.tagged);
        metric.set_series(stages.done.clone());
        Verdict::Keep
    }
}

fn change_fields(values: &mut [Values], keys: &mut [KeyRename], metric: &mut MetricMut<'_>, series: &SeriesRef) {
    values.iter_mut().for_each(|entry| fields::rewrite(entry, metric, series));
    keys.iter_mut().for_each(|entry| entry.apply(metric));
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::config::Entry;
    use super::*;
    use crate::common::testing::process;

    fn entry(key: &str, pattern: &str, replacement: &str, result_key: &str, append: bool) -> Entry {
        Entry {
            key: key.into(),
            pattern: pattern.into(),
            replacement: replacement.into(),
            result_key: result_key.into(),
            append,
        }
    }

    fn tags(entries: Vec<Entry>) -> Options {
        Options { tags: entries, ..Options::default() }
    }

    fn fields(entries: Vec<Entry>) -> Options {
        Options { fields: entries, ..Options::default() }
    }

    #[track_caller]
    fn check(options: Options, lines: &str, expected: Expect) {
        let shown = match options.compile("processors.regex") {
            Ok(rules) => process(&mut Regex::new(rules), lines),
            Err(problem) => format!("error: {problem}"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_tag_is_replaced() {
        let options = tags(vec![entry("host", r"^([a-z]+)\..*$", "${1}", "", false)]);
        check(
            options,
            "m,host=web.x.y v=1i 1\nm,host=WEB v=1i 1",
            expect![[r#"
            m,host=web v=1i 1
            m,host=WEB v=1i 1"#]],
        );
    }

    #[test]
    fn a_tag_is_appended_to() {
        check(tags(vec![entry("a", "b", "X", "c", true)]), "m,a=bb,c=q v=1i 1", expect!["m,a=bb,c=qXX v=1i 1"]);
        check(tags(vec![entry("a", "b", "X", "c", true)]), "m,a=bb v=1i 1", expect!["m,a=bb,c=XX v=1i 1"]);
        check(tags(vec![entry("a", "b", "X", "", true)]), "m,a=bb v=1i 1", expect!["m,a=bbXX v=1i 1"]);
    }

    #[test]
    fn keys_are_globs_and_new_tags_are_not_looked_at() {
        check(tags(vec![entry("*", "x", "y", "z", false)]), "m,a=x v=1i 1", expect!["m,a=x,z=y v=1i 1"]);
    }

    #[test]
    fn entries_see_earlier_results() {
        let options = tags(vec![entry("x", "a", "b", "", false), entry("x", "b+", "c", "", false)]);
        check(options, "m,x=aab v=1i 1", expect!["m,x=c v=1i 1"]);
    }

    #[test]
    fn named_groups_become_tags() {
        let options = tags(vec![entry("t", "^(?P<site>[^/]+)/(?P<line>[^/]*)$", "", "", false)]);
        check(
            options,
            "m,t=berlin/ v=1i 1\nm,t=rome/2,site=old v=1i 1",
            expect![[r#"
            m,site=berlin,t=berlin/ v=1i 1
            m,line=2,site=rome,t=rome/2 v=1i 1"#]],
        );
    }

    #[test]
    fn named_groups_become_fields() {
        let options = fields(vec![entry("url", r"^/(?P<verb>\w+)/(?P<id>\d*)", "", "", false)]);
        check(options, "m url=\"/get/\",v=1i 1", expect![[r#"m url="/get/",v=1i,verb="get" 1"#]]);
    }

    #[test]
    fn appending_named_groups_of_fields_starts_from_the_tag() {
        let options = Options {
            tags: vec![entry("verb", "^", "<", "", false)],
            fields: vec![entry("url", r"^/(?P<verb>\w+)", "", "", true)],
            tag_rename: vec![entry("", "verb", "w", "", false)],
            ..Options::default()
        };
        check(options, "m,verb=a url=\"/get\" 1", expect![[r#"m,w=<a url="/get",verb="<aget" 1"#]]);
    }

    #[test]
    fn unnamed_groups_delete_the_match() {
        check(tags(vec![entry("t", "b(c)", "", "", false)]), "m,t=abcd v=1i 1", expect!["m,t=ad v=1i 1"]);
    }

    #[test]
    fn only_text_fields() {
        let options = fields(vec![entry("*", r"\d", "#", "", false)]);
        check(options, "m a=\"x1y2\",b=12i,c=\"none\" 1", expect![[r##"m a="x#y#",b=12i,c="none" 1"##]]);
    }

    #[test]
    fn the_result_of_a_field_goes_to_another() {
        let options = fields(vec![entry("a", r"^(\w).*", "$1", "r", true)]);
        check(options, "m a=\"xyz\",r=3i,s=\"q\" 1", expect![[r#"m a="xyz",r="x",s="q" 1"#]]);
    }

    fn renames(result_key: &str) -> Options {
        let entry = |pattern: &str| entry("", pattern, "${1}", result_key, false);
        Options { tag_rename: vec![entry("^(.*)_tag$")], field_rename: vec![entry("^(.*)_pct$")], ..Options::default() }
    }

    #[test]
    fn a_taken_name_stays_or_is_overwritten() {
        let line = "m,a=0,a_tag=1,b_tag=2 x_pct=1i,x=2i,y_pct=3i 1";
        check(renames(""), line, expect!["m,a=0,a_tag=1,b=2 x_pct=1i,x=2i,y=3i 1"]);
        check(renames("keep"), line, expect!["m,a=0,a_tag=1,b=2 x_pct=1i,x=2i,y=3i 1"]);
        check(renames("overwrite"), line, expect!["m,a=1,b=2 x=1i,y=3i 1"]);
    }

    #[test]
    fn a_name_renamed_to_itself_stays() {
        let entry = || vec![entry("", "^(.*)$", "$1", "overwrite", false)];
        let options = Options { tag_rename: entry(), field_rename: entry(), ..Options::default() };
        check(options, "m,a=1 v=1i 1", expect!["m,a=1 v=1i 1"]);
    }

    #[test]
    fn names_renamed_in_the_same_pass_are_taken() {
        let entry = || vec![entry("", "^.$", "z", "", false)];
        let options = Options { tag_rename: entry(), field_rename: entry(), ..Options::default() };
        check(options, "m,a=1,b=2 v=1i,w=2i 1", expect!["m,b=2,z=1 z=1i,w=2i 1"]);
    }

    #[test]
    fn the_measurement() {
        let options = Options { metric_rename: vec![entry("", "^m(.)", "n${1}", "", false)], ..Options::default() };
        check(
            options,
            "mx v=1i 1\nother v=1i 1",
            expect![[r#"
            nx v=1i 1
            other v=1i 1"#]],
        );
    }

    #[test]
    fn mistakes_name_the_entry() {
        check(
            tags(vec![entry("a", "x", "", "", false), entry("a", "(", "b", "", false)]),
            "",
            expect![[r#"error: cannot use pattern "(" of [[tags]] entry 2: unclosed group"#]],
        );
        check(
            tags(vec![entry("", "x", "", "", false)]),
            "",
            expect![[r#"error: [[tags]] entry 1 has no `key`; name the keys to look at, "*" for all"#]],
        );
        check(
            fields(vec![entry("[", "x", "", "", false)]),
            "",
            expect![[
                r#"error: cannot use key "[" of [[fields]] entry 1: invalid glob "[": `[` is not closed at byte 0"#
            ]],
        );
        check(
            renames("replace"),
            "",
            expect![[r#"error: [[tag_rename]] entry 1 has result_key "replace"; it must be "keep" or "overwrite""#]],
        );
    }
}
