//! Applying and reverting one migration.

use std::{
    fmt,
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, QueryResult,
    connection::{BoxableConnection, SimpleConnection as _},
    migration::{MigrationMetadata, MigrationName, MigrationVersion},
    prelude::*,
    result::Error,
    sql_types::Text,
};
use diesel_migrations::MigrationHarness as _;

use super::{Applied, MigrateError, Migration, Migrations, Options, ledger, source, watch::Watch};
use crate::{AnyConnection, Dialect, MultiBackend, transaction::is_lock_timeout};

/// A migration that is about to be applied.
pub(super) struct Run<'a> {
    pub(super) migration: &'a Migration,
    pub(super) options: &'a Options,
    pub(super) watch: Option<Watch>,
}

impl Run<'_> {
    /// Applies it, and notes it in the same transaction.
    pub(super) fn apply(
        self,
        conn: &mut AnyConnection,
        migrations: &Migrations,
        durations: &mut ledger::Durations,
    ) -> Result<Applied, MigrateError> {
        let Self { migration, options, watch } = self;
        let step = Step { migration, sql: migration.up, options, watch };
        let result = step.patiently(conn, |conn, step| {
            let started = Instant::now();
            if step.needs_no_transaction(conn) {
                ledger::begin(conn, migration, &options.applied_by)?;
                step.run(conn)?;
                return conn.transaction(|conn| {
                    durations.insert(migration.version(), started.elapsed());
                    ledger::record(conn, migration, migrations, durations, &options.applied_by)
                });
            }
            conn.transaction(|conn| {
                step.run(conn)?;
                durations.insert(migration.version(), started.elapsed());
                ledger::record(conn, migration, migrations, durations, &options.applied_by)
            })
        });
        let name = migration.name.to_owned();
        match result {
            Ok(()) => {
                Ok(Applied { name, statements: step.watch.map(Watch::end).unwrap_or_default() })
            }
            Err(source) => Err(MigrateError::Apply { name, source }),
        }
    }
}

/// Undoes `migration`, and forgets it in the same transaction.
pub(super) fn revert(
    conn: &mut AnyConnection,
    migration: &Migration,
    options: &Options,
) -> Result<(), MigrateError> {
    let step = Step { migration, sql: migration.down, options, watch: None };
    let result = step.patiently(conn, |conn, step| {
        if step.needs_no_transaction(conn) {
            step.revert(conn)?;
            return conn.transaction(|conn| ledger::forget(conn, &migration.version()));
        }
        conn.transaction(|conn| {
            // First, since the migration may be the one that made the ledger.
            ledger::forget(conn, &migration.version())?;
            step.revert(conn)
        })
    });
    result.map_err(|source| MigrateError::Revert { name: migration.name.to_owned(), source })
}

struct Step<'a> {
    migration: &'a Migration,
    sql: &'a str,
    options: &'a Options,
    watch: Option<Watch>,
}

