use std::sync::mpsc;

use diesel::prelude::*;
use omnitool_database::{Mode, open, read_snapshot, schema::users, write_transaction};
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};

fn a_failed_transaction_writes_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    let result: Result<(), diesel::result::Error> = write_transaction(&mut conn, |conn| {
        fixture::user(conn, "alice");
        Err(diesel::result::Error::RollbackTransaction)
    });
    result.unwrap_err();
    assert_eq!(users::table.count().get_result(&mut conn), Ok(0_i64));
    // The connection is usable afterwards.
    write_transaction(&mut conn, |conn| QueryResult::Ok(fixture::user(conn, "alice"))).unwrap();
    assert_eq!(users::table.count().get_result(&mut conn), Ok(1_i64));
}

fn a_snapshot_does_not_see_later_writes(db: TestDatabase) {
    let mut reader = db.connection();
    let mut writer = db.connection();
    read_snapshot(&mut reader, |reader| {
        let before: i64 = users::table.count().get_result(reader)?;
        fixture::user(&mut writer, "alice");
        assert_eq!(users::table.count().get_result(reader), Ok(before));
        QueryResult::Ok(())
    })
    .unwrap();
    assert_eq!(users::table.count().get_result(&mut reader), Ok(1_i64));
}

fn a_reading_connection_cannot_write(db: TestDatabase) {
    let mut conn = open(db.url(), Mode::Read).unwrap();
    let result = diesel::delete(users::table).execute(&mut conn);
    let text = result.unwrap_err().to_string();
    assert!(text.contains("read-only") || text.contains("readonly"), "{text}");
}

on_both_databases!(
    a_failed_transaction_writes_nothing,
    a_snapshot_does_not_see_later_writes,
    a_reading_connection_cannot_write,
);

#[test]
fn a_second_sqlite_writer_waits_for_the_first() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let (began, wait) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write_transaction(&mut db.connection(), |conn| {
                began.send(()).unwrap();
                QueryResult::Ok(fixture::user(conn, "first"))
            })
            .unwrap();
        });
        wait.recv().unwrap();
        write_transaction(&mut db.connection(), |conn| {
            // Reading first is what makes a deferred transaction fail here.
            users::table.count().get_result::<i64>(conn)?;
            QueryResult::Ok(fixture::user(conn, "second"))
        })
        .unwrap();
    });
    assert_eq!(users::table.count().get_result(&mut db.connection()), Ok(2_i64));
}
