//! Two branches' exports, merged by git. See `docs/access-file.md`.

use omnitool_testing::{Dialect, TestDatabase, TestProject, fixture};

use crate::{SHIPPED, prepare, run};

/// Runs git as somebody, without anybody's configuration.
fn git(project: &TestProject, arguments: &[&str]) -> Option<i32> {
    let mut command = project.command("git");
    command.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(arguments);
    project.output(command).code
}

/// Lets `user` use the tool, on a new branch: another line in the list, as an export has it.
fn branch(project: &TestProject, name: &str, tool: &str, user: &str) {
    assert_eq!(git(project, &["checkout", "--quiet", "-b", name, "main"]), Some(0));
    let file = project.path().join(SHIPPED);
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once(&format!("\"{tool}\": {{")).unwrap();
    let (facts, after) = after.split_once("\"granted\": [\n        \"admin\"").unwrap();
    let text = format!(
        "{before}\"{tool}\": {{{facts}\"granted\": [\n        \"admin\",\n        \"{user}\"{after}"
    );
    std::fs::write(file, text).unwrap();
    assert_eq!(git(project, &["commit", "--quiet", "--all", "-m", name]), Some(0));
}

/// A working copy in which the shipped export is committed, and a database that has its facts.
fn committed() -> (TestProject, TestDatabase) {
    let (project, db) = (TestProject::new(), TestDatabase::migrated(Dialect::Sqlite));
    prepare(&db);
    fixture::user(&mut db.connection(), "user_b");
    run(&project, &db, &["--source", SHIPPED]).success();
    for arguments in [
        &["init", "--quiet", "--initial-branch", "main"][..],
        &["add", "data"],
        &["commit", "--quiet", "-m", "start"],
    ] {
        assert_eq!(git(&project, arguments), Some(0));
    }
    (project, db)
}

#[test]
fn branches_that_change_different_tools_merge_without_a_conflict() {
    let (project, db) = committed();
    branch(&project, "one", "Audit Log", "alice");
    branch(&project, "two", "Contract Archive", "alice");
    assert_eq!(git(&project, &["merge", "--quiet", "--no-edit", "one"]), Some(0));
    let output = run(&project, &db, &["--source", SHIPPED]).success();
    assert!(output.contains("    + Audit Log: alice granted\n"), "{output}");
    assert!(output.contains("    + Contract Archive: alice granted\n"), "{output}");
    assert!(output.contains("[SUCCESS] Import completed: added 2 grants;"), "{output}");
}

#[test]
fn a_conflict_is_never_imported() {
    let (project, db) = committed();
    branch(&project, "one", "Audit Log", "alice");
    branch(&project, "two", "Audit Log", "user_b");
    assert_eq!(git(&project, &["merge", "--quiet", "--no-edit", "one"]), Some(1));
    let error = run(&project, &db, &["--source", SHIPPED]).failure(1);
    assert!(error.contains("local_tool_access.json, line "), "{error}");
    // Both sides' lines, with a comma after every name but the last.
    let file = project.path().join(SHIPPED);
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("<<<<<<< HEAD\n").unwrap();
    let (ours, rest) = rest.split_once("=======\n").unwrap();
    let (theirs, after) = rest.split_once(">>>>>>> one\n").unwrap();
    let both = format!("{before}{},\n{theirs}{after}", ours.trim_end());
    std::fs::write(file, both).unwrap();
    let output = run(&project, &db, &["--source", SHIPPED]).success();
    assert!(output.contains("    + Audit Log: alice granted\n"), "{output}");
    assert!(output.contains("    + Audit Log: user_b granted\n"), "{output}");
    assert!(output.contains("[SUCCESS] Import completed: added 2 grants;"), "{output}");
}
