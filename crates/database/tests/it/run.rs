//! One migration's run: what it leaves behind when it fails, and who waits for whom.

use std::{
    error::Error as _,
    sync::mpsc,
    time::{Duration, Instant},
};

use diesel::{RunQueryDsl as _, connection::SimpleConnection as _};
use omnitool_database::{
    AnyConnection, Dialect, Mode,
    migration::{
        MigrateError, Migration, Migrations, Options, Patience, migrate_watched, migrate_with,
        revert_with, status_with,
    },
    open,
};
use omnitool_testing::{PostgresServer, TestDatabase, on_both_databases};

const GOOD: Migration = Migration {
    name: "2999-01-01-000001_good",
    up: "CREATE TABLE good (id BIGINT PRIMARY KEY NOT NULL)",
    down: "DROP TABLE good",
    run_in_transaction: true,
};
const HALF: Migration = Migration {
    name: "2999-01-01-000002_half",
    up: "CREATE TABLE half (id BIGINT PRIMARY KEY NOT NULL); INSERT INTO nowhere VALUES (1);",
    down: "DROP TABLE half",
    run_in_transaction: true,
};
const ADD_COLUMN: Migration = Migration {
    name: "2999-01-01-000003_add_column",
    up: "ALTER TABLE users ADD COLUMN test_note TEXT",
    down: "ALTER TABLE users DROP COLUMN test_note",
    run_in_transaction: true,
};

fn with(dialect: Dialect, more: &[Migration]) -> Migrations {
    let embedded = Migrations::embedded(dialect).unwrap();
    Migrations::new(embedded.iter().chain(more).copied().collect()).unwrap()
}

fn has(conn: &mut AnyConnection, table: &str) -> bool {
    conn.batch_execute(&format!("SELECT * FROM {table}")).is_ok()
}

fn short(attempts: u32) -> Options {
    Options {
        patience: Patience {
            lock_timeout: Duration::from_millis(100),
            attempts,
            first_pause: Duration::from_millis(50),
            ..Patience::default()
        },
        ..Options::default()
    }
}

fn a_migration_that_fails_half_way_leaves_nothing_behind(db: TestDatabase) {
    let mut conn = db.connection();
    let broken = with(db.dialect(), &[GOOD, HALF]);
    let error = migrate_with(&mut conn, &broken, &Options::default()).unwrap_err();
    assert!(matches!(&error, MigrateError::Apply { name, .. } if name == HALF.name), "{error:?}");
    assert!(!has(&mut conn, "half"));
    // On SQLite the run is all or nothing, on PostgreSQL each migration is.
    let stays = db.dialect() == Dialect::Postgres;
    assert_eq!(has(&mut conn, "good"), stays);
    let pending = status_with(&mut conn, &broken).unwrap().pending;
    assert_eq!(pending.len(), if stays { 1 } else { 2 });

    let corrected = Migration { up: "CREATE TABLE half (id BIGINT PRIMARY KEY NOT NULL)", ..HALF };
    let corrected = with(db.dialect(), &[GOOD, corrected]);
    migrate_with(&mut conn, &corrected, &Options::default()).unwrap();
    assert!(has(&mut conn, "good") && has(&mut conn, "half"));
    assert_eq!(revert_with(&mut conn, &corrected, 2, &Options::default()).unwrap().len(), 2);
}

fn a_revert_that_fails_changes_nothing(db: TestDatabase) {
    let mut conn = db.connection();
    let broken = Migration { down: "DROP TABLE good; DROP TABLE nowhere;", ..GOOD };
    let migrations = with(db.dialect(), &[broken]);
    migrate_with(&mut conn, &migrations, &Options::default()).unwrap();
    let error = revert_with(&mut conn, &migrations, 1, &Options::default()).unwrap_err();
    assert!(matches!(error, MigrateError::Revert { .. }), "{error:?}");
    assert!(has(&mut conn, "good"));
    assert_eq!(status_with(&mut conn, &migrations).unwrap().pending, Vec::<String>::new());
}

on_both_databases!(
    a_migration_that_fails_half_way_leaves_nothing_behind,
    a_revert_that_fails_changes_nothing,
);

