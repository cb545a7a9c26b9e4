//! One program at a time changes the schema.

use std::time::{Duration, Instant};

use diesel::{
    connection::{AnsiTransactionManager, SimpleConnection as _},
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};

use super::{MigrateError, Options};
use crate::{AnyConnection, transaction};

/// The key of the advisory lock on PostgreSQL that everything which changes the schema holds: "omnitool" in ASCII.
pub const LOCK_KEY: i64 = 0x6f6d_6e69_746f_6f6c;

const BUSY: &str = "database is locked";

/// Runs `body` while no other program changes the schema.
///
/// On SQLite this is a transaction with the write lock: all of `body`, or nothing. On PostgreSQL it is a session's advisory
/// lock, which ends with the connection, so that a killed program leaves nothing locked.
pub(super) fn exclusively<T, E: From<MigrateError> + From<diesel::result::Error>>(
    conn: &mut AnyConnection,
    options: &Options,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
) -> Result<T, E> {
    wait(conn, options.lock_wait)?;
    if matches!(conn, AnyConnection::Sqlite(_)) {
        return transaction::finish(conn, body);
    }
    let result = body(conn);
    // The lock also ends with the connection, so that a failure here leaves nothing locked.
    if let Err(error) =
        diesel::sql_query("SELECT pg_advisory_unlock($1)").bind::<BigInt, _>(LOCK_KEY).execute(conn)
    {
        tracing::warn!("cannot release the migration lock: {error}");
    }
    result
}

fn wait(conn: &mut AnyConnection, lock_wait: Duration) -> Result<(), MigrateError> {
    let started = Instant::now();
    let mut told = None;
    loop {
        if try_lock(conn)? {
            return Ok(());
        }
        let waited = started.elapsed();
        if waited >= lock_wait {
            return Err(MigrateError::Locked { waited, holder: holder(conn)? });
        }
        if told.is_none() {
            let holder = told.insert(holder(conn)?);
            tracing::warn!(
                "waiting at most {} s for the migration lock: {holder}",
                lock_wait.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(50).min(lock_wait - waited));
    }
}

fn try_lock(conn: &mut AnyConnection) -> QueryResult<bool> {
    match conn {
        AnyConnection::Postgres(c) => {
            let attempt = diesel::dsl::sql::<Bool>("pg_try_advisory_lock(")
                .bind::<BigInt, _>(LOCK_KEY)
                .sql(")");
            diesel::select(attempt).get_result(c)
        }
        AnyConnection::Sqlite(c) => {
            c.batch_execute("PRAGMA busy_timeout = 50")?;
            let begun = AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE");
            // What `open` sets, for whatever comes after.
            c.batch_execute("PRAGMA busy_timeout = 5000")?;
            match begun {
                Ok(()) => Ok(true),
                Err(error) if error.to_string().contains(BUSY) => Ok(false),
                Err(error) => Err(error),
            }
        }
    }
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Text)]
    description: String,
}

/// Who has the lock, for people.
fn holder(conn: &mut AnyConnection) -> QueryResult<String> {
    if matches!(conn, AnyConnection::Sqlite(_)) {
        return Ok("another program is writing to this file".to_owned());
    }
    let query = "SELECT concat_ws(', ', 'process ' || activity.pid, nullif(activity.application_name, ''), \
         'user ' || activity.usename, 'from ' || host(activity.client_addr), \
         'connected at ' || to_char(activity.backend_start AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', \
         activity.state) AS description \
         FROM pg_locks AS lock JOIN pg_stat_activity AS activity ON activity.pid = lock.pid \
         WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1 \
         AND lock.classid::bigint = $1 >> 32 AND lock.objid::bigint = $1 & 4294967295 \
         AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let holders = diesel::sql_query(query).bind::<BigInt, _>(LOCK_KEY).load::<Holder>(conn)?;
    Ok(holders.into_iter().next().map_or_else(
        || "its holder ended a moment ago".to_owned(),
        |holder| format!("{} has it", holder.description),
    ))
}
