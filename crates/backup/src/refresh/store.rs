//! The refresh's SQL: which database a connection leads to, how large it is, and the mark of a copy.

use diesel::{
    connection::SimpleConnection as _,
    prelude::*,
    sql_types::{BigInt, Text},
};
use omnitool_database::{AnyConnection, Dialect};

#[derive(QueryableByName)]
struct Identity {
    #[diesel(sql_type = Text)]
    identity: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// What no two databases have in common, and the database's size in bytes.
pub(super) fn identify(conn: &mut AnyConnection) -> QueryResult<(String, u64)> {
    let query = match conn.dialect() {
        Dialect::Sqlite => {
            "SELECT file AS identity, page_count * page_size AS bytes \
             FROM pragma_database_list, pragma_page_count, pragma_page_size WHERE name = 'main'"
        }
        // Whatever the URL says: the moment a server started, and its own number for the database.
        Dialect::Postgres => {
            "SELECT concat(extract(epoch FROM pg_postmaster_start_time()), '/', oid) AS identity, \
             pg_database_size(oid) AS bytes FROM pg_database WHERE datname = current_database()"
        }
    };
    let Identity { identity, bytes } = diesel::sql_query(query).get_result(conn)?;
    Ok((identity, u64::try_from(bytes).unwrap_or_default()))
}

/// The table that says whose copy a database is. Only what has it can be masked.
pub(crate) const MARK: &str = "omnitool_unattached_copy";

#[derive(QueryableByName)]
struct Mark {
    #[diesel(sql_type = Text)]
    token: String,
}

/// Marks the database with `token`.
pub(super) fn mark(conn: &mut AnyConnection, token: &str) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "DROP TABLE IF EXISTS {MARK}; CREATE TABLE {MARK} (token TEXT PRIMARY KEY)"
    ))?;
    diesel::sql_query(format!("INSERT INTO {MARK} VALUES ($1)"))
        .bind::<Text, _>(token)
        .execute(conn)
        .map(drop)
}

/// Whether the database is marked with `token` and nothing else.
pub(super) fn is_marked(conn: &mut AnyConnection, token: &str) -> bool {
    let marks: QueryResult<Vec<Mark>> =
        diesel::sql_query(format!("SELECT token FROM {MARK}")).load(conn);
    matches!(marks.as_deref(), Ok([mark]) if mark.token == token)
}

/// Takes the mark away.
pub(super) fn unmark(conn: &mut AnyConnection) -> QueryResult<()> {
    conn.batch_execute(&format!("DROP TABLE {MARK}"))
}

/// Makes a SQLite database one file, without a log beside it. It is thrown away where anything happens.
pub(super) fn close_log(conn: &mut AnyConnection) -> QueryResult<()> {
    conn.batch_execute("PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE")
}
