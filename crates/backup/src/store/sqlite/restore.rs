//! Replacing the content of a live SQLite database in one transaction.
//!
//! The file stays, so that programs that have it open go on with the restored content: readers see the old one until the
//! commit, writers wait. A kill at any moment leaves the old content or the new one, as with every transaction.

use std::path::Path;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};
use omnitool_database::{AnyConnection, Mode, open, sqlite_uri, stamp, write_transaction};
use omnitool_environment::{DatabaseUrl, EnvironmentName};

use super::{
    Object, STAMP_TABLE,
    beside::{self, Beside},
    execute, find_problem, objects, quoted, read_contents, read_stamp,
};
use crate::store::{Contents, RestoreError, RestoreHooks, RestoreRequest, SESSION_TABLE};

/// How long to wait for other writers before giving up.
const WAIT_SECONDS: u32 = 30;
/// The name under which the backup is attached.
const RESTORED: &str = "restored";

pub(super) fn restore(
    database: &Path,
    request: &RestoreRequest<'_>,
    hooks: &mut RestoreHooks<'_>,
) -> Result<(), RestoreError> {
    let mut beside = Beside::begin(database, request.label)?;
    let copied = beside
        .stage(request.file)
        .map_err(|source| RestoreError::Stage { database: beside::name(database), source })?;
    if copied.sha256 != request.sha256 {
        return Err(RestoreError::Changed { label: request.label.to_owned() });
    }
    (hooks.check)(&DatabaseUrl::sqlite(beside.staged()))
        .map_err(|problem| RestoreError::Unfit { label: request.label.to_owned(), problem })?;
    let mut conn = open(&DatabaseUrl::sqlite(database), Mode::Create)?;
    prepare(&mut conn, beside.staged())?;
    write_transaction(&mut conn, |conn| {
        // The lock is held: what the safety backup holds is all that was ever committed.
        let safety_backup = (hooks.safety)(hooks.progress)?;
        beside.note(conn, safety_backup)?;
        clear(conn)?;
        fill(conn)?;
        stamp_as(conn, request.environment)?;
        end_sessions(conn)?;
        check(conn, request.contents)
    })
    .map_err(explain_lock)?;
    // The log is as large as the database now. While a reader is still on the old content it cannot shrink, and waiting for
    // that reader would keep writers out: a later checkpoint does it.
    if let Err(error) =
        execute(&mut conn, "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)")
    {
        tracing::debug!("the write-ahead log stays until the next checkpoint: {error}");
    }
    drop(conn);
    // From outside, as everybody else will see it.
    let mut conn = open(&DatabaseUrl::sqlite(database), Mode::Write)?;
    read_contents(&mut conn)?;
    Ok(())
}

fn prepare(conn: &mut AnyConnection, staged: &Path) -> QueryResult<()> {
    // References are checked as a whole at the end; while tables are dropped, they would delete each other's rows. A file
    // from elsewhere must not run anything by its schema.
    execute(
        conn,
        &format!(
            "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; \
             PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            WAIT_SECONDS * 1000
        ),
    )?;
    let uri = sqlite_uri(staged, Mode::Immutable).replace('\'', "''");
    execute(conn, &format!("ATTACH '{uri}' AS {RESTORED}"))
}

/// Removes all that is in the live database.
fn clear(conn: &mut AnyConnection) -> QueryResult<()> {
    let mut found = objects(conn, "main")?;
    // Views and triggers first, since they refer to tables. Indexes go with theirs.
    found.sort_by_key(|object| object.kind == "table");
    for Object { kind, name, .. } in found {
        let kept_by_sqlite = name.starts_with("sqlite_") && !name.starts_with("sqlite_stat");
        // A trigger of a view went with it.
        let if_there = if kind == "trigger" { "IF EXISTS " } else { "" };
        if kind != "index" && !kept_by_sqlite {
            let what = kind.to_uppercase();
            execute(conn, &format!("DROP {what} {if_there}main.{}", quoted(&name)))?;
        }
    }
    Ok(())
}

