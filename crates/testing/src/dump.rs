//! All that is in a SQLite database, to compare two states of it.

use diesel::{prelude::*, sql_types::Text};
use omnitool_database::AnyConnection;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The schema and every row of every table as sorted lines, the same for the same content.
///
/// # Panics
///
/// Where the database is none of SQLite or cannot be read.
#[must_use]
pub fn dump(conn: &mut AnyConnection) -> Vec<String> {
    let mut load = |query: &str| -> Vec<String> {
        let lines: Vec<Line> = diesel::sql_query(query).load(conn).unwrap();
        lines.into_iter().map(|row| row.line).collect()
    };
    // SQLite's own tables and statistics are no content.
    let mut dump = load(
        "SELECT coalesce(sql, name) AS line FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    );
    let row_queries = load(
        "SELECT 'SELECT ''' || m.name || ': '' || ' || group_concat('quote(\"' || c.name || '\")', ' || '','' || ') \
             || ' AS line FROM \"' || replace(m.name, '\"', '\"\"') || '\"' AS line \
         FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' GROUP BY m.name",
    );
    for query in row_queries {
        dump.extend(load(&query));
    }
    dump.sort_unstable();
    dump
}
