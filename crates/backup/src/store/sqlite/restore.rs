//! Replacing the content of a live SQLite database, page by page and in one transaction.
//!
//! The file stays, so that programs that have it open go on with the restored content: readers see the old one until the
//! commit, writers wait. A kill at any moment leaves the old content or the new one, as with every transaction.

use std::{path::Path, time::Duration};

use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use omnitool_database::{AnyConnection, Mode, open, stamp, write_transaction};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use rusqlite::{Connection, backup::Backup};

use super::{
    STAMP_TABLE,
    beside::{self, Beside},
    execute, find_problem, objects, pages, quoted, read_contents, read_stamp,
};
use crate::{
    digest,
    store::{Contents, Progress, RestoreError, RestoreHooks, RestoreRequest, SESSION_TABLE, Step},
};

/// How long to wait for other writers before giving up.
const WAIT: Duration = Duration::from_secs(30);

pub(super) fn restore(
    database: &Path,
    request: &RestoreRequest<'_>,
    hooks: &mut RestoreHooks<'_>,
) -> Result<(), RestoreError> {
    let mut beside = Beside::begin(database, request.label)?;
    let total = std::fs::metadata(request.file).map(|metadata| metadata.len()).ok();
    let mut staged = |done| (hooks.progress)(Progress { step: Step::Stage, done, total });
    let cannot_stage = |source| RestoreError::Stage { database: beside::name(database), source };
    beside.stage(request.file, &mut staged).map_err(cannot_stage)?;
    (hooks.progress)(Progress { step: Step::Check, done: 0, total: None });
    if digest::of_file(beside.staged()).map_err(cannot_stage)?.sha256 != request.sha256 {
        return Err(RestoreError::Changed { label: request.label.to_owned() });
    }
    let shape = Shape::read(&mut open(&DatabaseUrl::sqlite(database), Mode::Create)?)?;
    let url = DatabaseUrl::sqlite(beside.staged());
    prepare(&url, &shape, request)?;
    (hooks.check)(&url).map_err(|problem| {
        let label = request.label.to_owned();
        RestoreError::Unfit { label, problem }
    })?;
    replace(database, &mut beside, hooks)
}

/// Makes the staged copy what the live database will be, and checks all of it.
fn prepare(
    staged: &DatabaseUrl,
    shape: &Shape,
    request: &RestoreRequest<'_>,
) -> Result<(), RestoreError> {
    let mut conn = open(staged, Mode::Write)?;
    // One file, which is thrown away if anything happens. What is in it must not run anything by its schema, and references
    // are checked as a whole.
    execute(
        &mut conn,
        "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; \
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
    )?;
    shape.give_to(&mut conn)?;
    write_transaction(&mut conn, |conn| {
        stamp_as(conn, request.environment)?;
        end_sessions(conn)
    })?;
    check(&mut conn, request.contents)?;
    // Several programs look at it next, and with a rollback journal the app, which wants a write-ahead log, would wait for
    // whoever reads.
    execute(&mut conn, "PRAGMA journal_mode = WAL")?;
    Ok(())
}

/// Writes the staged pages over the live ones.
fn replace(
    database: &Path,
    beside: &mut Beside,
    hooks: &mut RestoreHooks<'_>,
) -> Result<(), RestoreError> {
    let source = pages::connect(beside.staged(), WAIT).map_err(explain)?;
    let page_size = pages::page_size(&source).map_err(explain)?;
    let mut live = pages::connect(database, WAIT).map_err(explain)?;
    live.execute_batch("PRAGMA synchronous = FULL").map_err(explain)?;
    let journal = pages::journal_mode(&live).map_err(explain)?;
    if journal != "wal" {
        let database = beside::name(database);
        return Err(RestoreError::Journal { database, journal });
    }
    {
        let backup = Backup::new(&source, &mut live).map_err(explain)?;
        pages::lock(&backup).map_err(explain)?;
        // The lock is held: what the safety backup holds is all that was ever committed.
        let safety_backup = (hooks.safety)(hooks.progress)?;
        beside.note(&mut open(&DatabaseUrl::sqlite(database), Mode::Read)?, safety_backup)?;
        pages::copy(&backup, page_size, Step::Replace, hooks.progress).map_err(explain)?;
    }
    shrink_log(&live);
    Ok(())
}

