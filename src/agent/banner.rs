//! What is said about a configuration at the start.

use std::collections::BTreeMap;

use heliograph_plugins::{aggregators, inputs, outputs, parsers, processors, secretstores};
use tracing::{info, warn};

use super::{Mode, Options};
use crate::config::{AgentConfig, Loaded};
use crate::logging::{MAIN, Settings};

/// The lines about a configuration, kept until the log is set up.
pub struct Banner {
    loaded: Vec<Kind>,
    tags: String,
}

/// The plugins of a kind.
struct Kind {
    name: &'static str,
    /// Their names, sorted, with their number where it is more than one.
    plugins: String,
    /// A table of the files they come from, a line each, if that was asked for.
    sources: Vec<String>,
}

const KINDS: [&str; 5] = ["inputs", "aggregators", "processors", "secretstores", "outputs"];

impl Banner {
    /// `with_sources` adds where each plugin comes from.
    pub fn new(loaded: &Loaded, with_sources: bool) -> Self {
        let kind = |name| {
            let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (plugin, source) in &loaded.origins {
                if let Some((_, plugin)) = plugin.split_once('.').filter(|(kind, _)| *kind == name) {
                    found.entry(plugin).or_default().push(source);
                }
            }
            let plugins = match name {
                "secretstores" => loaded.secret_stores.iter().map(|(id, _)| id.to_string()).collect(),
                _ => found.iter().map(|(plugin, sources)| counted(plugin, sources)).collect::<Vec<_>>(),
            };
            let sources = if with_sources { table(&found) } else { Vec::new() };
            Kind { name, plugins: plugins.join(" "), sources }
        };
        let tags = loaded.global_tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        Self { loaded: KINDS.map(kind).into(), tags }
    }

    /// Logs it all, with the warnings that the settings deserve.
    pub fn say(&self, agent: &AgentConfig, options: &Options) {
        info!(target: MAIN, "Starting Heliograph {}", crate::VERSION);
        info!(
            target: MAIN,
            "Available plugins: {} inputs, {} aggregators, {} processors, {} parsers, {} outputs, {} secret stores",
            inputs::ALL.len(),
            aggregators::ALL.len(),
            processors::ALL.len(),
            parsers::ALL.len(),
            outputs::ALL.len(),
            secretstores::ALL.len(),
        );
        let test = matches!(options.mode, Mode::Test(_));
        for kind in &self.loaded {
            if kind.name == "outputs" && test {
                warn!(target: MAIN, "Outputs are not used in testing mode!");
                continue;
            }
            info!(target: MAIN, "Loaded {}: {}", kind.name, kind.plugins);
            for line in &kind.sources {
                info!(target: MAIN, "  {line}");
            }
        }
        info!(target: MAIN, "Tags enabled: {}", self.tags);
        Settings::warn_about(agent);
        if options.mode == Mode::Run {
            info!(
                "Config: Interval:{:?}, Quiet:{}, Hostname:{:?}, Flush Interval:{:?}",
                agent.interval.to_std(),
                agent.quiet || options.quiet,
                agent.hostname,
                agent.flush_interval.to_std(),
            );
        }
    }
}

fn counted(plugin: &str, sources: &[&str]) -> String {
    match sources.len() {
        1 => plugin.to_owned(),
        count => format!("{plugin} ({count}x)"),
    }
}

/// Names in one column, files in the other; nothing if there is no plugin.
fn table(found: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let head = (!found.is_empty()).then(|| ("Name".to_owned(), "Source(s)".to_owned()));
    let row = |(plugin, sources): (&&str, &Vec<&str>)| {
        let mut files: Vec<&str> = sources.clone();
        files.dedup();
        (counted(plugin, sources), files.join(", "))
    };
    let rows: Vec<_> = head.into_iter().chain(found.iter().map(row)).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, files)| format!("{name:width$} | {files}")).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn plugins_with_their_files() {
        let origin = |plugin: &str, file: &str| (plugin.to_owned(), file.to_owned());
        let origins = vec![
            origin("inputs.mem", "a.conf"),
            origin("outputs.file", "a.conf"),
            origin("inputs.cpu", "a.conf"),
            origin("inputs.mem", "a.conf"),
            origin("inputs.mem", "d/b.conf"),
        ];
        let loaded = Loaded { origins, ..Loaded::default() };
        let banner = Banner::new(&loaded, true);
        let lines = |kind: &Kind| format!("{}: {}\n{}", kind.name, kind.plugins, kind.sources.join("\n"));
        let shown: Vec<_> = banner.loaded.iter().filter(|kind| !kind.plugins.is_empty()).map(lines).collect();
        expect![[r#"
            inputs: cpu mem (3x)
            Name     | Source(s)
            cpu      | a.conf
            mem (3x) | a.conf, d/b.conf
            outputs: file
            Name | Source(s)
            file | a.conf"#]]
        .assert_eq(&shown.join("\n"));
        assert!(Banner::new(&loaded, false).loaded.iter().all(|kind| kind.sources.is_empty()));
        assert!(banner.loaded[1].sources.is_empty());
    }
}
