use diesel::connection::SimpleConnection as _;
use omnitool_database::{migration, stamp};
use omnitool_environment::EnvironmentName::{Local, Production};
use omnitool_testing::{Dialect, TestDatabase, on_both_databases};
use omnitool_web::check::{Report, Status, check};

fn checked(
    db: &TestDatabase,
    environment: Option<omnitool_environment::EnvironmentName>,
) -> Report {
    check::<std::fmt::Error>(Ok((environment, db.url().clone())))
}

fn failed(report: &Report) -> Vec<&str> {
    let failed = report.checks.iter().filter(|finding| finding.status == Status::Failed);
    failed.map(|finding| finding.id).collect()
}

fn an_app_that_could_serve_passes(db: TestDatabase) {
    let report = checked(&db, Some(Local));
    assert_eq!(report.summary, "the app can serve: 4 checks passed");
    assert_eq!(report.status, Status::Ok);
    assert!(!report.to_string().contains("password-of-the-test-server"));
}

fn a_database_that_is_behind_fails_the_schema(db: TestDatabase) {
    migration::revert(&mut db.connection(), 1).unwrap();
    let report = checked(&db, Some(Local));
    assert_eq!(failed(&report), ["schema"]);
    assert_eq!(report.summary, "the app cannot serve: schema failed");
}

fn another_environments_database_fails(db: TestDatabase) {
    stamp::write(&mut db.connection(), Production).unwrap();
    let report = checked(&db, Some(Local));
    assert_eq!(failed(&report), ["database"]);
    assert_eq!(checked(&db, None).status, Status::Ok);
}

fn what_somebody_dropped_fails_the_schema(db: TestDatabase) {
    let execute = |sql| db.connection().batch_execute(sql).unwrap();
    execute("ALTER TABLE user_session RENAME TO gone");
    assert_eq!(failed(&checked(&db, Some(Local))), ["schema"]);
    execute("ALTER TABLE gone RENAME TO user_session");
    assert_eq!(checked(&db, Some(Local)).status, Status::Ok);
    execute("DROP VIEW effective_tool_access");
    assert_eq!(failed(&checked(&db, Some(Local))), ["schema"]);
}

on_both_databases!(
    an_app_that_could_serve_passes,
    a_database_that_is_behind_fails_the_schema,
    another_environments_database_fails,
    what_somebody_dropped_fails_the_schema,
);

#[test]
fn a_missing_database_and_a_wrong_configuration_fail() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    std::fs::remove_file(db.url().sqlite_path().unwrap()).unwrap();
    let report = checked(&db, None);
    assert_eq!(failed(&report), ["database"]);
    assert!(report.checks[2].message.contains("there is no database file"), "{report}");

    let report = check(Err(std::fmt::Error));
    assert_eq!(failed(&report), ["configuration"]);
}