#[test]
fn without_a_transaction_an_index_is_made_concurrently() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    let index = Migration {
        name: "2999-01-01-000004_index",
        up: "-- Twice is as good as once.\nDROP INDEX CONCURRENTLY IF EXISTS users_note;\n\
             CREATE INDEX CONCURRENTLY users_note ON users (password_hash);\n",
        down: "DROP INDEX CONCURRENTLY users_note",
        run_in_transaction: false,
    };
    // It dies between its statements; the first ones stay, and the next run says so and goes through all of them.
    let dies = Migration { up: "SELECT 1; CREATE TABLE began (id BIGINT); SELECT 1 / 0;", ..index };
    let error =
        migrate_with(&mut conn, &with(db.dialect(), &[dies]), &Options::default()).unwrap_err();
    assert!(matches!(error, MigrateError::Apply { .. }), "{error:?}");
    assert!(has(&mut conn, "began"));

    let migrations = with(db.dialect(), &[index]);
    let status = status_with(&mut conn, &migrations).unwrap();
    assert_eq!(
        (&status.interrupted[..], &status.pending[..]),
        (&[index.name.to_owned()][..], &[index.name.to_owned()][..])
    );
    migrate_with(&mut conn, &migrations, &Options::default()).unwrap();
    assert_eq!(status_with(&mut conn, &migrations).unwrap().interrupted, Vec::<String>::new());
    revert_with(&mut conn, &migrations, 1, &Options::default()).unwrap();
    migrate_with(&mut conn, &migrations, &Options::default()).unwrap();
}

#[test]
fn an_index_whose_making_was_cut_off_is_made_by_the_next_run() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let index = Migration {
        name: "2999-01-01-000004_index",
        up: "DROP INDEX CONCURRENTLY IF EXISTS users_note; \
             CREATE INDEX CONCURRENTLY users_note ON users (password_hash);",
        down: "DROP INDEX CONCURRENTLY users_note",
        run_in_transaction: false,
    };
    let migrations = with(db.dialect(), &[index]);
    let invalid =
        "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('users_note') AND NOT indisvalid";
    let mut writer = db.connection();
    writer
        .batch_execute("BEGIN; INSERT INTO users (username, password_hash) VALUES ('a', '!')")
        .unwrap();
    std::thread::scope(|scope| {
        let run =
            scope.spawn(|| migrate_with(&mut db.connection(), &migrations, &Options::default()));
        // The index is there and invalid while its making waits for the writer.
        let mut other = db.connection();
        let deadline = Instant::now() + Duration::from_secs(60);
        while diesel::sql_query(invalid).execute(&mut other).unwrap() == 0 {
            assert!(Instant::now() < deadline, "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND ltrim(query) LIKE 'CREATE INDEX%'";
        assert_eq!(diesel::sql_query(cut).execute(&mut other).unwrap(), 1);
        assert!(run.join().unwrap().is_err());
    });
    writer.batch_execute("ROLLBACK").unwrap();
    let mut conn = db.connection();
    assert_eq!(status_with(&mut conn, &migrations).unwrap().interrupted, [index.name]);
    assert_eq!(diesel::sql_query(invalid).execute(&mut conn).unwrap(), 1);
    migrate_with(&mut conn, &migrations, &Options::default()).unwrap();
    assert_eq!(diesel::sql_query(invalid).execute(&mut conn).unwrap(), 0);
    assert_eq!(status_with(&mut conn, &migrations).unwrap().interrupted, Vec::<String>::new());
}

#[test]
fn a_table_is_rebuilt_on_sqlite_without_losing_what_points_to_it() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mut conn = db.connection();
    conn.batch_execute(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY); INSERT INTO parent VALUES (1), (2); \
         CREATE TABLE child (parent BIGINT REFERENCES parent (id) ON DELETE CASCADE); \
         INSERT INTO child VALUES (1), (2);",
    )
    .unwrap();
    let rebuild = Migration {
        name: "2999-01-01-000005_rebuild",
        up: "CREATE TABLE parent_new (id INTEGER PRIMARY KEY NOT NULL); \
             INSERT INTO parent_new SELECT id FROM parent; DROP TABLE parent; \
             ALTER TABLE parent_new RENAME TO parent;",
        down: "SELECT 1",
        run_in_transaction: false,
    };
    let loses = Migration { up: "DELETE FROM parent WHERE id = 1", ..rebuild };
    let error =
        migrate_with(&mut conn, &with(db.dialect(), &[loses]), &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "the migrations would leave rows without a parent in child");
    migrate_with(&mut conn, &with(db.dialect(), &[rebuild]), &Options::default()).unwrap();
    // Foreign keys are enforced again.
    conn.batch_execute("DELETE FROM parent WHERE id = 1").unwrap();
    assert!(conn.batch_execute("INSERT INTO child VALUES (1)").is_err());
    assert!(conn.batch_execute("INSERT INTO child VALUES (2)").is_ok());
}

#[test]
fn a_migration_gives_way_to_the_apps_queries_and_tries_again() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let migrations = with(db.dialect(), &[ADD_COLUMN]);
    // Somebody reads `users` in a long transaction, so that the migration cannot have the table.
    let mut reader = db.connection();
    reader.batch_execute("BEGIN; SELECT * FROM users").unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let result = migrate_with(&mut db.connection(), &migrations, &short(1000));
            ended.send(()).unwrap();
            result
        });
        // Meanwhile the app's queries wait behind the migration no longer than its lock timeout.
        let mut app = db.connection();
        let mut slowest = Duration::ZERO;
        let deadline = Instant::now() + Duration::from_secs(60);
        while slowest < Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "the migration never waited: {slowest:?}");
            let query = Instant::now();
            // It returns although the reader still has its transaction.
            app.batch_execute("SELECT * FROM users").unwrap();
            slowest = slowest.max(query.elapsed());
        }
        assert!(end.try_recv().is_err(), "the migration has ended");
        reader.batch_execute("COMMIT").unwrap();
        assert_eq!(run.join().unwrap().unwrap(), [ADD_COLUMN.name]);
    });
}

