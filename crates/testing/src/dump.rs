//! All that is in a database, to compare two states of it.

use diesel::{prelude::*, sql_types::Text};
use omnitool_database::{AnyConnection, Dialect};

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The schema and every row of every table as sorted lines, the same for the same content.
///
/// Those of SQLite and those of PostgreSQL differ.
///
/// # Panics
///
/// Where the database cannot be read.
#[must_use]
pub fn dump(conn: &mut AnyConnection) -> Vec<String> {
    let mut dump = match conn.dialect() {
        Dialect::Sqlite => sqlite(conn),
        Dialect::Postgres => postgres(conn),
    };
    dump.sort_unstable();
    dump
}

fn load(conn: &mut AnyConnection, query: &str) -> Vec<String> {
    let lines: Vec<Line> = diesel::sql_query(query).load(conn).unwrap();
    lines.into_iter().map(|row| row.line).collect()
}

fn sqlite(conn: &mut AnyConnection) -> Vec<String> {
    // SQLite's own tables and statistics are no content.
    let mut dump = load(
        conn,
        "SELECT coalesce(sql, name) AS line FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    );
    let row_queries = load(
        conn,
        "SELECT 'SELECT ''' || m.name || ': '' || ' || group_concat('quote(\"' || c.name || '\")', ' || '','' || ') \
             || ' AS line FROM \"' || replace(m.name, '\"', '\"\"') || '\"' AS line \
         FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' GROUP BY m.name",
    );
    for query in row_queries {
        dump.extend(load(conn, &query));
    }
    dump
}

fn postgres(conn: &mut AnyConnection) -> Vec<String> {
    let mut dump = load(
        conn,
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS line \
         FROM information_schema.columns WHERE table_schema = 'public'",
    );
    dump.extend(load(conn, "SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public'"));
    dump.extend(load(
        conn,
        "SELECT pg_get_constraintdef(oid) AS line FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    ));
    let tables =
        load(conn, "SELECT tablename::text AS line FROM pg_tables WHERE schemaname = 'public'");
    for table in tables {
        let query = format!("SELECT '{table}: ' || t::text AS line FROM \"{table}\" AS t");
        dump.extend(load(conn, &query));
    }
    dump
}
