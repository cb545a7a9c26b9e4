//! The checks of the backup before it is restored.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_backup::Kind;
use omnitool_database::{migration, schema::tools};
use omnitool_environment::EnvironmentName;
use omnitool_testing::fixture;
use serde_json::Value;

use crate::{Site, set_app};

/// A site whose newest backup, `b002`, lacks a tool that this build defines.
fn without_a_tool(kind: Kind) -> Site {
    let site = Site::new(EnvironmentName::Staging);
    let mut conn = site.db.connection();
    diesel::delete(tools::table.filter(tools::id.eq(1))).execute(&mut conn).unwrap();
    site.capture(kind, None);
    fixture::user(&mut conn, "carol");
    site
}

#[test]
fn a_backup_that_fails_a_critical_check_is_not_restored() {
    let site = without_a_tool(Kind::Manual);
    let before = site.dump();
    let output = site.run(&[]);
    assert!(output.stdout.contains("[FAIL] 3 Tool definitions match"), "{output:?}");
    let stderr = output.failure(1);
    assert!(
        stderr.starts_with("error: the backup b002 fails its checks: Tool definitions match: "),
        "{stderr}"
    );
    assert!(stderr.contains("hint: the database is as it was; choose another backup, or restore it anyway: --skip-checks REASON"), "{stderr}");
    assert_eq!((site.dump(), site.backups()), (before, 2));
}

#[test]
fn somebody_with_a_reason_can_restore_it_all_the_same() {
    let site = without_a_tool(Kind::Manual);
    let stdout = site.run(&["--skip-checks", "the tool \u{1b}[31mcomes back"]).success();
    assert!(
        stdout.contains(
            "\nWithout the checks of verify-migration: the tool \u{fffd}[31mcomes back\n"
        ),
        "{stdout}"
    );
    let report = site.run(&["--undo", "--skip-checks", "again", "--format", "json"]).success();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["skipped_checks"], "again");
    assert_eq!(report["checks"], Value::Null);
    site.run(&["--skip-checks", ""]).failure(2);
}

#[test]
fn whoever_is_let_in_again_by_the_backup_is_named() {
    let site = Site::new(EnvironmentName::Staging);
    let mut conn = site.db.connection();
    let dora = fixture::user(&mut conn, "dora");
    site.capture(Kind::Manual, None);
    fixture::exclude(&mut conn, dora, 1);
    let tool: String = tools::table.find(1_i64).select(tools::name).first(&mut conn).unwrap();
    let stdout = site.run(&[]).success();
    let said = format!("The backup lacks 1 exclusion that held until now:\n  {tool}: dora\n");
    assert!(stdout.contains(&said), "{stdout}");
    assert!(stdout.contains("To exclude whom the committed export excludes: "), "{stdout}");
}

#[test]
fn a_backup_that_lets_in_whom_the_access_tests_shut_out_is_not_restored() {
    let site = Site::new(EnvironmentName::Staging);
    let mut conn = site.db.connection();
    let dora = fixture::user(&mut conn, "dora");
    fixture::grant(&mut conn, dora, 1);
    let tool: String = tools::table.find(1_i64).select(tools::name).first(&mut conn).unwrap();
    site.project.write(
        "data/access_tests.toml",
        format!("[[assert]]\nusers = [\"dora\"]\ntool = \"{tool}\"\nhas = false\nbecause = \"dora must not\"\n"),
    );
    site.capture(Kind::Manual, None);
    let stderr = site.run(&[]).failure(1);
    assert!(stderr.contains("fails its checks: "), "{stderr}");
}

#[test]
fn the_findings_are_in_the_report() {
    let site = Site::new(EnvironmentName::Staging);
    let report = site.run(&["--format", "json"]).success();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["checks"]["status"], "passed");
    let checks = report["checks"]["checks"].as_array().unwrap();
    let numbers: Vec<u64> = checks.iter().map(|check| check["number"].as_u64().unwrap()).collect();
    assert!((1..=8).all(|number| numbers.contains(&number)), "{numbers:?}");
    let stdout = site.run(&["--undo"]).success();
    assert!(stdout.contains("\nChecks of the backup: "), "{stdout}");
}

#[test]
fn a_backup_from_before_a_deployment_may_differ_from_what_was_deployed() {
    let site = without_a_tool(Kind::BeforeDeploy);
    let stdout = site.run(&[]).success();
    assert!(stdout.contains("[FAIL] 3 Tool definitions match"), "{stdout}");
    assert!(stdout.contains("\nWhat compares the backup with this build does not count: it belongs to an earlier release.\n"), "{stdout}");

    let site = Site::new(EnvironmentName::Staging);
    let mut conn = site.db.connection();
    migration::revert(&mut conn, 2).unwrap();
    let then = site.dump();
    site.capture(Kind::Manual, None);
    migration::migrate(&mut conn).unwrap();
    site.run(&[]).success();
    assert_eq!(site.dump(), then);
}

#[test]
fn orphans_stop_a_rollback_whatever_the_release() {
    let site = Site::new(EnvironmentName::Staging);
    let mut conn = site.db.connection();
    conn.batch_execute(
        "PRAGMA foreign_keys = OFF; INSERT INTO tool_access (user_id, tool_id, origin) VALUES (1, 99, 'admin')",
    )
    .unwrap();
    // A backup of it is refused before it is one, and so is a file.
    let file = site.project.path().join("orphans.db");
    conn.batch_execute(&format!("VACUUM INTO '{}'", file.display())).unwrap();
    let stderr = site.run(&["--file", "orphans.db", "--skip-checks", "now"]).failure(1);
    assert!(stderr.contains("refer to missing rows of tools"), "{stderr}");
}

#[test]
fn an_app_that_does_not_work_with_the_backup_stops_a_rollback() {
    let site = Site::new(EnvironmentName::Staging);
    set_app(
        &site.project,
        "echo '{\"checks\": [{\"id\": \"database\", \"status\": \"failed\", \"message\": \"no pool\"}]}'; exit 1",
    );
    let before = site.dump();
    let stderr = site.run(&[]).failure(1);
    assert!(stderr.contains("database: no pool"), "{stderr}");
    assert_eq!(site.dump(), before);
}
