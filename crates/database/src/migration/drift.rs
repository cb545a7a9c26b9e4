//! Whether a database's schema is what the migrations make.

use std::{collections::BTreeMap, fmt};

use diesel::{Connection as _, SqliteConnection};

use super::{
    CheckSchemaError, MigrateError, Migrations, Options, check_current, description::Description,
    migrate_with,
};
use crate::{AnyConnection, Dialect};

/// What the migrations make on PostgreSQL, where nothing can be made to compare with. A test proves it.
const POSTGRES: &str = include_str!("postgres-schema.txt");

/// Something that is not as the migrations make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `table users`, or a part of it: `table users: column email`.
    pub object: String,
    /// How the migrations make it, where they do.
    pub expected: Option<String>,
    /// How it is, where it is there.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, expected, found } = self;
        match (expected, found) {
            (Some(expected), Some(found)) => {
                write!(f, "{object} is `{found}`, the migrations make `{expected}`")
            }
            (Some(_), None) => write!(f, "{object} is missing"),
            (None, _) => write!(f, "{object} is made by no migration"),
        }
    }
}

/// Why a schema cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareSchemaError {
    /// The schema is of another build, or cannot be read.
    #[error(transparent)]
    NotCurrent(#[from] CheckSchemaError),
    /// What it should be cannot be made.
    #[error("cannot make the schema to compare with")]
    Expect(#[source] MigrateError),
    /// It cannot be described.
    #[error("cannot read the schema")]
    Read(#[from] diesel::result::Error),
    /// SQLite gives no scratch database.
    #[error("cannot open a scratch database in memory")]
    Scratch(#[from] diesel::ConnectionError),
}

/// Compares the live schema with what this build's migrations make: tables, views, columns with types, nullability and
/// defaults, keys, indexes, check constraints and triggers, by name.
///
/// Reads only, so a connection of [`Mode::Read`](crate::Mode::Read) suffices. Sorted by object; empty where all is as it
/// should be. Where a whole table is missing or unknown, its parts are not listed.
///
/// # Errors
///
/// Fails where migrations are pending or unknown, since there is then nothing to compare with, and where the schema
/// cannot be read.
pub fn drift(conn: &mut AnyConnection) -> Result<Vec<Difference>, CompareSchemaError> {
    check_current(conn)?;
    let expected = match conn.dialect() {
        Dialect::Sqlite => {
            let migrations =
                Migrations::embedded(Dialect::Sqlite).map_err(CompareSchemaError::Expect)?;
            Description::read(&mut scratch(&migrations)?)?
        }
        Dialect::Postgres => Description::parse(POSTGRES),
    };
    Ok(differences(&expected, &Description::read(conn)?))
}

/// What the schema is, as text: what the expected schema of PostgreSQL is written from.
///
/// # Errors
///
/// Fails where the schema cannot be read.
pub fn describe(conn: &mut AnyConnection) -> diesel::QueryResult<String> {
    Ok(Description::read(conn)?.to_string())
}

/// The views that this build's migrations make on PostgreSQL, by name, each with its query.
#[must_use]
pub fn postgres_views() -> Vec<(String, String)> {
    let relations = Description::parse(POSTGRES).relations.into_iter();
    let view = |(relation, mut parts): (String, BTreeMap<String, String>)| {
        let name = relation.strip_prefix("view ")?.to_owned();
        Some((name, parts.remove("definition")?))
    };
    relations.filter_map(view).collect()
}

/// A database in memory with the schema that `migrations` make.
pub(super) fn scratch(migrations: &Migrations) -> Result<AnyConnection, CompareSchemaError> {
    let mut scratch = AnyConnection::Sqlite(SqliteConnection::establish(":memory:")?);
    migrate_with(&mut scratch, migrations, &Options::default())
        .map_err(CompareSchemaError::Expect)?;
    Ok(scratch)
}

fn differences(expected: &Description, found: &Description) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (relation, expected) in &expected.relations {
        let Some(found) = found.relations.get(relation) else {
            differences.push(Difference {
                object: relation.clone(),
                expected: Some(String::new()),
                found: None,
            });
            continue;
        };
        let parts =
            expected.keys().chain(found.keys().filter(|part| !expected.contains_key(*part)));
        for part in parts {
            let [expected, found] = [expected, found].map(|parts| parts.get(part).cloned());
            if expected != found {
                differences.push(Difference {
                    object: format!("{relation}: {part}"),
                    expected,
                    found,
                });
            }
        }
    }
    for relation in found.relations.keys().filter(|name| !expected.relations.contains_key(*name)) {
        differences.push(Difference {
            object: relation.clone(),
            expected: None,
            found: Some(String::new()),
        });
    }
    differences.sort_by(|a, b| a.object.cmp(&b.object));
    differences
}
