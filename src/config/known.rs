//! Names of plugins: those of this build, and those that deserve a message of their own.

use heliograph_core::config::{SecretStoreSpec, did_you_mean};

/// A kind of plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// `[[inputs.…]]`
    Input,
    /// `[[processors.…]]`
    Processor,
    /// `[[aggregators.…]]`
    Aggregator,
    /// `[[outputs.…]]`
    Output,
    /// `[[secretstores.…]]`
    SecretStore,
}

impl PluginKind {
    /// The name of its table.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            PluginKind::Input => "inputs",
            PluginKind::Processor => "processors",
            PluginKind::Aggregator => "aggregators",
            PluginKind::Output => "outputs",
            PluginKind::SecretStore => "secretstores",
        }
    }

    fn word(self) -> &'static str {
        match self {
            PluginKind::Input => "input",
            PluginKind::Processor => "processor",
            PluginKind::Aggregator => "aggregator",
            PluginKind::Output => "output",
            PluginKind::SecretStore => "secretstores",
        }
    }
}

/// The plugins that a configuration can name.
#[derive(Debug, Clone, Default)]
pub struct KnownPlugins {
    /// Inputs of this build.
    pub inputs: Vec<&'static str>,
    /// Processors of this build.
    pub processors: Vec<&'static str>,
    /// Aggregators of this build.
    pub aggregators: Vec<&'static str>,
    /// Outputs of this build.
    pub outputs: Vec<&'static str>,
    /// Secret stores of this build.
    pub secret_stores: Vec<&'static SecretStoreSpec>,
    /// Plugins that exist but are not in this build, with the cargo feature that brings them.
    pub left_out: Vec<(PluginKind, &'static str, &'static str)>,
}

/// Plugins that Telegraf had once and refuses now.
const REMOVED: &[(PluginKind, &[&str])] = &[
    (
        PluginKind::Input,
        &[
            "KNXListener",
            "aerospike",
            "cassandra",
            "cisco_telemetry_gnmi",
            "http_listener",
            "httpjson",
            "io",
            "jolokia",
            "kafka_consumer_legacy",
            "logparser",
            "sflow",
            "snmp_legacy",
            "tcp_listener",
            "udp_listener",
        ],
    ),
    (PluginKind::Output, &["amon", "riemann_legacy"]),
];

impl KnownPlugins {
    /// What is wrong with a name, if it is not one of this build.
    #[must_use]
    pub fn problem(&self, kind: PluginKind, name: &str) -> Option<String> {
        let known: Vec<&str> = match kind {
            PluginKind::Input => self.inputs.clone(),
            PluginKind::Processor => self.processors.clone(),
            PluginKind::Aggregator => self.aggregators.clone(),
            PluginKind::Output => self.outputs.clone(),
            PluginKind::SecretStore => self.secret_stores.iter().map(|spec| spec.name).collect(),
        };
        if known.contains(&name) {
            return None;
        }
        let undefined = format!("undefined but requested {}: {name}", kind.word());
        if let Some((_, _, feature)) = self.left_out.iter().find(|(k, n, _)| *k == kind && *n == name) {
            return Some(format!("{undefined} (this program was built without `{feature}`)"));
        }
        if REMOVED.iter().any(|(k, names)| *k == kind && names.contains(&name)) {
            return Some(format!("{undefined} (plugin deprecated: it was removed from Telegraf, too)"));
        }
        Some(format!("{undefined}{}", did_you_mean(name, known)))
    }
}
