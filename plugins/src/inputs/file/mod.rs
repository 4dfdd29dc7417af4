//! Parses complete files at every interval.

mod encoding;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::file_glob::FileGlob;
use heliograph_core::model::SeriesRef;
use heliograph_core::parse::ParserBuilder;
use heliograph_core::plugin::{Input, InputSpec};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::parsers;
use encoding::Encoding;

pub(super) static SPEC: InputSpec = InputSpec {
    name: "file",
    sample: include_str!("sample.conf"),
    build: |mut section, context| {
        let parser = parsers::take(&mut section, "influx", "file", context)?;
        Ok(Box::new(Files::new(section.finish()?, parser)))
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    files: Vec<String>,
    file_tag: String,
    file_path_tag: String,
    character_encoding: Encoding,
}

struct Files {
    entries: Arc<[(String, FileGlob)]>,
    file_tag: String,
    file_path_tag: String,
    encoding: Encoding,
    parser: ParserBuilder,
}

/// Largest file that is read, in bytes. Files are held in memory while they are parsed.
const FILE_LIMIT: u64 = 1 << 30;

impl Files {
    fn new(options: Options, parser: ParserBuilder) -> Self {
        let compiled = |entry: String| {
            let glob = FileGlob::new(&entry);
            (entry, glob)
        };
        Self {
            entries: options.files.into_iter().map(compiled).collect(),
            file_tag: options.file_tag,
            file_path_tag: options.file_path_tag,
            encoding: options.character_encoding,
            parser,
        }
    }

    /// Parses one file; `failures` gets what went wrong with it.
    async fn gather_file(
        &self,
        path: PathBuf,
        accumulator: &mut Accumulator,
        failures: &mut Vec<String>,
    ) -> Result<(), BoxError> {
        // State that a parser keeps is not to pass from file to file.
        let mut parser = (self.parser)()?;
        let (encoding, read_path) = (self.encoding, path.clone());
        let content = spawn_blocking(move || read(&read_path).map(|bytes| encoding.decode(bytes))).await?;
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                failures.push(format!("cannot read file {path:?}: {error}"));
                return Ok(());
            }
        };
        let (count, problems) = accumulator.parse(parser.as_mut(), &content);
        failures.extend(problems.iter().map(|problem| format!("cannot parse file {path:?}: {problem}")));
        self.tag(&path, count, accumulator)?;
        Ok(())
    }

    /// Sets the tags that name the file on the last `count` metrics.
    fn tag(&self, path: &Path, count: usize, accumulator: &mut Accumulator) -> io::Result<()> {
        let mut tags = Vec::new();
        if !self.file_tag.is_empty() {
            let name = path.file_name().unwrap_or(path.as_os_str());
            tags.push((&self.file_tag, name.as_encoded_bytes().to_vec()));
        }
        if !self.file_path_tag.is_empty() {
            tags.push((&self.file_path_tag, absolute(path)?.as_os_str().as_encoded_bytes().to_vec()));
        }
        if tags.is_empty() {
            return Ok(());
        }
        let (batch, interner) = accumulator.batch();
        let mut last: Option<(SeriesRef, SeriesRef)> = None;
        batch.for_each_from(batch.len().saturating_sub(count), |metric| {
            let tagged = match &last {
                Some((series, tagged)) if Arc::ptr_eq(series, metric.series()) => tagged.clone(),
                _ => interner.edit(metric.series(), |builder| {
                    tags.iter().for_each(|(key, value)| {
                        builder.set_tag(key.as_bytes(), value);
                    });
                }),
            };
            last = Some((metric.series().clone(), tagged.clone()));
            metric.set_series(tagged);
        });
        Ok(())
    }
}

