//! What several plugins share.

pub mod named_rows;
pub mod proc_file;
#[cfg(test)]
pub(crate) mod testkit;
pub mod udev;
