//! migrate-db as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod adopt;
mod revert;
mod trouble;

use diesel::prelude::*;
use omnitool_database::{Dialect, migration, schema::tools};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::{CommandOutput, TestDatabase, TestProject, on_both_databases};

const MIGRATE_DB: &str = env!("CARGO_BIN_EXE_migrate-db");

fn migrate_db(project: &TestProject, db: &TestDatabase, flags: &[&str]) -> CommandOutput {
    project.run(MIGRATE_DB, db.url(), flags)
}

/// How many migrations are newer than the one that adds `users.phone_number`, which several tests take back and forth.
fn newer_than_the_phone_number(dialect: Dialect) -> usize {
    let names = migration::names(dialect).unwrap();
    names.iter().rev().take_while(|name| !name.ends_with("add_users_phone_number")).count()
}

fn a_fresh_database_is_migrated_stamped_and_filled(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::empty(db.dialect());
    let first = migrate_db(&project, &db, &["--env", "staging"]).success();
    assert!(first.starts_with("Applied migration: 2026-11-23-000001_create_users\n"), "{first}");
    assert!(first.contains("Stamped the database as staging.\n"), "{first}");
    assert!(first.contains("Creating new tool: Invoice Generator\n"), "{first}");
    assert!(first.ends_with("Tool Synchronization Completed.\n"), "{first}");

    let second = migrate_db(&project, &db, &[]).success();
    assert!(second.starts_with("No pending migrations; the schema is 202611"), "{second}");
    assert!(!second.contains("Creating") && !second.contains("Stamped"), "{second}");
}

fn another_environment_is_refused_before_any_change(db: TestDatabase) {
    let project = TestProject::new();
    let stderr = migrate_db(&project, &db, &["--env", "production"]).failure(1);
    insta::allow_duplicates!(insta::assert_snapshot!(stderr, @r"
    error: this database is stamped `local`, but `production` was asked for; nothing was changed

    hint: to migrate this database, pass --env local
    "));
    assert_eq!(tools::table.count().get_result(&mut db.connection()), Ok(0_i64));
}

fn a_fresh_database_needs_a_named_environment(db: TestDatabase) {
    let db = TestDatabase::empty(db.dialect());
    let stderr = migrate_db(&TestProject::new(), &db, &[]).failure(1);
    assert!(stderr.contains("--env local, staging or production"), "{stderr}");
}

fn status_shows_what_is_pending_and_changes_nothing(db: TestDatabase) {
    let project = TestProject::new();
    let empty = TestDatabase::empty(db.dialect());
    let flags = ["--status", "--detailed-exitcode"];
    let output = migrate_db(&project, &empty, &flags);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stdout.contains("pending  2026-11-23-000001_create_users\n"), "{output:?}");
    // It was only looked at.
    assert_eq!(migrate_db(&project, &empty, &flags).code, Some(3));

    let stdout = migrate_db(&project, &db, &flags).success();
    let start = "Environment: local\napplied  2026-11-23-000001_create_users, 20";
    assert!(stdout.starts_with(start), "{stdout}");
    assert!(
        stdout.ends_with(
            " 0 pending, 0 unknown to this build, 0 changed since applied; \
             the schema is as the migrations make it\n"
        ),
        "{stdout}"
    );
}

fn status_names_what_differs_from_what_the_migrations_make(db: TestDatabase) {
    let project = TestProject::new();
    let mut conn = db.connection();
    diesel::sql_query("CREATE TABLE notes (id BIGINT)").execute(&mut conn).unwrap();
    diesel::sql_query("DROP INDEX user_session_user_id").execute(&mut conn).unwrap();
    let stdout = migrate_db(&project, &db, &["--status"]).success();
    assert!(stdout.contains("differs  table notes is made by no migration\n"), "{stdout}");
    let missing = "differs  table user_session: index user_session_user_id is missing\n";
    assert!(stdout.contains(missing), "{stdout}");
    assert!(stdout.contains("; 2 differences from the schema"), "{stdout}");
    let stdout = migrate_db(&project, &db, &["--status", "--format", "json"]).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["differences"][0], "table notes is made by no migration");
    assert_eq!(report["ledger"][0]["name"], "2026-11-23-000001_create_users");
}

