use omnitool_testing::{Dialect, TestDatabase, TestProject};

use crate::PROGRAM;

#[test]
fn an_app_that_could_serve_passes_and_nothing_is_written() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let stdout = project.run(PROGRAM, db.url(), &["check", "--env", "local"]).success();
    assert!(stdout.ends_with("\n\nthe app can serve: 4 checks passed\n"), "{stdout}");
    let stdout = project.run(PROGRAM, db.url(), &["check", "--format", "json"]).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["summary"], "the app can serve: 4 checks passed");
    let ids: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["configuration", "templates", "database", "schema"]);
}

#[test]
fn a_broken_configuration_is_a_failed_check() {
    let project = TestProject::new();
    project.write("data/environments.toml", "[local]\ndatabase_uri = 1\n");
    let mut command = project.command(PROGRAM);
    command.args(["check", "--format", "json"]);
    let output = project.output(command);
    let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["summary"], "the app cannot serve: configuration failed");
    assert_eq!(report["status"], "failed");
    let message = report["checks"][0]["message"].as_str().unwrap();
    assert!(message.contains("line 2") && message.contains("database_uri"), "{message}");
    let _ = output.failure(1);
}

#[test]
fn a_missing_database_is_a_failed_check() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("check");
    let output = project.output(command);
    insta::assert_snapshot!(output.stdout, @r#"
    ok      configuration  environment local, database sqlite:.omnitool/local/omnitool.db
    ok      templates      21 pages rendered
    FAILED  database       there is no database file .omnitool/local/omnitool.db

    the app cannot serve: database failed
    "#);
    let _ = output.failure(1);
    assert!(!project.path().join(".omnitool").exists());
}
