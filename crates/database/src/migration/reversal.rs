//! What a revert takes away, said before it does.

use std::fmt;

use diesel::{prelude::*, sql_types::BigInt};

use super::{
    CompareSchemaError, MigrateError, Migration, Migrations, Options, description::Description,
    drift::scratch, refuse_newer, revert_expected, revert_with, status_with,
};
use crate::{AnyConnection, Dialect};

/// The newest applied migrations, and what reverting them loses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Reversal {
    /// The migrations, newest first, which is the order in which they are reverted.
    pub migrations: Vec<String>,
    /// What is gone afterwards, also where a later migration brings it back, empty.
    pub losses: Vec<Loss>,
    /// The newest version that stays applied.
    pub schema_version: Option<String>,
}

/// Data that a revert deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table.
    pub table: String,
    /// The column, where it is not the whole table.
    pub column: Option<String>,
    /// How many rows there are, or have a value in that column.
    pub rows: i64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, column, rows } = self;
        let noun = if *rows == 1 { "row" } else { "rows" };
        match column {
            None => write!(f, "table {table}: {rows} {noun}"),
            Some(column) => write!(f, "column {table}.{column}: a value in {rows} {noun}"),
        }
    }
}

/// Why it cannot be said what a revert loses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanReversalError {
    /// The status cannot be read, or the database belongs to a newer build.
    #[error(transparent)]
    Status(#[from] MigrateError),
    /// There are not so many.
    #[error("only {applied} migrations are applied, {wanted} should be reverted")]
    TooMany {
        /// How many are applied.
        applied: usize,
        /// How many should be reverted.
        wanted: usize,
    },
    /// The schemas before and after cannot be made.
    #[error(transparent)]
    Compare(#[from] CompareSchemaError),
    /// The rows cannot be counted.
    #[error("cannot count the rows that would be lost")]
    Count(#[from] diesel::result::Error),
}

#[derive(QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

impl Reversal {
    /// What reverting the newest `count` migrations does. Changes nothing.
    ///
    /// # Errors
    ///
    /// Fails where the database belongs to a newer build or fewer are applied, and where it cannot be read.
    pub fn plan(conn: &mut AnyConnection, count: usize) -> Result<Self, PlanReversalError> {
        let migrations = Migrations::embedded(conn.dialect())?;
        let status = status_with(conn, &migrations)?;
        refuse_newer(&status)?;
        let Some(stay) = status.applied.len().checked_sub(count) else {
            let applied = status.applied.len();
            return Err(PlanReversalError::TooMany { applied, wanted: count });
        };
        let (stays, goes) = status.applied.split_at(stay);
        let names = goes.iter().rev().filter_map(|version| migrations.find(version));
        Ok(Self {
            migrations: names.map(|migration| migration.name.to_owned()).collect(),
            losses: losses(conn, &status.applied, count)?,
            schema_version: stays.last().cloned(),
        })
    }

    /// Does it, and returns the names of the migrations, newest first.
    ///
    /// # Errors
    ///
    /// Fails where these are no longer the newest ones (before any change), or one cannot be reverted.
    pub fn apply(
        &self,
        conn: &mut AnyConnection,
        options: &Options,
    ) -> Result<Vec<String>, MigrateError> {
        let migrations = Migrations::embedded(conn.dialect())?;
        revert_expected(conn, &migrations, self.migrations.len(), Some(&self.migrations), options)
    }
}

/// What is in the schema of the `applied` migrations and not in the one without the newest `count`.
///
/// Both are made in memory on SQLite, also for PostgreSQL: both dialects have the same tables and columns.
fn losses(
    conn: &mut AnyConnection,
    applied: &[String],
    count: usize,
) -> Result<Vec<Loss>, PlanReversalError> {
    let embedded = Migrations::embedded(Dialect::Sqlite)?;
    let known: Vec<Migration> =
        embedded.iter().filter(|m| applied.contains(&m.version())).copied().collect();
    let known = Migrations::new(known)?;
    let mut scratch = scratch(&known)?;
    let before = Description::read(&mut scratch)?;
    revert_with(&mut scratch, &known, count, &Options::default())?;
    let after = Description::read(&mut scratch)?;

    let mut losses = Vec::new();
    for (relation, parts) in &before.relations {
        let Some(table) = relation.strip_prefix("table ") else { continue };
        let Some(stays) = after.relations.get(relation) else {
            let rows = count_rows(conn, table, "*")?;
            losses.push(Loss { table: table.to_owned(), column: None, rows });
            continue;
        };
        for part in parts.keys().filter(|part| !stays.contains_key(*part)) {
            let Some(column) = part.strip_prefix("column ") else { continue };
            let rows = count_rows(conn, table, &format!("\"{column}\""))?;
            losses.push(Loss { table: table.to_owned(), column: Some(column.to_owned()), rows });
        }
    }
    Ok(losses)
}

fn count_rows(conn: &mut AnyConnection, table: &str, what: &str) -> QueryResult<i64> {
    let query = format!("SELECT count({what}) AS rows FROM \"{table}\"");
    diesel::sql_query(query).get_result::<Rows>(conn).map(|row| row.rows)
}
