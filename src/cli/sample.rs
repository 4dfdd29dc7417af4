//! The sample configuration, put together from the samples of the plugins.

use std::fmt::Write as _;

use super::arguments::Arguments;
use super::print::PluginList;

/// What of the sample configuration is wanted; an empty list for all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// `global_tags`, `agent`, and kinds of plugins.
    pub sections: Vec<String>,
    /// Names of inputs.
    pub inputs: Vec<String>,
    /// Names of outputs.
    pub outputs: Vec<String>,
    /// Names of aggregators.
    pub aggregators: Vec<String>,
    /// Names of processors.
    pub processors: Vec<String>,
    /// Names of secret stores.
    pub secret_stores: Vec<String>,
}

impl Filters {
    pub(super) fn new(found: &Arguments) -> Self {
        Self {
            sections: found.names_of_filter("section-filter"),
            inputs: found.names_of_filter("input-filter"),
            outputs: found.names_of_filter("output-filter"),
            aggregators: found.names_of_filter("aggregator-filter"),
            processors: found.names_of_filter("processor-filter"),
            secret_stores: found.names_of_filter("secretstore-filter"),
        }
    }

    fn has(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|known| known == section)
    }

    fn names(&self, kind: PluginList) -> &[String] {
        match kind {
            PluginList::Inputs => &self.inputs,
            PluginList::Outputs => &self.outputs,
            PluginList::Processors => &self.processors,
            PluginList::Aggregators => &self.aggregators,
            PluginList::SecretStores => &self.secret_stores,
            PluginList::Parsers | PluginList::Serializers => &[],
        }
    }
}

const HEADER: &str = "\
# Heliograph Configuration
#
# A plugin is active if it stands here; to turn one off, comment out its name and all of its options.
#
# `heliograph --config heliograph.conf --test` shows what the inputs gather, `heliograph config check` finds mistakes.
#
# Environment variables can stand in every string, as \"${NAME}\".

";

const GLOBAL_TAGS: &str = "
# Tags of all metrics, as key = \"value\"
[global_tags]
  # dc = \"us-east-1\" # tags all metrics with dc=us-east-1
  # rack = \"1a\"
  ## Environment variables can be used here, as in all strings
  # user = \"$USER\"

";

/// Every option of the agent with its default.
const AGENT: &str = include_str!("sample_agent.conf");

/// Inputs that are not commented out.
const DEFAULT_INPUTS: &[&str] = &["cpu", "disk", "diskio", "kernel", "mem", "processes", "swap", "system"];

/// Kinds of plugins with their headings, in the order of the file.
const KINDS: &[(PluginList, &str)] = &[
    (PluginList::SecretStores, "SECRETSTORE PLUGINS"),
    (PluginList::Outputs, "OUTPUT PLUGINS"),
    (PluginList::Processors, "PROCESSOR PLUGINS"),
    (PluginList::Aggregators, "AGGREGATOR PLUGINS"),
    (PluginList::Inputs, "INPUT PLUGINS"),
];

/// Appends the sample configuration.
pub(super) fn write(filters: &Filters, out: &mut String) {
    out.push_str(HEADER);
    if filters.has("global_tags") {
        out.push_str(GLOBAL_TAGS);
    }
    if filters.has("agent") {
        out.push_str(AGENT);
    }
    for (kind, title) in KINDS.iter().filter(|(kind, _)| filters.has(kind.name())) {
        let names = filters.names(*kind);
        let mut plugins = kind.plugins();
        plugins.retain(|(name, _)| names.is_empty() || names.iter().any(|known| known == name));
        if names.is_empty() {
            heading(title, out);
        }
        let is_default = |name: &str| *kind == PluginList::Inputs && DEFAULT_INPUTS.contains(&name);
        // Active ones first, so that a reader sees at once what this file does.
        for commented in [false, true] {
            for (name, sample) in &plugins {
                if commented == (names.is_empty() && !is_default(name)) {
                    plugin(sample, commented, out);
                }
            }
        }
    }
}

fn heading(title: &str, out: &mut String) {
    let rule = "#".repeat(79);
    let _ = write!(out, "\n{rule}\n#{title:^77}#\n{rule}\n\n");
}

fn plugin(sample: &str, commented: bool, out: &mut String) {
    out.push('\n');
    for line in sample.trim_end().lines() {
        let line = if commented { format!("# {line}") } else { line.to_owned() };
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::{LoadOptions, Loader};

    fn sample(filters: &Filters) -> String {
        let mut out = String::new();
        write(filters, &mut out);
        out
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn filtered() {
        let filters = Filters {
            sections: names(&["outputs", "inputs"]),
            outputs: names(&["discard"]),
            inputs: names(&["none"]),
            ..Filters::default()
        };
        expect![[r#"
            # Heliograph Configuration
            #
            # A plugin is active if it stands here; to turn one off, comment out its name and all of its options.
            #
            # `heliograph --config heliograph.conf --test` shows what the inputs gather, `heliograph config check` finds mistakes.
            #
            # Environment variables can stand in every string, as "${NAME}".


            # Throw metrics away
            [[outputs.discard]]
              ## There are no options of its own

        "#]]
        .assert_eq(&sample(&filters));
    }

    #[test]
    fn the_whole_one_is_commented_out_but_for_the_defaults_and_loads() {
        let text = sample(&Filters::default());
        assert!(text.contains("\n# [[outputs.graphite]]\n"), "{text}");
        let active: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("[[inputs.")).collect();
        assert!(active.iter().all(|name| DEFAULT_INPUTS.contains(&name.trim_end_matches("]]"))), "{active:?}");
        load(&text);
    }

    #[test]
    fn the_agent_loads_with_all_its_options() {
        let is_option = |line: &str| line.starts_with("  # ") && line.contains(" = ");
        let enabled: Vec<String> = AGENT
            .lines()
            .map(|line| if is_option(line) { line.replacen("# ", "", 1) } else { line.to_owned() })
            .collect();
        let (plain, enabled) = (load(AGENT), load(&enabled.join("\n")));
        // The one option that has three values.
        assert!(enabled.contains("skip_processors_after_aggregators: Some(false)"));
        assert_eq!(plain, enabled.replace("aggregators: Some(false)", "aggregators: None"));
    }

    /// The agent's settings as the text says them, without their places.
    fn load(text: &str) -> String {
        let options = LoadOptions { known: crate::agent::known_plugins(), ..LoadOptions::default() };
        let mut loader = Loader::new(&options, &|_| None);
        loader.add("sample.conf", text.as_bytes()).unwrap();
        let agent = format!("{:?}", loader.finish().agent);
        agent.split(", places:").next().unwrap_or_default().to_owned()
    }
}
