//! The conversion itself, within one transaction.

use std::collections::BTreeMap;

use diesel::{QueryResult, connection::SimpleConnection as _, migration::MigrationConnection as _};

use super::{
    AdoptError, Adoption,
    check::{self, Column},
    number,
};
use crate::{
    AnyConnection, Dialect,
    migration::{Migrations, Options, ledger, run},
};

/// Children first, so that each can be dropped.
const TABLES: [&str; 4] = ["tool_access", "tools", "users", "alembic_version"];

/// Keeps everybody else from writing until the end.
pub(super) fn lock_tables(conn: &mut AnyConnection, options: &Options) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "SET LOCAL lock_timeout = {}; LOCK TABLE users, tools, tool_access, alembic_version IN ACCESS EXCLUSIVE MODE",
        options.lock_wait.as_millis()
    ))
}

pub(super) fn convert(
    conn: &mut AnyConnection,
    plan: &Adoption,
    migrations: &Migrations,
    options: &Options,
) -> Result<(), AdoptError> {
    let found = check::tables(conn)?;
    let aside = set_aside(conn)?;
    conn.setup()?;
    let mut durations = ledger::Durations::new();
    for migration in migrations.iter() {
        // What refuses a transaction is left to the run after this one, with all that follows it.
        if conn.dialect() == Dialect::Postgres && !migration.run_in_transaction {
            break;
        }
        let run = run::Run { migration, options, watch: None };
        run.apply(conn, migrations, &mut durations)?;
    }
    let none = BTreeMap::new();
    let columns = |table: &str| found.get(table).unwrap_or(&none);
    copy(conn, "users", check::USERS, columns("users"), &aside)?;
    copy(conn, "tools", check::TOOLS, columns("tools"), &aside)?;
    copy_grants(conn, columns("tool_access"), &aside)?;
    // Each pair once, without those that have no parent.
    let grants = number(
        conn,
        &format!(
            "SELECT count(*) AS number FROM (SELECT DISTINCT user_id, tool_id FROM {aside}tool_access \
             WHERE user_id IN (SELECT id FROM users) AND tool_id IN (SELECT id FROM tools)) AS pairs"
        ),
    )?;
    for (table, expected) in [("users", plan.users), ("tools", plan.tools), ("tool_access", grants)]
    {
        let found = number(conn, &format!("SELECT count(*) AS number FROM {table}"))?;
        if found != expected {
            return Err(AdoptError::Lost { table, expected, found });
        }
    }
    finish(conn, &aside)?;
    Ok(())
}

/// Moves the old tables out of the way; returns what now stands before their names.
fn set_aside(conn: &mut AnyConnection) -> QueryResult<String> {
    let (before, aside) = match conn.dialect() {
        Dialect::Sqlite => ("", "python_"),
        // Into a schema of their own, so that their keys and sequences do not take our names.
        Dialect::Postgres => ("CREATE SCHEMA python_system", "python_system."),
    };
    if !before.is_empty() {
        conn.batch_execute(before)?;
    }
    for table in TABLES {
        conn.batch_execute(&match conn.dialect() {
            Dialect::Sqlite => format!("ALTER TABLE {table} RENAME TO {aside}{table}"),
            Dialect::Postgres => format!("ALTER TABLE {table} SET SCHEMA python_system"),
        })?;
    }
    Ok(aside.to_owned())
}

fn copy(
    conn: &mut AnyConnection,
    table: &str,
    columns: &[Column],
    found: &BTreeMap<String, String>,
    aside: &str,
) -> QueryResult<()> {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let values: Vec<String> = columns.iter().map(|column| value(column, found)).collect();
    conn.batch_execute(&format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {aside}{table}",
        names.join(", "),
        values.join(", ")
    ))
}

fn value(column: &Column, found: &BTreeMap<String, String>) -> String {
    let name = column.name;
    match column.without_value {
        _ if !found.contains_key(name) => column.without_column.to_owned(),
        Some(value) => format!("coalesce({name}, {value})"),
        None => name.to_owned(),
    }
}

fn copy_grants(
    conn: &mut AnyConnection,
    found: &BTreeMap<String, String>,
    aside: &str,
) -> QueryResult<()> {
    let granted_at = check::TOOL_ACCESS
        .iter()
        .find(|column| column.name == "granted_at")
        .map(|column| value(column, found))
        .unwrap_or_default();
    conn.batch_execute(&format!(
        "INSERT INTO tool_access (user_id, tool_id, granted_at, origin) \
         SELECT user_id, tool_id, min({granted_at}), 'import' FROM {aside}tool_access \
         WHERE user_id IN (SELECT id FROM users) AND tool_id IN (SELECT id FROM tools) \
         GROUP BY user_id, tool_id"
    ))
}

/// Removes the old tables, whose rows are counted, and lets new keys begin after theirs.
fn finish(conn: &mut AnyConnection, aside: &str) -> QueryResult<()> {
    if conn.dialect() == Dialect::Postgres {
        for table in ["users", "tools"] {
            conn.batch_execute(&format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) > 0"
            ))?;
        }
    }
    for table in TABLES {
        conn.batch_execute(&format!("DROP TABLE {aside}{table}"))?;
    }
    if conn.dialect() == Dialect::Postgres {
        conn.batch_execute("DROP SCHEMA python_system")?;
    }
    Ok(())
}
