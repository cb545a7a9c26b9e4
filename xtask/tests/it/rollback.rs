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
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"
    Release 0002 of staging serves. What each way back would lose:

    --code: release 0001 serves again
      what release 0002 brought; no data

    --schema: not possible: release 0001 knows every migration of the database

    --data: the database is put back to b001
      what was written in the last N minutes
      users: N rows now, N then
      its schema is older by N migrations; it was taken before release 0002

    Nothing was changed. Choose one with --code, --schema or --data.
    ");
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
    insta::assert_snapshot!(&text[from..], @r"
    Roll back staging on the local platform: the code to release 0001

    done  rollback         N.N s  release 0001 serves on 127.0.0.1:PORT as process N, up within N ms; the app of release 0002 was stopped
    done  smoke            N.N s  N of N passed
    done  summary          N.N s  release 0001 serves

    Rolled back after N.N s
      database   not touched
      app        release 0001 serves at http://127.0.0.1:PORT/
      backup     none was taken in this run

    Where to look
      log        .omnitool/staging/app.log
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      look closer:                       .omnitool/staging/current/bin/verify-migration --env staging --verbose
      stop the app:                      cargo xtask stop staging
    ");
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
    insta::assert_snapshot!(stderr(&output), @r"
    error: there is no release of production on the local platform

    hint: deploy one: cargo xtask deploy-production
    ");
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
    insta::assert_snapshot!(&text[from..], @r"
    FAIL  smoke            N.N s  see below
    done  rollback         N.N s  release 0002 serves on 127.0.0.1:PORT as process N, up within N ms; the app of release 0003 was stopped
                                  restored b001
    done  summary          N.N s  release 0002 serves; backup b001 is from before this run

    Stopped after N.N s; this is where everything stands
      database   migrate-db: N migrations applied
      database   import-tool-access: N facts added
      database   rollback-migration: restored b001
      app        release 0002 serves at http://127.0.0.1:PORT/, as before
      backup     b001, from before anything changed

    Where to look
      log        .omnitool/staging/app.log
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      fix the cause, then deploy again:  cargo xtask deploy-staging
      look closer:                       programs/verify-migration --env staging --verbose
      stop the app:                      cargo xtask stop staging
    ");
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
