//! The report in each of its forms.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::schema::tools;
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_verification::{Detail, Report, Selection};

use crate::setup::Setup;

/// A database with one trouble of each kind.
fn troubled(db: TestDatabase) -> Setup {
    let mut setup = Setup::clean(db);
    let mut conn = setup.conn();
    fixture::user(&mut conn, "bob <bob@example.com>\n::error::forged");
    diesel::delete(tools::table.find(setup.invoices)).execute(&mut conn).unwrap();
    setup.app = || Err("there is no omnitool".into());
    setup
}

/// The report of the checks that say the same everywhere.
fn report(setup: &Setup) -> Report {
    let mut report = setup.verify_only(&["3", "6", "7", "8", "9"]);
    report.database = "sqlite:omnitool.db".to_owned();
    report
}

fn the_text_is_the_same_on_both_databases(db: TestDatabase) {
    let report = report(&troubled(db));
    insta::allow_duplicates! {
        insta::assert_snapshot!(report.text(Detail::Brief), @r"
        [FAIL] 3 Tool definitions match
               Missing: Invoice Generator
               1 defined tool missing:
                 - Invoice Generator
               repair: sync-tools --env local
        [WARN] 6 Default tools assigned to all users
               warning: 1 default tool not assigned:
                 - bob <bob@example.com>\n::error::forged lacks Email Templates
               repair: sync-tools --assign-defaults --env local
        [PASS] 7 Table counts
               users 2, tools 1, tool_access 1, tool_access_everyone 0, tool_access_exclusion 0
        [FAIL] 8 Application imports correctly
               could not run: there is no omnitool
        [PASS] 9 Environment stamp
        5 of 12 checks: 2 passed, 1 warning, 1 failed, 1 could not run
        ");
        insta::assert_snapshot!(report.text(Detail::Verbose), @r"
        Database: sqlite:omnitool.db
        Environment: local
        [FAIL] 3 Tool definitions match
               proves: the tools are those of data/tools.toml; one that is in the database only is a warning
               Missing: Invoice Generator
               1 defined tool missing:
                 - Invoice Generator
               repair: sync-tools --env local
        [WARN] 6 Default tools assigned to all users
               proves: every active user has every active default tool, unless excluded from it
               warning: 1 default tool not assigned:
                 - bob <bob@example.com>\n::error::forged lacks Email Templates
               repair: sync-tools --assign-defaults --env local
        [PASS] 7 Table counts
               proves: there are users and tools
               users 2, tools 1, tool_access 1, tool_access_everyone 0, tool_access_exclusion 0
        [FAIL] 8 Application imports correctly
               proves: the app's own `omnitool check` passes: configuration, templates, database pool
               could not run: there is no omnitool
        [PASS] 9 Environment stamp
               proves: the database is the one of the environment that was asked for
               local
        Not selected: database-connectivity, schema-version, orphaned-tools, orphaned-users, expected-access, access-assertions, rows-since-backup
        5 of 12 checks: 2 passed, 1 warning, 1 failed, 1 could not run
        ");
    }
}

on_both_databases!(the_text_is_the_same_on_both_databases);

#[test]
fn json_has_everything() {
    let report = report(&troubled(TestDatabase::migrated(Dialect::Sqlite)));
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
    {
      "summary": "5 of 12 checks: 2 passed, 1 warning, 1 failed, 1 could not run",
      "status": "failed",
      "environment": "local",
      "database": "sqlite:omnitool.db",
      "checks": [
        {
          "id": "tool-definitions",
          "number": 3,
          "name": "Tool definitions match",
          "severity": "critical",
          "proves": "the tools are those of data/tools.toml; one that is in the database only is a warning",
          "repair": "sync-tools",
          "outcome": "failed",
          "message": "Missing: Invoice Generator",
          "findings": [
            {
              "severity": "critical",
              "message": "1 defined tool missing",
              "count": 1,
              "rows": [
                "Invoice Generator"
              ],
              "repair": "sync-tools --env local"
            }
          ]
        },
        {
          "id": "default-tools",
          "number": 6,
          "name": "Default tools assigned to all users",
          "severity": "warning",
          "proves": "every active user has every active default tool, unless excluded from it",
          "repair": "sync-tools --assign-defaults",
          "outcome": "warned",
          "message": "1 default tool not assigned",
          "findings": [
            {
              "severity": "warning",
              "message": "1 default tool not assigned",
              "count": 1,
              "rows": [
                "bob <bob@example.com>\\n::error::forged lacks Email Templates"
              ],
              "repair": "sync-tools --assign-defaults --env local"
            }
          ]
        },
        {
          "id": "table-counts",
          "number": 7,
          "name": "Table counts",
          "severity": "warning",
          "proves": "there are users and tools",
          "repair": "omnitool create-user NAME, sync-tools",
          "outcome": "passed",
          "message": "users 2, tools 1, tool_access 1, tool_access_everyone 0, tool_access_exclusion 0",
          "findings": []
        },
        {
          "id": "application",
          "number": 8,
          "name": "Application imports correctly",
          "severity": "critical",
          "proves": "the app's own `omnitool check` passes: configuration, templates, database pool",
          "repair": "omnitool check",
          "outcome": "could-not-run",
          "message": "there is no omnitool",
          "findings": []
        },
        {
          "id": "environment-stamp",
          "number": 9,
          "name": "Environment stamp",
          "severity": "critical",
          "proves": "the database is the one of the environment that was asked for",
          "repair": "choose the right --env or DATABASE_URL; migrate-db stamps a database that has no stamp",
          "outcome": "passed",
          "message": "local",
          "findings": []
        }
      ],
      "not_selected": [
        "database-connectivity",
        "schema-version",
        "orphaned-tools",
        "orphaned-users",
        "expected-access",
        "access-assertions",
        "rows-since-backup"
      ]
    }
    "#);
}

#[test]
fn junit_has_a_case_per_check() {
    let report = report(&troubled(TestDatabase::migrated(Dialect::Sqlite)));
    insta::assert_snapshot!(report.junit(), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="verify-migration" tests="5" failures="1" errors="1">
      <testsuite name="verify-migration" tests="5" failures="1" errors="1">
        <testcase classname="verify-migration.tool-definitions" name="3 Tool definitions match"><failure message="Missing: Invoice Generator">1 defined tool missing:&#10;  - Invoice Generator&#10;repair: sync-tools --env local</failure></testcase>
        <testcase classname="verify-migration.default-tools" name="6 Default tools assigned to all users"><system-out>warning: 1 default tool not assigned:&#10;  - bob &lt;bob@example.com&gt;\n::error::forged lacks Email Templates&#10;repair: sync-tools --assign-defaults --env local</system-out></testcase>
        <testcase classname="verify-migration.table-counts" name="7 Table counts"/>
        <testcase classname="verify-migration.application" name="8 Application imports correctly"><error message="there is no omnitool"/></testcase>
        <testcase classname="verify-migration.environment-stamp" name="9 Environment stamp"/>
        <system-out>5 of 12 checks: 2 passed, 1 warning, 1 failed, 1 could not run</system-out>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn github_gets_an_annotation_per_finding() {
    let report = report(&troubled(TestDatabase::migrated(Dialect::Sqlite)));
    insta::assert_snapshot!(report.github(), @r"
    [FAIL] 3 Tool definitions match
    ::error title=3 Tool definitions match::1 defined tool missing:%0A  - Invoice Generator%0Arepair: sync-tools --env local
    [WARN] 6 Default tools assigned to all users
    ::warning title=6 Default tools assigned to all users::warning: 1 default tool not assigned:%0A  - bob <bob@example.com>\n::error::forged lacks Email Templates%0Arepair: sync-tools --assign-defaults --env local
    [PASS] 7 Table counts
    [FAIL] 8 Application imports correctly
    ::error title=8 Application imports correctly::could not run: there is no omnitool%0Arepair: omnitool check
    [PASS] 9 Environment stamp
    5 of 12 checks: 2 passed, 1 warning, 1 failed, 1 could not run
    ");
}

#[test]
fn times_are_shown_unless_they_are_hidden() {
    let setup = Setup::clean(TestDatabase::migrated(Dialect::Sqlite));
    let report = setup.verify_with_times(&Selection::all());
    assert!(report.text(Detail::Brief).starts_with("[PASS] 1 Database connectivity ("));
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["checks"][0]["elapsed_ms"].as_f64().unwrap() > 0.0);
    assert!(report.junit().contains(" time=\"0."));
    assert_eq!(
        report.without_times().text(Detail::Brief).lines().next().unwrap(),
        "[PASS] 1 Database connectivity"
    );
}

#[test]
fn verifying_changes_nothing() {
    let setup = Setup::clean(TestDatabase::migrated(Dialect::Sqlite));
    let version = |setup: &Setup| {
        let mut conn = setup.conn();
        conn.batch_execute("SELECT 1").unwrap();
        std::fs::read(setup.db.url().sqlite_path().unwrap()).unwrap()
    };
    let before = version(&setup);
    setup.verify();
    assert_eq!(before, version(&setup));
}