fn a_changed_migration_is_refused_with_how_to_accept_it(db: TestDatabase) {
    let project = TestProject::new();
    diesel::sql_query(
        "UPDATE migration_ledger SET up_sha256 = replace(replace(up_sha256, '1', '2'), '3', '4') \
         WHERE version = '20261123000002'",
    )
    .execute(&mut db.connection())
    .unwrap();
    let stdout = migrate_db(&project, &db, &["--status"]).success();
    assert!(stdout.contains(" (changed since it was applied)\n"), "{stdout}");
    let stderr = migrate_db(&project, &db, &[]).failure(1);
    insta::allow_duplicates!(insta::assert_snapshot!(stderr, @r"
    error: changed after being applied: 2026-11-23-000002_create_tools

    hint: restore its text and write another migration; or, where both texts make the same schema: migrate-db --accept-changed 2026-11-23-000002; or, in development, for the newest one: migrate-db --redo
    "));
    assert_eq!(tools::table.count().get_result(&mut db.connection()), Ok(0_i64));
    migrate_db(&project, &db, &["--accept-changed", "2026-11-23-000002"]).success();
    migrate_db(&project, &db, &[]).success();
}

fn what_a_statement_locks_is_said_where_somebody_asks(db: TestDatabase) {
    let project = TestProject::new();
    // Up to the one that adds a column to users.
    let newest = 1 + newer_than_the_phone_number(db.dialect());
    migration::revert(&mut db.connection(), newest).unwrap();
    let said = migrate_db(&project, &db, &["--locks"]).success();
    let lock = match db.dialect() {
        Dialect::Sqlite => " ms: write lock on the database\n",
        Dialect::Postgres => " ms: AccessExclusiveLock on users\n",
    };
    assert!(said.contains("    held for ") && said.contains(lock), "{said}");
}

fn sql_is_printed_and_not_run(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::empty(db.dialect());
    let sql = migrate_db(&project, &db, &["--sql"]).success();
    assert!(sql.contains("CREATE TABLE users ("), "{sql}");
    let status = migrate_db(&project, &db, &["--status"]).success();
    assert!(status.contains("0 applied"), "{status}");
    // What it prints is what would have run.
    diesel::connection::SimpleConnection::batch_execute(
        &mut db.connection(),
        &format!(
            "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL, \
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP); {sql}"
        ),
    )
    .unwrap();
    let stdout = migrate_db(&project, &db, &["--env", "local"]).success();
    assert!(stdout.starts_with("No pending migrations"), "{stdout}");
    let stdout = migrate_db(&project, &db, &["--status"]).success();
    assert!(stdout.ends_with("the schema is as the migrations make it\n"), "{stdout}");
    assert_eq!(migrate_db(&project, &db, &["--sql"]).success(), "");
}

fn a_database_of_a_newer_build_is_refused(db: TestDatabase) {
    diesel::sql_query("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')")
        .execute(&mut db.connection())
        .unwrap();
    let output = migrate_db(&TestProject::new(), &db, &["--format", "json"]);
    let failure: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(failure["kind"], "refused");
    let stderr = output.failure(1);
    assert!(stderr.contains("does not know its migrations 29990101000000"), "{stderr}");
    assert_eq!(tools::table.count().get_result(&mut db.connection()), Ok(0_i64));
}

fn a_database_of_a_newer_build_can_be_left_as_it_is(db: TestDatabase) {
    let flags = ["--keep-newer", "--format", "json"];
    let project = TestProject::new();
    // Where there is none, nothing is different.
    let done = migrate_db(&project, &db, &flags).success();
    assert!(done.contains("no pending migrations"), "{done}");
    diesel::delete(tools::table).execute(&mut db.connection()).unwrap();
    diesel::sql_query("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')")
        .execute(&mut db.connection())
        .unwrap();
    let kept = migrate_db(&project, &db, &flags).success();
    assert!(kept.contains("which made 29990101000000; it was left as it is"), "{kept}");
    assert_eq!(tools::table.count().get_result(&mut db.connection()), Ok(0_i64));
    // One that lacks something of this build is not newer, but another one.
    let mut conn = db.connection();
    diesel::sql_query("DELETE FROM __diesel_schema_migrations WHERE version <> '29990101000000'")
        .execute(&mut conn)
        .unwrap();
    drop(conn);
    migrate_db(&project, &db, &flags).failure(1);
}

fn bad_definitions_are_refused_before_any_change(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::empty(db.dialect());
    project.write("bad.toml", "[[tool]]\nname = \"A\"\n");
    let flags = ["--env", "local", "--tools", "bad.toml"];
    let stderr = migrate_db(&project, &db, &flags).failure(1);
    assert!(stderr.contains("bad.toml"), "{stderr}");
    let status = migrate_db(&project, &db, &["--status"]).success();
    assert!(status.contains("0 applied"), "{status}");
}

fn json_says_what_was_done(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::empty(db.dialect());
    let stdout = migrate_db(&project, &db, &["--env", "local", "--format", "json"]).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["environment"], "local");
    assert_eq!(report["stamped"], true);
    assert!(report["summary"].as_str().unwrap().contains("migrations applied; "), "{stdout}");
}

on_both_databases!(
    a_fresh_database_is_migrated_stamped_and_filled,
    another_environment_is_refused_before_any_change,
    a_fresh_database_needs_a_named_environment,
    status_shows_what_is_pending_and_changes_nothing,
    status_names_what_differs_from_what_the_migrations_make,
    a_changed_migration_is_refused_with_how_to_accept_it,
    what_a_statement_locks_is_said_where_somebody_asks,
    sql_is_printed_and_not_run,
    a_database_of_a_newer_build_is_refused,
    a_database_of_a_newer_build_can_be_left_as_it_is,
    bad_definitions_are_refused_before_any_change,
    json_says_what_was_done,
);

#[test]
fn help_shows_examples() {
    let project = TestProject::new();
    let mut command = project.command(MIGRATE_DB);
    command.arg("--help").env("COLUMNS", "120");
    insta::assert_snapshot!(project.output(command).success());
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let project = TestProject::new();
    let text = "no database, but longer than the header of one would be ".repeat(4);
    let file = project.write("notes.db", &text);
    let output = project.run(MIGRATE_DB, &DatabaseUrl::sqlite(&file), &["--env", "local"]);
    let stderr = output.failure(1);
    assert!(stderr.contains("cannot use sqlite:[ROOT]/notes.db as a database"), "{stderr}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

#[test]
fn a_password_is_shown_nowhere() {
    let project = TestProject::new();
    let url = "postgres://user:hunter2@127.0.0.1:1/none".parse().unwrap();
    let mut command = project.command(MIGRATE_DB);
    command.env("DATABASE_URL", DatabaseUrl::expose(&url)).env("RUST_LOG", "trace");
    command.args(["--env", "local", "--format", "json"]);
    let output = project.output(command);
    assert_eq!(output.code, Some(1));
    assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
    assert!(output.stderr.contains("cannot connect to postgres://user:***@127.0.0.1:1/none"));
}

#[test]
fn an_unknown_environment_is_wrong_usage() {
    let project = TestProject::new();
    let mut command = project.command(MIGRATE_DB);
    command.args(["--env", "prod"]);
    let stderr = project.output(command).failure(2);
    assert!(stderr.contains("known: local, staging, production"), "{stderr}");
}
