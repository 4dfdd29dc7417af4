//! Throws metrics away: for tests of inputs, and to see how many metrics there would be.

use async_trait::async_trait;
use heliograph_core::error::{StartError, WriteError};
use heliograph_core::model::WriteBatch;
use heliograph_core::plugin::{Output, OutputSpec};

pub(super) static SPEC: OutputSpec = OutputSpec {
    name: "discard",
    sample: include_str!("sample.conf"),
    build: |section, _| section.finish_nothing().map(|()| Box::new(Discard) as _),
};

struct Discard;

#[async_trait]
impl Output for Discard {
    async fn connect(&mut self) -> Result<(), StartError> {
        Ok(())
    }

    async fn write(&mut self, _: &WriteBatch) -> Result<(), WriteError> {
        Ok(())
    }
}