/// The log is as large as the database now. While a reader is still on the old content it cannot shrink, and waiting for
/// that reader would keep writers out: a later checkpoint does it.
fn shrink_log(live: &Connection) {
    let shrunk = live
        .busy_timeout(Duration::ZERO)
        .and_then(|()| live.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
    if let Err(error) = shrunk {
        tracing::debug!("the write-ahead log stays until the next checkpoint: {error}");
    }
}

/// What SQLite cannot change in a database that others have open, so that the backup is fitted to it.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    page_size: i64,
    auto_vacuum: i64,
    encoding: String,
}

#[derive(QueryableByName)]
struct ShapeRow {
    #[diesel(sql_type = BigInt)]
    page_size: i64,
    #[diesel(sql_type = BigInt)]
    auto_vacuum: i64,
    #[diesel(sql_type = Text)]
    encoding: String,
}

impl Shape {
    fn read(conn: &mut AnyConnection) -> QueryResult<Self> {
        let query = "SELECT page_size, auto_vacuum, encoding \
                     FROM pragma_page_size, pragma_auto_vacuum, pragma_encoding";
        let ShapeRow { page_size, auto_vacuum, encoding } =
            diesel::sql_query(query).get_result(conn)?;
        Ok(Self { page_size, auto_vacuum, encoding })
    }

    /// Builds the database of `conn` anew where it has another shape. Backups of ours have the shape of their database.
    fn give_to(&self, conn: &mut AnyConnection) -> Result<(), RestoreError> {
        if Self::read(conn)? != *self {
            let Self { page_size, auto_vacuum, encoding: _ } = self;
            execute(
                conn,
                &format!(
                    "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM"
                ),
            )?;
        }
        let found = Self::read(conn)?;
        if found == *self {
            return Ok(());
        }
        let problem = format!("its pages are {found:?} and those of the database {self:?}");
        Err(RestoreError::Check { problem })
    }
}

/// Stamps what comes from another environment, or from before its own stamp. A schema older than stamps has no place for
/// one; `migrate-db` gives it one.
fn stamp_as(conn: &mut AnyConnection, environment: EnvironmentName) -> Result<(), RestoreError> {
    let has_table = objects(conn)?.iter().any(|object| object.name == STAMP_TABLE);
    if has_table && read_stamp(conn)? != Some(environment) {
        stamp::write(conn, environment)?;
    }
    Ok(())
}

/// Logs everybody out. Sessions that were closed since the backup was taken, or whose user was, must not come back to life.
fn end_sessions(conn: &mut AnyConnection) -> Result<(), RestoreError> {
    if objects(conn)?.iter().any(|object| object.name == SESSION_TABLE) {
        execute(conn, &format!("DELETE FROM {}", quoted(SESSION_TABLE)))?;
    }
    Ok(())
}

/// Refuses anything but what the backup holds.
fn check(conn: &mut AnyConnection, expected: &Contents) -> Result<(), RestoreError> {
    if let Some(problem) = find_problem(conn)? {
        return Err(RestoreError::Check { problem });
    }
    let found = read_contents(conn)?;
    if found.schema_version != expected.schema_version {
        let version = found.schema_version.unwrap_or_default();
        return Err(RestoreError::Check { problem: format!("its schema is `{version}`") });
    }
    let mut rows = expected.rows.clone();
    if let Some(stamps) = rows.get_mut(STAMP_TABLE) {
        // A backup from before its stamp has one now.
        *stamps = 1;
    }
    if let Some(sessions) = rows.get_mut(SESSION_TABLE) {
        *sessions = 0;
    }
    match found.difference(&rows) {
        None => Ok(()),
        Some(problem) => Err(RestoreError::Check { problem }),
    }
}

fn explain(error: rusqlite::Error) -> RestoreError {
    if pages::is_busy(&error) {
        RestoreError::Locked { waited_seconds: WAIT.as_secs() }
    } else {
        RestoreError::Replace(error.into())
    }
}
