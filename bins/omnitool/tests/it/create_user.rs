use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use diesel::prelude::*;
use omnitool_database::schema::users;
use omnitool_environment::EnvironmentName;
use omnitool_testing::{CommandOutput, Dialect, TestDatabase, TestProject, on_both_databases};

use crate::PROGRAM;

fn json(output: CommandOutput) -> serde_json::Value {
    serde_json::from_str(&output.success()).unwrap()
}

fn usernames(db: &TestDatabase) -> Vec<String> {
    users::table.order(users::username).select(users::username).load(&mut db.connection()).unwrap()
}

fn a_user_is_made_once(db: TestDatabase) {
    let project = TestProject::new();
    let arguments = ["create-user", "alice", "--admin", "--format", "json"];
    let report = json(project.run(PROGRAM, db.url(), &arguments));
    assert_eq!(report["summary"], "created user alice with 0 default tools");
    let user = &report["users"][0];
    assert_eq!((&user["username"], &user["is_admin"]), (&"alice".into(), &true.into()));
    assert_eq!(user["password"].as_str().unwrap().len(), 23);

    let again = project.run(PROGRAM, db.url(), &arguments);
    let failure: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(failure["kind"], "refused");
    assert_eq!(
        again.failure(1),
        "error: there already is a user `alice`\n\nhint: nothing was changed; choose another\n"
    );
    assert_eq!(usernames(&db), ["alice"]);
}

fn demo_users_are_made_in_an_empty_database_only(db: TestDatabase) {
    let project = TestProject::new();
    let stdout = project.run(PROGRAM, db.url(), &["create-user", "--demo-users"]).success();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["created 5 demo users", "passwords, shown only this once:"]);
    assert!(lines[2].starts_with("  admin       ") && lines[2].ends_with("  (admin)"), "{stdout}");
    assert_eq!(usernames(&db), ["admin", "alice", "user_a", "user_b", "user_c"]);

    let arguments = ["create-user", "--demo-users", "--format", "json"];
    let again = project.run(PROGRAM, db.url(), &arguments);
    let failure: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(failure["kind"], "refused");
    assert!(again.failure(1).starts_with("error: the database already has users\n"));
}

on_both_databases!(a_user_is_made_once, demo_users_are_made_in_an_empty_database_only);

#[test]
fn there_are_no_demo_users_in_production_and_on_heroku() {
    let project = TestProject::new();
    let db = TestDatabase::stamped(Dialect::Sqlite, EnvironmentName::Production);
    let stderr = project.run(PROGRAM, db.url(), &["create-user", "--demo-users"]).failure(1);
    assert_eq!(stderr, "error: demo users are not made in production\n");

    let db = TestDatabase::migrated(Dialect::Sqlite);
    let mut command = project.command(PROGRAM);
    command.env("DATABASE_URL", db.url().expose()).env("DYNO", "run.1");
    command.args(["create-user", "--demo-users"]);
    let stderr = project.output(command).failure(1);
    assert_eq!(stderr, "error: demo users are not made on Heroku\n");
    assert!(usernames(&db).is_empty());
}

#[test]
fn a_password_from_stdin_is_taken_and_never_printed() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    let with_password = |password: &str| {
        let mut command: Command = project.command(PROGRAM);
        command.env("DATABASE_URL", db.url().expose()).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.args(["create-user", "bob", "--password-stdin"]).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let short = with_password("hunter2\n");
    let stderr = String::from_utf8(short.stderr).unwrap();
    assert_eq!(short.status.code(), Some(1));
    assert!(stderr.contains("7 characters") && !stderr.contains("hunter2"), "{stderr}");
    assert!(usernames(&db).is_empty());

    let good = with_password("correct horse battery\n");
    assert_eq!(good.status.code(), Some(0));
    let stdout = String::from_utf8(good.stdout).unwrap();
    assert_eq!(stdout, "created user bob with 0 default tools\n");
}

#[test]
fn senseless_names_and_flags_are_wrong_usage() {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    for arguments in [
        &["create-user"][..],
        &["create-user", "alice", "--demo-users"],
        &["create-user", " alice"],
        &["create-user", "alice", "--email", "nobody"],
    ] {
        let _ = project.run(PROGRAM, db.url(), arguments).failure(2);
    }
    assert!(usernames(&db).is_empty());
}
