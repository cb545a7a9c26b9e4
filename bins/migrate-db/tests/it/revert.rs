//! `--down` and `--redo`.

use diesel::{RunQueryDsl as _, connection::SimpleConnection as _};
use omnitool_database::migration;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, TestProject, fixture, on_both_databases};

use crate::{migrate_db, newer_than_the_phone_number};

const PHONE: &str = "UPDATE users SET phone_number = '+1 555 0100' WHERE username = 'alice'";

/// Makes the phone number's migration the newest that is applied.
fn until_the_phone_number(db: &TestDatabase) {
    migration::revert(&mut db.connection(), newer_than_the_phone_number(db.dialect())).unwrap();
}

fn with_a_phone_number(db: &TestDatabase) {
    until_the_phone_number(db);
    let mut conn = db.connection();
    fixture::user(&mut conn, "alice");
    fixture::user(&mut conn, "bob");
    diesel::sql_query(PHONE).execute(&mut conn).unwrap();
}

fn has_phone_number(db: &TestDatabase) -> bool {
    db.connection().batch_execute("SELECT phone_number FROM users").is_ok()
}

fn down_says_what_is_lost_and_needs_a_confirmation(db: TestDatabase) {
    let project = TestProject::new();
    with_a_phone_number(&db);
    let output = migrate_db(&project, &db, &["--down", "1"]);
    insta::allow_duplicates!(insta::assert_snapshot!(output.stdout, @r"
    Will revert: 2026-11-23-000008_add_users_phone_number
    Will be lost: column users.phone_number: a value in 1 row
    The schema is then 20261123000007: releases with a newer migration do not work with it.
    Only a backup brings it back: backup-database --env local capture
    "));
    let stderr = output.failure(1);
    insta::allow_duplicates!(insta::assert_snapshot!(stderr, @r#"
    error: this needs a confirmation and there is no terminal to type it on; pass --confirm "REVERT 1"

    hint: nothing was changed
    "#));
    assert!(has_phone_number(&db));
    migrate_db(&project, &db, &["--down", "1", "--confirm", "REVERT 2"]).failure(1);
    assert!(has_phone_number(&db));

    let stdout = migrate_db(&project, &db, &["--down", "1", "--confirm", "REVERT 1"]).success();
    let end = "Reverted migration: 2026-11-23-000008_add_users_phone_number\n";
    assert!(stdout.ends_with(end), "{stdout}");
    assert!(!has_phone_number(&db));
    let stdout = migrate_db(&project, &db, &[]).success();
    let start = "Applied migration: 2026-11-23-000008_add_users_phone_number\n";
    assert!(stdout.starts_with(start), "{stdout}");
}

fn production_asks_for_its_name(db: TestDatabase) {
    let project = TestProject::new();
    let db = TestDatabase::stamped(db.dialect(), EnvironmentName::Production);
    until_the_phone_number(&db);
    let stderr = migrate_db(&project, &db, &["--down", "1", "--confirm", "REVERT 1"]).failure(1);
    assert!(stderr.contains("exactly `REVERT 1 PRODUCTION`"), "{stderr}");
    assert!(has_phone_number(&db));
    let flags = [
        "--down",
        "1",
        "--confirm",
        "REVERT 1 PRODUCTION",
        "--format",
        "json",
        "--env",
        "production",
    ];
    let stdout = migrate_db(&project, &db, &flags).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["summary"], "1 migration reverted");
    assert_eq!(report["lost"][0], "column users.phone_number: a value in 0 rows");
    assert_eq!(report["schema_version"], "20261123000007");
}

fn another_environment_and_too_many_are_refused(db: TestDatabase) {
    let project = TestProject::new();
    let stderr = migrate_db(&project, &db, &["--down", "1", "--env", "staging"]).failure(1);
    assert!(stderr.contains("stamped `local`, but `staging`"), "{stderr}");
    let stderr = migrate_db(&project, &db, &["--down", "99", "--confirm", "REVERT 99"]).failure(1);
    assert!(stderr.contains("99 should be reverted"), "{stderr}");
    assert!(has_phone_number(&db));
    migrate_db(&project, &db, &["--down", "0"]).failure(2);
    migrate_db(&project, &db, &["--confirm", "REVERT 1"]).failure(2);
}

fn redo_takes_the_newest_down_and_up_again(db: TestDatabase) {
    let project = TestProject::new();
    with_a_phone_number(&db);
    let stdout = migrate_db(&project, &db, &["--redo", "--confirm", "REVERT 1"]).success();
    assert!(
        stdout.contains("Will be lost: column users.phone_number: a value in 1 row\n"),
        "{stdout}"
    );
    let done = "Reverted migration: 2026-11-23-000008_add_users_phone_number\n\
                Applied migration: 2026-11-23-000008_add_users_phone_number\n";
    assert!(stdout.contains(done), "{stdout}");
    assert!(has_phone_number(&db));
}

fn sql_of_a_revert_is_printed_and_not_run(db: TestDatabase) {
    let project = TestProject::new();
    until_the_phone_number(&db);
    let sql = migrate_db(&project, &db, &["--down", "1", "--sql"]).success();
    assert!(sql.contains("ALTER TABLE users DROP COLUMN phone_number;\n"), "{sql}");
    assert!(has_phone_number(&db));
    let redo = migrate_db(&project, &db, &["--redo", "--sql"]).success();
    assert!(redo.starts_with(&sql) && redo.contains("ADD COLUMN phone_number TEXT;\n"), "{redo}");
}

on_both_databases!(
    down_says_what_is_lost_and_needs_a_confirmation,
    production_asks_for_its_name,
    another_environment_and_too_many_are_refused,
    redo_takes_the_newest_down_and_up_again,
    sql_of_a_revert_is_printed_and_not_run,
);
