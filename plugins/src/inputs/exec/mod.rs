//! Runs commands at every interval and parses what they print.

mod command;
mod config;
mod shell_words;
mod stderr;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use heliograph_core::accumulator::Accumulator;
use heliograph_core::error::BoxError;
use heliograph_core::parse::Parser;
use heliograph_core::plugin::{Input, InputSpec};
use tokio::task::spawn_blocking;

use crate::parsers;
use command::{Outcome, run};
use config::{Options, Settings};

pub(super) static SPEC: InputSpec = InputSpec {
    name: "exec",
    sample: include_str!("sample.conf"),
    build: |mut section, context| {
        let parser = parsers::take(&mut section, "json", "exec", context)?;
        let position = section.position();
        let settings = section.finish::<Options>()?.check().map_err(|problem| position.error(problem))?;
        let parser = parser().map_err(|error| position.error(error.to_string()))?;
        Ok(Box::new(Exec::new(settings, parser, context.debug)))
    },
};

struct Exec {
    settings: Settings,
    /// One for all commands and gathers: what it keeps (a header) is kept.
    parser: Box<dyn Parser>,
    /// Whether error output is shown whole.
    whole_stderr: bool,
    said_empty: bool,
}

/// Most commands that run at one time; further ones wait for a place.
const PARALLEL: usize = 128;

impl Exec {
    fn new(settings: Settings, parser: Box<dyn Parser>, whole_stderr: bool) -> Self {
        Self { settings, parser, whole_stderr, said_empty: false }
    }

    /// Parses what a command printed, or reports why it is not parsed.
    fn take_in(&mut self, line: &str, outcome: Outcome, accumulator: &mut Accumulator) {
        let stderr = stderr::cut(&outcome.stderr, self.whole_stderr);
        if let Some(failure) = outcome.failure
            && !self.settings.ignore_error
        {
            let separator = if stderr.is_empty() { "" } else { ": " };
            accumulator.problem(format_args!("command {line:?} failed: {failure}{separator}{stderr}"));
            return;
        }
        if self.settings.log_stderr {
            stderr::log(accumulator.plugin(), &stderr);
        }
        let (count, problems) = accumulator.parse(self.parser.as_mut(), &outcome.stdout);
        for problem in &problems {
            accumulator.problem(format_args!("cannot parse the output of command {line:?}: {problem}"));
        }
        if count == 0 && problems.is_empty() && !std::mem::replace(&mut self.said_empty, true) {
            tracing::debug!(plugin = &**accumulator.plugin(), command = line, "the command gave no metric");
        }
    }
}

#[async_trait]
impl Input for Exec {
    async fn gather(&mut self, accumulator: &mut Accumulator) -> Result<(), BoxError> {
        let commands = self.settings.commands.clone();
        let expanded = spawn_blocking(move || {
            let expand = |command: &config::Command| command.expand();
            commands.iter().map(expand).collect::<Vec<_>>()
        })
        .await?;
        let mut runs = Vec::new();
        for command in expanded {
            match command {
                Ok(found) => runs.extend(found),
                Err(problem) => accumulator.problem(problem),
            }
        }
        let (environment, timeout) = (Arc::clone(&self.settings.environment), self.settings.timeout);
        let mut outcomes = stream::iter(runs)
            .map(|argv| {
                let environment = Arc::clone(&environment);
                async move { (argv.line(), run(&argv, &environment, timeout).await) }
            })
            .buffered(PARALLEL);
        while let Some((line, outcome)) = outcomes.next().await {
            self.take_in(&line, outcome, accumulator);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use heliograph_core::clock::Clock;
    use heliograph_core::config::Duration;

    use super::config::Commands;
    use super::*;
    use crate::common::testing::{accumulator, line_parser, show};

    fn sh(scripts: &[&str]) -> Options {
        let argv = |script: &&str| ["sh", "-c", script].map(String::from).into();
        Options { commands: Commands::Argv(scripts.iter().map(argv).collect()), ..Options::default() }
    }

    async fn check(options: Options, expected: Expect) {
        let mut input = Exec::new(options.check().unwrap(), line_parser()().unwrap(), false);
        let mut accumulator = accumulator(Clock::manual(7));
        input.gather(&mut accumulator).await.unwrap();
        let problems = accumulator.take_problems();
        expected.assert_eq(&format!("{}\nproblems: {problems}", show(accumulator.batch().0)));
    }

    #[tokio::test]
    async fn outputs_in_the_order_of_the_commands() {
        check(
            sh(&["cat /proc/self/maps | sort | tail -n 0; echo m v=1i 1", "echo m v=2i 1; echo n v=3i 1"]),
            expect![[r#"
            m v=1i 1
            m v=2i 1
            n v=3i 1
            problems: 0"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_failed_command_costs_only_its_own_output() {
        let commands = ["echo bad v=1i 1; echo wrong >&2; exit 3", "echo good v=1i 1"];
        check(
            sh(&commands),
            expect![[r#"
            good v=1i 1
            problems: 1"#]],
        )
        .await;
        check(
            Options { ignore_error: true, ..sh(&commands) },
            expect![[r#"
            bad v=1i 1
            good v=1i 1
            problems: 0"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn good_lines_stay_beside_bad_ones() {
        check(
            sh(&["echo broken; echo m v=1i 1"]),
            expect![[r#"
            m v=1i 1
            problems: 1"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn the_environment_is_added_to() {
        let environment = ["A=1", "B=x=y", "A=2"].map(String::from).into();
        check(
            Options { environment, ..sh(&["echo m a=${A}i,b=\\\"$B\\\",path=$([ -n \"$PATH\" ] && echo true) 1"]) },
            expect![[r#"
            m a=2i,b="x=y",path=true 1
            problems: 0"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn the_program_is_a_glob() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            std::os::unix::fs::symlink("/bin/echo", folder.path().join(name)).unwrap();
        }
        let line = format!("{}/[ab] 'm v=1i' 1", folder.path().display());
        let commands = Commands::Lines(vec![line, "/no/such*/program".into()]);
        check(
            Options { commands, ..Options::default() },
            expect![[r#"
            m v=1i 1
            m v=1i 1
            problems: 1"#]],
        )
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_takes_too_long_is_ended() {
        // With the clock paused the timeout passes as soon as nothing else is to be done.
        let options = Options { timeout: Duration::from_secs(3600), ..sh(&["echo slow v=1i; exec sleep 3600"]) };
        let settings = options.check().unwrap();
        let argv = settings.commands[0].expand().unwrap().remove(0);
        let outcome = run(&argv, &settings.environment, settings.timeout).await;
        assert_eq!(outcome.failure.as_deref(), Some("command timed out after 3600s"));
    }
}