impl Step<'_> {
    fn needs_no_transaction(&self, conn: &AnyConnection) -> bool {
        conn.dialect() == Dialect::Postgres && !self.migration.run_in_transaction
    }

    /// Runs `attempt` again where it gave way to somebody else's lock: the app's queries go first in the pauses.
    fn patiently(
        &self,
        conn: &mut AnyConnection,
        mut attempt: impl FnMut(&mut AnyConnection, &Self) -> QueryResult<()>,
    ) -> QueryResult<()> {
        let patience = &self.options.patience;
        let mut pause = patience.first_pause;
        let mut tried = 1;
        loop {
            match attempt(conn, self) {
                Err(error) if tried < patience.attempts && is_lock_timeout(&error) => {
                    tracing::warn!(
                        "migration {} gave way after {} ms to somebody who uses what it changes; attempt {} of {} in {} ms",
                        self.migration.name,
                        patience.lock_timeout.as_millis(),
                        tried + 1,
                        patience.attempts,
                        pause.as_millis(),
                    );
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(patience.longest_pause);
                    tried += 1;
                }
                result => return result,
            }
        }
    }

    /// Runs the SQL and notes the version in diesel's table.
    fn run(&self, conn: &mut AnyConnection) -> QueryResult<()> {
        conn.run_migration(self).map(drop).map_err(query_error)
    }

    /// Runs the SQL and removes the version from diesel's table.
    fn revert(&self, conn: &mut AnyConnection) -> QueryResult<()> {
        conn.revert_migration(self).map(drop).map_err(query_error)
    }

    fn execute(&self, conn: &mut AnyConnection) -> QueryResult<()> {
        if self.needs_no_transaction(conn) {
            self.run_statements(conn)
        } else {
            self.run_in_transaction(conn)
        }
    }

    fn run_in_transaction(&self, conn: &mut AnyConnection) -> QueryResult<()> {
        let patience = &self.options.patience;
        if conn.dialect() == Dialect::Postgres {
            set_timeout(conn, "lock_timeout", patience.lock_timeout, Scope::Transaction)?;
            set_timeout(conn, "statement_timeout", patience.statement_timeout, Scope::Transaction)?;
        }
        // A trigger of SQLite has semicolons of its own, so that its migrations stay whole.
        let statements = match conn.dialect() {
            Dialect::Postgres if self.watch.is_some() => source::statements(self.sql),
            _ => vec![self.sql],
        };
        self.run_each(conn, &statements)
    }

    fn run_each(&self, conn: &mut AnyConnection, statements: &[&str]) -> QueryResult<()> {
        let run = |conn: &mut AnyConnection, sql: &str| conn.batch_execute(sql);
        match &self.watch {
            Some(watch) => watch.run(conn, statements, run),
            None => statements.iter().try_for_each(|sql| run(conn, sql)),
        }
    }

    /// One by one: PostgreSQL makes several that are sent together one transaction.
    fn run_statements(&self, conn: &mut AnyConnection) -> QueryResult<()> {
        // Such statements take their time and keep nobody waiting meanwhile; what they wait for are old transactions.
        set_timeout(conn, "lock_timeout", self.options.lock_wait, Scope::Session)?;
        set_timeout(conn, "statement_timeout", Duration::ZERO, Scope::Session)?;
        let result = self.run_each(conn, &source::statements(self.sql));
        let reset = conn.batch_execute("RESET lock_timeout; RESET statement_timeout");
        result.and(reset)
    }
}

/// What diesel's harness runs. It has one direction, the one of `sql`, so both do the same.
impl diesel::migration::Migration<MultiBackend> for Step<'_> {
    fn run(&self, conn: &mut dyn BoxableConnection<MultiBackend>) -> diesel::migration::Result<()> {
        let conn = conn.downcast_mut().ok_or("the harness was given another connection")?;
        Ok(self.execute(conn)?)
    }

    fn revert(
        &self,
        conn: &mut dyn BoxableConnection<MultiBackend>,
    ) -> diesel::migration::Result<()> {
        diesel::migration::Migration::run(self, conn)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for Step<'_> {
    /// The transaction is ours, since the ledger's row belongs into it.
    fn run_in_transaction(&self) -> bool {
        false
    }
}

impl MigrationName for Step<'_> {
    fn version(&self) -> MigrationVersion<'_> {
        self.migration.version().into()
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.migration.name)
    }
}

/// The database's error out of the harness's box.
fn query_error(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::QueryBuilderError(other),
    }
}

#[derive(Clone, Copy)]
enum Scope {
    Transaction,
    Session,
}

fn set_timeout(
    conn: &mut AnyConnection,
    setting: &str,
    timeout: Duration,
    scope: Scope,
) -> QueryResult<()> {
    let set = match scope {
        Scope::Transaction => "SELECT set_config($1, $2, TRUE)",
        Scope::Session => "SELECT set_config($1, $2, FALSE)",
    };
    diesel::sql_query(set)
        .bind::<Text, _>(setting)
        .bind::<Text, _>(timeout.as_millis().to_string())
        .execute(conn)?;
    Ok(())
}
