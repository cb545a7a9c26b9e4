//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use diesel::prelude::*;
use omnitool_database::schema::{tool_access, tool_access_run, tools};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{
    CommandOutput, Dialect, TestDatabase, TestProject, fixture, on_both_databases,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sync-tools");

fn run(project: &TestProject, db: &TestDatabase, arguments: &[&str]) -> CommandOutput {
    project.run(PROGRAM, db.url(), arguments)
}

fn count_tools(db: &TestDatabase) -> i64 {
    tools::table.count().get_result(&mut db.connection()).unwrap()
}

/// A file of one tool, and what it says is deprecated.
fn one_tool(project: &TestProject, deprecated: &str) {
    let text = format!(
        "[[tool]]\nname = \"Invoice Generator\"\ndescription = \"Generate PDF invoices\"\n\
         route = \"/invoice_generator\"\nis_default = false\nis_active = true\n{deprecated}"
    );
    project.write("tools.toml", text);
}

#[test]
fn help_shows_the_flags_and_examples() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r"
    Make the database's tools as defined in data/tools.toml

    Usage: sync-tools [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]
              
              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists
              
              [env: DATABASE_URL]

          --tools <FILE>
              The definitions [default: data/tools.toml as it was when this program was built]

          --dry-run
              Show what would change, and change nothing

          --detailed-exitcode
              Exit with 3 where --dry-run finds something to change

          --assign-defaults
              Also grant default tools to active users who cannot use them and are not excluded

          --prune-orphans
              Also remove grants, wildcards and exclusions whose user or tool does not exist

          --run-id <ID>
              The deployment's run, for the history
              
              [env: OMNITOOL_RUN_ID=]

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

    Deprecated tools go first: a renamed tool keeps its grants and exclusions, a deleted one loses them.
    Then the defined tools are made and updated. A tool that is neither defined nor deprecated is left
    alone. All of it happens, or nothing.

    Examples:
      sync-tools
      sync-tools --env staging --dry-run
      sync-tools --tools data/tools.toml --dry-run --detailed-exitcode
      sync-tools --assign-defaults

    Exit codes: 0 done, 1 failed or refused and nothing changed, 2 wrong usage, 3 changes are pending
    (--detailed-exitcode)
    ");
}

fn the_guides_first_scenario_prints_the_guides_lines(db: TestDatabase) {
    let project = TestProject::new();
    one_tool(&project, "");
    let output = run(&project, &db, &["--tools", "tools.toml"]).success();
    assert_eq!(output, "Creating new tool: Invoice Generator\nTool Synchronization Completed.\n");
    let again = run(&project, &db, &["--tools", "tools.toml"]).success();
    assert_eq!(
        again,
        "Nothing to change: every tool is as defined.\nTool Synchronization Completed.\n"
    );
}

fn the_shipped_tools_need_no_file(db: TestDatabase) {
    let project = TestProject::new();
    std::fs::remove_file(project.path().join("data/tools.toml")).unwrap();
    let output = run(&project, &db, &["--env", "local"]).success();
    assert!(output.ends_with("Tool Synchronization Completed.\n"), "{output}");
    assert!(count_tools(&db) >= 14);
}

fn a_dry_run_says_what_is_pending_and_writes_nothing(db: TestDatabase) {
    let project = TestProject::new();
    let mut conn = db.connection();
    let user = fixture::user(&mut conn, "alice");
    let tool = fixture::tool(&mut conn, "Old Calculator");
    fixture::grant(&mut conn, user, tool);
    one_tool(&project, "[deprecated]\n\"Old Calculator\" = false\n");

    let flags = ["--tools", "tools.toml", "--dry-run", "--detailed-exitcode"];
    let output = run(&project, &db, &flags);
    assert_eq!(output.code, Some(3));
    assert_eq!(
        output.stdout,
        "Deleting tool: Old Calculator (1 grant)\nCreating new tool: Invoice Generator\n\
         Dry run: nothing was changed.\n"
    );
    let grants: i64 = tool_access::table.count().get_result(&mut conn).unwrap();
    assert_eq!(grants, 1);
    run(&project, &db, &flags[..3]).success();

    run(&project, &db, &flags[..2]).success();
    run(&project, &db, &flags).success();
}

