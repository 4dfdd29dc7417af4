//! Lists of the plugins of this program, and their samples.

use std::fmt::Write as _;

use anyhow::bail;
use heliograph_plugins::{aggregators, inputs, outputs, parsers, processors, secretstores, serializers};

/// A kind of plugin that can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginList {
    /// Inputs.
    Inputs,
    /// Outputs.
    Outputs,
    /// Processors.
    Processors,
    /// Aggregators.
    Aggregators,
    /// Secret stores.
    SecretStores,
    /// Parsers.
    Parsers,
    /// Serializers.
    Serializers,
}

impl PluginList {
    /// All kinds, in the order of the list.
    pub const ALL: &[Self] = &[
        Self::Inputs,
        Self::Outputs,
        Self::Processors,
        Self::Aggregators,
        Self::SecretStores,
        Self::Parsers,
        Self::Serializers,
    ];

    /// As in `inputs.cpu`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
            Self::Processors => "processors",
            Self::Aggregators => "aggregators",
            Self::SecretStores => "secretstores",
            Self::Parsers => "parsers",
            Self::Serializers => "serializers",
        }
    }

    /// Names and samples of the plugins of this kind, sorted by name.
    pub(super) fn plugins(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Inputs => inputs::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::Outputs => outputs::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::Processors => processors::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::Aggregators => aggregators::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::SecretStores => secretstores::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::Parsers => parsers::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
            Self::Serializers => serializers::ALL.iter().map(|spec| (spec.name, spec.sample)).collect(),
        }
    }
}

/// One `kind.name` a line. No plugin of this program is deprecated: Telegraf's deprecated ones were left out.
pub(super) fn plugins(kinds: &[PluginList], deprecated: bool, out: &mut String) {
    if deprecated {
        return;
    }
    for kind in kinds {
        for (name, _) in kind.plugins() {
            let _ = writeln!(out, "{}.{name}", kind.name());
        }
    }
}

/// The list of the flags `--input-list` and `--output-list`.
pub(super) fn names(title: &str, word: &str, kind: PluginList, out: &mut String) {
    let _ = writeln!(out, "DEPRECATED: use the command `heliograph plugins {word}` instead");
    let _ = writeln!(out, "Available {title} Plugins:");
    for (name, _) in kind.plugins() {
        let _ = writeln!(out, "  {name}");
    }
}

/// Deprecated options, of plugins that are all there to stay.
pub(super) fn deprecations(out: &mut String) {
    for kind in ["Input", "Output", "Processor", "Aggregator"] {
        let _ = writeln!(out, "Deprecated {kind} Plugins:");
    }
}

/// The samples of the input and the output of a name.
///
/// # Errors
/// If there is neither.
pub(super) fn usage(name: &str, out: &mut String) -> anyhow::Result<()> {
    let mut found = false;
    for kind in [PluginList::Inputs, PluginList::Outputs] {
        for (_, sample) in kind.plugins().iter().filter(|(known, _)| *known == name) {
            found = true;
            let _ = writeln!(out, "\n{}\n", sample.trim_end());
        }
    }
    if !found {
        let known = [PluginList::Inputs.plugins(), PluginList::Outputs.plugins()].concat();
        let hint = heliograph_core::config::did_you_mean(name, known.iter().map(|(name, _)| *name));
        bail!("input {name} not found and output {name} not found{hint}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        let mut out = String::new();
        plugins(PluginList::ALL, false, &mut out);
        assert!(out.contains("outputs.graphite\n") && out.contains("serializers.influx\n"), "{out}");
        for kind in PluginList::ALL {
            assert!(kind.plugins().is_sorted(), "{}", kind.name());
        }
        names("Output", "outputs", PluginList::Outputs, &mut out);
        assert!(out.contains("\nAvailable Output Plugins:\n") && out.contains("\n  graphite\n"), "{out}");
    }

    #[test]
    fn usage_of_a_plugin() {
        let mut out = String::new();
        usage("graphite", &mut out).unwrap();
        assert!(out.contains("\n[[outputs.graphite]]\n"), "{out}");
        let error = usage("graphit", &mut out).unwrap_err().to_string();
        assert_eq!(error, "input graphit not found and output graphit not found; did you mean \"graphite\"?");
    }
}
