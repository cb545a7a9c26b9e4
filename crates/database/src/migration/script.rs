//! The SQL that would run, for people to read.

use std::fmt::Write as _;

use super::{MigrateError, Migration, Migrations, status};
use crate::{AnyConnection, Dialect};

/// The SQL that [`migrate`](super::migrate) would run now. Runs nothing; empty where nothing is pending.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn pending_sql(conn: &mut AnyConnection) -> Result<String, MigrateError> {
    let dialect = conn.dialect();
    let pending = status(conn)?.pending;
    let migrations = Migrations::embedded(dialect)?;
    let steps: Vec<Step> = migrations
        .iter()
        .filter(|migration| pending.iter().any(|name| name == migration.name))
        .map(Step::up)
        .collect();
    Ok(script(dialect, &steps))
}

/// The SQL that reverting the newest `count` applied migrations would run now. Runs nothing.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn revert_sql(conn: &mut AnyConnection, count: usize) -> Result<String, MigrateError> {
    let dialect = conn.dialect();
    let applied = status(conn)?.applied;
    let migrations = Migrations::embedded(dialect)?;
    let newest = applied.iter().rev().take(count).filter_map(|version| migrations.find(version));
    let steps: Vec<Step> = newest.map(Step::down).collect();
    Ok(script(dialect, &steps))
}

/// The SQL that applies the newest applied migration, for what applies it again. Runs nothing.
///
/// # Errors
///
/// Fails where the database cannot be read.
pub fn newest_sql(conn: &mut AnyConnection) -> Result<String, MigrateError> {
    let dialect = conn.dialect();
    let applied = status(conn)?.applied;
    let migrations = Migrations::embedded(dialect)?;
    let newest = applied.last().and_then(|version| migrations.find(version));
    let steps: Vec<Step> = newest.into_iter().map(Step::up).collect();
    Ok(script(dialect, &steps))
}

struct Step<'a> {
    migration: &'a Migration,
    sql: &'a str,
    note: String,
}

impl<'a> Step<'a> {
    fn up(migration: &'a Migration) -> Self {
        let version = migration.version();
        let note =
            format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}');");
        Self { migration, sql: migration.up, note }
    }

    fn down(migration: &'a Migration) -> Self {
        let version = migration.version();
        let note = format!("DELETE FROM __diesel_schema_migrations WHERE version = '{version}';");
        Self { migration, sql: migration.down, note }
    }
}

fn script(dialect: Dialect, steps: &[Step<'_>]) -> String {
    let mut script = String::new();
    let in_one = dialect == Dialect::Sqlite && !steps.is_empty();
    if in_one {
        script.push_str("BEGIN IMMEDIATE;\n");
    }
    for Step { migration, sql, note } in steps {
        let [begin, commit] = match dialect {
            Dialect::Postgres if migration.run_in_transaction => ["BEGIN;\n", "COMMIT;\n"],
            _ => ["", ""],
        };
        // Writing to a string cannot fail.
        let _ =
            write!(script, "-- {}\n{begin}{}\n{note}\n{commit}", migration.name, sql.trim_end());
    }
    if in_one {
        script.push_str("COMMIT;\n");
    }
    script
}
