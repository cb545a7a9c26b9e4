//! What happens when something goes wrong: a clear error and exit code 1, a database that works, and a next run that
//! completes.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use diesel::{
    QueryableByName, RunQueryDsl as _, connection::SimpleConnection as _, sql_types::BigInt,
};
use omnitool_database::{AnyConnection, Dialect, Mode, migration, open};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::{
    CommandOutput, PostgresServer, TestDatabase, TestProject, on_both_databases,
};

use crate::{MIGRATE_DB, migrate_db};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn count(conn: &mut AnyConnection, query: &str) -> i64 {
    let query = format!("SELECT count(*) AS count FROM {query}");
    diesel::sql_query(query).get_result::<Count>(conn).unwrap().count
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn start(project: &TestProject, url: &DatabaseUrl, flags: &[&str]) -> Child {
    let mut command = project.command(MIGRATE_DB);
    command.env("DATABASE_URL", url.expose()).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// SIGKILL, which no program can react to.
pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn completes(project: &TestProject, db: &TestDatabase) {
    migrate_db(project, db, &["--env", "local"]).success();
    let status = migrate_db(project, db, &["--status"]).success();
    assert!(status.contains(" 0 pending, "), "{status}");
    assert!(status.ends_with("the schema is as the migrations make it\n"), "{status}");
    let names = migration::names(db.dialect()).unwrap();
    assert_eq!(migration::ledger(&mut db.connection()).unwrap().len(), names.len());
    let again = migrate_db(project, db, &[]).success();
    assert!(again.starts_with("No pending migrations"), "{again}");
}

/// The same on a server of the test's own, where one migration was left to be applied.
#[cfg(unix)]
fn applies_the_phone_number(run: impl Fn(&[&str]) -> CommandOutput) {
    let stdout = run(&[]).success();
    assert!(stdout.starts_with("Applied migration: 2026-11-23-000008"), "{stdout}");
    let status = run(&["--status"]).success();
    assert!(status.ends_with("the schema is as the migrations make it\n"), "{status}");
}

fn of_ten_at_once_one_applies_and_nine_find_nothing_to_do(db: TestDatabase) {
    let project = TestProject::new();
    let empty = TestDatabase::empty(db.dialect());
    // On SQLite the file does not even exist.
    let url = match db.dialect() {
        Dialect::Sqlite => DatabaseUrl::sqlite(&project.path().join("new/omnitool.db")),
        Dialect::Postgres => empty.url().clone(),
    };
    let children: Vec<Child> =
        (0..10).map(|_| start(&project, &url, &["--env", "staging"])).collect();
    let outputs: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            CommandOutput { code: output.status.code(), stdout, stderr }.success()
        })
        .collect();
    let names = migration::names(db.dialect()).unwrap();
    let applied: Vec<usize> =
        outputs.iter().map(|text| text.matches("Applied migration: ").count()).collect();
    assert_eq!(applied.iter().filter(|count| **count == names.len()).count(), 1, "{applied:?}");
    assert_eq!(applied.iter().sum::<usize>(), names.len(), "{applied:?}");
}

fn killed_at_any_moment_the_next_run_completes(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::empty(db.dialect());
    let started = Instant::now();
    let probe = TestDatabase::empty(db.dialect());
    migrate_db(&project, &probe, &["--env", "local"]).success();
    let whole = started.elapsed();
    let kills = 20;
    for number in 0..kills {
        let child = start(&project, db.url(), &["--env", "local"]);
        let until = Instant::now() + whole * number / kills;
        wait_until("the moment", || Instant::now() >= until);
        kill(child);
    }
    completes(&project, &db);
}

