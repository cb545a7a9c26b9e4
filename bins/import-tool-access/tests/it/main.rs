//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod git;
#[cfg(target_os = "linux")]
mod terminal;

use omnitool_environment::EnvironmentName;
use omnitool_testing::{
    CommandOutput, Dialect, TestDatabase, TestProject, fixture, on_both_databases,
};
use omnitool_tool_access::{Counts, count, may_use_by_name};

const PROGRAM: &str = env!("CARGO_BIN_EXE_import-tool-access");
const SHIPPED: &str = "data/tool_access_exports/local_tool_access.json";

fn run(project: &TestProject, db: &TestDatabase, arguments: &[&str]) -> CommandOutput {
    project.run(PROGRAM, db.url(), arguments)
}

/// A database with two of the demo users and all tools of the shipped export.
fn prepare(db: &TestDatabase) {
    let mut conn = db.connection();
    fixture::user(&mut conn, "alice");
    fixture::user(&mut conn, "user_a");
    let text = std::fs::read_to_string(TestProject::new().path().join(SHIPPED)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for tool in json["tools"].as_object().unwrap().keys() {
        fixture::tool(&mut conn, tool);
    }
}

/// A small file with the users and tools that it speaks for.
fn small(project: &TestProject) -> &'static str {
    project.write(
        "small.json",
        r#"{"format": "omnitool.tool-access", "version": 1, "environment": "local",
            "users": ["alice", "user_a", "zoe"],
            "tools": {"Invoice Generator": {"everyone": true, "excluded": ["user_a"], "granted": ["zoe"]}}}"#,
    );
    "small.json"
}

