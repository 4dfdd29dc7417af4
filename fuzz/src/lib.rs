//! What fuzz targets share: a parser that is fed one payload after the other.

use heliograph_core::clock::Clock;
use heliograph_core::config::Section;
use heliograph_core::config::tree::{Entry, Node, SourceFile, Span, Table, Value};
use heliograph_core::host::HostPaths;
use heliograph_core::model::{Batch, Interner};
use heliograph_core::parse::{ParseOutput, Parser};
use heliograph_core::plugin::BuildContext;
use heliograph_core::stats::Stats;
use heliograph_plugins::parsers;

/// A parser with the memory that it works on.
pub struct Target {
    parser: Box<dyn Parser>,
    batch: Batch,
    interner: Interner,
}

impl Target {
    /// A parser of this format, with options that are texts.
    pub fn new(format: &str, options: &[(&str, &str)]) -> Self {
        let mut table = Table::default();
        for (key, value) in options {
            let node = Node::new(Value::String((*value).to_owned()), Span::default());
            table.insert((*key).to_owned(), Entry { key_span: Span::default(), node });
        }
        let mut section = Section::new("inputs.fuzz", SourceFile::new("", "").into(), Span::default(), table);
        let context = BuildContext {
            name: "inputs.fuzz".into(),
            clock: Clock::manual(1_700_000_000_000_000_000),
            host: HostPaths::default(),
            stats: Stats::default(),
            version: "0",
            debug: false,
        };
        let build = parsers::take(&mut section, format, "fuzz", &context).expect("the options are good");
        let parser = build().expect("the options are good");
        Self { parser, batch: Batch::new(), interner: Interner::default() }
    }

    /// Parses a payload twice: once as news, once with everything known, which has to give the same.
    pub fn feed(&mut self, payload: &[u8]) {
        let first = self.parse(payload);
        assert_eq!(first, self.parse(payload));
    }

    fn parse(&mut self, payload: &[u8]) -> String {
        self.batch.clear();
        let mut out = ParseOutput::new(&mut self.batch, &mut self.interner, 1_700_000_000_000_000_000);
        self.parser.parse(payload, &mut out);
        let problems = out.into_problems();
        format!("{:?} {problems:?}", self.batch.iter().collect::<Vec<_>>())
    }
}
