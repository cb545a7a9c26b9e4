//! `cargo xtask rollback`, and `--auto-rollback`.

use std::fs;

use crate::project::{Project, answer, stderr, stdout};

fn twice() -> Project {
    let project = Project::with_scripts();
    for _ in 0..2 {
        let output = project.deploy(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    project
}

fn current(project: &Project) -> String {
    let link = fs::read_link(project.root().join(".omnitool/staging/current")).unwrap();
    link.to_string_lossy().into_owned()
}

#[test]
fn what_each_way_back_loses_is_said_before_one_is_chosen() {
    let project = twice();
    let output = project.xtask(&["rollback", "staging"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"");
    assert_eq!(current(&project), "releases/0002");
}

#[test]
fn the_code_goes_back_after_a_confirmation() {
    let project = twice();
    let output = project.xtask(&["rollback", "staging", "--code"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(r#"pass --confirm "ROLLBACK STAGING""#),
        "{}",
        stderr(&output)
    );
    assert_eq!(current(&project), "releases/0002");
    let output = project.xtask(&["rollback", "staging", "--code", "--confirm", "ROLLBACK STAGING"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = project.normal(&stdout(&output));
    let from = text.find("Roll back staging").unwrap();
    insta::assert_snapshot!(&text[from..], @r"");
    assert_eq!(current(&project), "releases/0001");
    assert!(project.answers());
    // There is nothing before the first release.
    let output = project.xtask(&["rollback", "staging", "--code", "--confirm", "ROLLBACK STAGING"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no release served before release 0001"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn schema_and_data_go_back_through_their_programs() {
    let project = twice();
    let confirm = ["--confirm", "ROLLBACK STAGING"];
    let output =
        project.xtask(&[["rollback", "staging"], ["--schema", "--migrations=1"], confirm].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("Will be lost: 3 phone numbers"), "{text}");
    assert!(text.contains("1 migration reverted"), "{text}");
    let output =
        project.xtask(&[["rollback", "staging"], ["--data", "--backup=b001"], confirm].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("restored b001"), "{}", stdout(&output));
    let output = project.xtask(&["rollback", "staging", "--data", "--code"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_environment_without_releases_has_no_way_back() {
    let project = Project::with_scripts();
    let output = project.xtask(&["rollback", "production"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @r"");
    assert_eq!(project.xtask(&["rollback", "local"]).status.code(), Some(2));
}

#[test]
fn a_failure_is_followed_by_the_way_back_where_that_is_wanted() {
    let project = twice();
    project.program("smoke-tests", "echo '{\"summary\":\"1 of 6 failed\"}'; exit 1");
    let output = project.deploy(&["--auto-rollback"]);
    assert_eq!(output.status.code(), Some(1));
    let text = project.normal(&stdout(&output));
    let from = text.find("FAIL").unwrap();
    insta::assert_snapshot!(&text[from..], @r"");
    assert_eq!(current(&project), "releases/0002");
    assert!(project.answers());
    let output = project.deploy(&["--resume"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("was rolled back"), "{}", stderr(&output));

    // Without a failure there is nothing to go back from.
    project.program("smoke-tests", &answer("6 of 6 passed"));
    let output = project.deploy(&["--auto-rollback"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("skip  rollback             -  nothing failed"),
        "{}",
        stdout(&output)
    );
}