fn killed_inside_a_migration_the_next_run_completes(db: TestDatabase) {
    let project = TestProject::new();
    let mut conn = db.connection();
    migration::revert(&mut conn, 2 + crate::newer_than_the_phone_number(db.dialect())).unwrap();
    match db.dialect() {
        // Noting a migration takes forever, so that the transaction of the run stays open.
        Dialect::Sqlite => conn
            .batch_execute(
                "CREATE VIEW forever AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                 SELECT count(*) AS count FROM n; \
                 CREATE TRIGGER slow AFTER INSERT ON __diesel_schema_migrations \
                 BEGIN INSERT INTO tools (name, route) SELECT count, '/' FROM forever; END;",
            )
            .unwrap(),
        // Somebody reads `users`, so that the second of the migrations cannot change the table.
        Dialect::Postgres => conn.batch_execute("BEGIN; SELECT * FROM users").unwrap(),
    }
    let child = start(&project, db.url(), &[]);
    match db.dialect() {
        Dialect::Sqlite => {
            let mut other = db.connection();
            other.batch_execute("PRAGMA busy_timeout = 0").unwrap();
            wait_until("it has the write lock", || {
                let locked = other.batch_execute("BEGIN IMMEDIATE").is_err();
                if !locked {
                    other.batch_execute("ROLLBACK").unwrap();
                }
                locked
            });
            kill(child);
            conn.batch_execute("DROP TRIGGER slow; DROP VIEW forever").unwrap();
            assert_eq!(
                migration::status(&mut conn).unwrap().pending.len(),
                2 + crate::newer_than_the_phone_number(db.dialect())
            );
        }
        Dialect::Postgres => {
            let mut other = db.connection();
            wait_until("it waits for the table", || {
                count(
                    &mut other,
                    "pg_locks WHERE NOT granted AND relation = 'users'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                ) > 0
            });
            kill(child);
            conn.batch_execute("COMMIT").unwrap();
            // It died between the first, which stays, and the second, which left nothing.
            assert_eq!(
                migration::status(&mut conn).unwrap().pending.len(),
                1 + crate::newer_than_the_phone_number(db.dialect())
            );
        }
    }
    completes(&project, &db);
}

fn whoever_waits_in_vain_says_for_whom_and_can_be_killed(db: TestDatabase) {
    let project = TestProject::new();
    migration::revert(&mut db.connection(), 1 + crate::newer_than_the_phone_number(db.dialect()))
        .unwrap();
    let mut other = db.connection();
    other
        .batch_execute(&match db.dialect() {
            Dialect::Sqlite => "BEGIN IMMEDIATE".to_owned(),
            Dialect::Postgres => {
                let key = migration::LOCK_KEY;
                format!("SET application_name = 'a colleague'; SELECT pg_advisory_lock({key})")
            }
        })
        .unwrap();
    let stderr = migrate_db(&project, &db, &["--lock-wait", "1"]).failure(1);
    let holder = match db.dialect() {
        Dialect::Sqlite => "another program is writing to this file",
        Dialect::Postgres => "a colleague, user omnitool",
    };
    assert!(stderr.contains("waiting at most 1 s for the migration lock"), "{stderr}");
    assert!(stderr.contains("cannot get the migration lock within 1 s: "), "{stderr}");
    assert!(stderr.contains(holder) && stderr.contains("--lock-wait SECONDS"), "{stderr}");

    let mut child = start(&project, db.url(), &[]);
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting at most 60 s"), "{line}");
    kill(child);
    drop(other);
    completes(&project, &db);
}

fn a_migration_that_fails_leaves_a_working_database(db: TestDatabase) {
    let project = TestProject::new();
    let mut conn = db.connection();
    migration::revert(&mut conn, 2 + crate::newer_than_the_phone_number(db.dialect())).unwrap();
    // In the way of the second of two.
    conn.batch_execute("ALTER TABLE users ADD COLUMN phone_number TEXT").unwrap();
    let stderr = migrate_db(&project, &db, &[]).failure(1);
    let first = "error: migration 2026-11-23-000008_add_users_phone_number failed\n  caused by: ";
    assert!(stderr.starts_with(first) && stderr.contains("phone_number"), "{stderr}");
    assert!(stderr.contains("correct it and run again"), "{stderr}");
    conn.batch_execute("ALTER TABLE users DROP COLUMN phone_number").unwrap();
    completes(&project, &db);
}

on_both_databases!(
    of_ten_at_once_one_applies_and_nine_find_nothing_to_do,
    killed_at_any_moment_the_next_run_completes,
    killed_inside_a_migration_the_next_run_completes,
    whoever_waits_in_vain_says_for_whom_and_can_be_killed,
    a_migration_that_fails_leaves_a_working_database,
);

#[test]
fn a_connection_that_is_cut_in_the_middle_is_an_error_and_the_next_run_completes() {
    let project = TestProject::new();
    let db = TestDatabase::migrated(Dialect::Postgres);
    let mut conn = db.connection();
    migration::revert(&mut conn, 1 + crate::newer_than_the_phone_number(db.dialect())).unwrap();
    conn.batch_execute("BEGIN; SELECT * FROM users").unwrap();
    let child = start(&project, db.url(), &[]);
    let mut other = db.connection();
    // What a server that restarts does to its connections.
    let waiting = "pg_locks WHERE NOT granted AND relation = 'users'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pg_terminate_backend(pid)";
    wait_until("it waits for the table", || count(&mut other, waiting) > 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    // libpq gets to read the server's last words or finds the connection closed, as it happens.
    let cut = ["terminating connection", "server closed the connection unexpectedly"];
    assert!(cut.iter().any(|words| stderr.contains(words)), "{stderr}");
    assert!(stderr.contains("run again"), "{stderr}");
    conn.batch_execute("COMMIT").unwrap();
    completes(&project, &db);
}

#[cfg(unix)]
#[test]
fn a_server_that_restarts_in_the_middle_is_an_error_and_the_next_run_completes() {
    let project = TestProject::new();
    // One that keeps what it commits, also through this.
    let server = PostgresServer::start_durable();
    let url = server.url();
    let run = |flags: &[&str]| project.run(MIGRATE_DB, url, flags);
    run(&["--env", "local"]).success();
    let mut conn = open(url, Mode::Write).unwrap();
    let newer = crate::newer_than_the_phone_number(Dialect::Postgres);
    migration::revert(&mut conn, 1 + newer).unwrap();
    conn.batch_execute("BEGIN; SELECT * FROM users").unwrap();
    let child = start(&project, url, &[]);
    let waiting = "SELECT pid::bigint AS count FROM pg_locks \
                   WHERE NOT granted AND relation = 'users'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut pid = 0;
    wait_until("it waits for the table", || {
        let found = diesel::sql_query(waiting).get_result::<Count>(&mut conn);
        pid = found.map_or(0, |row| row.count);
        pid > 0
    });
    // A server process that dies like this takes all others along, and the server starts anew.
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("run again"));
    wait_until("the server is back", || open(url, Mode::Write).is_ok());
    applies_the_phone_number(run);
}

/// No file of the server can grow beyond 24 MiB, which it meets as it meets a full disk.
#[cfg(unix)]
#[test]
fn a_server_whose_disk_is_full_is_an_error_and_the_next_run_completes() {
    let project = TestProject::new();
    let server = PostgresServer::start_on_a_small_disk(24);
    let run = |flags: &[&str]| project.run(MIGRATE_DB, server.url(), flags);
    run(&["--env", "local"]).success();
    let mut conn = open(server.url(), Mode::Write).unwrap();
    let newer = crate::newer_than_the_phone_number(Dialect::Postgres);
    migration::revert(&mut conn, 1 + newer).unwrap();
    // Noting the migration needs more room than there is.
    conn.batch_execute(
        "CREATE TABLE filler (text TEXT); \
         CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO filler SELECT repeat(md5(i::text), 50) FROM generate_series(1, 60000) AS i; \
             RETURN NULL; END $$; \
         CREATE TRIGGER fill AFTER INSERT ON __diesel_schema_migrations \
         FOR EACH ROW EXECUTE FUNCTION fill()",
    )
    .unwrap();
    let stderr = run(&[]).failure(1);
    let first = "error: migration 2026-11-23-000008_add_users_phone_number failed\n  caused by: could not extend file";
    assert!(stderr.starts_with(first), "{stderr}");
    assert!(stderr.contains("is undone") && stderr.contains("run again"), "{stderr}");
    assert_eq!(migration::status(&mut conn).unwrap().pending.len(), 1 + newer);
    assert_eq!(count(&mut conn, "filler"), 0);
    // Room again.
    conn.batch_execute("DROP FUNCTION fill CASCADE; DROP TABLE filler").unwrap();
    applies_the_phone_number(run);
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_nothing_is_left_half_done() {
    let project = TestProject::new();
    let db = TestDatabase::empty(Dialect::Sqlite);
    // No file may grow beyond 8 KiB, as if the disk were full.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" --env local";
    let mut command = project.command("/bin/sh");
    command.args(["-c", script, MIGRATE_DB]).env("DATABASE_URL", db.url().expose());
    let stderr = project.output(command).failure(1);
    assert!(stderr.contains("disk"), "{stderr}");
    assert_eq!(migration::status(&mut db.connection()).unwrap().applied, Vec::<String>::new());
    completes(&project, &db);
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_is_left_as_it_was() {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    };
    let project = TestProject::new();
    let db = TestDatabase::migrated(Dialect::Sqlite);
    migration::revert(&mut db.connection(), 1 + crate::newer_than_the_phone_number(db.dialect()))
        .unwrap();
    let file = db.url().sqlite_path().unwrap();
    let copy = project.path().join("copy.db");
    fs::copy(file, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&copy, 0o444);
    let program = project.path().join("migrate-db");
    fs::copy(MIGRATE_DB, &program).unwrap();
    mode(&program, 0o555);
    mode(project.path(), 0o555);
    let mut command: Command = project.command(&program);
    command.env("DATABASE_URL", DatabaseUrl::sqlite(&copy).expose());
    // For root nothing is read-only.
    if fs::metadata(project.path()).unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let stderr = project.output(command).failure(1);
    assert!(stderr.contains("readonly"), "{stderr}");
    assert!(stderr.contains("can be reached and written"), "{stderr}");
    assert_eq!(fs::read(&copy).unwrap(), before);
    mode(project.path(), 0o755);
    completes(&project, &db);
}

#[test]
fn a_wrong_password_and_an_unknown_host_are_clear_errors() {
    let project = TestProject::new();
    let db = TestDatabase::empty(Dialect::Postgres);
    let wrong: DatabaseUrl =
        db.url().expose().replace("password-of-the-test-server", "guessed").parse().unwrap();
    let output = project.run(MIGRATE_DB, &wrong, &["--env", "local"]);
    assert!(!format!("{output:?}").contains("guessed"), "{output:?}");
    let stderr = output.failure(1);
    assert!(stderr.contains("password authentication failed"), "{stderr}");
    let nowhere = "postgres://omnitool@db.invalid/omnitool".parse().unwrap();
    let stderr = project.run(MIGRATE_DB, &nowhere, &["--env", "local"]).failure(1);
    assert!(stderr.contains("db.invalid") && stderr.contains("hint: "), "{stderr}");
    completes(&project, &db);
}

#[test]
fn a_server_that_requires_tls_refuses_a_connection_in_clear_text() {
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n";
    let server = PostgresServer::start(&[("pg_hba.conf", hba)]);
    let url = format!("{}?sslmode=disable", server.url().expose()).parse().unwrap();
    let stderr = TestProject::new().run(MIGRATE_DB, &url, &["--env", "local"]).failure(1);
    assert!(stderr.contains("no encryption"), "{stderr}");
}
