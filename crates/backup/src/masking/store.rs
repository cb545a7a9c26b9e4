//! Masking's SQL: reading a schema, the updates, samples and texts.

pub(super) mod statement;

use std::{collections::BTreeMap, sync::Arc};

use diesel::{
    PgConnection, SqliteConnection,
    connection::{DefaultLoadingMode, SimpleConnection as _},
    pg::{Pg, PgRowByRowLoadingMode},
    prelude::*,
    sql_types::{BigInt, Binary, Bool, Text},
};
use omnitool_database::{AnyConnection, Dialect};

use self::statement::{quoted, quoted_path};
use super::{
    key::{ColumnKey, DIGITS_FUNCTION, HASH_FUNCTION, MaskingKey},
    plan::TableUpdate,
    schema::{Column, Kind, Schema, Table},
};

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    column: String,
    #[diesel(sql_type = Text)]
    declared: String,
    #[diesel(sql_type = Bool)]
    is_nullable: bool,
    #[diesel(sql_type = Bool)]
    is_primary: bool,
    #[diesel(sql_type = Bool)]
    is_reference: bool,
    #[diesel(sql_type = Bool)]
    is_unique: bool,
}

const SQLITE: &str = "\
SELECT t.name AS \"table\", c.name AS \"column\", upper(c.type) AS declared, c.\"notnull\" = 0 AS is_nullable,
    c.pk > 0 AS is_primary,
    EXISTS (SELECT 1 FROM pragma_foreign_key_list(t.name) AS f WHERE f.\"from\" = c.name) AS is_reference,
    EXISTS (SELECT 1 FROM pragma_index_list(t.name) AS i, pragma_index_xinfo(i.name) AS x
        WHERE i.\"unique\" AND x.key AND x.name = c.name) AS is_unique
FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
WHERE t.schema = 'main' AND t.type <> 'view' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
ORDER BY t.name, c.cid";

/// All schemas but the server's own: what is in another one comes along in a dump, too, and is called by it.
const POSTGRES: &str = "\
SELECT CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname || '.' END || c.relname AS \"table\",
    a.attname::text AS \"column\",
    CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 'INTEGER' WHEN t.typcategory = 'S' THEN 'TEXT'
        WHEN t.typcategory IN ('N', 'B', 'D', 'T') OR t.typname = 'uuid' THEN 'BOOLEAN' ELSE 'JSON' END AS declared,
    NOT a.attnotnull AS is_nullable,
    EXISTS (SELECT 1 FROM pg_constraint AS k
        WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attnum = ANY (k.conkey)) AS is_primary,
    EXISTS (SELECT 1 FROM pg_constraint AS k
        WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)) AS is_reference,
    EXISTS (SELECT 1 FROM pg_index AS i
        WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey)) AS is_unique
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1, a.attnum";

/// The tables of the database, without the mark of an unattached copy.
pub(super) fn read_schema(conn: &mut AnyConnection, mark: &str) -> QueryResult<Schema> {
    let query = match conn.dialect() {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    let rows: Vec<ColumnRow> = diesel::sql_query(query).load(conn)?;
    let mut schema = Schema::default();
    for row in rows.into_iter().filter(|row| row.table != mark) {
        let column = Column {
            name: row.column,
            kind: kind(&row.declared),
            is_nullable: row.is_nullable,
            is_primary: row.is_primary,
            is_key: row.is_primary || row.is_reference,
            is_unique: row.is_unique,
        };
        schema.tables.entry(row.table).or_insert_with(Table::default).columns.push(column);
    }
    Ok(schema)
}

/// By SQLite's rules of affinity, as far as they matter here.
fn kind(declared: &str) -> Kind {
    let has = |part: &str| declared.contains(part);
    if has("INT") && !has("POINT") {
        Kind::Integer
    } else if has("CHAR") || has("TEXT") || has("CLOB") {
        Kind::Text
    } else if ["BOOL", "TIME", "DATE", "NUMERIC", "DECIMAL", "REAL", "FLOA", "DOUB"]
        .into_iter()
        .any(has)
    {
        Kind::Other
    } else {
        Kind::Composite
    }
}

/// Nobody else has the copy, and one that fails is thrown away: there is nothing to roll back to.
pub(super) fn forgo_rollback(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(conn) => conn.batch_execute(
            "PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF",
        ),
        AnyConnection::Postgres(conn) => conn.batch_execute("SET synchronous_commit = off"),
    }
}

/// Gives the connection what the statements need that SQLite does not have.
pub(super) fn prepare(
    conn: &mut AnyConnection,
    updates: &[TableUpdate],
    key: &MaskingKey,
) -> QueryResult<()> {
    let AnyConnection::Sqlite(conn) = conn else { return Ok(()) };
    let keys: BTreeMap<String, ColumnKey> = updates
        .iter()
        .flat_map(|update| update.columns.keys().map(|column| format!("{}.{column}", update.table)))
        .map(|path| (path.clone(), key.of_column(&path)))
        .collect();
    let keys = Arc::new(keys);
    // A path without a key is none of ours; NULL then fails the update of a column that must have a value, and shows.
    register(conn, HASH_FUNCTION, &keys, ColumnKey::hash)?;
    register(conn, DIGITS_FUNCTION, &keys, ColumnKey::digits)
}

