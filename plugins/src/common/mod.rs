//! What several plugins share.

pub mod arrival;
pub mod aws;
pub mod compress;
pub mod go_regex;
pub mod graphite_template;
pub mod http_client;
pub mod key_suffix;
pub mod named_rows;
pub(crate) mod part_memo;
pub mod proc_file;
pub mod prometheus;
pub mod rotate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testkit;
pub mod tls;
pub mod udev;
