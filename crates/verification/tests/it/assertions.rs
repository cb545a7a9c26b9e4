//! Check 11.

use std::path::PathBuf;

use diesel::prelude::*;
use omnitool_database::schema::{tools, users};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{TestDatabase, fixture, on_both_databases};
use omnitool_tool_access::{Approval, ImportRequest, Mode, run_import};
use omnitool_verification::Outcome;

use crate::setup::Setup;

fn asserting(db: TestDatabase, text: &str) -> Setup {
    let mut setup = Setup::clean(db);
    setup.access_tests = Some(setup.write("access_tests.toml", text));
    setup
}

fn assertion(users: &str, tool: &str, has: bool) -> String {
    format!("[[assert]]\nusers = {users}\ntool = \"{tool}\"\nhas = {has}\nbecause = \"reasons\"\n")
}

/// Imports what the finding's command imports.
fn repair(setup: &Setup) {
    let report = setup.verify_only(&["access-assertions"]);
    for finding in &report.checks[0].findings {
        let command = finding.repair.as_deref().unwrap();
        let (json, rest) = command.strip_prefix("printf %s '").unwrap().split_once("' | ").unwrap();
        let file: PathBuf = setup.write("repair.json", json);
        let mode = if rest.contains(" --mode sync --confirm ") { Mode::Sync } else { Mode::Merge };
        assert!(rest.starts_with("import-tool-access --source /dev/stdin"), "{rest}");
        let request = ImportRequest { mode, ..ImportRequest::merge(&file) };
        run_import(&mut setup.conn(), EnvironmentName::Local, &request, None, |_| Approval::Apply)
            .unwrap();
    }
    assert_eq!(setup.verify().checks[10].outcome, Outcome::Passed);
}

fn what_holds_passes_and_says_who_does_not_exist(db: TestDatabase) {
    let text = assertion("[\"alice\", \"zoe\"]", "Invoice Generator", false)
        + &assertion("\"active\"", "Email Templates management", true)
        + &assertion("\"admins\"", "Email Templates", true)
        + &assertion("\"everyone\"", "Old Calculator", false);
    let setup = asserting(db, &text);
    let report = setup.verify();
    assert_eq!(report.summary, "12 checks: 12 passed", "{report:#?}");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.anonymous(&report.checks[10].message), @"4 assertions of [FOLDER]/access_tests.toml; without access, since there is no such user: zoe; without users, since the tool is deleted: Old Calculator");
    }
}

fn a_user_who_does_not_exist_has_nothing(db: TestDatabase) {
    let setup = asserting(db, &assertion("[\"alice\", \"alcie\"]", "Email Templates", true));
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Warned), @r"
        1 user unknown here who should have Email Templates by [FOLDER]/access_tests.toml:1 (reasons)
        Warning: 1 user unknown here who should have Email Templates by [FOLDER]/access_tests.toml:1 (reasons)
        - alcie
        repair: omnitool create-user NAME, or correct the name in [FOLDER]/access_tests.toml
        ");
    }
}

fn nobody_has_a_deleted_tool(db: TestDatabase) {
    let setup = asserting(db, &assertion("[\"alice\"]", "Old Calculator", true));
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Failed), @r"
        nobody can have Old Calculator, which is deleted, against [FOLDER]/access_tests.toml:1 (reasons)
        Critical: nobody can have Old Calculator, which is deleted, against [FOLDER]/access_tests.toml:1 (reasons)
        repair: correct or remove it in [FOLDER]/access_tests.toml
        ");
    }
}

fn without_a_file_nothing_was_asked_for(db: TestDatabase) {
    let check = Setup::clean(db).verify().checks.swap_remove(10);
    assert_eq!(check.outcome, Outcome::Passed);
    assert_eq!(check.message, "not asked for: no assertions were given");
}

fn somebody_who_has_what_nobody_may_have_fails(db: TestDatabase) {
    let setup = asserting(db, &assertion("[\"bob\", \"it's\"]", "Invoice Generator", false));
    let mut conn = setup.conn();
    for name in ["bob", "it's"] {
        let user = fixture::user(&mut conn, name);
        fixture::grant(&mut conn, user, setup.email);
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Failed), @r#"
        2 users with Invoice Generator against [FOLDER]/access_tests.toml:1 (reasons)
        Critical: 2 users with Invoice Generator against [FOLDER]/access_tests.toml:1 (reasons)
        - bob
        - it's
        repair: printf %s '{"format":"omnitool.tool-access","version":1,"environment":"local","users":["bob","it'\''s"],"tools":{"Invoice Generator":{"excluded":["bob","it'\''s"]}}}' | import-tool-access --source /dev/stdin --env local
        "#);
    }
    // A shell would put the apostrophe back; this test does not.
    diesel::delete(users::table.filter(users::username.eq("it's"))).execute(&mut conn).unwrap();
    repair(&setup);
}

fn an_admin_without_a_tool_fails(db: TestDatabase) {
    let setup = asserting(db, &assertion("\"admins\"", "Invoice Generator", true));
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    diesel::update(users::table).set(users::is_admin.eq(true)).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Failed), @r#"
        1 user without Invoice Generator against [FOLDER]/access_tests.toml:1 (reasons)
        Critical: 1 user without Invoice Generator against [FOLDER]/access_tests.toml:1 (reasons)
        - alice (excluded)
        repair: printf %s '{"format":"omnitool.tool-access","version":1,"environment":"local","users":["alice"],"tools":{"Invoice Generator":{"excluded":[],"granted":["alice"]}}}' | import-tool-access --source /dev/stdin --mode sync --confirm --env local
        "#);
    }
    repair(&setup);
}

