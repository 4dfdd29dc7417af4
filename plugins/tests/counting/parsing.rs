//! Parsers as inputs take them, for tests and benches.

use heliograph_core::clock::Clock;
use heliograph_core::config::Section;
use heliograph_core::config::tree::{Entry, Node, SourceFile, Span, Table, Value};
use heliograph_core::host::HostPaths;
use heliograph_core::parse::Parser;
use heliograph_core::plugin::BuildContext;
use heliograph_core::stats::Stats;
use heliograph_plugins::parsers;

/// A parser of this format, with options that are texts.
pub fn parser(format: &str, options: &[(&str, &str)]) -> Box<dyn Parser> {
    let node = |text: &str| Node::new(Value::String(text.to_owned()), Span::default());
    let mut table = Table::default();
    for (key, value) in options {
        table.insert((*key).to_owned(), Entry { key_span: Span::default(), node: node(value) });
    }
    let mut section = Section::new("inputs.test", SourceFile::new("", "").into(), Span::default(), table);
    let context = BuildContext {
        name: "inputs.test".into(),
        clock: Clock::manual(1_700_000_000_000_000_000),
        host: HostPaths::default(),
        stats: Stats::default(),
        version: "0",
        debug: false,
    };
    let build = parsers::take(&mut section, format, "test", &context).expect("the options are good");
    build().expect("the options are good")
}
