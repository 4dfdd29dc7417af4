//! What several plugins share.

pub mod proc_file;
#[cfg(test)]
pub(crate) mod testkit;
