//! Writes metrics to files or to standard output, with rotation and compression.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use heliograph_core::clock::Clock;
use heliograph_core::config::{ConfigError, Duration, Section, Size};
use heliograph_core::error::{BoxError, StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{BuildContext, Output, OutputSpec};
use heliograph_core::serialize::{Serializer, serialize_each};
use serde::Deserialize;
use tracing::error;

use crate::common::compress::Encoder;
use crate::common::rotate::{RotateRules, RotatingFile};
use crate::serializers;

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "file",
    sample: include_str!("sample.conf"),
    build: |section, context| FileOutput::build(section, context).map(|output| Box::new(output) as _),
};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    files: Vec<String>,
    use_batch_format: bool,
    rotation_interval: Duration,
    rotation_max_size: Size,
    rotation_max_archives: i64,
    compression_algorithm: String,
    compression_level: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            files: vec!["stdout".to_owned()],
            use_batch_format: false,
            rotation_interval: Duration::ZERO,
            rotation_max_size: Size::ZERO,
            rotation_max_archives: 0,
            compression_algorithm: String::new(),
            compression_level: -1,
        }
    }
}

struct FileOutput {
    paths: Vec<String>,
    batch_format: bool,
    rules: RotateRules,
    encoder: Encoder,
    clock: Clock,
    serializer: Box<dyn Serializer>,
    /// Lent to the thread that writes, which may outlive a write that was given up.
    targets: Arc<Mutex<Vec<Target>>>,
    plain: Vec<u8>,
}

enum Target {
    Stdout,
    File(RotatingFile),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path:?}")]
struct FileError {
    action: &'static str,
    path: String,
    source: io::Error,
}

impl FileOutput {
    fn build(mut section: Section, context: &BuildContext) -> Result<Self, ConfigError> {
        let serializer = serializers::take(&mut section, context)?;
        let place = section.clone();
        let options: Options = section.finish()?;
        let encoder = Encoder::new(&options.compression_algorithm, options.compression_level).map_err(|error| {
            let level = matches!(error, crate::common::compress::EncoderError::Level { .. });
            place.error_at(if level { "compression_level" } else { "compression_algorithm" }, error.to_string())
        })?;
        let rules = RotateRules::from_options(
            options.rotation_interval.positive(),
            options.rotation_max_size.bytes(),
            options.rotation_max_archives,
        );
        Ok(Self::new(options, rules, encoder, serializer, context.clock.clone()))
    }

    fn new(
        options: Options,
        rules: RotateRules,
        encoder: Encoder,
        serializer: Box<dyn Serializer>,
        clock: Clock,
    ) -> Self {
        Self {
            paths: options.files,
            batch_format: options.use_batch_format,
            rules,
            encoder,
            clock,
            serializer,
            targets: Arc::default(),
            plain: Vec::new(),
        }
    }

    fn serialize(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        self.plain.clear();
        if !self.batch_format {
            serialize_each(self.serializer.as_mut(), batch, &mut self.plain);
            return Ok(());
        }
        let result = self.serializer.serialize_batch(batch, &mut self.plain);
        // The same batch would fail again.
        result.map_err(|error| WriteError::reject(batch.len(), error))
    }
}

/// File systems may hang, so they are not touched on the threads of the runtime.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BoxError> {
    tokio::task::spawn_blocking(work).await.map_err(Into::into)
}

#[async_trait]
impl Output for FileOutput {
    async fn connect(&mut self) -> Result<(), StartError> {
        let (paths, rules, clock) = (self.paths.clone(), self.rules, self.clock.clone());
        let open = move |path: String| match path.as_str() {
            "stdout" => Ok(Target::Stdout),
            _ => RotatingFile::open(&path, rules, clock.clone()).map(Target::File).map_err(|source| FileError {
                action: "open",
                path,
                source,
            }),
        };
        let opened = apart(move || paths.into_iter().map(open).collect::<Result<Vec<_>, _>>()).await;
        let targets = opened.map_err(StartError::Retry)?.map_err(|error| StartError::Retry(error.into()))?;
        self.targets = Arc::new(Mutex::new(targets));
        Ok(())
    }

    async fn write(&mut self, batch: &WriteBatch) -> Result<(), WriteError> {
        self.serialize(batch)?;
        if self.plain.is_empty() {
            return Ok(());
        }
        let (plain, encoder, targets) = (std::mem::take(&mut self.plain), self.encoder, Arc::clone(&self.targets));
        let write = move || {
            let mut targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            (write_all(&mut targets, encoder, &plain), plain)
        };
        let (result, plain) = apart(write).await.map_err(WriteError::retry)?;
        self.plain = plain;
        result.map_err(WriteError::retry)
    }