#[test]
fn help_shows_the_flags_and_examples() {
    let project = TestProject::new();
    let mut command = project.command(PROGRAM);
    command.arg("--help");
    insta::assert_snapshot!(project.output(command).success(), @r"
    Bring who may use which tool from an export into the database

    Usage: import-tool-access [OPTIONS]

    Options:
          --env <ENV>
              The environment: local, staging or production [default: the database's stamp, else local]
              
              [env: OMNITOOL_ENV=]

          --database-url <URL>
              The database [default: data/environments.toml]. Prefer the variable: flags show in process
              lists
              
              [env: DATABASE_URL]

          --source <FILE>
              The export, or a flat list of grants of an older system
              
              [env: TOOL_ACCESS_SOURCE=]

          --mode <MODE>
              What may be done to the target

              Possible values:
              - merge:     Add; remove nothing
              - sync:      Also remove what the target has against the file, inside the file's scope
              - overwrite: Also remove everything that is not in the file
              
              [env: TOOL_ACCESS_MODE=]
              [default: merge]

          --dry-run
              Show what would change, and change nothing

          --detailed-exitcode
              Exit with 3 where --dry-run or --plan-out finds something to change

          --strict
              Refuse where the file has users that the target does not have, instead of skipping them

          --confirm
              Do what removes facts: needed where a sync or an overwrite finds any to remove

          --max-removals <N|N%>
              How many facts may be removed, as a number or as a part of the scope's, such as 40%
              [default: 25%, at least 10]

          --allow-production
              Allow to overwrite production

          --user <NAME>
              Only facts about this user; can be repeated

          --tool <NAME>
              Only facts about this tool; can be repeated

          --fact <KIND>
              Only facts of this kind

              Possible values:
              - grant:     This user may use the tool
              - wildcard:  Everyone may
              - exclusion: This user must not

          --tools <FILE>
              The tool definitions with the older names of tools [default: data/tools.toml as it was
              when this was built]

          --plan-out <FILE>
              Change nothing, and save the plan with all its changes

          --plan <FILE>
              Apply exactly this saved plan; refused where the target's facts changed since

          --run-id <ID>
              The deployment's run, for the history
              
              [env: OMNITOOL_RUN_ID=]

      -v, --verbose
              List unknown users, and all changes instead of the first

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

    merge      adds what the target lacks and removes nothing, ever; what the target has against the
    file is listed
    sync       also removes that, inside the file's scope (its users and tools), up to --max-removals
    overwrite  also removes everything that is not in the file; refused on production

    It is one transaction: all of it happens, or nothing. Running it again changes nothing. Exclusions
    win over grants.

    Examples:
      import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --dry-run
      import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge
      import-tool-access --source local_tool_access.json --mode sync --user user_a --tool 'Invoice
      Generator' --confirm
      import-tool-access --source local_tool_access.json --mode sync --plan-out plan.json
      import-tool-access --plan plan.json --confirm

    Exit codes: 0 done, 1 failed or refused and nothing changed, 2 wrong usage, 3 changes are pending
    (--detailed-exitcode)
    ");
}

fn the_shipped_export_is_imported_once(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let first = run(&project, &db, &["--source", SHIPPED, "--mode", "merge"]).success();
    assert!(first.contains("[SUCCESS] Import completed: added "), "{first}");
    let mut conn = db.connection();
    assert!(may_use_by_name(&mut conn, "alice", "Invoice Generator").unwrap());
    assert!(!may_use_by_name(&mut conn, "user_a", "Invoice Generator").unwrap());
    let facts = count(&mut conn).unwrap();
    let second = run(&project, &db, &["--source", SHIPPED]).success();
    assert!(second.contains("nothing to do: "), "{second}");
    assert_eq!(count(&mut conn).unwrap(), facts);
}

fn a_dry_run_shows_the_plan_and_changes_nothing(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let file = small(&project);
    let arguments = ["--source", file, "--dry-run", "--detailed-exitcode", "--verbose"];
    let output = run(&project, &db, &arguments);
    assert_eq!(output.code, Some(3));
    insta::allow_duplicates! {
        insta::assert_snapshot!(output.stdout, @r"
        merge of small.json (from local) into local
          read      1 grant, 1 wildcard, 1 exclusion
          added     1 wildcard, 1 exclusion
            + Invoice Generator: user_a excluded
            + Invoice Generator: everyone
          present   0 facts
          skipped   1 fact
          refused   0 facts
          1 user unknown here
            zoe
        Dry run: would add 1 wildcard, 1 exclusion; skipped 1 fact; nothing was changed.
        ");
    }
    assert_eq!(count(&mut db.connection()).unwrap(), Counts::default());
    run(&project, &db, &["--source", file]).success();
    run(&project, &db, &arguments).success();
}

fn json_carries_the_plan_and_a_summary(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let file = small(&project);
    let json = |output: CommandOutput| -> serde_json::Value {
        let mut json: serde_json::Value = serde_json::from_str(&output.success()).unwrap();
        // PostgreSQL has a choice.
        json["foreign_keys"].take();
        json
    };
    let first = json(run(&project, &db, &["--source", file, "--format", "json"]));
    assert_eq!(first["summary"], "added 1 wildcard, 1 exclusion; skipped 1 fact");
    assert_eq!(first["status"], "changed");
    let second = json(run(&project, &db, &["--source", file, "--format", "json"]));
    insta::allow_duplicates! {
        insta::assert_snapshot!(serde_json::to_string_pretty(&second).unwrap(), @r#"
        {
          "added": {
            "exclusions": 0,
            "grants": 0,
            "wildcards": 0
          },
          "additions": [],
          "contradiction_count": 0,
          "contradictions": [],
          "environment": "local",
          "file_sha256": "dbd3add4e80dd877544e57026bb8f5a7e6c5be63be9177dcabb17ee46c4d5396",
          "foreign_keys": null,
          "layout": "canonical",
          "mode": "merge",
          "present": 2,
          "read": {
            "exclusions": 1,
            "grants": 1,
            "wildcards": 1
          },
          "refused": 0,
          "removals": [],
          "removed": {
            "exclusions": 0,
            "grants": 0,
            "wildcards": 0
          },
          "resolved": [],
          "scope": 2,
          "skipped": {
            "deleted_tools": 0,
            "duplicates": 0,
            "unknown_users": 1
          },
          "source": "small.json",
          "source_environment": "local",
          "status": "unchanged",
          "summary": "nothing to do: 2 facts already present; skipped 1 fact",
          "unknown_exclusion_count": 0,
          "unknown_exclusions": [],
          "unknown_user_count": 1,
          "unknown_users": [
            "zoe"
          ],
          "without_effect": 0
        }
        "#);
    }
    let output = run(&project, &db, &["--source", file, "--format", "json", "--strict"]);
    let failure: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(failure["kind"], "refused");
    output.failure(1);
}

fn what_removes_has_to_be_confirmed(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let mut conn = db.connection();
    let alice: i64 = user(&mut conn, "alice");
    let tool: i64 = tool(&mut conn, "Invoice Generator");
    fixture::grant(&mut conn, alice, tool);
    let file = small(&project);
    for mode in ["sync", "overwrite"] {
        let output = run(&project, &db, &["--source", file, "--mode", mode]).failure(1);
        assert!(output.contains("--confirm"), "{output}");
        assert!(output.contains("- Invoice Generator: alice granted"), "{output}");
        assert_eq!(count(&mut conn).unwrap().grants, 1);
    }
    // A limit that is exceeded is said first, also without --confirm.
    let limited = ["--source", file, "--mode", "sync", "--max-removals", "0"];
    let output = run(&project, &db, &limited).failure(1);
    assert!(output.contains("at most 0 may be removed"), "{output}");
    let dry = run(&project, &db, &[&limited[..], &["--dry-run"]].concat());
    assert!(dry.stderr.starts_with("warning: without --dry-run this is refused: "), "{dry:?}");
    assert!(dry.success().contains("- Invoice Generator: alice granted"));
    let dry = run(&project, &db, &["--source", file, "--mode", "sync", "--dry-run"]);
    assert_eq!(dry.stderr, "hint: what removes facts is done with --confirm\n");
    let output = run(&project, &db, &["--source", file, "--mode", "sync", "--confirm"]).success();
    insta::allow_duplicates! {
        insta::assert_snapshot!(output, @r"
        sync of small.json (from local) into local
          read      1 grant, 1 wildcard, 1 exclusion
          added     1 wildcard, 1 exclusion
            + Invoice Generator: user_a excluded
            + Invoice Generator: everyone
          present   0 facts
          skipped   1 fact
          refused   0 facts
          removed   1 grant
            - Invoice Generator: alice granted
          1 user unknown here
        [SUCCESS] Import completed: added 1 wildcard, 1 exclusion; removed 1 grant; skipped 1 fact
        ");
    }
    assert_eq!(count(&mut conn).unwrap(), Counts { grants: 0, wildcards: 1, exclusions: 1 });
}

fn what_removes_nothing_needs_no_confirmation(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let file = small(&project);
    for mode in ["sync", "overwrite"] {
        let output = run(&project, &db, &["--source", file, "--mode", mode]).success();
        assert!(output.contains("  removed   nothing\n"), "{output}");
    }
    let counted = count(&mut db.connection()).unwrap();
    assert_eq!(counted, Counts { grants: 0, wildcards: 1, exclusions: 1 });
}

fn user(conn: &mut omnitool_database::AnyConnection, name: &str) -> i64 {
    use diesel::prelude::*;
    use omnitool_database::schema::users;
    users::table.filter(users::username.eq(name)).select(users::id).first(conn).unwrap()
}

fn tool(conn: &mut omnitool_database::AnyConnection, name: &str) -> i64 {
    use diesel::prelude::*;
    use omnitool_database::schema::tools;
    tools::table.filter(tools::name.eq(name)).select(tools::id).first(conn).unwrap()
}

fn a_saved_plan_is_applied_once(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let file = small(&project);
    let output = run(&project, &db, &["--source", file, "--plan-out", "plan.json"]).success();
    assert!(output.ends_with("nothing was changed.\n"), "{output}");
    assert_eq!(count(&mut db.connection()).unwrap(), Counts::default());
    let output = run(&project, &db, &["--plan", "plan.json"]).success();
    assert!(
        output.contains("[SUCCESS] Import completed: added 1 wildcard, 1 exclusion"),
        "{output}"
    );
    let output = run(&project, &db, &["--plan", "plan.json"]).failure(1);
    insta::allow_duplicates! {
        insta::assert_snapshot!(output, @r"
        error: the target's users, tools or facts changed since the plan was made

        hint: nothing was changed; make a new plan with --plan-out and look at it
        ");
    }
}

fn the_source_and_mode_come_from_the_environment_too(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    let mut command = project.command(PROGRAM);
    command
        .env("DATABASE_URL", db.url().expose())
        .env("TOOL_ACCESS_SOURCE", small(&project))
        .env("TOOL_ACCESS_MODE", "merge");
    project.output(command).success();
    assert_eq!(count(&mut db.connection()).unwrap().wildcards, 1);
}

fn production_is_refused_to_an_overwrite(db: TestDatabase) {
    let db = TestDatabase::stamped(db.dialect(), EnvironmentName::Production);
    let project = TestProject::new();
    prepare(&db);
    let file = small(&project);
    let overwrite = ["--source", file, "--mode", "overwrite", "--confirm"];
    let output = run(&project, &db, &overwrite).failure(1);
    assert!(output.contains("--allow-production"), "{output}");
    assert_eq!(count(&mut db.connection()).unwrap(), Counts::default());
    run(&project, &db, &[&overwrite[..], &["--allow-production"]].concat()).success();
}

fn an_older_name_is_resolved_by_the_definitions(db: TestDatabase) {
    let project = TestProject::new();
    prepare(&db);
    project.write(
        "old.json",
        r#"{"grants": [{"username": "alice", "tool_name": "Email Templates management"},
                       {"username": "alice", "tool_name": "Old Calculator"}]}"#,
    );
    let output = run(&project, &db, &["--source", "old.json"]).success();
    insta::allow_duplicates! {
        insta::assert_snapshot!(output, @r"
        merge of old.json into local
          flat list of an older system: grants only, no scope
          tool `Email Templates management` is now `Email Templates`
          tool `Old Calculator` is deleted: its facts are skipped
          read      2 grants
          added     1 grant
            + Email Templates: alice granted
          present   0 facts
          skipped   1 fact
          refused   0 facts
        [SUCCESS] Import completed: added 1 grant; skipped 1 fact
        ");
    }
    project.write("tools.toml", "");
    let output = run(&project, &db, &["--source", "old.json", "--tools", "tools.toml"]).failure(1);
    insta::allow_duplicates! {
        insta::assert_snapshot!(output, @r"
        error: cannot understand the tool definitions in tools.toml
          caused by: TOML parse error at line 1, column 1
              |
            1 | 
              | ^
            missing field `tool`

        hint: nothing was changed; correct the file, or leave --tools out
        ");
    }
}

#[test]
fn wrong_usage_is_said_before_anything_is_opened() {
    let project = TestProject::new();
    let db = TestDatabase::empty(Dialect::Sqlite);
    for arguments in [
        &[][..],
        &["--source", SHIPPED, "--mode", "replace"],
        &["--source", SHIPPED, "--max-removals", "many"],
        &["--plan", "x", "--dry-run"],
        &["--plan", "x", "--mode", "merge"],
        &["--plan", "x", "--source", "x"],
    ] {
        run(&project, &db, arguments).failure(2);
    }
}

#[test]
fn a_broken_file_is_refused_with_its_place() {
    let project = TestProject::new();
    let db = TestDatabase::migrated(Dialect::Sqlite);
    project.write(
        "broken.json",
        "{\n  \"format\": \"omnitool.tool-access\",\n  \"version\": 1,\n  \"usres\": []\n}",
    );
    let output = run(&project, &db, &["--source", "broken.json"]).failure(1);
    insta::assert_snapshot!(output, @r"
    error: cannot read the export
      caused by: broken.json, line 4, column 10
      caused by: unknown key `usres`; expected `format`, `version`, `environment`, `users` and `tools`, or those of a flat list: `version`, `environment`, `exported_at`, `total_grants` and `grants`

    hint: nothing was changed; correct the file, or export it again with export-tool-access
    ");
}

on_both_databases!(
    the_shipped_export_is_imported_once,
    a_dry_run_shows_the_plan_and_changes_nothing,
    json_carries_the_plan_and_a_summary,
    what_removes_has_to_be_confirmed,
    what_removes_nothing_needs_no_confirmation,
    a_saved_plan_is_applied_once,
    the_source_and_mode_come_from_the_environment_too,
    production_is_refused_to_an_overwrite,
    an_older_name_is_resolved_by_the_definitions,
);

/// Says how a file is refused by the program with a quarter of a gigabyte of memory, and that nothing was changed. A reader
/// that took a line into memory would die of the limit.
#[cfg(unix)]
fn refusal_in_little_memory(project: &TestProject, script: &str) -> String {
    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mut command = project.command("sh");
    command.args(["-c", &format!("ulimit -v 262144; {script}"), PROGRAM]);
    command.env("DATABASE_URL", db.url().expose());
    let error = project.output(command).failure(1);
    assert_eq!(count(&mut db.connection()).unwrap(), Counts::default());
    error
}

#[cfg(unix)]
#[test]
fn a_line_of_a_gigabyte_or_without_end_is_refused_in_bounded_memory_and_changes_nothing() {
    let project = TestProject::new();
    let start = r#"{"format": "omnitool.tool-access", "users": [""#;
    let path = project.write("long.json", start.to_owned() + &"x".repeat(1 << 20));
    // The rest is a hole, which takes no room on the disk; whoever reads on reads zeros.
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 30).unwrap();
    let from_file = r#"exec "$0" --source long.json"#;
    let from_pipe = format!(
        r#"{{ printf %s '{start}'; tr '\0' x </dev/zero; }} | {{ "$0" --source /dev/stdin; }}"#
    );
    for script in [from_file, &from_pipe] {
        let error = refusal_in_little_memory(&project, script);
        assert!(error.contains("line 1, column 16431"), "{error}");
        assert!(error.contains("a text of more than 16384 bytes"), "{error}");
    }
}
