//! Databases that Alembic made, taken over. See `crates/database/tests/fixtures/python`.

use std::{path::Path, time::Instant};

use diesel::{RunQueryDsl as _, connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    AnyConnection, Dialect,
    schema::{effective_tool_access, tool_access, tools, users},
};
use omnitool_testing::{TestDatabase, TestProject, on_both_databases};

use crate::{
    migrate_db,
    trouble::{kill, start, wait_until},
};

/// Alembic's database, and the flag that PostgreSQL needs.
fn python(dialect: Dialect) -> (TestDatabase, &'static [&'static str]) {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/database/tests/fixtures/python");
    let db = TestDatabase::empty(dialect);
    let flags: &[&str] = match db.url().sqlite_path() {
        Some(file) => {
            std::fs::copy(fixtures.join("sqlite.db"), file).unwrap();
            &[]
        }
        None => {
            let dump = std::fs::read_to_string(fixtures.join("postgres.sql")).unwrap();
            db.connection().batch_execute(&dump).unwrap();
            &["--backup-taken"]
        }
    };
    (db, flags)
}

fn adopt(
    project: &TestProject,
    db: &TestDatabase,
    flags: &[&str],
) -> omnitool_testing::CommandOutput {
    let all: Vec<&str> = ["--adopt", "--env", "staging"].iter().chain(flags).copied().collect();
    migrate_db(project, db, &all)
}

fn names(conn: &mut AnyConnection) -> Vec<(i64, String, bool, bool, Option<String>)> {
    users::table
        .order(users::id)
        .select((
            users::id,
            users::username,
            users::is_admin,
            users::is_active,
            users::phone_number,
        ))
        .load(conn)
        .unwrap()
}

