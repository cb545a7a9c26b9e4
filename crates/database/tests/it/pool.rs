use std::time::Duration;

use diesel::prelude::*;
use omnitool_database::{AnyConnection, pool, schema::users};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};

fn count(conn: &mut AnyConnection) -> i64 {
    users::table.count().get_result(conn).unwrap()
}

fn a_connection_is_used_again(db: TestDatabase) {
    let pool = pool::new(db.url(), 1, Duration::from_secs(5));
    for expected in 0..3 {
        let mut conn = pool.get().unwrap();
        assert_eq!(count(&mut conn), expected);
        fixture::user(&mut conn, &format!("user_{expected}"));
    }
    assert_eq!(pool.state().connections, 1);
}

on_both_databases!(a_connection_is_used_again);

#[test]
fn a_connection_that_the_server_has_ended_is_given_up_after_the_first_failure() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let pool = pool::new(db.url(), 1, Duration::from_secs(5));
    drop(pool.get().unwrap());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    diesel::sql_query(end).execute(&mut db.connection()).unwrap();
    let mut conn = pool.get().unwrap();
    // Never prepared on this connection before.
    users::table.count().get_result::<i64>(&mut **conn).unwrap_err();
    conn.look_after_failure();
    drop(conn);
    assert_eq!(count(&mut pool.get().unwrap()), 0);
}

#[test]
fn a_query_waits_for_a_lock_no_longer_than_a_caller_for_a_connection() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let pool = pool::new(db.url(), 1, Duration::from_millis(200));
    let mut other = db.connection();
    let error = other
        .transaction(|other| {
            diesel::sql_query("LOCK TABLE users").execute(other)?;
            Ok::<_, diesel::result::Error>(
                users::table.count().get_result::<i64>(&mut **pool.get().unwrap()).unwrap_err(),
            )
        })
        .unwrap();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    assert_eq!(count(&mut pool.get().unwrap()), 0);
}

#[test]
fn a_replaced_file_is_opened_anew() {
    let (old, new) =
        (TestDatabase::migrated(Dialect::Sqlite), TestDatabase::migrated(Dialect::Sqlite));
    fixture::user(&mut new.connection(), "alice");
    let pool = pool::new(old.url(), 1, Duration::from_secs(5));
    assert_eq!(count(&mut pool.get().unwrap()), 0);

    let file = old.url().sqlite_path().unwrap();
    for side in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", file.display()));
    }
    std::fs::rename(new.url().sqlite_path().unwrap(), file).unwrap();
    assert_eq!(count(&mut pool.get().unwrap()), 1);
}

#[test]
fn a_removed_file_is_noticed_by_a_pool_that_had_it_open() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let pool = pool::new(db.url(), 1, Duration::from_millis(200));
    drop(pool.get().unwrap());
    std::fs::remove_file(db.url().sqlite_path().unwrap()).unwrap();
    let Err(error) = pool.get() else { panic!("must be refused") };
    assert!(error.to_string().contains("there is no database file"), "{error}");
}
