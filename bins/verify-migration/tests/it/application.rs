//! Check 8: the app that lies beside the program.

use omnitool_testing::{Dialect, TestDatabase};

use crate::program::{Release, fill};

/// The report of check 8 alone, as JSON.
#[track_caller]
fn check_8(release: &Release, code: i32) -> serde_json::Value {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    fill(&db);
    let output = release.run(db.url(), &["--only", "application", "--format", "json"]);
    assert_eq!(output.code, Some(code), "{}{}", output.stdout, output.stderr);
    let mut report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    report["checks"][0].take()
}

#[test]
fn an_app_that_works_says_what_it_checked() {
    let check = check_8(&Release::with_app("echo '{\"summary\": \"4 checks: 4 passed\"}'"), 0);
    assert_eq!(check["outcome"], "passed");
    assert_eq!(check["message"], "4 checks: 4 passed");
}

#[test]
fn the_app_gets_this_database_and_no_secret_in_its_arguments() {
    let script = r#"
        [ "$*" = "check --format json" ] || exit 3
        [ -n "$DATABASE_URL" ] || exit 4
        [ -z "$OMNITOOL_ENV" ] || exit 5
    "#;
    assert_eq!(check_8(&Release::with_app(script), 0)["outcome"], "passed");
}

#[test]
fn an_app_that_is_broken_fails_with_its_reasons() {
    let script = r#"
        echo '{"summary": "the app cannot serve", "status": "failed", "checks": [
            {"id": "templates", "status": "ok", "message": "12"},
            {"id": "database", "status": "failed", "message": "does not answer"}
        ]}'
        exit 1
    "#;
    let check = check_8(&Release::with_app(script), 1);
    assert_eq!(check["outcome"], "failed");
    assert_eq!(check["findings"][0]["rows"], serde_json::json!(["database: does not answer"]));
    assert_eq!(check["findings"][0]["repair"], "omnitool check --env local");
}

#[test]
fn an_app_that_fails_before_its_checks_says_why() {
    let script = r#"
        echo '{"status": "failed", "kind": "failed", "error": "no key", "causes": ["not set"], "hint": null}'
        exit 1
    "#;
    let check = check_8(&Release::with_app(script), 1);
    assert_eq!(check["findings"][0]["rows"], serde_json::json!(["no key: not set"]));
    let check = check_8(&Release::with_app("echo 'error: no memory' >&2; exit 1"), 1);
    assert_eq!(check["findings"][0]["rows"], serde_json::json!(["error: no memory"]));
}

#[test]
fn a_missing_app_could_not_run() {
    let check = check_8(&Release::without_app(), 1);
    assert_eq!(check["outcome"], "could-not-run");
    assert_eq!(check["message"], "there is no [ROOT]/release/omnitool");
}

#[test]
fn an_app_that_ends_as_no_check_ends_could_not_run() {
    let check = check_8(&Release::with_app("echo 'unknown command' >&2; exit 2"), 1);
    assert_eq!(check["outcome"], "could-not-run");
    assert_eq!(check["message"], "`omnitool check` ended with exit status: 2: unknown command");
    let check = check_8(&Release::with_app("kill -9 $$"), 1);
    assert_eq!(check["outcome"], "could-not-run");
}
