//! Imports beside others who use PostgreSQL's tables at the same time.

use diesel::{
    QueryableByName, RunQueryDsl as _, connection::SimpleConnection as _, sql_types::BigInt,
};
use omnitool_database::AnyConnection;
use omnitool_testing::{Dialect, TestDatabase};
use omnitool_tool_access::{
    Approval, Author, ChangeOutcome, ImportRequest, count, grant as grant_tool, run_import,
};

use crate::world::{
    LOCAL, exclusion, exported, facts, file, grant, import, people, put, tool_id, user_id,
};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Returns once somebody waits for a lock on `table`.
fn wait_until_somebody_waits_for(db: &TestDatabase, table: &str) {
    let mut conn = db.connection();
    let query = format!(
        "SELECT count(*) AS count FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let waiting = |conn: &mut AnyConnection| {
        diesel::sql_query(&query).get_result::<Count>(conn).unwrap().count > 0
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !waiting(&mut conn) {
        assert!(std::time::Instant::now() < deadline, "nobody waits for {table}");
        std::thread::yield_now();
    }
}

/// As many as make foreign keys of two tools' grants worth to be replaced.
fn many_users(conn: &mut AnyConnection) {
    conn.batch_execute(
        "INSERT INTO users (username, password_hash) SELECT 'user_' || i, '!' FROM generate_series(1, 6000) AS i",
    )
    .unwrap();
}

/// A grant reads users before it waits for the import, which wants that table for itself to replace its foreign keys.
#[test]
fn a_large_import_and_a_grant_do_not_wait_for_each_other_for_ever() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    many_users(&mut conn);
    people(&mut conn, &["alice"], &["Email Templates", "Invoice Generator"]);
    conn.batch_execute(
        "INSERT INTO tool_access (user_id, tool_id, origin) SELECT users.id, tools.id, 'admin' \
         FROM users CROSS JOIN tools WHERE users.username <> 'alice'",
    )
    .unwrap();
    let file = file(exported(&mut conn));
    conn.batch_execute("DELETE FROM tool_access").unwrap();
    let alice = user_id(&mut conn, "alice");
    let invoices = tool_id(&mut conn, "Invoice Generator");
    std::thread::scope(|scope| {
        let mut admin = None;
        let merge = ImportRequest::merge(file.path());
        let plan = run_import(&mut conn, LOCAL, &merge, None, |_| {
            let change =
                || grant_tool(&mut db.connection(), alice, invoices, &Author::admin("admin"));
            admin = Some(scope.spawn(change));
            wait_until_somebody_waits_for(&db, "tool_access");
            Approval::Apply
        });
        assert_eq!(plan.unwrap().added.grants, 12_000);
        assert_eq!(admin.unwrap().join().unwrap().unwrap(), ChangeOutcome::Changed);
    });
    assert_eq!(count(&mut conn).unwrap().grants, 12_001);
    let orphan = conn.batch_execute(
        "INSERT INTO tool_access (user_id, tool_id, origin) VALUES (999999999, 1, 'admin')",
    );
    assert!(orphan.is_err());
}

/// Somebody changes an exclusion and then a grant, in one transaction; the import wants both tables in the other order.
#[test]
fn an_import_gives_way_to_a_transaction_that_has_begun() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    people(&mut conn, &["alice", "bob"], &["Invoice Generator"]);
    put(&mut conn, [grant("alice", "Invoice Generator")]);
    let file = file(exported(&mut conn));
    conn.batch_execute("DELETE FROM tool_access").unwrap();
    std::thread::scope(|scope| {
        // In here, so that its transaction ends where something fails.
        let mut admin = db.connection();
        admin.batch_execute("BEGIN").unwrap();
        put(&mut admin, [exclusion("bob", "Invoice Generator")]);
        let run = scope
            .spawn(|| import(&mut db.connection(), &ImportRequest::merge(file.path())).unwrap());
        wait_until_somebody_waits_for(&db, "tool_access_exclusion");
        put(&mut admin, [grant("bob", "Invoice Generator")]);
        admin.batch_execute("COMMIT").unwrap();
        assert_eq!(run.join().unwrap().added.grants, 1);
    });
    assert_eq!(facts(&mut conn).len(), 3);
}

/// A synchronization of the tools locks them, and then moves grants; each new grant looks at its tool.
#[test]
fn an_import_waits_for_a_synchronization_of_the_tools() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    people(&mut conn, &["alice"], &["Email Templates", "Invoice Generator"]);
    put(&mut conn, [grant("alice", "Invoice Generator")]);
    let file = file(exported(&mut conn));
    conn.batch_execute("DELETE FROM tool_access").unwrap();
    std::thread::scope(|scope| {
        let mut tools = db.connection();
        tools.batch_execute("BEGIN; LOCK TABLE tools IN EXCLUSIVE MODE").unwrap();
        let merge = || import(&mut db.connection(), &ImportRequest::merge(file.path())).unwrap();
        let run = scope.spawn(merge);
        wait_until_somebody_waits_for(&db, "tools");
        put(&mut tools, [grant("alice", "Email Templates")]);
        tools.batch_execute("COMMIT").unwrap();
        assert_eq!(run.join().unwrap().added.grants, 1);
    });
    assert_eq!(facts(&mut conn).len(), 2);
}

/// Both want the tables for themselves, to replace their foreign keys.
#[test]
fn two_large_imports_at_the_same_time_both_succeed() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    many_users(&mut conn);
    people(&mut conn, &[], &["a", "b", "c", "d"]);
    let files = ["'a', 'b'", "'c', 'd'"].map(|tools| {
        conn.batch_execute(&format!(
            "DELETE FROM tool_access; INSERT INTO tool_access (user_id, tool_id, origin) \
             SELECT users.id, tools.id, 'admin' FROM users CROSS JOIN tools WHERE tools.name IN ({tools})"
        ))
        .unwrap();
        file(exported(&mut conn))
    });
    conn.batch_execute("DELETE FROM tool_access").unwrap();
    std::thread::scope(|scope| {
        let runs = files.each_ref().map(|file| {
            scope
                .spawn(|| import(&mut db.connection(), &ImportRequest::merge(file.path())).unwrap())
        });
        for run in runs {
            assert_eq!(run.join().unwrap().added.grants, 12_000);
        }
    });
    assert_eq!(count(&mut conn).unwrap().grants, 24_000);
}
