//! Runs that are killed, and those that go on with them.

use std::{fs, process::Stdio};

use crate::project::{Project, answer, eventually, stderr, stdout};

/// Kills a deployment as soon as `program` runs, as a machine that stops does.
fn kill_in(project: &Project, arguments: &[&str], program: &str) {
    let wait = format!("{}; exit 1", waiting(project));
    match program {
        "migrate-db" => project.migrate(&wait),
        _ => project.program(program, &wait),
    }
    kill_waiting(project, "staging", arguments);
}

/// A script that waits when it runs for the first time, until the deployment is killed, and then fails.
fn waiting(project: &Project) -> String {
    format!(
        "[ -e {1} ] || {{ touch {0}; while [ -e {0} ]; do sleep 0.01; done; exit 1; }}",
        project.root().join("state").display(),
        project.root().join(".omnitool/over").display()
    )
}

/// Kills a deployment as soon as one of its programs is [`waiting`].
fn kill_waiting(project: &Project, environment: &str, arguments: &[&str]) {
    let marker = project.root().join("state");
    let mut child = project.spawn(arguments, Stdio::null());
    eventually(|| marker.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(project.root().join(".omnitool/over"), "").unwrap();
    fs::remove_file(marker).unwrap();
    // The program, which nobody killed, has the lock as long as it runs.
    let lock = project.root().join(".omnitool").join(environment).join("deploy.lock");
    eventually(|| fs::File::open(&lock).unwrap().try_lock().is_ok());
}

#[test]
fn a_killed_deployment_goes_on_after_its_last_good_step() {
    let project = Project::with_scripts();
    project.init_git();
    project.deploy(&[]);
    kill_in(&project, &["deploy-staging"], "migrate-db");
    let killed = project.journal();
    assert!(!killed.contains("run-ended"), "{killed}");
    let shown = stdout(&project.xtask(&["deployments"]));
    assert!(shown.contains("died in release"), "{shown}");

    let output = project.deploy(&["--resume"]);
    assert_eq!(output.status.code(), Some(1), "the release's migrate-db waits no more and fails");
    // The release that is on its way has the program that it has; only a new one has another.
    let text = project.normal(&stdout(&output));
    insta::assert_snapshot!(text.lines().take(9).collect::<Vec<_>>().join("\n"), @r"
    Deploying release 0002 to staging on the local platform, over release 0001
    This continues run RUN

    skip  tests                -  not asked for with --tests
    kept  build                -  artifact HASH packed, N.N MB, commit HASH
                                  N applied, 0 pending
    kept  backup               -  backup b001 of N kB
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  nothing to set, N unchanged
    ");
    project.migrate(&answer("nothing to migrate"));
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("over release 0001"), "{}", stdout(&output));
}

#[test]
fn a_deployment_killed_in_a_check_goes_on_and_ends_as_any_other() {
    let project = Project::with_scripts();
    project.init_git();
    kill_in(&project, &["deploy-staging"], "smoke-tests");
    project.program("smoke-tests", &answer("6 of 6 passed"));
    // What holds the lock is the process, and that is gone.
    let output = project.deploy(&["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"
    Deploying release 0001 to staging on the local platform, where nothing serves
    This continues run RUN

    skip  tests                -  not asked for with --tests
    kept  build                -  artifact HASH packed, N.N MB, commit HASH
    skip  backup               -  there is no database yet
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  nothing to set, N unchanged
    kept  release              -  release 0001 unpacked
                                  N migrations applied
                                  made N users
                                  ready to serve
                                  release 0001 serves on 127.0.0.1:PORT as process N, up within N ms
                                  no old release to remove
    kept  import-access        -  N facts added
    kept  verify               -  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0001 serves

    Release 0001 serves at http://127.0.0.1:PORT/ after N.N s
      database   migrate-db: N migrations applied (before this run continued)
      database   omnitool: made N users (before this run continued)
      database   import-tool-access: N facts added (before this run continued)
      app        release 0001 serves at http://127.0.0.1:PORT/
      backup     none was taken in this run

    Where to look
      log        .omnitool/staging/app.log
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      look closer:                       programs/verify-migration --env staging --verbose
      stop the app:                      cargo xtask stop staging
    ");
    let again = project.deploy(&["--resume"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("there is nothing to continue"), "{}", stderr(&again));
    // What was continued has passed staging.
    // (Its smoke-tests is the one that was killed, which fails.)
    let output = project.deploy_production(&[]);
    assert!(stdout(&output).contains("passed staging in run "), "{}", stderr(&output));
}

#[test]
fn a_killed_production_deployment_goes_on_with_a_new_approval() {
    let project = Project::with_scripts();
    project.init_git();
    let smoke = format!(
        "if [ $OMNITOOL_ENV = production ]; then {}; fi\n{}",
        waiting(&project),
        answer("6 of 6 passed")
    );
    project.program("smoke-tests", &smoke);
    assert_eq!(project.deploy(&[]).status.code(), Some(0));
    let confirm = ["deploy-production", "--confirm", "DEPLOY PRODUCTION"];
    kill_waiting(&project, "production", &confirm);
    let output = project.xtask(&["deploy-production", "--resume"]);
    assert_eq!(output.status.code(), Some(1), "an approval is for one run");
    let output = project.deploy_production(&["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = project.normal(&stdout(&output));
    assert!(text.contains("kept  release"), "{text}");
    assert!(text.contains("done  safety-gate"), "{text}");
}

#[test]
fn a_new_run_after_a_dead_one_says_so() {
    let project = Project::with_scripts();
    kill_in(&project, &["deploy-staging"], "import-tool-access");
    project.program("import-tool-access", &answer("18 facts added"));
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = project.normal(&stdout(&output));
    assert!(text.starts_with("note: ann (process N on "), "{text}");
    assert!(text.contains("died; this is a new run"), "{text}");
    // Only the newest run can be continued.
    let runs = project.root().join(".omnitool/staging/runs");
    let oldest = fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let id = oldest.file_stem().unwrap().to_str().unwrap();
    let output = project.deploy(&["--resume", id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("came after run"), "{}", stderr(&output));
    let output = project.deploy(&["--resume", "nope"]);
    assert!(stderr(&output).contains("run nope of staging is not there"), "{}", stderr(&output));
}

#[test]
fn a_step_can_be_chosen_to_begin_with() {
    let project = Project::with_scripts();
    project.init_git();
    project.program("smoke-tests", "echo '{\"summary\":\"1 of 6 failed\"}'; exit 1");
    assert_eq!(project.deploy(&[]).status.code(), Some(1));
    project.program("smoke-tests", &answer("6 of 6 passed"));
    let output = project.deploy(&["--resume", "--from", "prune-backups"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("smoke before it is not done"), "{}", stderr(&output));
    let output = project.deploy(&["--resume", "--from", "import-access"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("kept  release") && text.contains("done  import-access"), "{text}");
    assert_eq!(project.deploy(&["--from", "verify"]).status.code(), Some(2));
}

#[test]
fn who_waits_gets_the_environment_when_it_is_free() {
    let project = Project::with_scripts();
    let marker = project.root().join("state");
    project.migrate(&format!(
        "if [ ! -e {0} ]; then touch {0}; sleep 1; fi\ntouch \"${{DATABASE_URL#sqlite:}}\"\n{1}",
        marker.display(),
        answer("6 migrations applied")
    ));
    let mut first = project.spawn(&["deploy-staging"], Stdio::null());
    eventually(|| marker.exists());
    let output = project.deploy(&["--wait=30"]);
    assert!(first.wait().unwrap().success());
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("waiting for ann (process "), "{text}");
    assert!(text.contains("release 0002 serves"), "{text}");
}

#[test]
fn hooks_run_around_steps_with_the_facts_of_the_run() {
    let project = Project::with_scripts();
    let facts = project.root().join("state");
    project.hook("before-release", "echo about to release");
    project.hook(
        "after-smoke",
        &format!(
            "echo $OMNITOOL_ENV $OMNITOOL_STEP $OMNITOOL_RELEASE ${{DATABASE_URL:-no url}} > {}; exit 3",
            facts.display()
        ),
    );
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("hook before-release: about to release"), "{text}");
    assert!(text.contains("warn  smoke"), "{text}");
    assert_eq!(fs::read_to_string(&facts).unwrap(), "staging smoke 0001 no url\n");

    project.hook("before-backup", "echo not today >&2; exit 1");
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("stopped in the step backup") && text.contains("not today"), "{text}");
    assert!(stdout(&project.deploy(&["--plan"])).contains("hook before-backup\n"));

    project.hook("before-lunch", "");
    let output = project.deploy(&[]);
    assert!(stderr(&output).contains("unknown step `lunch`"), "{}", stderr(&output));
}