fn without_adopt_it_is_refused_and_left_alone(db: TestDatabase) {
    let project = TestProject::new();
    let (db, _) = python(db.dialect());
    let stderr = migrate_db(&project, &db, &["--env", "staging"]).failure(1);
    insta::allow_duplicates!(insta::assert_snapshot!(stderr, @r"
    error: this database was made by the Python system and is not under our migrations yet

    hint: nothing was changed; to take it over with all its rows: migrate-db --adopt --env ENV
    "));
    db.connection().batch_execute("SELECT version_num FROM alembic_version").unwrap();
}

fn orphans_are_named_and_stop_it(db: TestDatabase) {
    let project = TestProject::new();
    let (db, flags) = python(db.dialect());
    let stderr = adopt(&project, &db, flags).failure(1);
    assert!(stderr.contains("tool_access 6: user 404, tool 1\n"), "{stderr}");
    assert!(stderr.contains("add --prune-orphans"), "{stderr}");
    db.connection()
        .batch_execute("SELECT id FROM tool_access; SELECT * FROM alembic_version")
        .unwrap();
    assert!(db.connection().batch_execute("SELECT * FROM environment_stamp").is_err());
}

fn every_row_is_taken_over(db: TestDatabase) {
    let project = TestProject::new();
    let (db, flags) = python(db.dialect());
    let flags = [&["--prune-orphans"], flags].concat();
    let stdout = adopt(&project, &db, &flags).success();
    let backup = stdout.lines().find_map(|line| line.strip_prefix("Backed up to "));
    assert_eq!(backup.is_some(), db.dialect() == Dialect::Sqlite, "{stdout}");
    let start = stdout.split("Applied migration").next().unwrap();
    let start = start.split("No pending").next().unwrap();
    let start: String = start
        .lines()
        .filter(|line| !line.starts_with("Backed up"))
        .map(|line| format!("{line}\n"))
        .collect();
    match db.dialect() {
        Dialect::Sqlite => insta::assert_snapshot!(start, @r"
        A database of the Python system, Alembic revision 8a2e5d7c9b10.
        users: 4 rows
        tools: 3 rows
        tool_access: 7 rows, 1 of them again, 2 without a parent
        without a parent: tool_access 6: user 404, tool 1
        without a parent: tool_access 7: user 1, tool 404
        note: times are taken as UTC
        note: users.is_admin gets FALSE in 1 row without a value
        note: users.is_active gets FALSE in 1 row without a value
        note: users.created_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: tools.description gets '' in 1 row without a value
        note: tools.route gets '' in 1 row without a value
        note: tools.is_default gets FALSE in 1 row without a value
        note: tools.is_active gets FALSE in 1 row without a value
        note: tools.created_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: tool_access.granted_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: 4 rows of users: the password is kept in a form that cannot be checked here; they need a new one
        Adopted 4 users, 3 tools and their access; 2 rows without a parent were left out.
        "),
        Dialect::Postgres => insta::assert_snapshot!(start, @r"
        A database of the Python system, Alembic revision 8a2e5d7c9b10.
        users: 4 rows
        tools: 3 rows
        tool_access: 6 rows, 1 of them again, 1 without a parent
        without a parent: tool_access 6: user 404, tool 1
        note: times are taken as UTC
        note: users.is_admin gets FALSE in 1 row without a value
        note: users.is_active gets FALSE in 1 row without a value
        note: users.created_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: tools.description gets '' in 1 row without a value
        note: tools.route gets '' in 1 row without a value
        note: tools.is_default gets FALSE in 1 row without a value
        note: tools.is_active gets FALSE in 1 row without a value
        note: tools.created_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: tool_access.granted_at gets CURRENT_TIMESTAMP in 1 row without a value
        note: 4 rows of users: the password is kept in a form that cannot be checked here; they need a new one
        Adopted 4 users, 3 tools and their access; 1 row without a parent was left out.
        "),
    }
    assert!(stdout.ends_with("Tool Synchronization Completed.\n"), "{stdout}");

    let mut conn = db.connection();
    // Whoever had no value in `is_active` does not become active.
    assert_eq!(
        names(&mut conn),
        [
            (1, "alice".to_owned(), true, true, Some("+1 555 0100".to_owned())),
            (2, "user_a".to_owned(), false, true, None),
            (5, "bob".to_owned(), false, false, None),
            (7, "Zoë".to_owned(), false, false, None),
        ]
    );
    let created: chrono::NaiveDateTime =
        users::table.find(1).select(users::created_at).first(&mut conn).unwrap();
    assert_eq!(created.to_string(), "2025-03-01 09:30:00.123456");
    let grants: Vec<(i64, i64, String)> = tool_access::table
        .filter(tool_access::origin.eq("import"))
        .order((tool_access::user_id, tool_access::tool_id))
        .select((tool_access::user_id, tool_access::tool_id, tool_access::origin))
        .load(&mut conn)
        .unwrap();
    let pairs: Vec<_> = grants.iter().map(|(user, tool, _)| (*user, *tool)).collect();
    assert_eq!(pairs.len(), 4, "{grants:?}");
    assert!(pairs.contains(&(5, 9)) && pairs.contains(&(2, 1)), "{grants:?}");
    // The inactive have access to nothing.
    let effective: Vec<(i64, i64)> = effective_tool_access::table
        .filter(effective_tool_access::user_id.eq_any([5_i64, 7]))
        .select((effective_tool_access::user_id, effective_tool_access::tool_id))
        .load(&mut conn)
        .unwrap();
    assert_eq!(effective, []);
    // A renamed tool is renamed by the sync that follows, and keeps its key.
    let renamed: String = tools::table.find(2).select(tools::name).first(&mut conn).unwrap();
    assert_eq!(renamed, "Email Templates");
    // New keys come after the old ones.
    let new = omnitool_testing::fixture::user(&mut conn, "carol");
    assert!(new > 7, "{new}");

    let status = migrate_db(&project, &db, &["--status"]).success();
    assert!(status.ends_with("the schema is as the migrations make it\n"), "{status}");
    assert!(conn.batch_execute("SELECT * FROM alembic_version").is_err());
    if let Some(backup) = backup {
        let mut backup = omnitool_database::open(
            &omnitool_environment::DatabaseUrl::sqlite(Path::new(backup)),
            omnitool_database::Mode::Read,
        )
        .unwrap();
        let orphans =
            diesel::sql_query("SELECT 1 FROM tool_access WHERE id = 6").execute(&mut backup);
        assert!(orphans.is_ok());
    }
    // Once is enough.
    let stderr = adopt(&project, &db, &flags).failure(1);
    assert!(stderr.contains("run migrate-db without --adopt"), "{stderr}");
    migrate_db(&project, &db, &[]).success();
}

fn what_has_no_place_is_named_and_nothing_is_changed(db: TestDatabase) {
    let project = TestProject::new();
    let (db, flags) = python(db.dialect());
    let mut conn = db.connection();
    conn.batch_execute(
        "CREATE TABLE invoices (id INTEGER); ALTER TABLE users ADD COLUMN shoe_size INTEGER; \
         ALTER TABLE tools ADD COLUMN empty_column INTEGER; UPDATE users SET shoe_size = 43 WHERE id < 3; \
         UPDATE users SET username = '' WHERE id = 7;",
    )
    .unwrap();
    let stderr = adopt(&project, &db, flags).failure(1);
    insta::allow_duplicates!(insta::assert_snapshot!(stderr, @r"
    error: cannot map:
    table invoices is none of the Python system's
    column users.shoe_size is none of ours and has a value in 2 rows

    hint: nothing was changed; correct these in the database, or move them out of it, and run again
    "));
    conn.batch_execute("DROP TABLE invoices; UPDATE users SET shoe_size = NULL").unwrap();
    let stderr = adopt(&project, &db, flags).failure(1);
    let problem = "error: cannot map:\ncolumn users.username has an empty value in 1 row\n";
    assert!(stderr.starts_with(problem), "{stderr}");
    conn.batch_execute("SELECT version_num FROM alembic_version").unwrap();
}

fn killed_at_any_moment_no_row_is_lost(db: TestDatabase) {
    let project = TestProject::new();
    let (db, flags) = python(db.dialect());
    let all = [&["--adopt", "--env", "staging", "--prune-orphans"], flags].concat();
    let (probe, _) = python(db.dialect());
    let started = Instant::now();
    migrate_db(&project, &probe, &all).success();
    let whole = started.elapsed();
    let kills = 12;
    for number in 0..kills {
        let child = start(&project, db.url(), &all);
        let until = Instant::now() + whole * number / kills;
        wait_until("the moment", || Instant::now() >= until);
        kill(child);
        // Before or after, never between.
        let mut conn = db.connection();
        let users: i64 = users::table.count().get_result(&mut conn).unwrap();
        assert_eq!(users, 4);
        let ours = conn.batch_execute("SELECT version FROM migration_ledger").is_ok();
        let theirs = conn.batch_execute("SELECT version_num FROM alembic_version").is_ok();
        assert_ne!(ours, theirs);
    }
    let output = migrate_db(&project, &db, &all);
    if output.code != Some(0) {
        // It was adopted before it was killed.
        assert!(output.failure(1).contains("run migrate-db without --adopt"));
        migrate_db(&project, &db, &["--env", "staging"]).success();
    }
    let status = migrate_db(&project, &db, &["--status"]).success();
    assert!(status.ends_with("the schema is as the migrations make it\n"), "{status}");
    let grants = tool_access::table.filter(tool_access::origin.eq("import")).count();
    assert_eq!(grants.get_result(&mut db.connection()), Ok(4_i64));
}

fn production_is_confirmed(db: TestDatabase) {
    let project = TestProject::new();
    let (db, flags) = python(db.dialect());
    let all = [&["--adopt", "--env", "production", "--prune-orphans"], flags].concat();
    let stderr = migrate_db(&project, &db, &all).failure(1);
    assert!(stderr.contains("--confirm \"ADOPT PRODUCTION\""), "{stderr}");
    db.connection().batch_execute("SELECT version_num FROM alembic_version").unwrap();
    let all = [&all[..], &["--confirm", "ADOPT PRODUCTION", "--format", "json"]].concat();
    let stdout = migrate_db(&project, &db, &all).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["adopted"]["users"], 4);
    assert_eq!(report["adopted"]["left_out"][0], "tool_access 6: user 404, tool 1");
}

on_both_databases!(
    without_adopt_it_is_refused_and_left_alone,
    orphans_are_named_and_stop_it,
    every_row_is_taken_over,
    what_has_no_place_is_named_and_nothing_is_changed,
    killed_at_any_moment_no_row_is_lost,
    production_is_confirmed,
);

#[test]
fn postgres_is_dumped_among_the_backups_before_it_is_adopted() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = TestProject::new();
    let (db, _) = python(Dialect::Postgres);
    let stdout = adopt(&project, &db, &["--prune-orphans"]).success();
    let line = stdout.lines().find_map(|line| line.strip_prefix("Backed up to ")).unwrap();
    let file = project.path().join(line);
    assert!(line.starts_with("data/backups/staging/before-adoption-"), "{line}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read(file).unwrap().starts_with(b"PGDMP"));
}

#[test]
fn postgres_that_cannot_be_backed_up_is_not_adopted() {
    let project = TestProject::new();
    let (db, _) = python(Dialect::Postgres);
    // Where the folder of the backups should be, there is a file.
    project.write("data/backups", "");
    let stderr = adopt(&project, &db, &["--prune-orphans"]).failure(1);
    assert!(stderr.contains("pg_dump") && stderr.contains("--backup-taken"), "{stderr}");
    db.connection().batch_execute("SELECT version_num FROM alembic_version").unwrap();
}

#[test]
fn sqlite_values_of_another_type_are_named() {
    let project = TestProject::new();
    let (db, _) = python(Dialect::Sqlite);
    db.connection()
        .batch_execute(
            "UPDATE users SET is_active = 'maybe', created_at = 'yesterday' WHERE id = 1; \
             UPDATE users SET password_hash = x'00' WHERE id = 2",
        )
        .unwrap();
    let stderr = adopt(&project, &db, &[]).failure(1);
    for problem in [
        "column users.is_active has neither true nor false in 1 row",
        "column users.created_at has no date and time in 1 row",
        "column users.password_hash has no text in 1 row",
    ] {
        assert!(stderr.contains(problem), "{stderr}");
    }
}