/// Makes all that is in the attached backup.
fn fill(conn: &mut AnyConnection) -> QueryResult<()> {
    let found = objects(conn, RESTORED)?;
    let of_kind = |kind: &'static str| {
        found.iter().filter(move |object| object.kind == kind && !object.is_internal())
    };
    // With indexes in place and no triggers yet, SQLite copies whole pages instead of rows.
    for object in of_kind("table").chain(of_kind("index")) {
        create(conn, object)?;
    }
    for object in of_kind("table") {
        copy_rows(conn, &object.name)?;
    }
    for object in of_kind("view").chain(of_kind("trigger")) {
        create(conn, object)?;
    }
    // The highest keys ever given, where tables keep them.
    if found.iter().any(|object| object.name == "sqlite_sequence") {
        execute(
            conn,
            &format!(
                "DELETE FROM main.sqlite_sequence; \
                 INSERT INTO main.sqlite_sequence SELECT * FROM {RESTORED}.sqlite_sequence"
            ),
        )?;
    }
    copy_user_version(conn)
}

fn copy_rows(conn: &mut AnyConnection, table: &str) -> QueryResult<()> {
    let query = "SELECT name, hidden <> 0 AS is_generated FROM pragma_table_xinfo($1, $2)";
    let columns: Vec<Column> =
        diesel::sql_query(query).bind::<Text, _>(table).bind::<Text, _>(RESTORED).load(conn)?;
    let table = quoted(table);
    // Only without a list of columns, pages are copied. Generated columns cannot be written and need the list.
    let statement = if columns.iter().any(|column| column.is_generated) {
        let names: Vec<String> = columns
            .iter()
            .filter(|column| !column.is_generated)
            .map(|column| quoted(&column.name))
            .collect();
        let names = names.join(", ");
        format!("INSERT INTO main.{table} ({names}) SELECT {names} FROM {RESTORED}.{table}")
    } else {
        format!("INSERT INTO main.{table} SELECT * FROM {RESTORED}.{table}")
    };
    execute(conn, &statement)
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    is_generated: bool,
}

fn create(conn: &mut AnyConnection, object: &Object) -> QueryResult<()> {
    match &object.sql {
        // Not as a batch: of a text from a file, only the first statement may run.
        Some(sql) => diesel::sql_query(sql).execute(conn).map(drop),
        // An index that its table's constraints brought along.
        None => Ok(()),
    }
}

#[derive(QueryableByName)]
struct UserVersion {
    #[diesel(sql_type = BigInt)]
    user_version: i64,
}

fn copy_user_version(conn: &mut AnyConnection) -> QueryResult<()> {
    let UserVersion { user_version } =
        diesel::sql_query(format!("PRAGMA {RESTORED}.user_version")).get_result(conn)?;
    execute(conn, &format!("PRAGMA main.user_version = {user_version}"))
}

/// Stamps what comes from another environment, or from before its own stamp. A schema older than stamps has no place for
/// one; `migrate-db` gives it one.
fn stamp_as(conn: &mut AnyConnection, environment: EnvironmentName) -> Result<(), RestoreError> {
    let has_table = objects(conn, "main")?.iter().any(|object| object.name == STAMP_TABLE);
    if has_table && read_stamp(conn)? != Some(environment) {
        stamp::write(conn, environment)?;
    }
    Ok(())
}

/// Logs everybody out. Sessions that were closed since the backup was taken, or whose user was, must not come back to life.
fn end_sessions(conn: &mut AnyConnection) -> QueryResult<()> {
    if objects(conn, "main")?.iter().any(|object| object.name == SESSION_TABLE) {
        execute(conn, &format!("DELETE FROM main.{}", quoted(SESSION_TABLE)))?;
    }
    Ok(())
}

/// Refuses to commit anything but what the backup holds.
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

fn explain_lock(error: RestoreError) -> RestoreError {
    match error {
        RestoreError::Replace(source) if source.to_string().contains("database is locked") => {
            RestoreError::Locked { waited_seconds: WAIT_SECONDS }
        }
        other => other,
    }
}
