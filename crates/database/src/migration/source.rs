//! The migrations as they are written.

use sha2::{Digest as _, Sha256};

use super::MigrateError;
use crate::Dialect;

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// One migration in one dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// `YYYY-MM-DD-NNNNNN_what_it_does`.
    pub name: &'static str,
    /// The SQL that applies it.
    pub up: &'static str,
    /// The SQL that undoes it.
    pub down: &'static str,
    /// Whether PostgreSQL runs it in a transaction, which `CREATE INDEX CONCURRENTLY` refuses. Without one its
    /// statements must bear being run again. On SQLite every run is a transaction, and `false` means: without enforcing
    /// foreign keys until its end, which rebuilding a table needs.
    pub run_in_transaction: bool,
}

impl Migration {
    /// What identifies it: its name's digits up to the first underscore.
    #[must_use]
    pub fn version(&self) -> String {
        self.name.split('_').next().unwrap_or_default().replace('-', "")
    }

    /// Hex SHA-256 of `up.sql`, the same whether a checkout ends lines with LF or CR LF.
    #[must_use]
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.up.replace("\r\n", "\n"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a person who writes `text` means this one: by version, with or without dashes, or by name.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        self.name == text || self.version() == text.replace('-', "")
    }
}

/// All migrations of a build for one dialect, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrations(Vec<Migration>);

impl Migrations {
    /// Orders `list`.
    ///
    /// # Errors
    ///
    /// Fails where two have the same version: one of them would never run.
    pub fn new(mut list: Vec<Migration>) -> Result<Self, MigrateError> {
        list.sort_by_key(Migration::version);
        for pair in list.windows(2) {
            if let [first, second] = pair
                && first.version() == second.version()
            {
                return Err(MigrateError::Duplicate {
                    first: first.name.to_owned(),
                    second: second.name.to_owned(),
                });
            }
        }
        Ok(Self(list))
    }

    /// Those of this build.
    ///
    /// # Errors
    ///
    /// Fails where two have the same version.
    pub fn embedded(dialect: Dialect) -> Result<Self, MigrateError> {
        Self::new(match dialect {
            Dialect::Sqlite => SQLITE.to_vec(),
            Dialect::Postgres => POSTGRES.to_vec(),
        })
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.0.iter()
    }

    pub(super) fn find(&self, version: &str) -> Option<&Migration> {
        self.iter().find(|migration| migration.version() == version)
    }
}

/// The statements of `sql`, one by one, as PostgreSQL runs them without a transaction around them.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < sql.len() {
        let rest = &sql[at..];
        if rest.starts_with(';') {
            found.push(&sql[start..at]);
            start = at + 1;
        }
        at += opaque(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
    }
    found.push(&sql[start..]);
    found.retain(|statement| !is_blank(statement));
    found
}

/// The length of what `rest` begins with, where a semicolon in it ends no statement.
fn opaque(rest: &str) -> Option<usize> {
    let until = |from: usize, end: &str| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    match rest.as_bytes() {
        [b'\'', ..] => Some(until(1, "'")),
        [b'"', ..] => Some(until(1, "\"")),
        [b'-', b'-', ..] => Some(until(2, "\n")),
        [b'/', b'*', ..] => Some(until(2, "*/")),
        [b'$', ..] => {
            let tag_end = rest[1..].find('$')? + 2;
            let tag = &rest[..tag_end];
            let is_tag = tag[1..tag_end - 1].chars().all(|c| c.is_alphanumeric() || c == '_');
            is_tag.then(|| until(tag_end, tag))
        }
        _ => None,
    }
}

/// Whether there is nothing but comments and space.
fn is_blank(statement: &str) -> bool {
    let mut rest = statement.trim_start();
    while rest.starts_with("--") || rest.starts_with("/*") {
        rest = rest[opaque(rest).unwrap_or(rest.len())..].trim_start();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Migration = Migration {
        name: "2026-11-23-000001_a",
        up: "SELECT 1;\nSELECT 2;\n",
        down: "",
        run_in_transaction: true,
    };

    #[test]
    fn line_endings_do_not_change_the_checksum() {
        let windows = Migration { up: "SELECT 1;\r\nSELECT 2;\r\n", ..UP };
        assert_eq!(UP.sha256(), windows.sha256());
        assert_ne!(UP.sha256(), Migration { up: "SELECT 1;\nSELECT 3;\n", ..UP }.sha256());
    }

    #[test]
    fn two_with_one_version_are_refused_by_name() {
        let error =
            Migrations::new(vec![UP, Migration { name: "20261123000001_b", ..UP }]).unwrap_err();
        insta::assert_snapshot!(error, @"two migrations have one version: 2026-11-23-000001_a and 20261123000001_b");
    }

    #[test]
    fn a_semicolon_ends_a_statement_only_outside_of_texts_and_comments() {
        let sql = "-- a; b\nSELECT ';', 'it''s;', \"x;y\"; /* ; */\nDO $body$ BEGIN; END $body$;\n$1; -- end;\n";
        assert_eq!(
            statements(sql),
            [
                "-- a; b\nSELECT ';', 'it''s;', \"x;y\"",
                " /* ; */\nDO $body$ BEGIN; END $body$",
                "\n$1",
            ]
        );
    }
}
