//! SQLite files.

mod beside;
mod pages;
mod restore;

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use diesel::{
    connection::SimpleConnection as _,
    prelude::*,
    sql_types::{BigInt, Nullable, Text},
};
use omnitool_database::{AnyConnection, Mode, migration, open, read_snapshot, stamp};
use omnitool_environment::{DatabaseUrl, EnvironmentName};

use super::{
    Contents, CopyError, InspectError, Interrupted, Progress, ReadDatabaseError, RestoreError,
    RestoreHooks, RestoreRequest, Store,
};
use crate::manifest::System;

/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Not counted: the schema version says it all.
const LEDGER: &str = "__diesel_schema_migrations";
/// How long a copy waits for what others have locked, which is moments with a write-ahead log.
const WAIT: Duration = Duration::from_secs(5);
const STAMP_TABLE: &str = "environment_stamp";

/// A SQLite file that programs may have open.
#[derive(Debug)]
pub(super) struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    pub(super) fn new(path: &Path) -> Self {
        // What lies beside the database must be found whatever link led there.
        Self { path: std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) }
    }

    fn url(&self) -> DatabaseUrl {
        DatabaseUrl::sqlite(&self.path)
    }
}

impl Store for SqliteStore {
    fn system(&self) -> System {
        System::Sqlite
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn stamp(&self) -> Result<Option<EnvironmentName>, ReadDatabaseError> {
        read_stamp(&mut open(&self.url(), Mode::Read)?)
    }

    fn live(&self) -> Result<Option<Contents>, ReadDatabaseError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let mut conn = open(&self.url(), Mode::Read)?;
        read_snapshot(&mut conn, |conn| {
            let empty = objects(conn)?.is_empty();
            if empty { Ok(None) } else { read_contents(conn).map(Some) }
        })
    }

    fn copy_to(
        &self,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<BTreeMap<String, u64>>, CopyError> {
        // Ours until the end: it has switched the file to the write-ahead log, and keeps the log from going away.
        let _conn = open(&self.url(), Mode::Write)?;
        pages::connect(&self.path, WAIT)
            .and_then(|source| pages::save(&source, file, progress))
            .map_err(|source| CopyError::Copy { file: file.to_owned(), source: source.into() })?;
        // The copy is the database page by page.
        Ok(None)
    }

    fn interrupted(&self) -> Result<Option<Interrupted>, ReadDatabaseError> {
        beside::interrupted(&self.path)
    }

    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        hooks: &mut RestoreHooks<'_>,
    ) -> Result<(), RestoreError> {
        restore::restore(&self.path, request, hooks)
    }
}

/// Opens the file `file`, of which nobody has a connection, and checks all of it.
pub(super) fn inspect(file: &Path) -> Result<Contents, InspectError> {
    let file = file.to_owned();
    check_file(&file)?;
    let read = |source| InspectError::Read { file: file.clone(), source };
    let mut conn =
        open(&DatabaseUrl::sqlite(&file), Mode::Immutable).map_err(|source| read(source.into()))?;
    let problem = find_problem(&mut conn).map_err(|source| read(source.into()))?;
    if let Some(problem) = problem {
        return Err(InspectError::Damaged { file, problem });
    }
    read_contents(&mut conn).map_err(read)
}

/// What can be said without SQLite, which would say it less clearly.
fn check_file(file: &Path) -> Result<(), InspectError> {
    let reach = |source| InspectError::Reach { file: file.to_owned(), source };
    let metadata = std::fs::symlink_metadata(file).map_err(reach)?;
    let found = if metadata.is_dir() {
        Some("a folder")
    } else if metadata.is_symlink() {
        Some("a symbolic link")
    } else if metadata.is_file() {
        None
    } else {
        Some("a device or a pipe")
    };
    if let Some(found) = found {
        return Err(InspectError::NotAFile { file: file.to_owned(), found });
    }
    let mut start = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(reach)?;
    if start != MAGIC {
        let found = if start.is_empty() { "empty" } else { "no SQLite database" };
        return Err(InspectError::NotADatabase { file: file.to_owned(), found });
    }
    let log = side_file(file, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(InspectError::HasLog { file: file.to_owned(), log });
    }
    Ok(())
}

