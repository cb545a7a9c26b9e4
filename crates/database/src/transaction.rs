//! Transactions that behave the same on both systems.

use diesel::{
    QueryResult,
    connection::{AnsiTransactionManager, TransactionManager},
    result::Error,
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
