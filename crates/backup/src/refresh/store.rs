//! The refresh's SQL: which database a connection leads to, and how large it is.

use diesel::{
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
