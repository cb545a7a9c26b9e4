//! Passing, warning, failing, and where the report goes.

use diesel::prelude::*;
use omnitool_database::schema::tools;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase, fixture, on_both_databases};
use omnitool_tool_registry::Definitions;

use crate::program::{Release, WORKS, fill, without_times};

fn a_good_database_passes_as_often_as_one_likes(db: TestDatabase) {
    fill(&db);
    let release = Release::with_app(WORKS);
    for _ in 0..2 {
        let text = release.run(db.url(), &["--env", "local"]).success();
        let tools = Definitions::shipped().unwrap().tools().len();
        let text = text
            .replace(&format!("tools {tools}"), "tools [N]")
            .replace(&format!("tool_access_everyone {tools}"), "tool_access_everyone [N]");
        insta::allow_duplicates! { insta::assert_snapshot!(without_times(&text), @r"
        [PASS] 1 Database connectivity
        [PASS] 2 Schema version
        [PASS] 3 Tool definitions match
        [PASS] 4 No orphaned tool_access (invalid tools)
        [PASS] 5 No orphaned tool_access (invalid users)
        [PASS] 6 Default tools assigned to all users
        [PASS] 7 Table counts
               users 1, tools [N], tool_access 0, tool_access_everyone [N], tool_access_exclusion 0
        [PASS] 8 Application imports correctly
        [PASS] 9 Environment stamp
        [PASS] 10 Access matches the deployed export
               not asked for: no export was given
        [PASS] 11 Access assertions hold
               2 assertions of data/access_tests.toml; without access, since there is no such user: user_a
        [PASS] 12 No rows lost since the last backup
               no backup to compare with
        12 checks: 12 passed
        "); }
    }
}

fn warnings_are_allowed(db: TestDatabase) {
    fill(&db);
    fixture::tool(&mut db.connection(), "Party Planner");
    let text = Release::with_app(WORKS).run(db.url(), &[]).success();
    assert!(text.contains("[WARN] 3 Tool definitions match"), "{text}");
    assert!(text.contains("\n       Extra: Party Planner\n"), "{text}");
    assert!(without_times(&text).ends_with("12 checks: 11 passed, 1 warning"), "{text}");
}

fn a_critical_finding_is_exit_code_1_and_still_a_report(db: TestDatabase) {
    fill(&db);
    diesel::delete(tools::table.filter(tools::name.eq("Time Tracking")))
        .execute(&mut db.connection())
        .unwrap();
    let release = Release::with_app(WORKS);
    let output = release.run(db.url(), &["--format", "json"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(1), ""));
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["summary"], "12 checks: 11 passed, 1 failed");
    assert_eq!(report["status"], "failed");
    assert_eq!(report["checks"][2]["id"], "tool-definitions");
    assert_eq!(report["checks"][2]["message"], "Missing: Time Tracking");
    assert_eq!(report["checks"][2]["findings"][0]["repair"], "sync-tools --env local",);
}

fn verbose_says_what_was_seen(db: TestDatabase) {
    fill(&db);
    let text = Release::with_app(WORKS).run(db.url(), &["--verbose"]).success();
    for expected in [
        &format!("Database: {}\n", db.url()),
        "Environment: local\n",
        &format!("{} ", db.dialect().as_str()),
        " tools as defined\n",
        "4 checks: 4 passed\n",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains("password-of-the-test-server"), "{text}");
}

on_both_databases!(
    a_good_database_passes_as_often_as_one_likes,
    warnings_are_allowed,
    a_critical_finding_is_exit_code_1_and_still_a_report,
    verbose_says_what_was_seen,
);

#[test]
fn another_environment_than_the_stamp_fails() {
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    fill(&db);
    let output = Release::with_app(WORKS).run(db.url(), &["--env", "staging"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("[FAIL] 9 Environment stamp"), "{}", output.stdout);
}

#[test]
fn a_database_that_is_not_there_still_gives_a_report() {
    let release = Release::with_app(WORKS);
    let url = "sqlite:gone.db".parse().unwrap();
    let output = release.run(&url, &[]);
    assert_eq!(output.code, Some(1));
    insta::assert_snapshot!(without_times(&output.stdout), @r"
    [FAIL] 1 Database connectivity
           there is no database file gone.db
           repair: start the database, or correct DATABASE_URL
    [FAIL] 2 Schema version
           could not run: the database could not be opened
    [FAIL] 3 Tool definitions match
           could not run: the database could not be opened
    [FAIL] 4 No orphaned tool_access (invalid tools)
           could not run: the database could not be opened
    [FAIL] 5 No orphaned tool_access (invalid users)
           could not run: the database could not be opened
    [FAIL] 6 Default tools assigned to all users
           could not run: the database could not be opened
    [FAIL] 7 Table counts
           could not run: the database could not be opened
    [FAIL] 8 Application imports correctly
           could not run: the database could not be opened
    [FAIL] 9 Environment stamp
           could not run: the database could not be opened
    [FAIL] 10 Access matches the deployed export
           could not run: the database could not be opened
    [FAIL] 11 Access assertions hold
           could not run: the database could not be opened
    [FAIL] 12 No rows lost since the last backup
           could not run: the database could not be opened
    12 checks: 1 failed, 11 could not run
    ");
    assert!(!release.project.path().join("gone.db").exists());
}

#[test]
fn the_checks_can_be_chosen() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    fill(&db);
    let release = Release::without_app();
    let text = release.run(db.url(), &["--only", "orphaned-tools,5", "--deep"]).success();
    assert!(without_times(&text).ends_with("2 of 12 checks: 2 passed"), "{text}");
    let text = release.run(db.url(), &["--skip", "application"]).success();
    assert!(without_times(&text).ends_with("11 of 12 checks: 11 passed"), "{text}");

    let error = release.run(db.url(), &["--only", "orphans"]).failure(2);
    assert!(
        error.contains("there is no check `orphans` (known: database-connectivity,"),
        "{error}"
    );
    let error = release.run(db.url(), &["--only", "7", "--skip", "7"]).failure(2);
    insta::assert_snapshot!(error, @"error: no check is left to run");
}

#[test]
fn a_report_file_is_whole_and_people_still_see_the_text() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    fill(&db);
    let release = Release::with_app(WORKS);
    let arguments = ["--format", "junit", "--output", "reports/verification.xml"];
    let text = release.run(db.url(), &arguments).success();
    assert!(text.starts_with("[PASS] 1 Database connectivity"), "{text}");
    let file = release.project.path().join("reports/verification.xml");
    let xml = std::fs::read_to_string(file).unwrap();
    assert!(xml.starts_with("<?xml") && xml.ends_with("</testsuites>\n"), "{xml}");

    let arguments = ["--format", "json", "--output", "data"];
    let error = release.run(db.url(), &arguments).failure(1);
    assert!(error.starts_with("error: cannot write the report to data\n"), "{error}");
}

#[test]
fn github_gets_annotations() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    fill(&db);
    let output = Release::without_app().run(db.url(), &["--format", "github"]);
    assert_eq!(output.code, Some(1));
    let annotation = output.stdout.lines().find(|line| line.starts_with("::")).unwrap();
    insta::assert_snapshot!(annotation, @"::error title=8 Application imports correctly::could not run: there is no [ROOT]/release/omnitool%0Arepair: omnitool check");
}

#[test]
fn other_definitions_are_named_in_the_repair() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    fill(&db);
    let release = Release::with_app(WORKS);
    let tool = "[[tool]]\nname = \"New\"\ndescription = \"\"\nroute = \"/new\"\n\
                is_default = false\nis_active = true\n";
    release.project.write("my tools.toml", tool);
    let output = release.run(db.url(), &["--tools", "my tools.toml", "--only", "3"]);
    assert_eq!(output.code, Some(1));
    let repair = "repair: sync-tools --tools 'my tools.toml' --env local\n";
    assert!(output.stdout.contains(repair), "{}", output.stdout);

    release.project.write("my tools.toml", "tool = 1");
    let error = release.run(db.url(), &["--tools", "my tools.toml"]).failure(1);
    assert!(error.starts_with("error: cannot understand the tool definitions in my tools.toml"));
}

#[test]
fn a_malformed_url_is_refused_without_showing_it() {
    let release = Release::with_app(WORKS);
    let mut command =
        release.project.command(release.project.path().join("release/verify-migration"));
    command.env("DATABASE_URL", "mysql://u:hunter2@host/db");
    let error = release.project.output(command).failure(1);
    assert!(error.contains("mysql:") && !error.contains("hunter2"), "{error}");
}
