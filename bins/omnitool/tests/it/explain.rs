use omnitool_testing::{TestDatabase, TestProject, fixture, on_both_databases};

use crate::PROGRAM;

fn it_says_who_may_use_what_and_why(db: TestDatabase) {
    let project = TestProject::new();
    let conn = &mut db.connection();
    let (_, user_a) = (fixture::user(conn, "alice"), fixture::user(conn, "user_a"));
    let tool = fixture::tool(conn, "Invoice Generator");
    fixture::everyone(conn, tool);
    fixture::exclude(conn, user_a, tool);
    let run = |arguments: &[&str]| project.run(PROGRAM, db.url(), arguments);

    let stdout = run(&["explain", "alice", "Invoice Generator"]).success();
    assert!(stdout.contains("everyone may use it") && stdout.ends_with('\n'), "{stdout}");

    let stdout = run(&["explain", "user_a", "Invoice Generator", "--format", "json"]).success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        report["summary"],
        "user_a may not use Invoice Generator: the user is excluded, and an exclusion wins over everything"
    );
    assert_eq!((&report["may_use"], &report["reason"]), (&false.into(), &"excluded".into()));

    let stderr = run(&["explain", "bob", "Invoice Generator"]).failure(1);
    assert!(stderr.starts_with("error: there is no user `bob`\n\nhint: "), "{stderr}");
    let stderr = run(&["explain", "alice", "Invoices"]).failure(1);
    assert!(stderr.starts_with("error: there is no tool `Invoices`\n\nhint: "), "{stderr}");
}

on_both_databases!(it_says_who_may_use_what_and_why);
