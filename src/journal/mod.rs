//! The journal: one sequence of batches that all outputs read, each at its own pace.
//!
//! The pipeline appends, every output reads through a [`Reader`] with a cursor of its own, and inputs that asked for it
//! learn from a watermark up to which of their messages all is safe. A slow or dead output never holds back another.

pub mod disk;
mod memory;
mod queue;

use heliograph_core::error::BoxError;
use heliograph_core::model::{Batch, WriteBatch};
use heliograph_core::plugin::Doubt;
use tokio::sync::watch;

pub use memory::{Admit, OutputSlot, Rest};
pub use queue::Resolution;

/// The writing end; clones write to the same sequence.
#[derive(Clone)]
pub enum Journal {
    /// `buffer_strategy = "memory"`.
    Memory(memory::Journal),
    /// `buffer_strategy = "disk"`.
    Disk(disk::Journal),
}

/// One output's end of the journal.
pub enum Reader {
    /// Of a journal in memory.
    Memory(memory::Reader),
    /// Of one on disk.
    Disk(disk::Reader),
}

impl Journal {
    /// A journal for these outputs and this many inputs, with a reader for each output; on disk if there are settings
    /// for it.
    ///
    /// # Errors
    /// If the folder of the disk journal is taken by another agent.
    pub async fn start(
        disk: Option<disk::Settings>,
        outputs: Vec<OutputSlot>,
        inputs: usize,
    ) -> Result<(Self, Vec<Reader>), BoxError> {
        let Some(settings) = disk else {
            let (journal, readers) = memory::Journal::new(outputs, inputs);
            return Ok((Self::Memory(journal), readers.into_iter().map(Reader::Memory).collect()));
        };
        let (journal, readers) = disk::Journal::start(settings, outputs, inputs).await?;
        Ok((Self::Disk(journal), readers.into_iter().map(Reader::Disk).collect()))
    }

    /// Appends a batch. One without metrics still carries its origin on.
    pub fn append(&self, batch: Batch) {
        match self {
            Self::Memory(journal) => journal.append(batch),
            Self::Disk(journal) => journal.append(batch),
        }
    }

    /// Waits as long as the disk is behind with what was appended.
    pub async fn ready(&self) {
        if let Self::Disk(journal) = self {
            journal.ready().await;
        }
    }

    /// Whether messages are safe without the outputs.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// Asks for the watermark of an input to reach this message as soon as it can: the input waits for it.
    pub fn hurry(&self, input: usize, message: u64) {
        match self {
            Self::Memory(journal) => journal.hurry(input, message),
            Self::Disk(journal) => journal.hurry(),
        }
    }

    /// Metrics that wait for any output, each counted for every output that has not written it.
    pub fn waiting(&self) -> usize {
        match self {
            Self::Memory(journal) => journal.waiting(),
            Self::Disk(journal) => journal.waiting(),
        }
    }

    /// Once the outputs have ended: gives what they have not written, but for what the disk keeps.
    pub async fn close(&self) -> Vec<Rest> {
        match self {
            Self::Memory(journal) => journal.take_rest(),
            Self::Disk(journal) => journal.close().await,
        }
    }

    /// The newest message of this input up to which all is safe; starts at 0.
    pub fn watermark(&self, input: usize) -> watch::Receiver<u64> {
        match self {
            Self::Memory(journal) => journal.watermark(input),
            Self::Disk(journal) => journal.watermark(input),
        }
    }
}

impl Reader {
    /// Waits until something was appended since the last call; may wake without need.
    pub async fn appended(&self) {
        match self {
            Self::Memory(reader) => reader.appended().await,
            Self::Disk(reader) => reader.appended().await,
        }
    }

    /// Metrics that wait; on disk those count too that the output's filters will refuse.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(reader) => reader.len(),
            Self::Disk(reader) => reader.waiting(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an input waits for what waits here, so that it is no use to wait for a full batch.
    pub fn is_hurried(&self) -> bool {
        match self {
            Self::Memory(reader) => reader.is_hurried(),
            // The disk has what the input waits for.
            Self::Disk(_) => false,
        }
    }

    /// Most metrics kept in memory.
    pub fn limit(&self) -> usize {
        match self {
            Self::Memory(reader) => reader.limit(),
            Self::Disk(reader) => reader.limit(),
        }
    }

    /// How many metrics were dropped for newer ones since the last call.
    pub fn take_overflow(&self) -> usize {
        match self {
            Self::Memory(reader) => reader.take_overflow(),
            Self::Disk(reader) => reader.take_overflow(),
        }
    }

    /// Drops what waits for longer than the output wants; returns how many metrics that were.
    pub fn expire(&mut self) -> usize {
        match self {
            Self::Memory(reader) => reader.expire(),
            Self::Disk(reader) => reader.expire(),
        }
    }

    /// The oldest `max` metrics; [`Self::resolve`] says what became of them before the next call. There may be none
    /// although some wait: those the output's filters have refused.
    pub async fn take(&mut self, max: usize) -> WriteBatch {
        match self {
            Self::Memory(reader) => reader.take(max),
            Self::Disk(reader) => reader.take(max).await,
        }
    }

    /// The metrics taken next belong to the write of this number.
    pub fn begin(&mut self, write: u64) {
        if let Self::Disk(reader) = self {
            reader.begin(write);
        }
    }

    /// Says which of the writes may have to be made again by another process.
    pub fn doubt(&mut self, doubt: Doubt) {
        if let Self::Disk(reader) = self {
            reader.doubt(doubt);
        }
    }

    /// Says what became of the metrics taken last.
    pub fn resolve(&mut self, resolution: Resolution) {
        match self {
            Self::Memory(reader) => reader.resolve(resolution),
            Self::Disk(reader) => reader.resolve(resolution),
        }
    }
}
