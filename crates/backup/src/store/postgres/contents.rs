//! What is in a database.

use std::collections::BTreeMap;

use diesel::{
    connection::SimpleConnection as _,
    prelude::*,
    sql_types::{BigInt, Text},
};
use omnitool_database::{AnyConnection, migration, stamp};
use omnitool_environment::EnvironmentName;

use super::target::quoted;
use crate::store::{Contents, ReadDatabaseError};

/// Not counted: the schema version says it all.
pub(super) const LEDGER: &str = "__diesel_schema_migrations";
pub(crate) const STAMP_TABLE: &str = "environment_stamp";
/// Whose tables need no schema in front.
const SCHEMA: &str = "public";

/// A table with rows of its own.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Table {
    #[diesel(sql_type = BigInt)]
    pub(super) oid: i64,
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Table {
    /// As it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// What manifests call a table.
pub(super) fn label(schema: &str, name: &str) -> String {
    if schema == SCHEMA { name.to_owned() } else { format!("{schema}.{name}") }
}

/// All tables whose rows a dump holds. Extensions bring theirs themselves.
pub(super) fn tables(conn: &mut AnyConnection) -> QueryResult<Vec<Table>> {
    diesel::sql_query(
        "SELECT class.oid::bigint AS oid, namespace.nspname::text AS schema, class.relname::text AS name \
         FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
         WHERE class.relkind = 'r' AND class.relpersistence <> 't' \
         AND namespace.nspname <> 'information_schema' AND namespace.nspname NOT LIKE 'pg\\_%' \
         AND NOT EXISTS (SELECT FROM pg_depend AS depend WHERE depend.classid = 'pg_class'::regclass \
             AND depend.objid = class.oid AND depend.deptype = 'e') \
         ORDER BY 2, 3",
    )
    .load(conn)
}

/// The rows of every table, in a transaction of the caller's.
pub(super) fn count_rows(conn: &mut AnyConnection) -> QueryResult<BTreeMap<String, u64>> {
    let mut rows = BTreeMap::new();
    for table in tables(conn)?.into_iter().filter(|table| table.name != LEDGER) {
        let query = format!("SELECT count(*) AS number FROM {}", table.quoted());
        let Number { number } = diesel::sql_query(query).get_result(conn)?;
        rows.insert(label(&table.schema, &table.name), u64::try_from(number).unwrap_or_default());
    }
    Ok(rows)
}

/// All that manifests know, in a transaction of the caller's.
pub(super) fn read_contents(conn: &mut AnyConnection) -> Result<Contents, ReadDatabaseError> {
    let migration::Status { applied, pending, unknown, .. } = migration::status(conn)?;
    Ok(Contents {
        rows: count_rows(conn)?,
        schema_version: applied.last().cloned(),
        pending,
        unknown,
        stamp: read_stamp(conn)?,
    })
}

/// The stamp; none also where there is no table for it yet.
pub(super) fn read_stamp(
    conn: &mut AnyConnection,
) -> Result<Option<EnvironmentName>, ReadDatabaseError> {
    if has_table(conn, STAMP_TABLE)? { Ok(stamp::read(conn)?) } else { Ok(None) }
}

/// Whether there is such a table of ours.
pub(super) fn has_table(conn: &mut AnyConnection, name: &str) -> QueryResult<bool> {
    Ok(tables(conn)?.iter().any(|table| table.name == name && table.schema == SCHEMA))
}

/// Runs statements of ours, of which none gives rows that matter.
pub(super) fn execute(conn: &mut AnyConnection, statements: &str) -> QueryResult<()> {
    conn.batch_execute(statements)
}
