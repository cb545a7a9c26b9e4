//! Databases that the Python system made (Flask-SQLAlchemy and Alembic), brought under these migrations.
//!
//! [`Adoption::plan`] recognises and checks one, [`back_up`] copies it, and [`Adoption::apply`] does it: the tables are set
//! aside, ours are made by our migrations, every row is copied and counted, and the old tables are removed, all in one
//! transaction.

mod check;
mod convert;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use chrono::Utc;
use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};

use super::{MigrateError, Migrations, Options, lock};
use crate::{
    AnyConnection, Dialect, Mode, OpenError,
    connection::table_exists,
    open::{self, open},
    write_transaction,
};

/// A database of the Python system, and what will become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Adoption {
    /// Alembic's revision.
    pub revision: String,
    /// How many users there are; all are kept.
    pub users: i64,
    /// How many tools there are; all are kept.
    pub tools: i64,
    /// How many rows `tool_access` has.
    pub grants: i64,
    /// How many of them say again what another one says; the oldest of each is kept.
    pub duplicates: i64,
    /// Rows of `tool_access` whose user or tool is gone. Foreign keys leave no place for them.
    pub orphans: Vec<String>,
    /// What changes its meaning a little, for people.
    pub notes: Vec<String>,
}

impl fmt::Display for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, users, tools, grants, duplicates, orphans, notes } = self;
        writeln!(f, "A database of the Python system, Alembic revision {revision}.")?;
        writeln!(f, "users: {}", rows(*users))?;
        writeln!(f, "tools: {}", rows(*tools))?;
        writeln!(
            f,
            "tool_access: {}, {duplicates} of them again, {} without a parent",
            rows(*grants),
            orphans.len()
        )?;
        for orphan in orphans {
            writeln!(f, "without a parent: {orphan}")?;
        }
        for note in notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

/// What to do with rows whose user or tool is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// Refuse the adoption.
    Refuse,
    /// Leave them out; the backup keeps them.
    Prune,
}

/// The copy to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backup {
    /// A copy that was made and checked here.
    File {
        /// Where it is.
        path: PathBuf,
        /// SQLite's counter of other connections' changes when it was made.
        data_version: i64,
    },
    /// The caller says that there is one.
    Elsewhere,
}

