//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

use omnitool_environment::EnvironmentName;
use omnitool_testing::{
    CommandOutput, Dialect, TestDatabase, TestProject, fixture, on_both_databases,
};
use omnitool_tool_access::{Author, exclude, grant, grant_everyone, revoke};

const PROGRAM: &str = env!("CARGO_BIN_EXE_export-tool-access");
const DEFAULT: &str = "data/tool_access_exports/local_tool_access.json";

fn run(project: &TestProject, db: &TestDatabase, arguments: &[&str]) -> CommandOutput {
    project.run(PROGRAM, db.url(), arguments)
}

/// The guide's first scenario: everyone has the tool except `user_a`.
fn scenario(db: &TestDatabase) -> (i64, i64) {
    let mut conn = db.connection();
    let alice = fixture::user(&mut conn, "alice");
    let user_a = fixture::user(&mut conn, "user_a");
    let invoices = fixture::tool(&mut conn, "Invoice Generator");
    let mails = fixture::tool(&mut conn, "Email Templates");
    let admin = Author::admin("admin");
    let _ = grant_everyone(&mut conn, invoices, &admin).unwrap();
    let _ = exclude(&mut conn, user_a, invoices, None, &admin).unwrap();
    let _ = grant(&mut conn, alice, mails, &admin).unwrap();
    (alice, mails)
}

fn read(project: &TestProject, file: &str) -> String {
    std::fs::read_to_string(project.path().join(file)).unwrap()
}

#[test]
fn help_shows_the_flags_and_examples() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r"
    Write who may use which tool to a file that is committed to git

    Usage: export-tool-access [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]
              
              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists
              
              [env: DATABASE_URL]

          --output <PATH>
              Where to write, or - for stdout [default: data/tool_access_exports/ENV_tool_access.json]

          --check
              Write nothing; exit with 3 where the file is not what an export gives, and show the
              difference

          --format <FORMAT>
              How to print the result

              Possible values:
              - text: For people
              - json: For programs: one JSON document on stdout, failures included
              
              [default: text]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    The same facts give the same bytes, from either kind of database: commit the file, and git shows who
    gained or lost what.
    Grants are counted as lines of the file that let somebody in: one user, or everyone.

    Examples:
      export-tool-access --env local
      export-tool-access --env local --output custom_path.json
      export-tool-access --env staging --output - > staging.json
      export-tool-access --env local --check

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the committed file is not what an export gives
    (--check)
    ");
}

