//! Who is logged in, from `/var/run/utmp`.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use heliograph_core::model::Value;

use crate::common::proc_file::{FileReader, ReadError};

/// Bytes of a record, utmp(5). On arm64 the times in it are wider.
const RECORD: usize = if cfg!(target_arch = "aarch64") { 400 } else { 384 };

/// Where the name of the user stands in a record.
const USER: Range<usize> = 44..76;

/// The type of the record of somebody who is logged in.
const USER_PROCESS: u16 = 7;

/// Numbers of logins and of different people.
#[derive(Debug, PartialEq)]
pub(super) struct Users {
    logins: i64,
    people: i64,
}

/// The records cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct UsersError(ReadError);

impl UsersError {
    /// Whether the file is missing or not ours to read.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self.0.source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
    }
}

impl Users {
    /// Counts the records; a last one that is cut off is ignored.
    pub(super) fn read(reader: &mut FileReader, path: &Path) -> Result<Self, UsersError> {
        reader.read(path).map(Self::parse).map_err(UsersError)
    }

    fn parse(utmp: &[u8]) -> Self {
        let users = utmp.chunks_exact(RECORD).filter(|record| record[..2] == USER_PROCESS.to_le_bytes());
        let mut names: Vec<&[u8]> = users.map(|record| name(&record[USER])).collect();
        let logins = names.len() as i64;
        names.sort_unstable();
        names.dedup();
        Self { logins, people: names.len() as i64 }
    }

    pub(super) fn fields(&self) -> [(&'static str, Value); 2] {
        [("n_users", self.logins.into()), ("n_unique_users", self.people.into())]
    }
}

/// A name up to its first zero byte; one that fills its place has none.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with a record of this type for each user.
    pub(in crate::inputs::system) fn utmp(records: &[(u8, &str)]) -> Vec<u8> {
        let record = |&(kind, user): &(u8, &str)| {
            let mut record = vec![0; RECORD];
            record[0] = kind;
            record[44..44 + user.len()].copy_from_slice(user.as_bytes());
            record
        };
        records.iter().flat_map(record).collect()
    }

    fn check(utmp: &[u8], logins: i64, people: i64) {
        assert_eq!(Users::parse(utmp), Users { logins, people });
    }

    #[test]
    fn logins_and_people() {
        let longest = "u".repeat(32);
        let file = utmp(&[(2, "reboot"), (7, "alice"), (7, "bob"), (8, "carol"), (7, "alice"), (7, &longest)]);
        check(&file, 4, 3);
        check(&file[..file.len() - 1], 3, 2);
        check(b"", 0, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(0u8..9, 0..2000)) {
            Users::parse(&bytes);
        }
    }
}
