//! Our own record of what was applied, beside diesel's table, which knows nothing but versions.

use std::{collections::BTreeMap, time::Duration};

use chrono::NaiveDateTime;
use diesel::{
    prelude::*,
    sql_types::{BigInt, Nullable, Text},
};

use super::{Migration, Migrations};
use crate::{AnyConnection, connection::table_exists, schema::migration_ledger};

/// Who applied what was there before the ledger.
const BEFORE: &str = "before the ledger";

/// What the ledger says of one migration.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = migration_ledger)]
pub struct LedgerRow {
    /// Which.
    pub version: String,
    /// Its full name.
    pub name: String,
    /// Hex SHA-256 of its `up.sql` when it was applied.
    pub up_sha256: String,
    /// When (UTC).
    pub applied_at: NaiveDateTime,
    /// How long it took; `None` where it was applied before the ledger existed, or did not end.
    pub duration_ms: Option<i64>,
    /// Which program and build applied it.
    pub applied_by: String,
}

/// What this run has done: how long each version took.
pub(super) type Durations = BTreeMap<String, Duration>;

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

/// The applied versions, oldest first, without making diesel's table where it does not exist.
pub(super) fn applied(conn: &mut AnyConnection) -> QueryResult<Vec<String>> {
    if !table_exists(conn, "__diesel_schema_migrations")? {
        return Ok(Vec::new());
    }
    versions(conn, "SELECT version FROM __diesel_schema_migrations ORDER BY version")
}

fn versions(conn: &mut AnyConnection, query: &str) -> QueryResult<Vec<String>> {
    let rows = diesel::sql_query(query).load::<Version>(conn)?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// The ledger, oldest first; empty where there is none yet.
pub(super) fn read(conn: &mut AnyConnection) -> QueryResult<Vec<LedgerRow>> {
    if !exists(conn)? {
        return Ok(Vec::new());
    }
    migration_ledger::table
        .order(migration_ledger::version)
        .select(LedgerRow::as_select())
        .load(conn)
}

fn exists(conn: &mut AnyConnection) -> QueryResult<bool> {
    table_exists(conn, "migration_ledger")
}

/// Notes that `migration` begins without a transaction, so that one which does not end is seen.
pub(super) fn begin(
    conn: &mut AnyConnection,
    migration: &Migration,
    applied_by: &str,
) -> QueryResult<()> {
    if exists(conn)? {
        forget(conn, &migration.version())?;
        diesel::insert_into(migration_ledger::table)
            .values((
                migration_ledger::version.eq(migration.version()),
                migration_ledger::name.eq(migration.name),
                migration_ledger::up_sha256.eq(migration.sha256()),
                migration_ledger::applied_by.eq(applied_by),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Notes that `migration` is applied; in the transaction that applies it.
pub(super) fn record(
    conn: &mut AnyConnection,
    migration: &Migration,
    migrations: &Migrations,
    durations: &Durations,
    applied_by: &str,
) -> QueryResult<()> {
    if exists(conn)? {
        diesel::delete(migration_ledger::table.find(migration.version())).execute(conn)?;
        complete(conn, migrations, durations, applied_by)?;
    }
    Ok(())
}

/// Gives every applied migration that has none its row: those from before the ledger, and those applied by hand.
pub(super) fn complete(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    durations: &Durations,
    applied_by: &str,
) -> QueryResult<()> {
    if !exists(conn)? {
        return Ok(());
    }
    let query = "SELECT version FROM __diesel_schema_migrations AS applied \
         WHERE NOT EXISTS (SELECT 1 FROM migration_ledger WHERE migration_ledger.version = applied.version) \
         ORDER BY version";
    for version in versions(conn, query)? {
        let Some(migration) = migrations.find(&version) else { continue };
        let duration = durations.get(&version);
        let milliseconds =
            duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        // SQLite numbers `$1` and so on as they come, whatever they are called.
        let insert = "INSERT INTO migration_ledger (version, name, up_sha256, applied_at, duration_ms, applied_by) \
             SELECT version, $1, $2, run_on, $3, $4 FROM __diesel_schema_migrations WHERE version = $5";
        diesel::sql_query(insert)
            .bind::<Text, _>(migration.name)
            .bind::<Text, _>(migration.sha256())
            .bind::<Nullable<BigInt>, _>(milliseconds)
            .bind::<Text, _>(if duration.is_some() { applied_by } else { BEFORE })
            .bind::<Text, _>(&version)
            .execute(conn)?;
    }
    Ok(())
}

/// Takes the text that this build has of `migration` for the one that was applied.
pub(super) fn accept(conn: &mut AnyConnection, migration: &Migration) -> QueryResult<()> {
    diesel::update(migration_ledger::table.find(migration.version()))
        .set((
            migration_ledger::up_sha256.eq(migration.sha256()),
            migration_ledger::name.eq(migration.name),
        ))
        .execute(conn)?;
    Ok(())
}

/// Notes that a migration is reverted; in the transaction that reverts it and before that may drop the ledger.
pub(super) fn forget(conn: &mut AnyConnection, version: &str) -> QueryResult<()> {
    if exists(conn)? {
        diesel::delete(migration_ledger::table.find(version)).execute(conn)?;
    }
    Ok(())
}
