//! The schema's migrations: which there are, which are applied, applying and reverting them.
//!
//! Both dialects have the same migrations under the same version names, in `migrations/sqlite` and
//! `migrations/postgres`, and both are compiled in. What was applied stands in diesel's table, so that diesel's own
//! tools understand the database, and with checksum, time and author in our [ledger](LedgerRow).

pub mod adoption;
mod check_constraint;
mod description;
mod drift;
mod ledger;
mod lock;
mod reversal;
mod run;
mod script;
mod source;
mod watch;

use std::time::Duration;

use diesel::{
    connection::SimpleConnection as _,
    migration::MigrationConnection as _,
    prelude::*,
    sql_types::{Nullable, Text},
};

pub use self::{
    drift::{CompareSchemaError, Difference, describe, drift, postgres_views},
    ledger::LedgerRow,
    lock::LOCK_KEY,
    reversal::{Loss, PlanReversalError, Reversal},
    script::{newest_sql, pending_sql, revert_sql},
    source::{Migration, Migrations},
    watch::{Applied, WatchedStatement},
};
use crate::{AnyConnection, Dialect};

/// What a database's migrations are, compared with those of this build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Versions applied to the database, oldest first.
    pub applied: Vec<String>,
    /// Names of this build's migrations that are not applied, in the order in which they would run.
    pub pending: Vec<String>,
    /// Applied versions that this build does not know: the database belongs to a newer one.
    pub unknown: Vec<String>,
    /// Names of applied migrations whose text is not the one that was applied.
    pub changed: Vec<String>,
    /// Names of pending migrations that are older than an applied one.
    pub out_of_order: Vec<String>,
    /// Names of pending migrations that began without a transaction and did not end. They run again.
    pub interrupted: Vec<String>,
}

impl Status {
    /// The newest applied version, which is what the schema is called by.
    #[must_use]
    pub fn schema_version(&self) -> Option<&str> {
        self.applied.last().map(String::as_str)
    }
}

/// How to apply or revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for another program that changes the schema.
    pub lock_wait: Duration,
    /// Who applies, for the ledger: a program and its build.
    pub applied_by: String,
    /// Versions or names of applied migrations whose changed text is taken for the one that was applied.
    pub accept_changed: Vec<String>,
    /// How long the app's queries may have to wait behind a migration.
    pub patience: Patience,
}

/// How long the app's queries may have to wait behind a migration on PostgreSQL, where everybody who wants a table queues
/// behind whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long a statement waits for a lock before the migration gives way.
    pub lock_timeout: Duration,
    /// How long a statement may take. A migration that needs more says `SET LOCAL statement_timeout`.
    pub statement_timeout: Duration,
    /// How often a migration that gave way is tried.
    pub attempts: u32,
    /// The pause after the first attempt; each one is twice as long as the one before.
    pub first_pause: Duration,
    /// What no pause is longer than.
    pub longest_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_secs(60),
            applied_by: concat!("omnitool-database ", env!("CARGO_PKG_VERSION")).to_owned(),
            accept_changed: Vec::new(),
            patience: Patience::default(),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(60),
            attempts: 10,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
        }
    }
}

