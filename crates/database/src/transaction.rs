//! Transactions that behave the same on both systems.

use std::time::Duration;

use diesel::{
    Connection as _, QueryResult, QueryableByName, RunQueryDsl as _,
    connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager},
    result::Error,
    sql_types::Text,
};

use crate::AnyConnection;

type Manager = <AnyConnection as diesel::Connection>::TransactionManager;

/// Runs `body` in one transaction that holds the write lock from its first moment.
///
/// On SQLite this is `BEGIN IMMEDIATE`: a second writer waits for the busy timeout. A deferred transaction that reads
/// first and then writes would fail at once instead.
///
/// # Errors
///
/// Fails with `body`'s error, or where the transaction cannot begin or commit; nothing is then written.
pub fn write_transaction<T, E: From<Error>>(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
) -> Result<T, E> {
    match conn {
        AnyConnection::Sqlite(c) => {
            AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE")
        }
        AnyConnection::Postgres(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN"),
    }?;
    finish(conn, body)
}

/// Runs `body` on one unchanging view of the database, in which nothing can be written on PostgreSQL.
///
/// # Errors
///
/// Fails with `body`'s error, or where the transaction cannot begin or end.
pub fn read_snapshot<T, E: From<Error>>(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
) -> Result<T, E> {
    match conn {
        AnyConnection::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN"),
        AnyConnection::Postgres(c) => AnsiTransactionManager::begin_transaction_sql(
            c,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ),
    }?;
    finish(conn, body)
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Runs statements that lock tables of PostgreSQL until the open transaction ends. Says whether it got the locks; where it
/// had to wait for one longer than `patience`, it has none of them, and the transaction can go on.
///
/// With less patience than PostgreSQL's `deadlock_timeout` (1 s), two who wait for each other both get on: this one gives
/// way before the server ends either.
///
/// # Errors
///
/// Fails where the statements do.
pub fn try_lock(
    conn: &mut AnyConnection,
    statements: &str,
    patience: Duration,
) -> QueryResult<bool> {
    let locked = conn.transaction(|conn| {
        let current = "SELECT current_setting('lock_timeout') AS value";
        let before: Setting = diesel::sql_query(current).get_result(conn)?;
        conn.batch_execute(&format!("SET LOCAL lock_timeout = {}", patience.as_millis()))?;
        conn.batch_execute(statements)?;
        let restore = "SELECT set_config('lock_timeout', $1, TRUE)";
        diesel::sql_query(restore).bind::<Text, _>(before.value).execute(conn)
    });
    match locked {
        Ok(_) => Ok(true),
        Err(error) if is_lock_timeout(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Diesel hands on no error codes, only PostgreSQL's text.
pub(crate) fn is_lock_timeout(error: &Error) -> bool {
    error.to_string().contains("canceling statement due to lock timeout")
}

/// Commits or rolls back a transaction that has begun, as `body` ends.
pub(crate) fn finish<T, E: From<Error>>(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
) -> Result<T, E> {
    match body(conn) {
        Ok(value) => {
            Manager::commit_transaction(conn)?;
            Ok(value)
        }
        Err(error) => {
            let rolled_back: QueryResult<()> = Manager::rollback_transaction(conn);
            if let Err(rollback_error) = rolled_back {
                // The first error is the one to report; a lost connection rolls back by itself.
                tracing::warn!("cannot roll back: {rollback_error}");
            }
            Err(error)
        }
    }
}