#[async_trait]
impl Input for Files {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let entries = self.entries.clone();
        let found: Vec<Vec<PathBuf>> =
            spawn_blocking(move || entries.iter().map(|(_, glob)| glob.paths()).collect()).await?;
        let (before, mut failures) = (accumulator.pending(), Vec::new());
        for ((entry, _), paths) in self.entries.iter().zip(found) {
            if paths.is_empty() {
                failures.push(format!("cannot find a file for {entry:?} of `files`"));
            }
            for path in paths {
                self.gather_file(path, accumulator, &mut failures).await?;
            }
        }
        // Without any metric the gather as a whole has failed.
        let whole = if accumulator.pending() == before { failures.pop() } else { None };
        failures.into_iter().for_each(|failure| accumulator.problem(failure));
        whole.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let too_large = || {
        io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 GiB; let it be rotated, or read it with inputs.tail")
    };
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.len() > FILE_LIMIT {
        return Err(too_large());
    }
    // Files of /proc have no size, others may grow while they are read.
    let mut content = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(FILE_LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_LIMIT { Err(too_large()) } else { Ok(content) }
}

/// The path from the root on, without `.` and `..`; links are not followed.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use heliograph_core::clock::Clock;

    use super::*;
    use crate::common::testing::{accumulator, line_parser, show};

    /// Makes files of `name: content`, gathers `files` below their folder, and shows what came of it.
    async fn gathered(tree: &[(&str, &str)], options: Options) -> String {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for (name, content) in tree {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let files = options.files.iter().map(|entry| format!("{root}/{entry}")).collect();
        let mut input = Files::new(Options { files, ..options }, line_parser());
        let mut accumulator = accumulator(Clock::manual(0));
        let result = input.gather(&mut accumulator).await;
        let mut shown = show(accumulator.batch().0);
        if let Err(error) = result {
            shown += &format!("error: {error}");
        }
        let problems = accumulator.take_problems();
        if problems > 0 {
            shown += &format!("\nproblems: {problems}");
        }
        shown.replace(root, "ROOT")
    }

    fn files(files: &[&str]) -> Options {
        Options { files: files.iter().map(|file| file.to_string()).collect(), ..Options::default() }
    }

    #[track_caller]
    fn check(tree: &[(&str, &str)], options: Options, expected: Expect) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        expected.assert_eq(&runtime.block_on(gathered(tree, options)));
    }

    #[test]
    fn files_in_the_order_of_the_list() {
        let tree = [("a/2.lp", "m,f=2 v=1i 1"), ("a/1.lp", "m,f=1 v=1i 1"), ("b", "m,f=b v=1i 1")];
        check(
            &tree,
            files(&["b", "a/*.lp", "b"]),
            expect![[r#"
            m,f=b v=1i 1
            m,f=1 v=1i 1
            m,f=2 v=1i 1
            m,f=b v=1i 1"#]],
        );
    }

    #[test]
    fn a_broken_or_missing_file_does_not_stop_its_neighbours() {
        let tree = [("1", "m v=1i 1"), ("2", "m v=2i 1\nbroken"), ("d/x", ""), ("3", "m v=3i 1")];
        check(
            &tree,
            files(&["1", "2", "no*", "d", "3"]),
            expect![[r#"
            m v=1i 1
            m v=2i 1
            m v=3i 1
            problems: 3"#]],
        );
    }

    #[test]
    fn nothing_gathered_is_an_error() {
        check(
            &[],
            files(&["no", "nor*"]),
            expect![[r#"
            error: cannot find a file for "ROOT/nor*" of `files`
            problems: 1"#]],
        );
        check(&[], files(&[]), expect![""]);
    }

    #[test]
    fn tags_name_the_file() {
        let options = Options { file_tag: "f".into(), file_path_tag: "p".into(), ..files(&["d/../a.out"]) };
        check(
            &[("a.out", "m,f=own v=1\nm,f=own v=2\nn v=3"), ("d/x", "")],
            options,
            expect![[r#"
            m,f=a.out,p=ROOT/a.out v=1 0
            m,f=a.out,p=ROOT/a.out v=2 0
            n,f=a.out,p=ROOT/a.out v=3 0"#]],
        );
    }

    #[test]
    fn a_byte_order_mark_is_removed() {
        check(&[("a", "\u{feff}m v=1i 1")], files(&["a"]), expect!["m v=1i 1"]);
    }

    #[test]
    fn a_parser_that_cannot_be_made_fails_the_gather() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "").unwrap();
        let parser: ParserBuilder = Box::new(|| Err("no columns".into()));
        let mut input = Files::new(files(&[path.to_str().unwrap()]), parser);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(input.gather(&mut accumulator(Clock::manual(0))));
        assert_eq!(result.unwrap_err().to_string(), "no columns");
    }
}