fn an_export_goes_where_it_is_committed(db: TestDatabase) {
    let project = TestProject::new();
    std::fs::remove_file(project.path().join(DEFAULT)).unwrap();
    scenario(&db);
    let output = run(&project, &db, &["--env", "local"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(output.success(), @r"
        [SUCCESS] Successfully exported 2 grants to data/tool_access_exports/local_tool_access.json
          1 grant, 1 wildcard, 1 exclusion
        ");
        insta::assert_snapshot!(read(&project, DEFAULT), @r#"
        {
          "format": "omnitool.tool-access",
          "version": 1,
          "environment": "local",
          "users": [
            "alice",
            "user_a"
          ],
          "tools": {
            "Email Templates": {
              "everyone": false,
              "excluded": [],
              "granted": [
                "alice"
              ]
            },
            "Invoice Generator": {
              "everyone": true,
              "excluded": [
                "user_a"
              ],
              "granted": []
            }
          }
        }
        "#);
    }
    // The same facts give the same bytes.
    let before = read(&project, DEFAULT);
    let again = run(&project, &db, &[]);
    assert_eq!(again.stderr, "");
    again.success();
    assert_eq!(read(&project, DEFAULT), before);
    run(&project, &db, &["--check"]).success();
    run(&project, &db, &["--output", "custom/path.json"]).success();
    assert_eq!(read(&project, "custom/path.json"), before);
}

fn an_export_to_stdout_is_nothing_but_the_file(db: TestDatabase) {
    let project = TestProject::new();
    scenario(&db);
    run(&project, &db, &["--output", "x.json"]).success();
    let output = run(&project, &db, &["--output", "-"]);
    assert!(output.stderr.starts_with("[SUCCESS] Successfully exported 2 grants to -\n"));
    assert_eq!(output.success(), read(&project, "x.json"));
    run(&project, &db, &["--output", "-", "--check"]).failure(2);
    run(&project, &db, &["--output", "-", "--format", "json"]).failure(2);
}

fn a_check_shows_who_differs_and_changes_nothing(db: TestDatabase) {
    let project = TestProject::new();
    let (alice, mails) = scenario(&db);
    run(&project, &db, &["--output", "x.json"]).success();
    let before = read(&project, "x.json");
    let _ = revoke(&mut db.connection(), alice, mails, &Author::admin("admin")).unwrap();
    let output = run(&project, &db, &["--output", "x.json", "--check"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(output.stdout, @r"
        x.json differs from the database: an export adds 0 facts and drops 1
          - Email Templates: alice granted
        ");
    }
    output.failure(3);
    assert_eq!(read(&project, "x.json"), before);
    let output = run(&project, &db, &["--output", "x.json", "--check", "--format", "json"]);
    assert_eq!(output.code, Some(3));
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&json["differs"], &json["dropped"]), (&true.into(), &1.into()));
    assert!(json["summary"].as_str().unwrap().contains("drops 1"));
    run(&project, &db, &["--output", "none.json", "--check"]).failure(1);
    // Dropping what the committed file has is said, and done.
    let output = run(&project, &db, &["--output", "x.json"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(output.stderr, @r"
        warning: this export drops 1 of the facts in x.json, which the database does not have:
          - Email Templates: alice granted
        hint: to keep them, restore the file from git, run import-tool-access --source x.json, and export again
        ");
    }
    output.success();
}

#[test]
fn a_file_in_the_midst_of_a_merge_is_not_replaced() {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let project = TestProject::new();
    scenario(&db);
    run(&project, &db, &["--output", "x.json"]).success();
    let conflict = format!("<<<<<<< ours\n=======\n>>>>>>> theirs\n{}", read(&project, "x.json"));
    project.write("x.json", &conflict);
    let error = run(&project, &db, &["--output", "x.json"]).failure(1);
    assert!(error.contains("x.json would be replaced, and it cannot be read"), "{error}");
    assert!(error.contains("line 1, column 1"), "{error}");
    assert_eq!(read(&project, "x.json"), conflict);
}

fn json_carries_counts_and_a_summary(db: TestDatabase) {
    let project = TestProject::new();
    scenario(&db);
    let output = run(&project, &db, &["--output", "x.json", "--format", "json"]).success();
    insta::allow_duplicates! {
        insta::assert_snapshot!(output, @r#"
        {
          "summary": "1 grant, 1 wildcard, 1 exclusion",
          "environment": "local",
          "file": "x.json",
          "grants": 1,
          "wildcards": 1,
          "exclusions": 1,
          "without_effect": 0,
          "dropped": 0
        }
        "#);
    }
}

fn another_environment_is_refused(db: TestDatabase) {
    let staging = TestDatabase::stamped(db.dialect(), EnvironmentName::Staging);
    let project = TestProject::new();
    let output = run(&project, &staging, &["--env", "local"]).failure(1);
    assert!(output.contains("pass --env staging"), "{output}");
    // Without --env, the stamp names the file.
    run(&project, &staging, &[]).success();
    assert!(
        read(&project, "data/tool_access_exports/staging_tool_access.json").contains("staging")
    );
}

#[test]
fn a_database_without_a_schema_is_refused_with_a_hint() {
    let project = TestProject::new();
    let output = run(&project, &TestDatabase::empty(Dialect::Sqlite), &[]).failure(1);
    assert!(output.contains("hint: run migrate-db first"), "{output}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_made_changes_nothing() {
    let project = TestProject::new();
    let db = TestDatabase::migrated(Dialect::Sqlite);
    project.write("file", "not a folder");
    let output = run(&project, &db, &["--output", "file/x.json"]).failure(1);
    assert!(output.contains("cannot write file/x.json"), "{output}");
}

on_both_databases!(
    an_export_goes_where_it_is_committed,
    an_export_to_stdout_is_nothing_but_the_file,
    a_check_shows_who_differs_and_changes_nothing,
    json_carries_counts_and_a_summary,
    another_environment_is_refused,
);