    async fn close(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        let close = move || {
            let mut targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.drain(..).for_each(|target| {
                if let Target::File(mut file) = target {
                    file.close();
                }
            });
        };
        if let Err(error) = apart(close).await {
            error!(error = %error, "cannot close the files");
        }
    }
}

/// Writes to one target after the other, up to the first that fails.
fn write_all(targets: &mut [Target], encoder: Encoder, plain: &[u8]) -> Result<(), FileError> {
    let mut encoded = Vec::new();
    let data = if encoder == Encoder::Identity {
        plain
    } else {
        let fail = |source| FileError { action: "compress for", path: "file".to_owned(), source };
        encoder.encode(plain, &mut encoded).map_err(fail)?;
        &encoded
    };
    for target in targets {
        let (result, path) = match target {
            Target::Stdout => (write_stdout(data), "stdout".to_owned()),
            Target::File(file) => (file.write(data), file.path().display().to_string()),
        };
        result.map_err(|source| FileError { action: "write to", path, source })?;
    }
    Ok(())
}

fn write_stdout(data: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use expect_test::{Expect, expect};
    use heliograph_core::error::Chain;
    use heliograph_core::model::{Batch, Kind, MetricRef, SeriesBuilder};

    use super::*;

    /// Names, one a line; a metric called `bad` fails, and so does a batch that begins with it.
    struct Names;

    impl Serializer for Names {
        fn serialize(&mut self, metric: MetricRef<'_>, out: &mut Vec<u8>) -> Result<(), BoxError> {
            if metric.series.name() == b"bad" {
                return Err("no such metric".into());
            }
            out.extend_from_slice(metric.series.name());
            out.push(b'\n');
            Ok(())
        }

        fn serialize_batch(&mut self, batch: &WriteBatch, out: &mut Vec<u8>) -> Result<(), BoxError> {
            out.extend_from_slice(b"[\n");
            batch.iter().try_for_each(|metric| self.serialize(metric, out))?;
            out.extend_from_slice(b"]\n");
            Ok(())
        }
    }

    fn batch(names: &[&str]) -> WriteBatch {
        let mut batch = Batch::new();
        for name in names {
            batch.start(SeriesBuilder::new().start(name.as_bytes()).build(), 0, Kind::Untyped);
        }
        batch.into()
    }

    fn output(options: Options) -> FileOutput {
        let encoder = Encoder::new(&options.compression_algorithm, options.compression_level).unwrap();
        FileOutput::new(options, RotateRules::default(), encoder, Box::new(Names), Clock::manual(0))
    }

    async fn written(options: Options, batches: &[&[&str]]) -> (Vec<u8>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.out");
        let mut output = output(Options { files: vec![path.to_str().unwrap().to_owned()], ..options });
        output.connect().await.unwrap();
        let mut errors = String::new();
        for names in batches {
            if let Err(error) = output.write(&batch(names)).await {
                errors.push_str(&format!("{} rejected: {}; ", error.rejected.len(), error.source));
            }
        }
        output.close().await;
        (fs::read(path).unwrap(), errors)
    }

    async fn check(options: Options, batches: &[&[&str]], expected: Expect) {
        let (content, errors) = written(options, batches).await;
        expected.assert_eq(&format!("{}{errors}", String::from_utf8(content).unwrap()));
    }

    #[tokio::test]
    async fn lines_without_those_that_fail() {
        check(
            Options::default(),
            &[&["a", "bad", "b"], &["bad"], &["c"]],
            expect![[r#"
            a
            b
            c
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_batch_that_cannot_be_serialized_is_not_tried_for_ever() {
        let options = Options { use_batch_format: true, ..Default::default() };
        check(
            options,
            &[&["a", "b"], &["a", "bad"]],
            expect![[r#"
            [
            a
            b
            ]
            2 rejected: no such metric; "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn members_of_gzip_follow_each_other() {
        let options = Options { compression_algorithm: "gzip".into(), ..Default::default() };
        let (content, _) = written(options, &[&["a"], &["b"]]).await;
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&content[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\nb\n");
    }

    #[tokio::test]
    async fn errors_say_the_path() {
        let mut missing = output(Options { files: vec!["/nowhere/m.out".into()], ..Default::default() });
        let error = missing.connect().await.unwrap_err();
        expect![[r#"cannot open "/nowhere/m.out": No such file or directory (os error 2)"#]]
            .assert_eq(&Chain(error.cause()).to_string());
        let mut full = output(Options { files: vec!["/dev/full".into()], ..Default::default() });
        full.connect().await.unwrap();
        let error = full.write(&batch(&["a"])).await.unwrap_err();
        expect![[r#"cannot write to "/dev/full": No space left on device (os error 28)"#]]
            .assert_eq(&Chain(error.source.as_ref()).to_string());
    }
}
