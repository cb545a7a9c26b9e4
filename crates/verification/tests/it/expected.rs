//! Check 10.

use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_database::{
    Dialect,
    schema::{tool_access, tool_access_exclusion},
};
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_verification::Outcome;

use crate::setup::Setup;

/// A setup whose access is asked to match what was exported from it.
fn exported(db: TestDatabase) -> Setup {
    let mut setup = Setup::clean(db);
    let file = setup.write(
        "access.json",
        r#"{
  "format": "omnitool.tool-access",
  "version": 1,
  "environment": "local",
  "users": ["alice", "zoe"],
  "tools": {
    "Email Templates management": {"everyone": false, "excluded": [], "granted": ["alice", "zoe"]},
    "Invoice Generator": {"everyone": true, "excluded": ["alice"], "granted": []},
    "Old Calculator": {"everyone": true, "excluded": [], "granted": []}
  }
}"#,
    );
    setup.expected_access = Some(file);
    setup
}

fn without_a_file_nothing_was_asked_for(db: TestDatabase) {
    let setup = Setup::clean(db);
    let check = setup.verify().checks.swap_remove(9);
    assert_eq!((check.id, check.outcome), ("expected-access", Outcome::Passed));
    assert_eq!(check.message, "not asked for: no export was given");
}

fn access_that_is_as_exported_passes(db: TestDatabase) {
    let setup = exported(db);
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.anonymous(&report.checks[9].message), @"3 facts of [FOLDER]/access.json are there; 1 fact about 1 user who do not exist here were not looked at");
    }
}

fn an_excluded_user_who_is_let_in_fails(db: TestDatabase) {
    let setup = exported(db);
    diesel::delete(tool_access_exclusion::table).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("expected-access", Outcome::Failed), @r"
        1 user with a tool from which the export excludes them; 1 fact of the export missing
        Critical: 1 user with a tool from which the export excludes them
        - Invoice Generator: alice
        repair: import-tool-access --source [FOLDER]/access.json --env local
        Critical: 1 fact of the export missing
        - Invoice Generator: alice excluded
        repair: import-tool-access --source [FOLDER]/access.json --env local
        ");
    }
}

fn a_fact_that_is_missing_fails(db: TestDatabase) {
    let setup = exported(db);
    diesel::delete(tool_access::table).execute(&mut setup.conn()).unwrap();
    // By the wildcard, alice lacks no default tool; the export says that there is none.
    fixture::everyone(&mut setup.conn(), setup.email);
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("expected-access", Outcome::Failed), @r"
        1 fact of the export missing; 1 fact that the export, which speaks for it, has not
        Critical: 1 fact of the export missing
        - Email Templates: alice granted
        repair: import-tool-access --source [FOLDER]/access.json --env local
        Warning: 1 fact that the export, which speaks for it, has not
        - Email Templates: everyone
        repair: import-tool-access --env local --source [FOLDER]/access.json --mode sync --fact wildcard --tool 'Email Templates' --confirm
        ");
    }
}

fn a_fact_beyond_the_file_is_a_warning(db: TestDatabase) {
    let setup = exported(db);
    fixture::exclude(&mut setup.conn(), setup.alice, setup.email);
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("expected-access", Outcome::Warned), @r"
        1 fact that the export, which speaks for it, has not
        Warning: 1 fact that the export, which speaks for it, has not
        - Email Templates: alice excluded
        repair: import-tool-access --env local --source [FOLDER]/access.json --mode sync --fact exclusion --tool 'Email Templates' --user alice --confirm
        ");
    }
    // Of somebody about whom the file says nothing, nothing is said.
    diesel::delete(tool_access_exclusion::table.find((setup.alice, setup.email)))
        .execute(&mut setup.conn())
        .unwrap();
    let bob = fixture::user(&mut setup.conn(), "bob");
    fixture::grant(&mut setup.conn(), bob, setup.email);
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
}

