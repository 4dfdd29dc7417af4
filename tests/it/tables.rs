//! The tables of plugins, and what belongs to every plugin: README, sample, test cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use heliograph::agent::known_plugins;
use heliograph::config::{LoadOptions, Loaded, Loader};
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Record, Section};
use heliograph_core::host::HostPaths;
use heliograph_core::plugin::BuildContext;
use heliograph_core::stats::Stats;
use heliograph_plugins::{aggregators, inputs, outputs, parsers, processors, secretstores, serializers};

/// A plugin as the tables have it.
struct Plugin {
    /// `inputs`, `parsers` and so on: the table, and the folder.
    kind: &'static str,
    name: &'static str,
    sample: &'static str,
}

/// Plugins without test cases of their own, and why.
const WITHOUT_CASES: [(&str, &str); 3] = [
    ("inputs.mqtt_consumer", "a case has no broker; `mqtt.rs` has a real one"),
    ("secretstores.os", "a case has no keyring of its own"),
    ("secretstores.docker", "a case has no output that shows a secret; its unit tests read real files"),
];

/// Options whose default the code finds out later: as written out, and as not set.
const UNSET: [(&str, &str); 9] = [
    ("tls_enable: Some(false)", "tls_enable: None"),
    ("tls_min_version: \"TLS12\"", "tls_min_version: \"\""),
    ("tls_renegotiation_method: \"never\"", "tls_renegotiation_method: \"\""),
    ("compression_algorithm: \"identity\"", "compression_algorithm: \"\""),
    ("cookie_auth_method: \"POST\"", "cookie_auth_method: \"\""),
    ("TimeoutOption { timeout: Duration(5000000000) }", "TimeoutOption { timeout: Duration(0) }"),
    ("max_undelivered_messages: Some(1000)", "max_undelivered_messages: None"),
    ("ignore_protocol_stats: Some(false)", "ignore_protocol_stats: None"),
    ("influx_timestamp_precision: Duration(1)", "influx_timestamp_precision: Duration(0)"),
];

/// What secret stores say where the place of their secrets is not there, which is no fault of the sample.
const NO_SECRETS: [&str; 2] = ["cannot read the folder of secrets", "no keyring"];

/// The headings of a README, in order. The first may be left out: what stands below the title says the same.
const HEADINGS: [&str; 6] =
    ["What it does and where it runs", "Configuration", "Metrics", "Cardinality", "Example output", "Troubleshooting"];

fn plugins() -> Vec<Plugin> {
    let mut all = Vec::new();
    let mut add = |kind, name, sample| all.push(Plugin { kind, name, sample });
    inputs::ALL.iter().for_each(|spec| add("inputs", spec.name, spec.sample));
    parsers::ALL.iter().for_each(|spec| add("parsers", spec.name, spec.sample));
    processors::ALL.iter().for_each(|spec| add("processors", spec.name, spec.sample));
    aggregators::ALL.iter().for_each(|spec| add("aggregators", spec.name, spec.sample));
    serializers::ALL.iter().for_each(|spec| add("serializers", spec.name, spec.sample));
    outputs::ALL.iter().for_each(|spec| add("outputs", spec.name, spec.sample));
    secretstores::ALL.iter().for_each(|spec| add("secretstores", spec.name, spec.sample));
    all
}

impl Plugin {
    fn full_name(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }

    /// Its folder: an underscore keeps words of the language apart, and a variant shares the folder of the first.
    fn folder(&self) -> PathBuf {
        let kind = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/src").join(self.kind);
        let name = self.name.strip_suffix("_upstream").unwrap_or(self.name);
        let folders = [kind.join(name), kind.join(format!("{name}_"))];
        folders
            .into_iter()
            .find(|folder| folder.is_dir())
            .unwrap_or_else(|| panic!("no folder of {}", self.full_name()))
    }
}

/// Checks every plugin and reports all problems together.
fn check_all(check: impl Fn(&Plugin) -> Result<(), String>) {
    let problem = |plugin: &Plugin| check(plugin).err().map(|problem| format!("{}: {problem}", plugin.full_name()));
    let problems: Vec<String> = plugins().iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn names_are_sorted_and_unique() {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    plugins().iter().for_each(|plugin| names.entry(plugin.kind).or_default().push(plugin.name));
    for (kind, names) in names {
        assert!(names.is_sorted_by(|a, b| a < b), "{kind}: {names:?}");
    }
}

#[test]
fn each_has_a_complete_readme() {
    check_all(|plugin| {
        let path = plugin.folder().join("README.md");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !text.starts_with(&format!("# {}\n", plugin.full_name().replace("_upstream", ""))) {
            return Err(format!("its README begins with {:?}", text.lines().next()));
        }
        let found: Vec<&str> = headings(&text);
        if found != HEADINGS && found != HEADINGS[1..] {
            return Err(format!("the headings of its README are {found:?}"));
        }
        if !text.contains(&format!("\n{}\n```", plugin.sample.trim_end())) {
            return Err("its README does not contain its sample".into());
        }
        Ok(())
    });
}

/// The headings of the second level, but not the comments of samples.
fn headings(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        found.extend(line.strip_prefix("## ").filter(|_| !fenced));
    }
    found
}

