//! `cargo xtask rehearse`, and what production needs of it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::project::{Project, answer, stderr, stdout};

/// A project with a release on production, and another one that passed staging.
fn ready() -> Project {
    let project = Project::with_scripts();
    project.init_git();
    for output in [project.deploy(&[]), project.deploy_production(&[])] {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    project.write("data/tools.toml", "another tool");
    let watched = r#"{"summary":"1 migration applied","statements":[
        {"migration":"1_phone","sql":"ALTER TABLE users ADD COLUMN phone TEXT","duration_ms":3,"held_ms":5,"locks":["AccessExclusiveLock on users"]},
        {"migration":"1_phone","sql":"SELECT 1","duration_ms":2,"held_ms":0,"locks":[]}]}"#;
    project.migrate(&format!(
        "touch \"${{DATABASE_URL#sqlite:}}\"\ncase \"$*\" in *--locks*) echo '{}';; *) {};; esac",
        watched.replace('\n', " "),
        answer("1 migration applied")
    ));
    let planned = r#"{"summary":"would add 1 grant","status":"pending","additions":[{"tool":"Invoice Generator","user":"alice","fact":"grant"}],
        "contradictions":[{"tool":"Payroll","user":"bob","fact":"grant","command":"import-tool-access --mode sync"}]}"#;
    project.program(
        "import-tool-access",
        &format!(
            "case \"$*\" in *--dry-run*) echo '{}';; *) {};; esac",
            planned.replace('\n', " "),
            answer("1 fact added")
        ),
    );
    let checked = r#"{"summary":"8 checks: 7 passed, 1 warned","checks":[{"id":"defaults","name":"Default tools","outcome":"warned","message":"bob has none"}]}"#;
    project.program("verify-migration", &format!("echo '{checked}'"));
    project.commit("Add a tool");
    let output = project.deploy(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    project
}

#[test]
fn production_needs_a_rehearsal_of_this_artifact_on_the_newest_backup() {
    let project = ready();
    let refused = project.deploy_production(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("nobody has rehearsed"), "{}", stderr(&refused));

    let output = project.xtask(&["rehearse", "production"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(project.normal(&stdout(&output)), @r"
    Rehearse release 0002 of production on a copy of its database

    done  build            N.N s  artifact HASH as it is, N.N MB, commit HASH
    done  backup           N.N s  the newest backup is b001, of 2026-01-01 00:00:00 UTC
    done  restore          N.N s  restored b001
    done  migrate          N.N s  N migration applied
                                  N applied, 0 pending
    done  sync-tools       N.N s  nothing to change
    done  plan-access      N.N s  would add N grant
    done  import-access    N.N s  N fact added
    warn  verify           N.N s  N checks: N passed, N warned
                                  defaults: bob has none

    What the migrations lock
      AccessExclusiveLock on users, held for N ms by: ALTER TABLE users ADD COLUMN phone TEXT

    What changes of who may use what
      + Invoice Generator: alice granted
      ! Payroll: bob granted is against the file; import-tool-access --mode sync

    What the checks found
      Default tools warned: bob has none

    The rehearsal went well, in N.N s
      findings   N
      report     .omnitool/production/rehearsals/RUN.json

    Where to look
      log        .omnitool/production/app.log
      journal    .omnitool/production/runs/RUN.jsonl
      report     .omnitool/production/runs/RUN.html
    ");
    let folder = project.root().join(".omnitool/production/rehearsals");
    let reports: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The copy of production's data is gone, and the report is its owner's.
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(fs::metadata(&reports[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&reports[0]).unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["backup"]), (&true.into(), &"b001".into()));
    assert_eq!(report["answers"].as_array().unwrap().len(), 6);

    // A newer backup is another database.
    let newer = r#"case "$*" in
    *list*) echo '{"summary":"2 backups","backups":[{"id":"b002","kind":"manual","release":null,"created_at":"2026-01-02T00:00:00Z","verified":{}}]}';;
    *) echo '{"summary":"backup b003","id":"b003"}';;
    esac"#;
    let artifact = report["artifact"].as_str().unwrap();
    let program =
        project.root().join(".omnitool/artifacts").join(artifact).join("bin/backup-database");
    let before = fs::read_to_string(&program).unwrap();
    omnitool_testing::write_program(&program, newer);
    let refused = project.deploy_production(&[]);
    assert_eq!(refused.status.code(), Some(1));
    insta::assert_snapshot!(project.normal(&stderr(&refused)), @r"
    error: the deployment stopped in the step safety-gate
      caused by: backup b002 is newer than b001, which rehearsal RUN of this artifact was made on

    hint: run `cargo xtask rehearse production` and deploy again; nothing was changed
    ");
    omnitool_testing::write_program(&program, before.trim_start_matches("#!/bin/sh\n"));

    let output = project.deploy_production(&[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("rehearsed on backup b001 by run "), "{}", stdout(&output));
}

#[test]
fn a_rehearsal_that_fails_touches_nothing_and_counts_for_nothing() {
    let project = ready();
    let before = project.read(".omnitool/production/config.json");
    project.program("verify-migration", "echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1");
    project.commit("Break a check");
    // Staging has to pass first, so the check fails on production's data only.
    let script = "case \"$DATABASE_URL\" in *rehearsals*) echo '{\"summary\":\"1 of 8 checks failed\"}'; exit 1;; esac\necho '{\"summary\":\"fine\"}'";
    project.program("verify-migration", script);
    assert_eq!(project.deploy(&[]).status.code(), Some(0));
    let output = project.xtask(&["rehearse", "production"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the rehearsal stopped in the step verify"),
        "{}",
        stderr(&output)
    );
    assert!(stdout(&output).contains("production was not touched"), "{}", stdout(&output));
    assert_eq!(project.read(".omnitool/production/config.json"), before);
    let refused = project.deploy_production(&[]);
    assert!(stderr(&refused).contains("nobody has rehearsed"), "{}", stderr(&refused));
}

#[test]
fn only_what_passed_staging_is_rehearsed() {
    let project = Project::with_scripts();
    let output = project.xtask(&["rehearse", "production"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no git working copy"), "{}", stderr(&output));
    project.init_git();
    let output = project.xtask(&["rehearse", "production"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no staging run has passed"), "{}", stderr(&output));
    assert_eq!(project.xtask(&["rehearse", "staging"]).status.code(), Some(2));
    project.is_untouched();
}
