//! Configuration as plugins see it: sections with positions, option types, errors that show the line.

mod de;
mod duration;
mod error;
mod general;
mod nearest;
mod secret;
mod section;
mod size;
pub mod tree;

pub use duration::Duration;
pub use error::ConfigError;
pub use general::{GENERAL, is_general};
pub use nearest::{did_you_mean, nearest};
pub use secret::{Secret, SecretError, SecretStore, SecretStoreSpec, SecretStores, SecretValue, is_word};
pub use section::{Position, Record, Section};
pub use size::Size;
