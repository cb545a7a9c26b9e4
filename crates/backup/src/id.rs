//! Names of backups.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a backup within its environment: `b001`, `b002`, … A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(u32);

/// A text that names no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no backup id: they look like b001")]
pub struct ParseBackupIdError {
    /// What was given instead.
    pub given: String,
}

impl BackupId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number; a higher one was taken later.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The id that a file's name begins with, where it begins with one.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('b')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let id = Self(digits[..end].parse().ok()?);
        // Only names that we would have written: `b1-notes.txt` is somebody else's file.
        name.starts_with(&id.to_string()).then_some(id)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("b{:03}", self.0))
    }
}

impl FromStr for BackupId {
    type Err = ParseBackupIdError;

    /// Leading zeros may be left out: `b7` is `b007`.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        given
            .strip_prefix('b')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| ParseBackupIdError { given: given.to_owned() })
    }
}

impl TryFrom<String> for BackupId {
    type Error = ParseBackupIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_id_is_refused() {
        for given in ["", "b", "1", "b-1", "b+1", "B001", "b1x", "b99999999999", "../b001"] {
            assert!(given.parse::<BackupId>().is_err(), "{given}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_has_no_id() {
        assert_eq!(BackupId::of_file("b012-x.sqlite3"), Some(BackupId(12)));
        assert_eq!(BackupId::of_file("b1234.json"), Some(BackupId(1234)));
        for name in ["b1-notes.txt", "backup.json", "b.json", "last-id"] {
            assert_eq!(BackupId::of_file(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_id_parses_back_to_itself(number: u32) {
            let id = BackupId(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