/// Why migrations could not be read, applied or reverted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// What is applied cannot be read.
    #[error("cannot read which migrations are applied")]
    Read(#[source] diesel::result::Error),
    /// One of two migrations would never run.
    #[error("two migrations have one version: {first} and {second}")]
    Duplicate {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// The database was migrated by a newer build.
    #[error("the database belongs to a newer build: this one does not know its migrations {}", .versions.join(", "))]
    Newer {
        /// The versions that this build does not know.
        versions: Vec<String>,
    },
    /// A migration is not what it was when it was applied, so that the schema is not what this build takes it for.
    #[error("changed after being applied: {}", .names.join(", "))]
    Changed {
        /// The migrations.
        names: Vec<String>,
    },
    /// A migration that should be accepted as changed is not.
    #[error("`{text}` is no migration that changed after being applied")]
    NotChanged {
        /// What was asked for.
        text: String,
    },
    /// A migration is older than one that is applied: here it would run after that one, elsewhere before.
    #[error("out of order: {} would run after {newest}", .names.join(", "))]
    OutOfOrder {
        /// The migrations.
        names: Vec<String>,
        /// The newest applied version.
        newest: String,
    },
    /// Another program is changing the schema, or writing to the SQLite file, and did not end in time.
    #[error("cannot get the migration lock within {} s: {holder}", .waited.as_secs())]
    Locked {
        /// How long this one waited.
        waited: Duration,
        /// Who has it.
        holder: String,
    },
    /// A migration failed; the ones before it stay applied on PostgreSQL, none of this run does on SQLite.
    #[error("migration {name} failed")]
    Apply {
        /// The migration.
        name: String,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
    /// A migration could not be undone.
    #[error("migration {name} could not be reverted")]
    Revert {
        /// The migration.
        name: String,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
    /// The newest migrations are not the ones that a plan to revert them was made for.
    #[error("the database has changed since the plan was made: the newest migrations are now {}", .newest.join(", "))]
    Stale {
        /// The newest ones now.
        newest: Vec<String>,
    },
    /// Migrations that ran without enforcing foreign keys broke some, so that the whole run was undone.
    #[error("the migrations would leave rows without a parent in {}", .tables.join(", "))]
    Orphans {
        /// The tables with such rows.
        tables: Vec<String>,
    },
    /// The transaction or the lock around the run failed.
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

/// The names of this build's migrations, oldest first.
///
/// # Errors
///
/// Fails only where the build itself is broken.
pub fn names(dialect: Dialect) -> Result<Vec<String>, MigrateError> {
    Ok(Migrations::embedded(dialect)?.iter().map(|migration| migration.name.to_owned()).collect())
}

/// Compares the database with this build. Changes nothing, also on an empty database.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn status(conn: &mut AnyConnection) -> Result<Status, MigrateError> {
    let migrations = Migrations::embedded(conn.dialect())?;
    status_with(conn, &migrations)
}

/// Compares the database with `migrations`. Changes nothing.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn status_with(
    conn: &mut AnyConnection,
    migrations: &Migrations,
) -> Result<Status, MigrateError> {
    let applied = ledger::applied(conn).map_err(MigrateError::Read)?;
    let rows = ledger::read(conn).map_err(MigrateError::Read)?;
    let unknown =
        applied.iter().filter(|version| migrations.find(version).is_none()).cloned().collect();
    let mut status = Status { applied, unknown, ..Status::default() };
    for migration in migrations.iter() {
        let name = migration.name.to_owned();
        let version = migration.version();
        let row = rows.iter().find(|row| row.version == version);
        if status.applied.contains(&version) {
            if row.is_some_and(|row| row.up_sha256 != migration.sha256()) {
                status.changed.push(name);
            }
            continue;
        }
        if row.is_some() {
            status.interrupted.push(name.clone());
        }
        if status.applied.last().is_some_and(|newest| version < *newest) {
            status.out_of_order.push(name.clone());
        }
        status.pending.push(name);
    }
    Ok(status)
}

/// The ledger, oldest first; empty where it does not exist yet.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn ledger(conn: &mut AnyConnection) -> Result<Vec<LedgerRow>, MigrateError> {
    ledger::read(conn).map_err(MigrateError::Read)
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
/// Fails where the database belongs to a newer build, or a migration was changed or comes out of order (before any
/// change), and where a migration fails.
pub fn migrate(conn: &mut AnyConnection) -> Result<Vec<String>, MigrateError> {
    let migrations = Migrations::embedded(conn.dialect())?;
    migrate_with(conn, &migrations, &Options::default())
}

/// Applies those of `migrations` that are pending, as `options` say, and returns their names.
///
/// # Errors
///
/// As [`migrate`]; also where a version in `accept_changed` did not change.
pub fn migrate_with(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    options: &Options,
) -> Result<Vec<String>, MigrateError> {
    let applied = apply_pending(conn, migrations, options, || None)?;
    Ok(applied.into_iter().map(|applied| applied.name).collect())
}

/// As [`migrate_with`], statement by statement on PostgreSQL, and says what each one did: for a rehearsal.
///
/// # Errors
///
/// As [`migrate_with`].
pub fn migrate_watched(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    options: &Options,
) -> Result<Vec<Applied>, MigrateError> {
    apply_pending(conn, migrations, options, || Some(watch::Watch::default()))
}

fn apply_pending(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    options: &Options,
    watch: impl Fn() -> Option<watch::Watch>,
) -> Result<Vec<Applied>, MigrateError> {
    let pending = status_with(conn, migrations)?.pending;
    let affected = migrations.iter().filter(|m| pending.iter().any(|name| name == m.name));
    exclusively(conn, affected, options, |conn| {
        let mut status = status_with(conn, migrations)?;
        refuse_newer(&status)?;
        let accepted = take_accepted(migrations, options, &mut status)?;
        refuse_surprises(&status)?;
        for migration in accepted {
            ledger::accept(conn, migration)?;
        }
        // Makes diesel's table where it does not exist.
        conn.setup()?;
        let mut durations = ledger::Durations::new();
        ledger::complete(conn, migrations, &durations, &options.applied_by)?;
        let mut applied = Vec::new();
        for migration in migrations.iter() {
            if status.pending.iter().any(|name| name == migration.name) {
                let run = run::Run { migration, options, watch: watch() };
                applied.push(run.apply(conn, migrations, &mut durations)?);
            }
        }
        Ok(applied)
    })
}

/// Takes out of `status` what `options` accept.
fn take_accepted<'a>(
    migrations: &'a Migrations,
    options: &Options,
    status: &mut Status,
) -> Result<Vec<&'a Migration>, MigrateError> {
    let mut accepted = Vec::new();
    for text in &options.accept_changed {
        let migration = migrations
            .iter()
            .find(|m| m.is_called(text) && status.changed.iter().any(|name| name == m.name))
            .ok_or_else(|| MigrateError::NotChanged { text: text.clone() })?;
        status.changed.retain(|name| name != migration.name);
        accepted.push(migration);
    }
    Ok(accepted)
}