fn register(
    conn: &mut SqliteConnection,
    name: &str,
    keys: &Arc<BTreeMap<String, ColumnKey>>,
    compute: fn(&ColumnKey, &str) -> String,
) -> QueryResult<()> {
    let keys = Arc::clone(keys);
    conn.register_sql_function::<(Text, Text), Text, (String, String), String, _>(
        name,
        true,
        move |(path, value)| keys.get(&path).map_or_else(String::new, |key| compute(key, &value)),
    )
}

/// Runs one update. Returns how many rows it changed.
pub(super) fn update(
    conn: &mut AnyConnection,
    update: &TableUpdate,
    key: &MaskingKey,
) -> QueryResult<usize> {
    match conn {
        AnyConnection::Sqlite(conn) => diesel::sql_query(&update.sql).execute(conn),
        AnyConnection::Postgres(conn) => {
            let mut query = diesel::sql_query(&update.sql).into_boxed::<Pg>();
            for path in &update.keys {
                query = query.bind::<Binary, _>(key.of_column(path).bytes().to_vec());
            }
            query.execute(conn)
        }
    }
}

/// Deletes all rows of a table.
pub(super) fn drop_rows(conn: &mut AnyConnection, table: &str) -> QueryResult<usize> {
    diesel::sql_query(format!("DELETE FROM {}", quoted_path(conn.dialect(), table))).execute(conn)
}

/// Removes what the updates replaced from the file, and statistics with samples of it.
///
/// A PostgreSQL database needs none of that: its dump takes staging's place, and holds neither.
pub(super) fn remove_traces(conn: &mut AnyConnection) -> QueryResult<()> {
    match conn {
        // In this order: statistics that are replaced are in the file until it is written anew.
        AnyConnection::Sqlite(conn) => conn.batch_execute("ANALYZE; VACUUM"),
        AnyConnection::Postgres(_) => Ok(()),
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Up to about `wanted` values of a column, at random where there are more; all where there are no more.
pub(super) fn sample(
    conn: &mut AnyConnection,
    table: &str,
    column: &str,
    wanted: u32,
    mut each: impl FnMut(String),
) -> QueryResult<()> {
    let (path, column) = (quoted_path(conn.dialect(), table), quoted(column));
    let count = format!("SELECT count({column}) AS count FROM {path}");
    let Count { count } = diesel::sql_query(count).get_result(conn)?;
    let some = match conn.dialect() {
        _ if count <= i64::from(wanted) => String::new(),
        Dialect::Sqlite => format!(" AND abs(random() % {count}) < {wanted}"),
        Dialect::Postgres => format!(" AND random() * {count} < {wanted}"),
    };
    let query = format!(
        "SELECT {} AS value FROM {path} WHERE {column} IS NOT NULL{some}",
        as_text(conn.dialect(), &column)
    );
    stream(conn, &query, &mut each)
}

/// Each different text of a column.
pub(super) fn texts(
    conn: &mut AnyConnection,
    table: &str,
    column: &str,
    mut each: impl FnMut(String),
) -> QueryResult<()> {
    let (path, column) = (quoted_path(conn.dialect(), table), quoted(column));
    let text = as_text(conn.dialect(), &column);
    let query = format!("SELECT DISTINCT {text} AS value FROM {path} WHERE {column} IS NOT NULL");
    stream(conn, &query, &mut each)
}

fn as_text(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("CAST({column} AS TEXT)"),
        Dialect::Postgres => format!("{column}::text"),
    }
}

/// Hands on row by row, so that memory does not grow with the table.
fn stream(conn: &mut AnyConnection, query: &str, each: &mut dyn FnMut(String)) -> QueryResult<()> {
    fn sqlite(
        conn: &mut SqliteConnection,
        query: &str,
        each: &mut dyn FnMut(String),
    ) -> QueryResult<()> {
        for row in diesel::sql_query(query).load_iter::<Value, DefaultLoadingMode>(conn)? {
            each(row?.value);
        }
        Ok(())
    }
    fn postgres(
        conn: &mut PgConnection,
        query: &str,
        each: &mut dyn FnMut(String),
    ) -> QueryResult<()> {
        for row in diesel::sql_query(query).load_iter::<Value, PgRowByRowLoadingMode>(conn)? {
            each(row?.value);
        }
        Ok(())
    }
    match conn {
        AnyConnection::Sqlite(conn) => sqlite(conn, query, each),
        AnyConnection::Postgres(conn) => postgres(conn, query, each),
    }
}
