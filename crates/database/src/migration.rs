//! The schema's migrations: which there are, which are applied, applying and reverting them.
//!
//! Both dialects have the same migrations under the same version names, in `migrations/sqlite` and
//! `migrations/postgres`, and both are compiled in.

use std::time::{Duration, Instant};

use diesel::{
    dsl::sql,
    migration::Migration as _,
    prelude::*,
    sql_types::{BigInt, Bool, Text},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::{AnyConnection, Dialect, MultiBackend, connection::table_exists, write_transaction};

const SQLITE: EmbeddedMigrations = embed_migrations!("../../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../../migrations/postgres");

/// The key of the advisory lock on PostgreSQL that everything which changes the schema holds.
const LOCK_KEY: i64 = 0x6f6d_6e69_746f_6f6c;
/// How long to wait for another migration to end.
const LOCK_WAIT: Duration = Duration::from_secs(60);

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type BoxedMigration = Box<dyn diesel::migration::Migration<MultiBackend>>;

/// What a database's migrations are, compared with those of this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Versions applied to the database, oldest first.
    pub applied: Vec<String>,
    /// Names of this build's migrations that are not applied, in the order in which they would run.
    pub pending: Vec<String>,
    /// Applied versions that this build does not know: the database belongs to a newer one.
    pub unknown: Vec<String>,
}

impl Status {
    /// The newest applied version, which is what the schema is called by.
    #[must_use]
    pub fn schema_version(&self) -> Option<&str> {
        self.applied.last().map(String::as_str)
    }
}