fn refuse_surprises(status: &Status) -> Result<(), MigrateError> {
    if !status.changed.is_empty() {
        return Err(MigrateError::Changed { names: status.changed.clone() });
    }
    match status.schema_version() {
        Some(newest) if !status.out_of_order.is_empty() => Err(MigrateError::OutOfOrder {
            names: status.out_of_order.clone(),
            newest: newest.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Reverts the newest `count` applied migrations and returns their names, newest first. Their data is lost.
///
/// # Errors
///
/// Fails where the database belongs to a newer build (before any change), or a migration cannot be reverted.
pub fn revert(conn: &mut AnyConnection, count: usize) -> Result<Vec<String>, MigrateError> {
    let migrations = Migrations::embedded(conn.dialect())?;
    revert_with(conn, &migrations, count, &Options::default())
}

/// Reverts the newest `count` applied ones of `migrations`, as `options` say, and returns their names, newest first.
///
/// # Errors
///
/// As [`revert`].
pub fn revert_with(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    count: usize,
    options: &Options,
) -> Result<Vec<String>, MigrateError> {
    revert_expected(conn, migrations, count, None, options)
}

/// As [`revert_with`], but refuses where the migrations to revert are not those that somebody `expected`.
fn revert_expected(
    conn: &mut AnyConnection,
    migrations: &Migrations,
    count: usize,
    expected: Option<&[String]>,
    options: &Options,
) -> Result<Vec<String>, MigrateError> {
    let newest = |applied: &[String]| -> Vec<&Migration> {
        applied.iter().rev().take(count).filter_map(|version| migrations.find(version)).collect()
    };
    let affected = newest(&status_with(conn, migrations)?.applied);
    exclusively(conn, affected.into_iter(), options, |conn| {
        let status = status_with(conn, migrations)?;
        refuse_newer(&status)?;
        let affected = newest(&status.applied);
        let names: Vec<String> = affected.iter().map(|m| m.name.to_owned()).collect();
        if expected.is_some_and(|expected| expected != names) {
            return Err(MigrateError::Stale { newest: names });
        }
        for migration in affected {
            run::revert(conn, migration, options)?;
        }
        Ok(names)
    })
}

/// Runs `body` while no other program changes the schema.
///
/// If one of the `affected` migrations asks for it, SQLite enforces no foreign keys meanwhile, which cannot be switched
/// within a transaction; all is then undone where a row is left without its parent.
fn exclusively<'a, T>(
    conn: &mut AnyConnection,
    mut affected: impl Iterator<Item = &'a Migration>,
    options: &Options,
    body: impl FnOnce(&mut AnyConnection) -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let protected = conn.dialect() == Dialect::Postgres || affected.all(|m| m.run_in_transaction);
    if protected {
        return lock::exclusively(conn, options, body);
    }
    conn.batch_execute("PRAGMA foreign_keys = OFF")?;
    let result = lock::exclusively(conn, options, |conn| {
        let value = body(conn)?;
        refuse_orphans(conn)?;
        Ok(value)
    });
    conn.batch_execute("PRAGMA foreign_keys = ON")?;
    result
}

#[derive(QueryableByName)]
struct Violation {
    #[diesel(sql_type = Nullable<Text>)]
    table: Option<String>,
}

fn refuse_orphans(conn: &mut AnyConnection) -> Result<(), MigrateError> {
    let query = "SELECT DISTINCT \"table\" FROM pragma_foreign_key_check ORDER BY 1";
    let tables: Vec<String> = diesel::sql_query(query)
        .load::<Violation>(conn)?
        .into_iter()
        .filter_map(|violation| violation.table)
        .collect();
    if tables.is_empty() { Ok(()) } else { Err(MigrateError::Orphans { tables }) }
}
