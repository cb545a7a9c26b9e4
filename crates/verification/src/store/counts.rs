//! How many rows there are, which several checks ask of the same tables.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use diesel::{
    connection::Connection as _,
    prelude::*,
    sql_types::{BigInt, Text},
};
use omnitool_database::{AnyConnection, Dialect};

use super::{AccessTable, Count, Parent, foreign_key_holds, list_wanted_tools, one_of};
use crate::{Depth, Selection};

/// What is counted once for all checks. They share one snapshot, so that it does not matter who counts.
#[derive(Debug)]
pub(crate) struct Counts {
    depth: Depth,
    /// Whether a check asks for more of the grants than how many there are.
    looks_at_grants: bool,
    grants: Mutex<Option<Grants>>,
    tables: Mutex<BTreeMap<String, i64>>,
}

/// What one pass over the grants shows: they are by far the largest table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants {
    pub(crate) rows: i64,
    /// How many have both their user and their tool; all, where foreign keys prove it.
    pub(crate) whole: i64,
    /// How many give an active user one of the tools that everybody should have.
    pub(crate) wanted: i64,
}

#[derive(QueryableByName)]
struct GrantsRow {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = BigInt)]
    whole: i64,
    #[diesel(sql_type = BigInt)]
    wanted: i64,
}

#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    quoted: String,
}

impl Counts {
    pub(crate) fn new(selection: &Selection, depth: Depth) -> Self {
        let looks_at_grants = selection.checks().iter().any(|check| matches!(check.number, 4..=6));
        Self { depth, looks_at_grants, grants: Mutex::default(), tables: Mutex::default() }
    }

    /// What there is to know about the grants.
    pub(crate) fn grants(&self, conn: &mut AnyConnection) -> QueryResult<Grants> {
        // Held while counting: whoever asks meanwhile waits instead of counting the same.
        let mut known = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grants) = *known {
            return Ok(grants);
        }
        let grants = self.read_grants(conn)?;
        *known = Some(grants);
        Ok(grants)
    }

    /// How many rows one of our tables has.
    pub(crate) fn rows(&self, conn: &mut AnyConnection, table: &str) -> QueryResult<i64> {
        self.rows_of(conn, table, table)
    }

    /// How many rows a table has that stands in a statement as `quoted`.
    pub(crate) fn rows_of(
        &self,
        conn: &mut AnyConnection,
        table: &str,
        quoted: &str,
    ) -> QueryResult<i64> {
        if table == AccessTable::Grants.name() {
            return Ok(self.grants(conn)?.rows);
        }
        let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = known.get(table) {
            return Ok(*rows);
        }
        let query = format!("SELECT count(*) AS count FROM {quoted}");
        let rows = diesel::sql_query(query).get_result::<Count>(conn)?.count;
        known.insert(table.to_owned(), rows);
        Ok(rows)
    }

    fn read_grants(&self, conn: &mut AnyConnection) -> QueryResult<Grants> {
        if !self.looks_at_grants {
            let query = "SELECT count(*) AS count FROM tool_access";
            let rows = diesel::sql_query(query).get_result::<Count>(conn)?.count;
            return Ok(Grants { rows, whole: rows, wanted: 0 });
        }
        // Without one of its tables, only the check of default tools cannot be run, and it says why.
        let wanted = conn.transaction(list_wanted_tools).unwrap_or_default();
        let is_proven = self.depth == Depth::TrustConstraints
            && foreign_key_holds(conn, AccessTable::Grants, Parent::User)?
            && foreign_key_holds(conn, AccessTable::Grants, Parent::Tool)?;
        let wants = one_of(conn.dialect(), "a.tool_id", &wanted);
        let query = if is_proven {
            // Inactive users are found by the key, or by a second pass where they are many.
            format!(
                "SELECT count(*) AS rows, count(*) AS whole, count(*) FILTER (WHERE {wants}) \
                    - (SELECT count(*) FROM users AS u JOIN tool_access AS a ON a.user_id = u.id \
                        WHERE NOT u.is_active AND {wants}) AS wanted \
                 FROM tool_access AS a"
            )
        } else {
            // SQLite follows the key through both tables, so that it looks up a user once.
            let join = match conn.dialect() {
                Dialect::Sqlite => "CROSS JOIN",
                Dialect::Postgres => "JOIN",
            };
            format!(
                "SELECT (SELECT count(*) FROM tool_access) AS rows, count(*) AS whole, \
                    count(CASE WHEN u.is_active AND {wants} THEN 1 END) AS wanted \
                 FROM users AS u {join} tool_access AS a ON a.user_id = u.id \
                 {join} tools AS t ON t.id = a.tool_id"
            )
        };
        let GrantsRow { rows, whole, wanted } = diesel::sql_query(query).get_result(conn)?;
        Ok(Grants { rows, whole, wanted })
    }
}

/// The tables by the names that manifests of backups give them (`public` is left out), each as it stands in a statement.
pub(crate) fn list_tables(conn: &mut AnyConnection) -> QueryResult<BTreeMap<String, String>> {
    let query = match conn.dialect() {
        Dialect::Sqlite => {
            "SELECT name, '\"' || replace(name, '\"', '\"\"') || '\"' AS quoted \
             FROM sqlite_schema WHERE type = 'table'"
        }
        Dialect::Postgres => {
            "SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS name, \
                quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS quoted \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence <> 't' \
                AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
        }
    };
    let rows = diesel::sql_query(query).load::<Table>(conn)?;
    Ok(rows.into_iter().map(|Table { name, quoted }| (name, quoted)).collect())
}
