//! One snapshot for several connections to PostgreSQL.

use diesel::{connection::SimpleConnection as _, prelude::*, sql_types::Text};
use omnitool_database::{AnyConnection, read_snapshot};

#[derive(QueryableByName)]
struct Snapshot {
    #[diesel(sql_type = Text)]
    snapshot: String,
}

/// Names the snapshot of the transaction that `conn` is in, for as long as it lasts.
pub(crate) fn export_snapshot(conn: &mut AnyConnection) -> QueryResult<String> {
    let query = "SELECT pg_export_snapshot() AS snapshot";
    Ok(diesel::sql_query(query).get_result::<Snapshot>(conn)?.snapshot)
}

/// Runs `body` on a snapshot that another connection exported, in a transaction that only reads.
pub(crate) fn follow_snapshot(
    conn: &mut AnyConnection,
    snapshot: &str,
    body: impl FnOnce(&mut AnyConnection),
) -> QueryResult<()> {
    read_snapshot(conn, |conn| {
        conn.batch_execute(&format!(
            "SET TRANSACTION SNAPSHOT '{}'",
            snapshot.replace('\'', "''")
        ))?;
        body(conn);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use omnitool_database::{Dialect, Mode, open, read_snapshot};
    use omnitool_testing::{TestDatabase, fixture};

    use super::*;
    use crate::{Depth, Selection, store::Counts};

    #[test]
    fn what_is_committed_since_is_not_seen_on_the_second_connection() {
        let db = TestDatabase::migrated(Dialect::Postgres);
        let users = |conn: &mut AnyConnection| {
            Counts::new(&Selection::all(), Depth::TrustConstraints).rows(conn, "users").unwrap()
        };
        let mut first = open(db.url(), Mode::Read).unwrap();
        let mut second = open(db.url(), Mode::Read).unwrap();
        read_snapshot(&mut first, |first| {
            let snapshot = export_snapshot(first)?;
            fixture::user(&mut db.connection(), "alice");
            follow_snapshot(&mut second, &snapshot, |second| {
                assert_eq!(users(second), 0);
            })
        })
        .unwrap();
        assert_eq!(users(&mut second), 1);
    }
}