fn only_the_first_ten_of_many_are_named(db: TestDatabase) {
    let text = assertion("\"active\"", "Invoice Generator", false)
        + &assertion("\"everyone\"", "Email Templates", true);
    let setup = asserting(db, &text);
    let mut conn = setup.conn();
    for number in 0..13 {
        let user = fixture::user(&mut conn, &format!("u{number:02}"));
        fixture::exclude(&mut conn, user, setup.email);
    }
    diesel::update(users::table.filter(users::username.eq("u00")))
        .set(users::is_active.eq(false))
        .execute(&mut conn)
        .unwrap();
    let text = setup.only_trouble("access-assertions", Outcome::Failed);
    for expected in [
        "12 users with Invoice Generator against [FOLDER]/access_tests.toml:1 (reasons)\n- u01\n",
        "13 users without Email Templates against [FOLDER]/access_tests.toml:6 (reasons)\n\
         - u00 (inactive)\n- u01 (excluded)\n",
        "\nand 2 more\n",
        "\nand 3 more\n",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

fn a_wildcard_repairs_what_everybody_lacks(db: TestDatabase) {
    let setup = asserting(db, &assertion("\"active\"", "Email Templates", true));
    let mut conn = setup.conn();
    for number in 0..13 {
        fixture::user(&mut conn, &format!("u{number:02}"));
    }
    // Check 6 warns about the same.
    assert_eq!(setup.verify_only(&["access-assertions"]).checks[0].outcome, Outcome::Failed);
    repair(&setup);
}

fn a_tool_that_is_unknown_missing_or_inactive_fails(db: TestDatabase) {
    let setup = asserting(db, &assertion("\"active\"", "Party Planner", false));
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Failed), @r"
        there is no tool Party Planner, of which [FOLDER]/access_tests.toml:1 (reasons) speaks
        Critical: there is no tool Party Planner, of which [FOLDER]/access_tests.toml:1 (reasons) speaks
        repair: correct its name in [FOLDER]/access_tests.toml
        ");
    }
    setup.write("access_tests.toml", &assertion("[\"alice\"]", "Email Templates management", true));
    assert_eq!(setup.verify().summary, "12 checks: 12 passed");
    diesel::update(tools::table.find(setup.email))
        .set(tools::is_active.eq(false))
        .execute(&mut setup.conn())
        .unwrap();
    let text = |setup: &Setup| {
        let report = setup.verify_only(&["access-assertions"]);
        setup.anonymous(&crate::setup::text_of(&report.checks[0]))
    };
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&setup), @r"
        1 user without Email Templates against [FOLDER]/access_tests.toml:1 (reasons)
        Critical: 1 user without Email Templates against [FOLDER]/access_tests.toml:1 (reasons)
        - alice
        repair: set is_active = true for Email Templates in data/tools.toml and run: sync-tools --env local
        ");
    }
    diesel::delete(tools::table.find(setup.email)).execute(&mut setup.conn()).unwrap();
    insta::allow_duplicates! {
        insta::assert_snapshot!(text(&setup), @r"
        the tool Email Templates, of which [FOLDER]/access_tests.toml:1 (reasons) speaks, is missing
        Critical: the tool Email Templates, of which [FOLDER]/access_tests.toml:1 (reasons) speaks, is missing
        repair: sync-tools --env local
        ");
    }
}

fn a_malformed_file_fails_with_every_problem(db: TestDatabase) {
    let setup = asserting(db, "[[assert]]\nuser = 1\n\n[[assert]]\nusers = \"all\"\n");
    insta::allow_duplicates! {
        insta::assert_snapshot!(setup.only_trouble("access-assertions", Outcome::Failed), @r#"
        [FOLDER]/access_tests.toml is malformed: 9 problems
        Critical: [FOLDER]/access_tests.toml is malformed: 9 problems
        - [FOLDER]/access_tests.toml:1: this assertion has no `because`
        - [FOLDER]/access_tests.toml:1: this assertion has no `has`
        - [FOLDER]/access_tests.toml:1: this assertion has no `tool`
        - [FOLDER]/access_tests.toml:1: this assertion has no `users`
        - [FOLDER]/access_tests.toml:2: unknown key `user`, expected one of users, tool, has, because
        - [FOLDER]/access_tests.toml:4: this assertion has no `because`
        - [FOLDER]/access_tests.toml:4: this assertion has no `has`
        - [FOLDER]/access_tests.toml:4: this assertion has no `tool`
        - [FOLDER]/access_tests.toml:5: `users` must be a list of user names, or "admins", "active" or "everyone"
        repair: correct [FOLDER]/access_tests.toml
        "#);
    }
    std::fs::remove_file(setup.access_tests.as_ref().unwrap()).unwrap();
    let text = setup.only_trouble("access-assertions", Outcome::CouldNotRun);
    assert!(text.starts_with("cannot read the assertions: [FOLDER]/access_tests.toml: "), "{text}");
}

on_both_databases!(
    what_holds_passes_and_says_who_does_not_exist,
    a_user_who_does_not_exist_has_nothing,
    nobody_has_a_deleted_tool,
    without_a_file_nothing_was_asked_for,
    somebody_who_has_what_nobody_may_have_fails,
    an_admin_without_a_tool_fails,
    only_the_first_ten_of_many_are_named,
    a_wildcard_repairs_what_everybody_lacks,
    a_tool_that_is_unknown_missing_or_inactive_fails,
    a_malformed_file_fails_with_every_problem,
);