fn json_carries_one_line_for_people(db: TestDatabase) {
    let project = TestProject::new();
    let read = |flags: &[&str]| -> serde_json::Value {
        let output = run(&project, &db, flags).success();
        serde_json::from_str(&output).unwrap()
    };
    one_tool(&project, "");
    let pending = read(&["--tools", "tools.toml", "--format", "json", "--dry-run"]);
    assert_eq!(pending["status"], "pending");
    assert_eq!(pending["environment"], "local");
    let changed = read(&["--tools", "tools.toml", "--format", "json"]);
    assert_eq!(changed["status"], "changed");
    assert_eq!(changed["summary"], "tools: 1 created");
    assert_eq!(changed["plan"], pending["plan"]);
    let unchanged = read(&["--tools", "tools.toml", "--format", "json"]);
    assert_eq!(unchanged["status"], "unchanged");
    assert_eq!(unchanged["summary"], "nothing to change");
}

fn default_tools_are_assigned_on_demand(db: TestDatabase) {
    let project = TestProject::new();
    let mut conn = db.connection();
    fixture::user(&mut conn, "alice");
    run(&project, &db, &[]).success();
    let output = run(&project, &db, &["--assign-defaults", "--prune-orphans", "--run-id", "run-7"])
        .success();
    assert!(output.starts_with("Assigning default tool: "), "{output}");
    let origins: Vec<String> =
        tool_access::table.select(tool_access::origin).distinct().load(&mut conn).unwrap();
    assert_eq!(origins, ["default"]);
    let runs: Vec<(String, Option<String>)> = tool_access_run::table
        .select((tool_access_run::program, tool_access_run::run_id))
        .load(&mut conn)
        .unwrap();
    assert_eq!(runs, [("sync-tools".to_owned(), Some("run-7".to_owned()))]);
}

fn a_file_that_contradicts_itself_is_refused_before_any_change(db: TestDatabase) {
    let project = TestProject::new();
    one_tool(
        &project,
        "[deprecated]\n\"Invoice Generator\" = false\n\"a\" = \"b\"\n\"b\" = \"a\"\n",
    );
    let error = run(&project, &db, &["--tools", "tools.toml"]).failure(1);
    insta::allow_duplicates! {
        insta::assert_snapshot!(error, @r"
        error: the tool definitions in tools.toml are not consistent
          caused by: tools.toml:8: `Invoice Generator` is deprecated here but still defined in line 2
            tools.toml:9: these renames go in a circle: a -> b -> a

        hint: nothing was changed; correct these lines and run it again
        ");
    }
    assert_eq!(count_tools(&db), 0);
}

on_both_databases!(
    the_guides_first_scenario_prints_the_guides_lines,
    the_shipped_tools_need_no_file,
    a_dry_run_says_what_is_pending_and_writes_nothing,
    json_carries_one_line_for_people,
    default_tools_are_assigned_on_demand,
    a_file_that_contradicts_itself_is_refused_before_any_change,
);

#[test]
fn a_malformed_file_is_refused_with_line_and_column() {
    let project = TestProject::new();
    let db = TestDatabase::migrated(Dialect::Sqlite);
    project.write("tools.toml", "[[tool]]\nname = Mail\n");
    insta::assert_snapshot!(run(&project, &db, &["--tools", "tools.toml"]).failure(1), @r"
    error: cannot understand the tool definitions in tools.toml
      caused by: TOML parse error at line 2, column 8
          |
        2 | name = Mail
          |        ^^^^
        string values must be quoted, expected literal string

    hint: nothing was changed; correct the file, or pass another one with --tools
    ");
}

#[test]
fn another_environments_database_is_refused() {
    let project = TestProject::new();
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let output = run(&project, &db, &["--env", "staging", "--format", "json"]);
    let failure: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(failure["kind"], "refused");
    insta::assert_snapshot!(output.failure(1), @r"
    error: this database is stamped `production`, but `staging` was asked for

    hint: to work on this database, pass --env production
    ");
    assert_eq!(count_tools(&db), 0);
}

#[test]
fn a_database_behind_this_build_is_refused_with_the_way_on() {
    let project = TestProject::new();
    let db = TestDatabase::empty(Dialect::Sqlite);
    let error = run(&project, &db, &[]).failure(1);
    assert!(error.ends_with("hint: run migrate-db first\n"), "{error}");
}

#[test]
fn a_missing_database_is_not_made() {
    let project = TestProject::new();
    let url = "sqlite:missing.db".parse().unwrap();
    insta::assert_snapshot!(project.run(PROGRAM, &url, &[]).failure(1), @r"
    error: there is no database file missing.db

    hint: run migrate-db to make it, or choose another database
    ");
    assert!(!project.path().join("missing.db").exists());
}

#[test]
fn the_exit_code_for_pending_changes_needs_a_dry_run() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--detailed-exitcode");
    let error = project.output(command).failure(2);
    assert!(error.contains("--dry-run"), "{error}");
}