/// Why migrations could not be read, applied or reverted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// What is applied cannot be read.
    #[error("cannot read which migrations are applied")]
    Read(#[source] diesel::result::Error),
    /// This build's own migrations cannot be read.
    #[error("cannot read this build's migrations")]
    Embedded(#[source] AnyError),
    /// The database was migrated by a newer build.
    #[error("the database belongs to a newer build: this one does not know its migrations {}", .versions.join(", "))]
    Newer {
        /// The versions that this build does not know.
        versions: Vec<String>,
    },
    /// Another program is changing the schema and did not end in time.
    #[error("another migration held the lock for {} s", .waited.as_secs())]
    Locked {
        /// How long this one waited.
        waited: Duration,
    },
    /// A migration failed; the ones before it stay applied on PostgreSQL, none of this run does on SQLite.
    #[error("migration {name} failed")]
    Apply {
        /// The migration.
        name: String,
        /// What the database says.
        #[source]
        source: AnyError,
    },
    /// A migration could not be undone.
    #[error("migration {name} could not be reverted")]
    Revert {
        /// The migration.
        name: String,
        /// What the database says.
        #[source]
        source: AnyError,
    },
    /// The transaction around the run failed.
    #[error("cannot begin or end the migration's transaction")]
    Transaction(#[from] diesel::result::Error),
}

/// Why a database cannot be worked on by this build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckSchemaError {
    /// The status cannot be read, or the database belongs to a newer build.
    #[error(transparent)]
    Read(#[from] MigrateError),
    /// Migrations have to run first.
    #[error("the database is behind this build: {} pending, first {}", .pending.len(), .pending.first().map_or("", String::as_str))]
    Pending {
        /// The names of the pending migrations.
        pending: Vec<String>,
    },
}

fn embedded(dialect: Dialect) -> Result<Vec<BoxedMigration>, MigrateError> {
    let source = match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    let mut migrations = diesel::migration::MigrationSource::<MultiBackend>::migrations(&source)
        .map_err(MigrateError::Embedded)?;
    migrations.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(migrations)
}

/// The names of this build's migrations, oldest first.
///
/// # Errors
///
/// Fails only where the build itself is broken.
pub fn names(dialect: Dialect) -> Result<Vec<String>, MigrateError> {
    Ok(embedded(dialect)?.iter().map(|migration| migration.name().to_string()).collect())
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Reads the applied versions, oldest first, without making diesel's table where it does not exist.
fn applied(conn: &mut AnyConnection) -> QueryResult<Vec<String>> {
    if !table_exists(conn, "__diesel_schema_migrations")? {
        return Ok(Vec::new());
    }
    let query = "SELECT version FROM __diesel_schema_migrations ORDER BY version";
    let versions = diesel::sql_query(query).load::<Version>(conn)?;
    Ok(versions.into_iter().map(|row| row.version).collect())
}

/// Compares the database with this build. Changes nothing, also on an empty database.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn status(conn: &mut AnyConnection) -> Result<Status, MigrateError> {
    let applied = applied(conn).map_err(MigrateError::Read)?;
    let known = embedded(conn.dialect())?;
    let pending = known
        .iter()
        .filter(|migration| !applied.contains(&migration.name().version().to_string()))
        .map(|migration| migration.name().to_string())
        .collect();
    let unknown = applied
        .iter()
        .filter(|version| !known.iter().any(|m| m.name().version().to_string() == **version))
        .cloned()
        .collect();
    Ok(Status { applied, pending, unknown })
}

/// Fails unless the schema is exactly the one of this build. Returns its version.
///
/// # Errors
///
/// Fails where migrations are pending or unknown.
pub fn check_current(conn: &mut AnyConnection) -> Result<String, CheckSchemaError> {
    let status = status(conn)?;
    refuse_newer(&status)?;
    if !status.pending.is_empty() {
        return Err(CheckSchemaError::Pending { pending: status.pending });
    }
    Ok(status.schema_version().unwrap_or_default().to_owned())
}

fn refuse_newer(status: &Status) -> Result<(), MigrateError> {
    if status.unknown.is_empty() {
        Ok(())
    } else {
        Err(MigrateError::Newer { versions: status.unknown.clone() })
    }
}

/// Applies the pending migrations and returns their names.
///
/// Only one program does so at a time: on SQLite the run is one transaction with the write lock, on PostgreSQL it holds
/// an advisory lock and each migration has its own transaction. A second one waits and then finds nothing to do.
///
/// # Errors
///
/// Fails where the database belongs to a newer build (before any change), or a migration fails.
pub fn migrate(conn: &mut AnyConnection) -> Result<Vec<String>, MigrateError> {
    exclusively(conn, |conn| {
        let status = status(conn)?;
        refuse_newer(&status)?;
        // Makes diesel's table where it does not exist.
        conn.applied_migrations().map_err(MigrateError::Embedded)?;
        for migration in embedded(conn.dialect())? {
            let name = migration.name().to_string();
            if status.pending.contains(&name) {
                conn.run_migration(&migration)
                    .map_err(|source| MigrateError::Apply { name, source })?;
            }
        }
        Ok(status.pending)
    })
}

/// Reverts the newest `count` applied migrations and returns their names, newest first. Their data is lost.
///
/// # Errors
///
/// Fails where the database belongs to a newer build (before any change), or a migration cannot be reverted.
pub fn revert(conn: &mut AnyConnection, count: usize) -> Result<Vec<String>, MigrateError> {
    exclusively(conn, |conn| {
        let status = status(conn)?;
        refuse_newer(&status)?;
        let known = embedded(conn.dialect())?;
        let mut reverted = Vec::new();
        for version in status.applied.iter().rev().take(count) {
            let Some(migration) = known.iter().find(|m| m.name().version().to_string() == *version)
            else {
                continue;
            };
            let name = migration.name().to_string();
            conn.revert_migration(migration)
                .map_err(|source| MigrateError::Revert { name: name.clone(), source })?;
            reverted.push(name);
        }
        Ok(reverted)
    })
}

/// Runs `body` while no other program changes the schema.
fn exclusively<T>(
    conn: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    if conn.dialect() == Dialect::Sqlite {
        return write_transaction(conn, body);
    }
    lock(conn)?;
    let result = body(conn);
    // The lock also ends with the connection, so that a failure here leaves nothing locked.
    if let Err(error) =
        diesel::sql_query("SELECT pg_advisory_unlock($1)").bind::<BigInt, _>(LOCK_KEY).execute(conn)
    {
        tracing::warn!("cannot release the migration lock: {error}");
    }
    result
}

fn lock(conn: &mut AnyConnection) -> Result<(), MigrateError> {
    let started = Instant::now();
    loop {
        let attempt = sql::<Bool>("pg_try_advisory_lock(").bind::<BigInt, _>(LOCK_KEY).sql(")");
        let got: bool = diesel::select(attempt).get_result(conn)?;
        if got {
            return Ok(());
        }
        let waited = started.elapsed();
        if waited > LOCK_WAIT {
            return Err(MigrateError::Locked { waited });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