#[test]
fn attempts_are_bounded_and_only_lock_timeouts_are_tried_again() {
    let db = TestDatabase::migrated(Dialect::Postgres);
    let migrations = with(db.dialect(), &[ADD_COLUMN]);
    let mut reader = db.connection();
    reader.batch_execute("BEGIN; SELECT * FROM users").unwrap();
    let error = migrate_with(&mut db.connection(), &migrations, &short(3)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "canceling statement due to lock timeout");
    reader.batch_execute("COMMIT").unwrap();

    let slow = Migration { up: "SELECT pg_sleep(60)", ..ADD_COLUMN };
    let mut options = short(1000);
    options.patience.statement_timeout = Duration::from_millis(100);
    let error =
        migrate_with(&mut db.connection(), &with(db.dialect(), &[slow]), &options).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "canceling statement due to statement timeout");
    // A migration that has to take longer says so itself.
    let allowed = Migration {
        up: "SET LOCAL statement_timeout = '1min'; SELECT pg_sleep(0.3);",
        ..ADD_COLUMN
    };
    migrate_with(&mut db.connection(), &with(db.dialect(), &[allowed]), &options).unwrap();
}

#[test]
fn on_a_full_disk_a_server_undoes_the_migration_and_what_fits_can_follow() {
    const LARGE: Migration = Migration {
        name: "2999-01-01-000004_large",
        up: "CREATE TABLE large AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 60000) AS i",
        down: "DROP TABLE large",
        run_in_transaction: true,
    };
    let server = PostgresServer::start_on_a_small_disk(24);
    let mut conn = open(server.url(), Mode::Create).unwrap();
    let migrations = with(Dialect::Postgres, &[GOOD, LARGE]);
    let error = migrate_with(&mut conn, &migrations, &Options::default()).unwrap_err();
    assert!(matches!(&error, MigrateError::Apply { name, .. } if name == LARGE.name), "{error:?}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("could not extend file"), "{cause}");
    assert!(!has(&mut conn, "large") && has(&mut conn, "good"));

    let smaller = Migration { up: "CREATE TABLE large AS SELECT 1 AS i", ..LARGE };
    let migrations = with(Dialect::Postgres, &[GOOD, smaller]);
    migrate_with(&mut conn, &migrations, &Options::default()).unwrap();
    assert!(has(&mut conn, "large"));
    assert_eq!(status_with(&mut conn, &migrations).unwrap().pending, Vec::<String>::new());
}

#[test]
fn who_watches_learns_what_each_statement_locks_and_for_how_long() {
    const LOCKS: Migration = Migration {
        name: "2999-01-01-000004_locks",
        up: "-- Both are used by the app.\nALTER TABLE users ADD COLUMN test_note TEXT;\n\
             UPDATE tools SET description = 'a; b';\n\
             CREATE TABLE test_new (id BIGINT); ALTER TABLE test_new ADD COLUMN more TEXT;",
        down: "DROP TABLE test_new",
        run_in_transaction: true,
    };
    let db = TestDatabase::migrated(Dialect::Postgres);
    let migrations = with(Dialect::Postgres, &[LOCKS]);
    let applied = migrate_watched(&mut db.connection(), &migrations, &Options::default()).unwrap();
    let [migration] = &applied[..] else { panic!("{applied:?}") };
    assert_eq!(migration.name, LOCKS.name);
    let said: Vec<String> = migration
        .statements
        .iter()
        .map(|statement| format!("{}: {}", statement.sql, statement.locks.join(", ")))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    ALTER TABLE users ADD COLUMN test_note TEXT: AccessExclusiveLock on users
    UPDATE tools SET description = 'a; b': RowExclusiveLock on tools
    CREATE TABLE test_new (id BIGINT): 
    ALTER TABLE test_new ADD COLUMN more TEXT: 
    ");
    let whole: Duration = migration.statements.iter().map(|statement| statement.duration).sum();
    assert_eq!(migration.statements[0].held, whole, "until the end of the migration");
    assert_eq!(migration.statements[2].held, Duration::ZERO);

    let db = TestDatabase::migrated(Dialect::Sqlite);
    let migrations = with(Dialect::Sqlite, &[GOOD]);
    let applied = migrate_watched(&mut db.connection(), &migrations, &Options::default()).unwrap();
    assert_eq!(applied[0].statements[0].locks, ["write lock on the database"]);
    assert_eq!(
        migrate_watched(&mut db.connection(), &migrations, &Options::default()).unwrap(),
        []
    );
}
