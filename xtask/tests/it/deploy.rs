//! Deployments with programs that are scripts.

use std::{fs, net::TcpListener};

use crate::project::{Project, answer, eventually, stderr, stdout};

#[test]
fn a_deployment_says_what_it_did_and_what_to_do_next() {
    let project = Project::with_scripts();
    let first = project.deploy(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    insta::assert_snapshot!(project.normal(&stdout(&first)), @r"
    Deploying release 0001 to staging on the local platform, where nothing serves

    skip  tests                -  not asked for with --tests
    done  build            N.N s  artifact HASH packed, N.N MB
    skip  backup               -  there is no database yet
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  set OMNITOOL_ENV, DATABASE_URL, PORT; 0 unchanged
    done  release          N.N s  release 0001 unpacked
                                  N migrations applied
                                  made N users
                                  ready to serve
                                  release 0001 serves on 127.0.0.1:PORT as process N, up within N ms
                                  no old release to remove
    done  import-access    N.N s  N facts added
    done  verify           N.N s  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0001 serves

    Demo users, with passwords that are shown only now
      admin      hunter2  (admin)
      user_a     hunter3

    Release 0001 serves at http://127.0.0.1:PORT/ after N.N s
      database   migrate-db: N migrations applied
      database   omnitool: made N users
      database   import-tool-access: N facts added
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
    assert!(project.answers());

    let second = project.deploy(&[]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    insta::assert_snapshot!(project.normal(&stdout(&second)), @r"
    Deploying release 0002 to staging on the local platform, over release 0001

    skip  tests                -  not asked for with --tests
    done  build            N.N s  artifact HASH unchanged, N.N MB
                                  N applied, 0 pending
    done  backup           N.N s  backup b001 of N kB
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  nothing to set, N unchanged
    done  release          N.N s  release 0002 unpacked
                                  N migrations applied
                                  the database has users
                                  ready to serve
                                  release 0002 serves on 127.0.0.1:PORT as process N, up within N ms; the app of release 0001 was stopped
                                  no old release to remove
    done  import-access    N.N s  N facts added
    done  verify           N.N s  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0002 serves; backup b001 is from before this run

    Release 0002 serves at http://127.0.0.1:PORT/ after N.N s
      database   migrate-db: N migrations applied
      database   import-tool-access: N facts added
      app        release 0002 serves at http://127.0.0.1:PORT/
      backup     b001, from before anything changed

    Where to look
      log        .omnitool/staging/app.log
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      look closer:                       programs/verify-migration --env staging --verbose
      roll back the code:                cargo xtask rollback staging --code
      roll back:                         programs/rollback-migration --env staging --backup b001
      stop the app:                      cargo xtask stop staging
    ");

    let stopped = project.xtask(&["stop", "staging"]);
    insta::assert_snapshot!(project.normal(&stdout(&stopped)), @"stopped release 0002 of staging (process N)");
    assert!(!project.answers());
    let stopped = project.xtask(&["stop", "staging"]);
    insta::assert_snapshot!(stdout(&stopped), @"nothing of staging runs on this machine");
}

#[test]
fn passwords_are_printed_once_and_written_nowhere() {
    let project = Project::with_scripts();
    let output = project.deploy(&[]);
    assert_eq!(stdout(&output).matches("hunter2").count(), 1);
    assert!(!stderr(&output).contains("hunter2"));
    assert!(!project.journal().contains("hunter2"));
    assert!(!project.journal().contains("omnitool.db"));
}

#[test]
fn a_plan_is_printed_and_nothing_is_done() {
    let project = Project::with_scripts();
    let output = project.deploy(&["--plan"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("Deploy release 0001 to staging"), "{text}");
    assert!(text.contains("DATABASE_URL=***") && !text.contains("omnitool.db"), "{text}");
    project.is_untouched();
}

#[test]
fn a_failed_check_stops_the_deployment_with_the_ways_out() {
    let project = Project::with_scripts();
    project.deploy(&[]);
    let script = "echo 'orphan: 3 rows' >&2\necho '{\"summary\":\"1 of 8 checks failed\"}'\nexit 1";
    project.program("verify-migration", script);
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let from = text.find("Stopped after").unwrap();
    insta::assert_snapshot!(project.normal(&text[from..]), @r"
    Stopped after N.N s; this is where everything stands
      database   migrate-db: N migrations applied
      database   import-tool-access: N facts added
      app        release 0002 serves at http://127.0.0.1:PORT/
      backup     b001, from before anything changed

    Where to look
      log        .omnitool/staging/app.log
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      fix the cause, then go on:         cargo xtask deploy-staging --resume RUN
      fix the cause, then deploy again:  cargo xtask deploy-staging
      look closer:                       programs/verify-migration --env staging --verbose
      roll back the code:                cargo xtask rollback staging --code
      roll back:                         programs/rollback-migration --env staging --backup b001
      stop the app:                      cargo xtask stop staging
    ");
    insta::assert_snapshot!(stderr(&output), @r"
    error: the deployment stopped in the step verify
      caused by: verify-migration failed: 1 of 8 checks failed:
        orphan: 3 rows
    ");
    assert!(project.journal().contains("orphan: 3 rows"));
}

#[test]
fn an_app_that_does_not_come_up_leaves_the_old_one() {
    let project = Project::with_scripts();
    project.deploy(&[]);
    project.program("omnitool", &project.omnitool("echo 'no cheese' >&2; exit 3"));
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(project.normal(&stderr(&output)), @r"
    error: the deployment stopped in the step release
      caused by: release 0002 does not serve; release 0001 serves again
      caused by: the app ended with exit status: N before it answered:
        no cheese
    ");
    assert!(project.answers());
    let link = fs::read_link(project.root().join(".omnitool/staging/current")).unwrap();
    assert_eq!(link.to_str(), Some("releases/0001"));
}

#[test]
fn a_port_in_use_is_refused() {
    let project = Project::with_scripts();
    let _other = TcpListener::bind(("127.0.0.1", project.port)).unwrap();
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output).replace(&project.port.to_string(), "PORT");
    insta::assert_snapshot!(text, @r"
    error: port PORT on 127.0.0.1 is used by a program that is not ours

    hint: stop the program that uses it, or give the environment another base_url in data/environments.toml; nothing was changed
    ");
    assert!(!project.root().join(".omnitool/staging/runs").exists());
}

#[test]
fn damaged_files_of_the_environment_are_named_and_nothing_is_done() {
    let project = Project::with_scripts();
    for (file, program) in
        [("app.json", "deploy-staging"), ("app.json", "stop"), ("current", "deploy-staging")]
    {
        project.write(&format!(".omnitool/staging/{file}"), "{");
        let output = match program {
            "stop" => project.xtask(&["stop", "staging"]),
            _ => project.deploy(&[]),
        };
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        assert!(text.contains(file) && text.contains("; nothing was changed"), "{text}");
        if program == "stop" {
            fs::remove_file(project.root().join(".omnitool/staging").join(file)).unwrap();
        }
    }
    assert!(!project.root().join(".omnitool/staging/runs").exists());
}

#[test]
fn missing_and_malformed_files_are_named_and_nothing_is_done() {
    let project = Project::with_scripts();
    let cases = [
        ("data/tools.toml", "data/tools.toml is missing"),
        ("data/environments.toml", "environments.toml"),
    ];
    for (file, expected) in cases {
        let text = project.read(file);
        fs::remove_file(project.root().join(file)).unwrap();
        let output = project.deploy(&[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        project.write(file, &text);
    }
    project.write("data/environments.toml", "[local]\nbase = 1\n");
    let output = project.deploy(&[]);
    assert!(stderr(&output).contains("line 2, column 1"), "{}", stderr(&output));
    project.is_untouched();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let project = Project::with_scripts();
    project.write(".omnitool", "a file where the folder should be");
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: cannot lock "), "{}", stderr(&output));
}

#[test]
fn a_second_run_is_refused_and_an_interrupted_one_leaves_the_app() {
    let project = Project::with_scripts();
    project.deploy(&[]);
    let marker = project.root().join("migrating");
    project.migrate(&format!(
        "touch {}; trap 'exit 1' INT; while :; do sleep 0.01; done",
        marker.display()
    ));
    let refused = std::cell::OnceCell::new();
    let interrupted = project.interrupt(&["deploy-staging"], || {
        marker.exists() && {
            refused.get_or_init(|| project.deploy(&[]));
            true
        }
    });
    let refused = refused.into_inner().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.starts_with("error: another run holds this environment: ann (process "), "{text}");

    assert_eq!(interrupted.status.code(), Some(1));
    insta::assert_snapshot!(
        project.normal(&stderr(&interrupted)),
        @r"
    error: the deployment stopped in the step release
      caused by: interrupted
      caused by: interrupted during `ROOT/.omnitool/staging/releases/0002/bin/migrate-db --tools data/tools.toml --env staging --format json`
    "
    );
    let journal = project.journal();
    let last = journal.lines().last().unwrap();
    assert!(last.contains(r#""type":"run-ended","outcome":{"status":"failed","step":"release","error":"interrupted"#), "{last}");
    assert!(project.answers());
    // The lock went with the run that held it.
    project.migrate(&answer("nothing to migrate"));
    assert_eq!(project.deploy(&[]).status.code(), Some(0));
}

#[test]
fn dev_serves_until_it_is_interrupted() {
    let project = Project::with_scripts();
    let output = project.interrupt(&["dev"], || project.answers());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    // What the app itself logs is in between.
    for line in [
        "migrate-db           6 migrations applied\n",
        "  admin      hunter2  (admin)\n",
        "the app was stopped\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    eventually(|| !project.answers());
}

#[test]
fn dev_ends_where_its_app_does() {
    let project = Project::with_scripts();
    project.program("omnitool", &project.omnitool("echo 'no cheese' >&2; exit 3"));
    let programs = project.root().join("programs");
    let output = project.xtask(&["dev", "--programs", programs.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no cheese"), "{}", stderr(&output));
}