/// `file` with `suffix` after its whole name, as SQLite names the files beside a database.
fn side_file(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes `file`, which may be gone already.
fn remove_if_there(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Something in a database's schema.
#[derive(QueryableByName)]
struct Object {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    name: String,
    /// What makes it; none for what a table brings along.
    #[diesel(sql_type = Nullable<Text>)]
    sql: Option<String>,
}

impl Object {
    fn is_internal(&self) -> bool {
        self.name.starts_with("sqlite_")
    }
}

#[derive(QueryableByName)]
struct Message {
    #[diesel(sql_type = Text)]
    message: String,
}

#[derive(QueryableByName)]
struct Integrity {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// All that is in the schema, in the order in which it was made.
fn objects(conn: &mut AnyConnection) -> QueryResult<Vec<Object>> {
    diesel::sql_query("SELECT type AS kind, name, sql FROM main.sqlite_schema ORDER BY rowid")
        .load(conn)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is wrong with the main database, if anything is: its pages and indexes, and its references.
fn find_problem(conn: &mut AnyConnection) -> QueryResult<Option<String>> {
    let integrity: Vec<Integrity> =
        diesel::sql_query("PRAGMA main.integrity_check(3)").load(conn)?;
    if integrity.iter().any(|row| row.integrity_check != "ok") {
        let messages: Vec<String> = integrity.into_iter().map(|row| row.integrity_check).collect();
        return Ok(Some(messages.join("; ")));
    }
    let orphans: Vec<Message> = diesel::sql_query(
        "SELECT count(*) || ' rows of ' || \"table\" || ' refer to missing rows of ' || parent AS message \
         FROM pragma_foreign_key_check GROUP BY \"table\", parent ORDER BY \"table\", parent",
    )
    .load(conn)?;
    if !orphans.is_empty() {
        let messages: Vec<String> = orphans.into_iter().map(|row| row.message).collect();
        return Ok(Some(messages.join("; ")));
    }
    let foreign = objects(conn)?
        .into_iter()
        .find(|object| object.sql.as_deref().is_some_and(|sql| sql.starts_with("CREATE VIRTUAL")));
    Ok(foreign
        .map(|Object { name, .. }| format!("`{name}` is a virtual table, which we never make")))
}

fn read_contents(conn: &mut AnyConnection) -> Result<Contents, ReadDatabaseError> {
    let migration::Status { applied, pending, unknown, .. } = migration::status(conn)?;
    Ok(Contents {
        rows: count_rows(conn)?,
        schema_version: applied.last().cloned(),
        pending,
        unknown,
        stamp: read_stamp(conn)?,
    })
}

fn count_rows(conn: &mut AnyConnection) -> QueryResult<BTreeMap<String, u64>> {
    let mut rows = BTreeMap::new();
    for object in objects(conn)? {
        if object.kind != "table" || object.is_internal() || object.name == LEDGER {
            continue;
        }
        let query = format!("SELECT count(*) AS number FROM main.{}", quoted(&object.name));
        let Number { number } = diesel::sql_query(query).get_result(conn)?;
        rows.insert(object.name, u64::try_from(number).unwrap_or_default());
    }
    Ok(rows)
}

/// The stamp; none also where there is no table for it yet.
fn read_stamp(conn: &mut AnyConnection) -> Result<Option<EnvironmentName>, ReadDatabaseError> {
    if objects(conn)?.iter().any(|object| object.name == STAMP_TABLE) {
        Ok(stamp::read(conn)?)
    } else {
        Ok(None)
    }
}

/// Runs statements of ours, of which none gives rows that matter.
fn execute(conn: &mut AnyConnection, statements: &str) -> QueryResult<()> {
    conn.batch_execute(statements)
}
