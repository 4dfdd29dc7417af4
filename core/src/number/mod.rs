//! Numbers as text: the grammar and the spellings of Go's `strconv`, on bytes.
//!
//! Configurations and payloads were written for an agent whose number syntax is Go's, so every parser reads numbers
//! by [`parse_float`] and its siblings and every serializer writes them by the `write_…` functions. All of them work
//! on bytes, append to a buffer they are given, and never allocate on the usual path.

mod parse;
mod write;

pub(crate) use parse::underscores_separate_digits;
pub use parse::{NumberError, parse_bool, parse_float, parse_int_auto, parse_int10, parse_uint_auto, parse_uint10};
pub use write::{write_general_f64, write_i64, write_json_f64, write_plain_f64, write_prometheus_f64, write_u64};
