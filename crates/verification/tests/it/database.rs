//! Checks 1, 2, 7, 8 and 9.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    AnyConnection, Dialect, migration,
    schema::{environment_stamp, tools, users},
    stamp,
};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::{TestDatabase, on_both_databases};
use omnitool_verification::{
    AppAnswer, Depth, Outcome, Selection, Status, Subject, find_check, verify,
};

use crate::setup::{Setup, definitions, text_of};

fn a_clean_database_passes_every_check(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
    assert_eq!(report.status, Status::Passed);
    setup.depth = Depth::ReadEverything;
    setup.environment = None;
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
    assert_eq!(report.environment, Some(EnvironmentName::Local));
}

/// The URL of a database that is not there.
fn unreachable(db: &TestDatabase) -> DatabaseUrl {
    match db.dialect() {
        Dialect::Sqlite => format!("{}-gone.db", db.url().expose()).parse().unwrap(),
        Dialect::Postgres => format!("{}_gone", db.url().expose()).parse().unwrap(),
    }
}

fn a_database_that_cannot_be_opened_fails_check_1_and_leaves_the_rest_unknown(db: TestDatabase) {
    let setup = Setup::clean(db);
    let url = unreachable(&setup.db);
    let subject = Subject {
        database_url: &url,
        environment: None,
        definitions: &setup.definitions,
        definitions_file: None,
        app: &|| panic!("there is nothing to ask about"),
        depth: Depth::TrustConstraints,
    };
    let report = verify(&subject, &Selection::all());
    assert_eq!(report.summary, "12 checks: 1 failed, 11 could not run");
    assert_eq!(report.status, Status::Failed);
    assert_eq!(report.checks[0].outcome, Outcome::Failed);
    assert!(report.checks[0].message.contains("gone"), "{}", report.checks[0].message);
    assert_eq!(report.checks[1].message, "the database could not be opened");
    let json = serde_json::to_string(&report).unwrap();
    assert!(!json.contains("password-of-the-test-server"), "{json}");

    // Also where check 1 was not asked for.
    let only = Selection::new(&[find_check("table-counts").unwrap()], &[]).unwrap();
    assert_eq!(verify(&subject, &only).summary, "1 of 12 checks: 1 could not run");
}

fn pending_migrations_fail_check_2(db: TestDatabase) {
    let setup = Setup::clean(db);
    migration::revert(&mut setup.conn(), 1).unwrap();
    let newest = migration::names(setup.db.dialect()).unwrap().pop().unwrap();
    assert_eq!(
        setup.only_trouble("schema-version", Outcome::Failed),
        format!(
            "pending migrations
Critical: pending migrations
- {newest}
repair: migrate-db --env local
"
        )
    );
}

fn migrations_of_a_newer_build_fail_check_2(db: TestDatabase) {
    let setup = Setup::clean(db);
    setup
        .conn()
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000001')")
        .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("schema-version", Outcome::Failed), @r"
        the database belongs to a newer build; migrations unknown to this one
        Critical: the database belongs to a newer build; migrations unknown to this one
        - 20991231000001
        repair: deploy the newer build again, or: rollback-migration --env local
        ");
    }
}

fn a_migration_that_changed_since_it_was_applied_fails_check_2(db: TestDatabase) {
    let setup = Setup::clean(db);
    setup
        .conn()
        .batch_execute(
            "UPDATE migration_ledger SET up_sha256 = replace(replace(up_sha256, '1', '2'), '3', '4') \
             WHERE version IN ('20261123000002', '20261123000004')",
        )
        .unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("schema-version", Outcome::Failed), @r"
        migrations changed since they were applied
        Critical: migrations changed since they were applied
        - 2026-11-23-000002_create_tools
        - 2026-11-23-000004_create_environment_stamp
        repair: migrate-db --accept-changed 2026-11-23-000002 --accept-changed 2026-11-23-000004 --env local
        ");
    }
}

fn no_users_is_a_warning(db: TestDatabase) {
    let setup = Setup::clean(db);
    diesel::delete(users::table).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("table-counts", Outcome::Warned), @r"
        users 0, tools 2, tool_access 0, tool_access_everyone 1, tool_access_exclusion 0
        Warning: there are no users
        repair: omnitool create-user NAME --env local
        ");
    }
}

