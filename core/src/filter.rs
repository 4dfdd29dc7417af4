//! The filters every plugin has: which metrics it sees, and which of their tags and fields (config, section 10).

use crate::glob::{GlobError, GlobSet};
use crate::metricpass::CelField;
use crate::metricpass::{CompileError, MetricPass};
use crate::model::{MetricRef, Series, Value};

/// The filter options of a plugin as they stand in its table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterOptions {
    /// Measurements to select; empty selects all.
    pub namepass: Vec<String>,
    /// Characters that `*` and `?` in `namepass` do not match.
    pub namepass_separator: String,
    /// Measurements to leave out.
    pub namedrop: Vec<String>,
    /// Characters that `*` and `?` in `namedrop` do not match.
    pub namedrop_separator: String,
    /// Tag key and globs of its value; one match selects. `None` if the option is not given or an empty table.
    pub tagpass: Option<Vec<(String, Vec<String>)>>,
    /// Tag key and globs of its value; one match leaves the metric out.
    pub tagdrop: Option<Vec<(String, Vec<String>)>>,
    /// A CEL expression; empty selects all.
    pub metricpass: String,
    /// Fields to keep; empty keeps all.
    pub fieldinclude: Vec<String>,
    /// Fields to take out.
    pub fieldexclude: Vec<String>,
    /// Tags to keep; empty keeps all.
    pub taginclude: Vec<String>,
    /// Tags to take out.
    pub tagexclude: Vec<String>,
}

/// A filter option that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("option `{option}`")]
pub struct FilterError {
    /// Its key.
    pub option: &'static str,
    /// What is wrong with its value.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl FilterError {
    fn glob(option: &'static str) -> impl FnOnce(GlobError) -> Self {
        move |error| Self { option, source: Box::new(error) }
    }

    fn metricpass(error: CompileError) -> Self {
        Self { option: "metricpass", source: Box::new(error) }
    }
}

/// Selects metrics, and tags and fields in them.
#[derive(Debug, Default)]
pub struct Filter {
    namepass: Option<GlobSet>,
    namedrop: Option<GlobSet>,
    tagpass: Option<Vec<(Vec<u8>, GlobSet)>>,
    tagdrop: Option<Vec<(Vec<u8>, GlobSet)>>,
    metricpass: Option<MetricPass>,
    fieldinclude: Option<GlobSet>,
    fieldexclude: Option<GlobSet>,
    taginclude: Option<GlobSet>,
    tagexclude: Option<GlobSet>,
}

impl Filter {
    /// Compiles the options. Fails on a broken glob or expression, naming the option.
    pub fn new(options: &FilterOptions) -> Result<Self, FilterError> {
        let tags = |option, table: &Option<Vec<(String, Vec<String>)>>| {
            let compile = |(key, globs): &(String, Vec<String>)| {
                Ok((key.as_bytes().to_vec(), GlobSet::new(globs, "").map_err(FilterError::glob(option))?))
            };
            table.as_ref().map(|rows| rows.iter().map(compile).collect()).transpose()
        };
        let metricpass = &options.metricpass;
        Ok(Self {
            namepass: globs("namepass", &options.namepass, &options.namepass_separator)?,
            namedrop: globs("namedrop", &options.namedrop, &options.namedrop_separator)?,
            tagpass: tags("tagpass", &options.tagpass)?,
            tagdrop: tags("tagdrop", &options.tagdrop)?,
            metricpass: (!metricpass.is_empty())
                .then(|| MetricPass::compile(metricpass))
                .transpose()
                .map_err(FilterError::metricpass)?,
            fieldinclude: globs("fieldinclude", &options.fieldinclude, "")?,
            fieldexclude: globs("fieldexclude", &options.fieldexclude, "")?,
            taginclude: globs("taginclude", &options.taginclude, "")?,
            tagexclude: globs("tagexclude", &options.tagexclude, "")?,
        })
    }

    /// Whether every metric passes unchanged.
    pub fn is_open(&self) -> bool {
        !self.selects_by_series() && self.metricpass.is_none() && !self.has_tag_rules() && !self.has_field_rules()
    }

    /// Whether measurement or tags decide about a metric.
    pub fn selects_by_series(&self) -> bool {
        self.namepass.is_some() || self.namedrop.is_some() || self.tagpass.is_some() || self.tagdrop.is_some()
    }

    /// Whether `metricpass` decides about a metric.
    pub fn selects_by_expression(&self) -> bool {
        self.metricpass.is_some()
    }

    /// Whether tags are taken out.
    pub fn has_tag_rules(&self) -> bool {
        self.taginclude.is_some() || self.tagexclude.is_some()
    }