#[test]
fn each_has_test_cases() {
    check_all(|plugin| {
        let reason = WITHOUT_CASES.iter().find(|(name, _)| *name == plugin.full_name());
        let cases = fs::read_dir(plugin.folder().join("testcases")).map_or(0, Iterator::count);
        match (cases, reason) {
            (0, None) => Err("it has no test case".into()),
            (1.., Some(_)) => Err("it has test cases; take it out of the list of those that have none".into()),
            _ => Ok(()),
        }
    });
}

#[test]
fn samples_load_as_shipped_and_with_all_defaults_enabled() {
    check_all(|plugin| {
        let shipped = options(plugin, plugin.sample).map_err(|error| format!("the sample: {error}"))?;
        let enabled = enable_defaults(plugin.sample);
        let defaults = options(plugin, &enabled).map_err(|error| format!("with all defaults enabled: {error}"))?;
        if shipped != defaults {
            return Err(format!("with all defaults enabled:\n  {defaults:?}\nas shipped:\n  {shipped:?}"));
        }
        Ok(())
    });
}

/// The sample with `# key = value` and `# [table]` in effect; sentences (`##`) and deeper examples (`#   key`) stay out.
fn enable_defaults(sample: &str) -> String {
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c);
    let enable = |line: &str| {
        let code = line.trim_start().strip_prefix("# ")?;
        let is_option = code.split_once(" = ").is_some_and(|(key, _)| !key.is_empty() && key.chars().all(is_key));
        let is_table = code.starts_with('[') && code.ends_with(']');
        (is_option || is_table).then(|| code.to_owned())
    };
    sample.lines().map(|line| enable(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Loads a sample and makes the plugin; gives the options that were read.
fn options(plugin: &Plugin, sample: &str) -> Result<Vec<String>, ConfigError> {
    // Formats are options of an input or an output.
    let config = match plugin.kind {
        "parsers" => format!("[[inputs.file]]\nfiles = [\"x\"]\n{sample}"),
        "serializers" => format!("[[outputs.file]]\n{sample}"),
        _ => sample.to_owned(),
    };
    let load = LoadOptions { known: known_plugins(), ..LoadOptions::default() };
    let mut loader = Loader::new(&load, &|_| None);
    match loader.add("sample.conf", config.as_bytes()) {
        Err(error) if NO_SECRETS.iter().any(|part| error.message().contains(part)) => return Ok(Vec::new()),
        outcome => outcome?,
    }
    let record = Record::default();
    build(loader.finish(), &record)?;
    let unset = |text: String| UNSET.iter().fold(text, |text, (written, unset)| text.replace(written, unset));
    Ok(record.read().into_iter().map(unset).collect())
}

fn build(loaded: Loaded, record: &Record) -> Result<(), ConfigError> {
    let context = BuildContext {
        name: "sample".into(),
        clock: Clock::manual(0),
        host: HostPaths::default(),
        stats: Stats::default(),
        version: "0",
        debug: false,
    };
    let ready = |section: Section| (section.plugin().to_owned(), section.recorded(record));
    for input in loaded.inputs {
        let (name, section) = ready(input.section);
        let spec = inputs::ALL.iter().find(|spec| spec.name == name).unwrap();
        (spec.build)(section, &context)?;
    }
    for processor in loaded.processors {
        let (name, section) = ready(processor.section);
        let spec = processors::ALL.iter().find(|spec| spec.name == name).unwrap();
        (spec.build)(section, &context)?;
    }
    for aggregator in loaded.aggregators {
        let (name, section) = ready(aggregator.section);
        let spec = aggregators::ALL.iter().find(|spec| spec.name == name).unwrap();
        (spec.build)(section, &context)?;
    }
    for output in loaded.outputs {
        let (name, section) = ready(output.section);
        let spec = outputs::ALL.iter().find(|spec| spec.name == name).unwrap();
        (spec.build)(section, &context)?;
    }
    Ok(())
}