fn more_than_a_plan_lists_is_still_told_apart(db: TestDatabase) {
    let setup = exported(db);
    let users: Vec<String> = (0..1500).map(|number| format!("\"u{number:04}\"")).collect();
    let all = users.join(",");
    let text = format!(
        "{{\"format\":\"omnitool.tool-access\",\"version\":1,\"environment\":\"local\",\"users\":[{all}],\
         \"tools\":{{\"Email Templates\":{{\"everyone\":false,\"excluded\":[],\"granted\":[{all}]}},\
         \"Invoice Generator\":{{\"everyone\":true,\"excluded\":[{}],\"granted\":[]}}}}}}",
        users[..20].join(",")
    );
    setup.write("access.json", &text);
    let values: Vec<String> = (0..1500).map(|number| format!("('u{number:04}', '!')")).collect();
    setup
        .conn()
        .batch_execute(&format!(
            "INSERT INTO users (username, password_hash) VALUES {}",
            values.join(",")
        ))
        .unwrap();
    let report = setup.verify_only(&["expected-access"]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.anonymous(&crate::setup::text_of(&report.checks[0])), @r"
        20 users with a tool from which the export excludes them; 1520 facts of the export missing
        Critical: 20 users with a tool from which the export excludes them
        - Invoice Generator: u0000
        - Invoice Generator: u0001
        - Invoice Generator: u0002
        - Invoice Generator: u0003
        - Invoice Generator: u0004
        - Invoice Generator: u0005
        - Invoice Generator: u0006
        - Invoice Generator: u0007
        - Invoice Generator: u0008
        - Invoice Generator: u0009
        and 10 more
        repair: import-tool-access --source [FOLDER]/access.json --env local
        Critical: 1520 facts of the export missing
        - Email Templates: u0000 granted
        - Email Templates: u0001 granted
        - Email Templates: u0002 granted
        - Email Templates: u0003 granted
        - Email Templates: u0004 granted
        - Email Templates: u0005 granted
        - Email Templates: u0006 granted
        - Email Templates: u0007 granted
        - Email Templates: u0008 granted
        - Email Templates: u0009 granted
        and 1510 more
        repair: import-tool-access --source [FOLDER]/access.json --env local
        ");
    }
}

#[test]
fn a_pipe_is_read_once() {
    let mut setup = exported(TestDatabase::migrated(Dialect::Sqlite));
    let users: Vec<String> = (0..1500).map(|number| format!("u{number:04}")).collect();
    let values: Vec<String> = users.iter().map(|user| format!("('{user}', '!')")).collect();
    let insert = format!("INSERT INTO users (username, password_hash) VALUES {}", values.join(","));
    setup.conn().batch_execute(&insert).unwrap();
    let facts = serde_json::json!({ "Email Templates": { "granted": users } });
    let text = format!(
        "{{\"format\":\"omnitool.tool-access\",\"version\":1,\"environment\":\"local\",\"users\":{},\"tools\":{facts}}}",
        serde_json::json!(users)
    );
    let pipe = setup.write("pipe", "").with_file_name("pipe.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    setup.expected_access = Some(pipe.clone());
    let writer = std::thread::spawn(move || std::fs::write(pipe, text).unwrap());
    let report = setup.verify_only(&["expected-access"]);
    writer.join().unwrap();
    assert_eq!(report.checks[0].message, "1500 facts of the export missing");
}

fn an_export_that_cannot_be_compared_could_not_run(db: TestDatabase) {
    let setup = exported(db);
    setup.write("access.json", "{}");
    let text = setup.only_trouble("expected-access", Outcome::CouldNotRun);
    assert!(text.starts_with("cannot read the export: "), "{text}");
    setup.write(
        "access.json",
        r#"{"format": "omnitool.tool-access", "version": 1, "environment": "local", "users": [],
            "tools": {"Party Planner": {"everyone": true}}}"#,
    );
    let text = setup.only_trouble("expected-access", Outcome::CouldNotRun);
    assert!(text.contains("names tools that the target does not have: `Party Planner`"), "{text}");
}

on_both_databases!(
    without_a_file_nothing_was_asked_for,
    access_that_is_as_exported_passes,
    an_excluded_user_who_is_let_in_fails,
    a_fact_that_is_missing_fails,
    a_fact_beyond_the_file_is_a_warning,
    more_than_a_plan_lists_is_still_told_apart,
    an_export_that_cannot_be_compared_could_not_run,
);

#[test]
fn exclusions_that_the_view_forgets_are_noticed() {
    let setup = exported(TestDatabase::migrated(Dialect::Sqlite));
    setup
        .conn()
        .batch_execute(
            "DROP VIEW effective_tool_access; CREATE VIEW effective_tool_access AS \
             SELECT users.id AS user_id, tools.id AS tool_id FROM users CROSS JOIN tools",
        )
        .unwrap();
    let report = setup.verify_only(&["expected-access"]);
    assert_eq!(report.checks[0].message, "1 exclusion without effect in this database");
}

#[test]
fn comparing_changes_nothing() {
    let setup = exported(TestDatabase::migrated(Dialect::Sqlite));
    diesel::delete(tool_access::table).execute(&mut setup.conn()).unwrap();
    let before = omnitool_testing::dump(&mut setup.conn());
    setup.verify();
    assert_eq!(omnitool_testing::dump(&mut setup.conn()), before);
}