    /// Whether fields are taken out.
    pub fn has_field_rules(&self) -> bool {
        self.fieldinclude.is_some() || self.fieldexclude.is_some()
    }

    /// The part of the selection that measurement and tags decide; the same for every metric of a series.
    pub fn selects_series(&self, series: &Series) -> bool {
        if !passes(&self.namepass, &self.namedrop, series.name()) {
            return false;
        }
        let any = |rows: &[(Vec<u8>, GlobSet)]| {
            rows.iter().any(|(key, globs)| series.tag(key).is_some_and(|value| globs.matches(value)))
        };
        self.tagpass.as_deref().is_none_or(any) && !self.tagdrop.as_deref().is_some_and(any)
    }

    /// The part of the selection that `metricpass` decides.
    ///
    /// An expression that cannot be evaluated (a missing key, types that do not fit) selects the metric; the error is
    /// logged under the plugin's name, as Telegraf does.
    pub fn selects_metric(&self, metric: MetricRef<'_>, now: i64, plugin: &str) -> bool {
        let Some(metricpass) = &self.metricpass else { return true };
        let fields = metric.fields.iter().map(|field| (field.key.as_bytes(), cel_field(&field.value)));
        match metricpass.evaluate(metric.series.name(), metric.series.tags(), fields, metric.time, now) {
            Ok(selected) => selected,
            Err(error) => {
                tracing::error!(plugin, error = %error, "filtering failed");
                true
            }
        }
    }

    /// Whether the tag of this key stays.
    pub fn keeps_tag(&self, key: &[u8]) -> bool {
        passes(&self.taginclude, &self.tagexclude, key)
    }

    /// Whether the field of this key stays.
    pub fn keeps_field(&self, key: &[u8]) -> bool {
        passes(&self.fieldinclude, &self.fieldexclude, key)
    }
}

fn globs(option: &'static str, patterns: &[String], separators: &str) -> Result<Option<GlobSet>, FilterError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    GlobSet::new(patterns, separators).map(Some).map_err(FilterError::glob(option))
}

fn passes(include: &Option<GlobSet>, exclude: &Option<GlobSet>, text: &[u8]) -> bool {
    include.as_ref().is_none_or(|globs| globs.matches(text))
        && !exclude.as_ref().is_some_and(|globs| globs.matches(text))
}

fn cel_field(value: &Value) -> CelField<'_> {
    match value {
        Value::Float(v) => CelField::Float(*v),
        Value::Int(v) => CelField::Int(*v),
        Value::Uint(v) => CelField::Uint(*v),
        Value::Bool(v) => CelField::Bool(*v),
        Value::Text(v) => CelField::Text(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeriesBuilder;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    fn selects(options: FilterOptions, name: &str, tags: &[(&str, &str)]) -> bool {
        let mut builder = SeriesBuilder::new();
        builder.start(name.as_bytes());
        tags.iter().for_each(|(k, v)| {
            builder.set_tag(k.as_bytes(), v.as_bytes());
        });
        Filter::new(&options).unwrap().selects_series(&builder.build())
    }

    #[test]
    fn names() {
        let options = || FilterOptions { namepass: list(&["cpu*"]), namedrop: list(&["cpu_x"]), ..Default::default() };
        assert!(selects(options(), "cpu", &[]));
        assert!(!selects(options(), "cpu_x", &[]));
        assert!(!selects(options(), "mem", &[]));
    }

    #[test]
    fn one_matching_tag_is_enough() {
        let rows = Some(vec![("a".to_string(), list(&["1"])), ("b".to_string(), list(&["2*"]))]);
        let pass = || FilterOptions { tagpass: rows.clone(), ..Default::default() };
        assert!(selects(pass(), "m", &[("a", "9"), ("b", "22")]));
        assert!(!selects(pass(), "m", &[("c", "1")]));
        let drop = || FilterOptions { tagdrop: rows.clone(), ..Default::default() };
        assert!(!selects(drop(), "m", &[("a", "1")]));
        assert!(selects(drop(), "m", &[]));
    }

    #[test]
    fn an_empty_list_of_a_key_matches_nothing() {
        let rows = Some(vec![("a".to_string(), vec![])]);
        assert!(!selects(FilterOptions { tagpass: rows.clone(), ..Default::default() }, "m", &[("a", "1")]));
        assert!(selects(FilterOptions { tagdrop: rows, ..Default::default() }, "m", &[("a", "1")]));
    }

    #[test]
    fn errors_name_the_option() {
        let error = Filter::new(&FilterOptions { tagexclude: list(&["[z-a]"]), ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains("tagexclude"), "{error}");
    }
}
