//! Errors as they cross the borders between plugins and the agent.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Any error that can change tasks.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Prints an error and, after colons, everything that caused it.
///
/// Our error types do not repeat their cause in their own text, so a log line says `error = %Chain(&err)`.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Why a plugin's `start` or `connect` failed, which decides whether it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The other side is away; with `startup_error_behavior = "retry"` it is tried again, with `"ignore"` the plugin goes.
    #[error("cannot start yet")]
    Retry(#[source] BoxError),
    /// No second try will help.
    #[error("cannot start")]
    Fatal(#[source] BoxError),
}

impl StartError {
    /// The error behind it.
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        match self {
            Self::Retry(error) | Self::Fatal(error) => error.as_ref(),
        }
    }
}

/// Why an output did not take a whole batch.
///
/// Metrics named neither in `written` nor in `rejected` stay in the journal and are offered again.
#[derive(Debug, thiserror::Error)]
#[error("cannot write")]
pub struct WriteError {
    /// Indices of metrics that arrived all the same.
    pub written: Vec<usize>,
    /// Indices of metrics that the backend refuses for good.
    pub rejected: Vec<usize>,
    /// `rejected` is one answer to all of them together, for what may be wrong with a few: the agent writes them again
    /// in parts to find out which.
    pub undivided: bool,
    /// How long the backend asks to be left alone before the next attempt, if it does.
    pub retry_after: Option<Duration>,
    /// What happened.
    pub source: BoxError,
}

impl WriteError {
    /// Nothing arrived, all of it can be tried again.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self { written: Vec::new(), rejected: Vec::new(), undivided: false, retry_after: None, source: source.into() }
    }

    /// Of a batch of `len` metrics none will ever be taken.
    pub fn reject(len: usize, source: impl Into<BoxError>) -> Self {
        Self { rejected: (0..len).collect(), ..Self::retry(source) }
    }

    /// A batch of `len` metrics was refused as a whole, and some of them may be good.
    pub fn reject_batch(len: usize, source: impl Into<BoxError>) -> Self {
        Self { undivided: true, ..Self::reject(len, source) }
    }
}