fn no_tools_is_a_warning(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.definitions = definitions("tool = []");
    diesel::delete(tools::table).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("table-counts", Outcome::Warned), @r"
        users 1, tools 0, tool_access 0, tool_access_everyone 0, tool_access_exclusion 0
        Warning: there are no tools
        repair: sync-tools --env local
        ");
    }
}

fn an_app_that_finds_itself_broken_fails_check_8(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.app = || Ok(AppAnswer::Broken(vec!["templates: no `login`\nat all".to_owned()]));
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("application", Outcome::Failed), @r"
        the app's own check failed
        Critical: the app's own check failed
        - templates: no `login`\nat all
        repair: omnitool check --env local
        ");
    }
}

fn an_app_that_cannot_be_asked_could_not_run(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.app = || Err("there is no omnitool".into());
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("application", Outcome::CouldNotRun), @"there is no omnitool");
    }
    setup.app = || panic!("a bug in the program");
    setup.only_trouble("application", Outcome::CouldNotRun);
}

fn another_stamp_fails_check_9(db: TestDatabase) {
    let setup = Setup::clean(db);
    stamp::write(&mut setup.conn(), EnvironmentName::Production).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("environment-stamp", Outcome::Failed), @r"
        the database is stamped `production`, but `local` was asked for
        Critical: the database is stamped `production`, but `local` was asked for
        repair: verify-migration --env production, or set DATABASE_URL to the database of local
        ");
    }
}

fn a_missing_stamp_fails_check_9(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    diesel::delete(environment_stamp::table).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("environment-stamp", Outcome::Failed), @r"
        the database has no environment stamp
        Critical: the database has no environment stamp
        repair: migrate-db --env local
        ");
    }
    setup.environment = None;
    setup.only_trouble("environment-stamp", Outcome::Failed);
}

fn drop_table(conn: &mut AnyConnection, table: &str) {
    let cascade = match conn.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => "CASCADE",
    };
    conn.batch_execute(&format!("DROP TABLE {table} {cascade}")).unwrap();
}

fn a_check_that_cannot_read_its_table_does_not_keep_the_others_from_running(db: TestDatabase) {
    let setup = Setup::clean(db);
    drop_table(&mut setup.conn(), "tool_access_everyone");
    let report = setup.verify();
    let could_not: Vec<u8> = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::CouldNotRun)
        .map(|check| check.number)
        .collect();
    // On SQLite the view stays, and cannot be described; on PostgreSQL the schema is compared, and misses the table.
    let (expected, summary): (&[u8], _) = match setup.db.dialect() {
        Dialect::Sqlite => (&[2, 4, 6, 7], "12 checks: 8 passed, 4 could not run"),
        Dialect::Postgres => (&[4, 6, 7], "12 checks: 8 passed, 1 failed, 3 could not run"),
    };
    assert_eq!(could_not, expected);
    assert_eq!(report.summary, summary);
    assert!(report.checks[3].message.starts_with("the database could not be read: "));
    assert!(text_of(&report.checks[3]).contains("tool_access_everyone"));
}

fn an_empty_database_is_told_apart_from_a_broken_one(db: TestDatabase) {
    let mut setup = Setup::clean(db);
    setup.db = TestDatabase::empty(setup.db.dialect());
    let report = setup.verify();
    assert_eq!(report.checks[0].outcome, Outcome::Passed);
    assert_eq!(report.checks[1].outcome, Outcome::Failed);
    assert_eq!(report.status, Status::Failed);
    assert_eq!(report.summary, "12 checks: 5 passed, 2 failed, 5 could not run");
}

on_both_databases!(
    a_clean_database_passes_every_check,
    a_database_that_cannot_be_opened_fails_check_1_and_leaves_the_rest_unknown,
    pending_migrations_fail_check_2,
    migrations_of_a_newer_build_fail_check_2,
    a_migration_that_changed_since_it_was_applied_fails_check_2,
    no_users_is_a_warning,
    no_tools_is_a_warning,
    an_app_that_finds_itself_broken_fails_check_8,
    an_app_that_cannot_be_asked_could_not_run,
    another_stamp_fails_check_9,
    a_missing_stamp_fails_check_9,
    a_check_that_cannot_read_its_table_does_not_keep_the_others_from_running,
    an_empty_database_is_told_apart_from_a_broken_one,
);