/// Why a database could not be adopted. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It is none of the Python system.
    #[error(
        "this is no database of the Python system: it has no table alembic_version, or it is under our migrations"
    )]
    NotPython,
    /// It has something for which there is no place.
    #[error("cannot map:\n{}", .problems.join("\n"))]
    Unmappable {
        /// What, one by one.
        problems: Vec<String>,
    },
    /// It has rows whose user or tool is gone.
    #[error("rows of tool_access without a parent:\n{}", .orphans.join("\n"))]
    Orphans {
        /// The rows.
        orphans: Vec<String>,
    },
    /// Somebody changed it after the plan or the backup was made.
    #[error("the database was changed while it was being adopted")]
    Changed,
    /// Rows are missing afterwards.
    #[error("{table} would have {found} rows instead of {expected}")]
    Lost {
        /// The table.
        table: &'static str,
        /// How many rows there should be.
        expected: i64,
        /// How many there are.
        found: i64,
    },
    /// The backup cannot be made.
    #[error("cannot make the backup {path}")]
    WriteBackup {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backup cannot be opened again.
    #[error("cannot read the backup again")]
    OpenBackup(#[source] OpenError),
    /// The backup is not what was backed up.
    #[error("the backup {path} is not the same as the database")]
    BadBackup {
        /// The file.
        path: PathBuf,
    },
    /// The lock cannot be had, or a migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database cannot be read or written.
    #[error("cannot read or convert the tables of the Python system")]
    Query(#[from] diesel::result::Error),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

fn rows(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

fn number(conn: &mut AnyConnection, query: &str) -> QueryResult<i64> {
    diesel::sql_query(query).get_result::<Number>(conn).map(|row| row.number)
}

fn lines(conn: &mut AnyConnection, query: &str) -> QueryResult<Vec<String>> {
    let lines = diesel::sql_query(query).load::<Line>(conn)?;
    Ok(lines.into_iter().map(|row| row.line).collect())
}

/// Whether the database is one of the Python system that was not adopted yet.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn recognise(conn: &mut AnyConnection) -> QueryResult<bool> {
    Ok(table_exists(conn, "alembic_version")? && !table_exists(conn, "__diesel_schema_migrations")?)
}

impl Adoption {
    /// Checks whether everything in the database has a place in our schema. Changes nothing.
    ///
    /// # Errors
    ///
    /// Fails where it is no database of the Python system, and with a list of everything that cannot be mapped.
    pub fn plan(conn: &mut AnyConnection) -> Result<Self, AdoptError> {
        if !recognise(conn)? {
            return Err(AdoptError::NotPython);
        }
        let tables = check::tables(conn)?;
        let total = |conn: &mut AnyConnection, table| {
            number(conn, &format!("SELECT count(*) AS number FROM {table}"))
        };
        let different = "SELECT count(*) AS number FROM (SELECT DISTINCT user_id, tool_id FROM tool_access) AS pairs";
        let grants = total(conn, "tool_access")?;
        Ok(Self {
            revision: lines(conn, "SELECT version_num AS line FROM alembic_version ORDER BY 1")?
                .join(", "),
            users: total(conn, "users")?,
            tools: total(conn, "tools")?,
            grants,
            duplicates: grants - number(conn, different)?,
            orphans: lines(conn, check::ORPHANS)?,
            notes: check::notes(conn, &tables)?,
        })
    }

    /// Does it, in one transaction.
    ///
    /// # Errors
    ///
    /// Fails where the database is no longer what the plan and the backup were made of, where there are orphans that
    /// must not be left out, where a migration fails, and where a row would be missing. The database is then as it was.
    pub fn apply(
        &self,
        conn: &mut AnyConnection,
        backup: &Backup,
        orphans: Orphans,
        options: &Options,
    ) -> Result<(), AdoptError> {
        if orphans == Orphans::Refuse && !self.orphans.is_empty() {
            return Err(AdoptError::Orphans { orphans: self.orphans.clone() });
        }
        let migrations = Migrations::embedded(conn.dialect())?;
        lock::exclusively(conn, options, |conn| {
            // On SQLite the lock is a transaction already.
            if conn.dialect() == Dialect::Sqlite {
                self.check_unchanged(conn, backup)?;
                convert::convert(conn, self, &migrations, options)
            } else {
                write_transaction(conn, |conn| {
                    convert::lock_tables(conn, options)?;
                    self.check_unchanged(conn, backup)?;
                    convert::convert(conn, self, &migrations, options)
                })
            }
        })
    }

    fn check_unchanged(&self, conn: &mut AnyConnection, backup: &Backup) -> Result<(), AdoptError> {
        if let Backup::File { path: _, data_version: then } = backup
            && data_version(conn)? != *then
        {
            return Err(AdoptError::Changed);
        }
        if Self::plan(conn)? == *self { Ok(()) } else { Err(AdoptError::Changed) }
    }
}

fn data_version(conn: &mut AnyConnection) -> QueryResult<i64> {
    number(conn, "SELECT data_version AS number FROM pragma_data_version")
}

/// Copies the SQLite database at `file`, which `conn` has open, to a new file beside it, and checks the copy.
///
/// # Errors
///
/// Fails where the copy cannot be written or is not the same.
pub fn back_up(
    conn: &mut AnyConnection,
    file: &Path,
    plan: &Adoption,
) -> Result<Backup, AdoptError> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(Utc::now().format(".before-adoption-%Y%m%dT%H%M%S%3fZ").to_string());
    let path = file.with_file_name(name);
    let write = |source| AdoptError::WriteBackup { path: path.clone(), source };
    let data_version = data_version(conn)?;
    // Made first, so that it is never readable for others; SQLite takes an empty file for none.
    open::create_private(&path).map_err(write)?;
    diesel::sql_query("VACUUM INTO $1").bind::<Text, _>(path.to_string_lossy()).execute(conn)?;
    std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(write)?;

    let url = omnitool_environment::DatabaseUrl::sqlite(&path);
    let mut copy = open(&url, Mode::Immutable).map_err(AdoptError::OpenBackup)?;
    let sound =
        lines(&mut copy, "SELECT integrity_check AS line FROM pragma_integrity_check")? == ["ok"];
    if sound && Adoption::plan(&mut copy)? == *plan {
        Ok(Backup::File { path, data_version })
    } else {
        Err(AdoptError::BadBackup { path })
    }
}
