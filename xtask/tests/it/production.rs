//! `cargo xtask deploy-production`: its gate, and what it does.

use std::fs;

use crate::project::{Project, stderr, stdout};

/// A project whose commit passed staging.
fn staged() -> Project {
    let project = Project::with_scripts();
    project.init_git();
    let staging = project.deploy(&[]);
    assert_eq!(staging.status.code(), Some(0), "{}", stderr(&staging));
    project
}

fn artifact(project: &Project, environment: &str, release: &str) -> String {
    let file = format!(".omnitool/{environment}/releases/{release}/release.json");
    let release: serde_json::Value = serde_json::from_str(&project.read(&file)).unwrap();
    release["artifact"].as_str().unwrap().to_owned()
}

#[test]
fn what_passed_staging_goes_to_production_as_it_is() {
    let project = staged();
    // What is built since is another artifact, and none that was tried.
    project.program("sync-tools", "exit 9");
    let output = project.deploy_production(&[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"
    Deploying release 0001 to production on the local platform, where nothing serves

    done  safety-gate      N.N s  commit HASH is in main, without changes
                                  artifact HASH passed staging in run RUN
                                  there is no database yet, and so nothing to rehearse on
                                  approved by ann with --confirm at TIME
                                  artifact HASH as it is, N.N MB, commit HASH
    skip  tests                -  not asked for with --tests
    done  build            N.N s  artifact HASH as it is, N.N MB, commit HASH
    skip  backup               -  there is no database yet
    done  config           N.N s  set OMNITOOL_ENV, DATABASE_URL, PORT; 0 unchanged
    done  release          N.N s  release 0001 unpacked
                                  N migrations applied
                                  ready to serve
                                  release 0001 serves on 127.0.0.1:PRODUCTION as process N, up within N ms
                                  no old release to remove
    done  import-access    N.N s  N facts added
    done  verify           N.N s  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0001 serves

    Release 0001 serves at http://127.0.0.1:PRODUCTION/ after N.N s
      database   migrate-db: N migrations applied
      database   import-tool-access: N facts added
      app        release 0001 serves at http://127.0.0.1:PRODUCTION/
      backup     none was taken in this run

    Where to look
      log        .omnitool/production/app.log
      journal    .omnitool/production/runs/RUN.jsonl
      report     .omnitool/production/runs/RUN.html

    What to do next
      look closer:                       .omnitool/production/current/bin/verify-migration --env production --verbose
      stop the app:                      cargo xtask stop production
    ");
    assert_eq!(artifact(&project, "staging", "0001"), artifact(&project, "production", "0001"));
    // Nobody makes demo users in production.
    assert!(!project.journal_of("production").contains("create-user"));
}

#[test]
fn without_a_terminal_and_a_confirmation_nothing_happens() {
    let project = Project::with_scripts();
    let output = project.xtask(&["deploy-production"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @r#"
    error: this needs a confirmation and there is no terminal to type it on; pass --confirm "DEPLOY PRODUCTION"

    hint: nothing was changed; scripts pass --confirm "DEPLOY PRODUCTION", and --plan shows what would happen
    "#);
    let output = project.xtask(&["deploy-production", "--confirm", "yes"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("must be exactly `DEPLOY PRODUCTION`"), "{}", stderr(&output));
    project.is_untouched();
}

#[test]
fn everything_that_speaks_against_it_is_said_at_once() {
    let project = staged();
    project.git(&["checkout", "--quiet", "-b", "feature"]);
    project.write("data/tools.toml", "another tool");
    project.commit("Add a tool");
    project.write("data/tools.toml", "yet another tool");
    let text = project.read("data/environments.toml")
        + "[[production.freeze]]\nfrom = 2020-01-01T00:00:00Z\nuntil = 2999-01-01T00:00:00Z\nreason = \"audit\"\n";
    project.write("data/environments.toml", &text);
    let output = project.deploy_production(&[]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(project.normal(&stderr(&output)), @r"
    error: production is not deployed to
      there are changes that are not in commit HASH
        -> commit or put away the changes (git status)
      commit HASH is not in main
        -> merge it into main, and deploy from there
      no staging run has passed with commit HASH or one with the same files
        -> cargo xtask deploy-staging
      production is frozen from 2020-01-01T00:00:00+00:00 until 2999-01-01T00:00:00+00:00: audit
        -> wait, or say why not with --freeze-override REASON

    hint: nothing was changed
    ");
    assert!(!project.root().join(".omnitool/production/runs").exists());
    // A plan is shown all the same.
    let output = project.xtask(&["deploy-production", "--plan"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("no artifact has passed staging"), "{text}");
    assert!(text.contains("is not in main"), "{text}");
}

#[test]
fn a_merge_of_what_passed_staging_is_what_passed_staging() {
    let project = Project::with_scripts();
    project.init_git();
    project.git(&["checkout", "--quiet", "-b", "development"]);
    project.write("data/tools.toml", "another tool");
    project.commit("Add a tool");
    assert_eq!(project.deploy(&[]).status.code(), Some(0));
    project.git(&["checkout", "--quiet", "main"]);
    project.git(&["merge", "--quiet", "--no-ff", "--no-edit", "development"]);
    let output = project.deploy_production(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("with the same files from commit"), "{}", stdout(&output));
}

#[test]
fn a_staging_run_without_its_checks_is_none_that_passed() {
    let project = Project::with_scripts();
    project.init_git();
    let output = project.deploy(&["--skip", "smoke", "--reason", "no time"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("left out with --skip: no time"), "{}", stdout(&output));
    let output = project.deploy_production(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no staging run has passed"), "{}", stderr(&output));
}

#[test]
fn a_plan_of_production_writes_nothing() {
    let project = staged();
    let files = || {
        let mut all: Vec<_> = fs::read_dir(project.root().join(".omnitool/artifacts"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        all.sort();
        all
    };
    let before = files();
    let output = project.xtask(&["deploy-production", "--plan"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"
    Deploy release 0001 to production on the local platform, where nothing serves
      address    http://127.0.0.1:PRODUCTION/
      project    ROOT
      variables  OMNITOOL_ENV=production DATABASE_URL=*** PORT=PRODUCTION OMNITOOL_RELEASE=0001

    safety-gate    make sure that this deployment is wanted
                   note: commit HASH is in main, without changes
                   note: artifact HASH passed staging in run RUN
                   note: there is no database yet, and so nothing to rehearse on
                   note: to be approved by typing DEPLOY PRODUCTION, or with --confirm
                   use the artifact HASH as it is
    tests          run all tests
                   skipped: not asked for with --tests
    build          use the artifact that passed staging
                   use the artifact HASH as it is
    backup         back up the database
                   skipped: there is no database yet
    config         set the variables
                   set the variables that differ
    release        migrate the database, then serve the new release
                   unpack the artifact as release 0001
                   $ migrate-db --tools data/tools.toml --env production --format json   (in release 0001)
                   $ omnitool check --env production --format json   (in release 0001)
                   switch to release 0001: stop the app that serves, start the new one
                   remove releases older than the newest N
    import-access  import who may use what
                   $ import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env production --format json   (in release 0001)
    verify         check the database
                   $ verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env production --format json   (in release 0001)
    smoke          check the running app
                   $ smoke-tests --url http://127.0.0.1:PRODUCTION --timeout N --expect-release 0001 --env production --format json   (from the artifact)
    prune-backups  remove old backups (a failure is a warning)
                   $ backup-database --folder ROOT/data/backups prune --keep N --env production --format json   (from the artifact)
    summary        sum up (always)
                   say what has changed, and how to go back
    ");
    assert!(!project.root().join(".omnitool/production").exists());
    assert_eq!(files(), before);
}

#[test]
fn a_second_production_release_needs_reasons_for_what_it_leaves_out() {
    let project = staged();
    assert_eq!(project.deploy_production(&[]).status.code(), Some(0));
    let refused = project.deploy_production(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("nobody has rehearsed"), "{}", stderr(&refused));
    for off in ["--no-require-rehearsal", "--require-rehearsal=false"] {
        let output = project.deploy_production(&[off, "--skip-backup", "the disk is full"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let journal = project.journal_of("production");
    assert!(journal.contains(r#""skip_backup":"the disk is full""#), "{journal}");
    assert!(journal.contains("left out with --skip-backup: the disk is full"), "{journal}");
    assert!(journal.contains("no rehearsal was required by whoever deploys"), "{journal}");
    let output = project.deploy_production(&["--no-require-rehearsal", "--skip-backup", " "]);
    assert_eq!(output.status.code(), Some(2));
    let output = project.deploy_production(&["--skip", "backup", "--reason", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--skip-backup REASON"), "{}", stderr(&output));
}

#[test]
fn a_frozen_environment_is_deployed_to_with_a_reason() {
    let project = Project::with_scripts();
    let text = project.read("data/environments.toml")
        + "[[staging.freeze]]\nfrom = 2020-01-01T00:00:00Z\nuntil = 2999-01-01T00:00:00Z\nreason = \"audit\"\n";
    project.write("data/environments.toml", &text);
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @r"
    error: staging is frozen from 2020-01-01T00:00:00+00:00 until 2999-01-01T00:00:00+00:00: audit

    hint: nothing was changed; wait, or say why not with --freeze-override REASON
    ");
    project.is_untouched();
    let output = project.deploy(&["--freeze-override", "the auditor asked for it"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(project.journal().contains(r#""freeze_override":"the auditor asked for it""#));
}
