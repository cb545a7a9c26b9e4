//! Deployments on the local platform, with real processes.

use std::{cell::Cell, fs, net::TcpListener, net::TcpStream};

use omnitool_pipeline::{
    Event, LocalPlatform, Platform as _, RunError, Serving, StepId, StepOutcome, next_steps,
    standing,
};

use crate::fake::{Project, Ran, answer, eventually};

fn current(project: &Project) -> String {
    let link = fs::read_link(project.environment().join("current")).unwrap();
    link.to_string_lossy().into_owned()
}

fn answers(project: &Project) -> bool {
    let port = project.scene.base_url.port().unwrap();
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn serving(ran: &Ran) -> Option<String> {
    match ran.serving {
        Serving::Release(release) => Some(release.to_string()),
        Serving::Nothing | Serving::Unknown => None,
    }
}

fn failure(ran: &Ran) -> String {
    ran.report.failure.as_ref().unwrap().error.chain()
}

#[test]
fn two_deployments_serve_one_app_after_the_other() {
    let project = Project::staging();
    let first = project.deploy();
    assert!(first.report.failure.is_none(), "{}", failure(&first));
    assert_eq!(serving(&first).as_deref(), Some("0001"));
    let old = project.app().running().unwrap().unwrap();
    insta::assert_snapshot!(project.calls(), @r"
    migrate-db --tools data/tools.toml --env staging --format json
    omnitool create-user --demo-users --env staging --format json
    omnitool check --env staging --format json
    omnitool serve --listen 127.0.0.1:PORT
    import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env staging --format json
    verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env staging --format json
    smoke-tests --url http://127.0.0.1:PORT --timeout 30 --expect-release 0001 --env staging --format json
    backup-database --folder /project/data/backups prune --keep 10 --env staging --format json
    ");

    let second = project.deploy();
    assert!(second.report.failure.is_none(), "{}", failure(&second));
    assert_eq!(serving(&second).as_deref(), Some("0002"));
    assert_eq!(current(&project), "releases/0002");
    let new = project.app().running().unwrap().unwrap();
    assert_ne!(old.pid, new.pid);
    assert!(answers(&project));
    assert_eq!(second.aftermath.backup.as_deref(), Some("b001"));
    insta::assert_snapshot!(project.calls(), @r"
    migrate-db --status --env staging --format json
    backup-database --folder /project/data/backups capture --kind before-deploy --release 0002 --env staging --format json
    migrate-db --tools data/tools.toml --env staging --format json
    omnitool create-user --demo-users --env staging --format json
    omnitool check --env staging --format json
    omnitool serve --listen 127.0.0.1:PORT
    import-tool-access --source data/tool_access_exports/local_tool_access.json --mode merge --env staging --format json
    verify-migration --expect-access data/tool_access_exports/local_tool_access.json --env staging --format json
    smoke-tests --url http://127.0.0.1:PORT --timeout 30 --expect-release 0002 --env staging --format json
    backup-database --folder /project/data/backups prune --keep 10 --env staging --format json
    ");
    // Nothing that the artifact is packed from has changed, and no variable.
    let evidence = |id| {
        let step = second.report.steps.iter().find(|step| step.id == id).unwrap();
        step.evidence.join("; ")
    };
    assert!(evidence(StepId::Build).contains("unchanged"), "{}", evidence(StepId::Build));
    assert_eq!(evidence(StepId::Config), "nothing to set, 3 unchanged");
}

#[test]
fn passwords_and_the_database_url_are_in_no_event() {
    let project = Project::staging();
    project.migrate(&format!("echo \"opening $DATABASE_URL\" >&2\n{}", answer("ok")));
    let ran = project.deploy();
    assert_eq!(ran.aftermath.credentials[0].username, "ann");
    let text = serde_json::to_string(&ran.events).unwrap();
    assert!(text.contains("opening ***"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("omnitool.db"), "{text}");
}

#[test]
fn programs_learn_which_run_they_are_part_of() {
    let project = Project::staging();
    for program in ["import-tool-access", "smoke-tests"] {
        project.program(program, r#"echo "{\"summary\":\"part of $OMNITOOL_RUN_ID\"}""#);
    }
    let ran = project.deploy();
    for id in [StepId::ImportAccess, StepId::Smoke] {
        let step = ran.report.steps.iter().find(|step| step.id == id).unwrap();
        assert_eq!(step.evidence, ["part of run"]);
    }
}

#[test]
fn the_app_that_served_serves_again_when_the_new_one_does_not_come_up() {
    let project = Project::staging();
    project.deploy();
    for broken in ["echo out of cheese >&2; exit 7", "exec sleep 0"] {
        project.program("omnitool", &project.omnitool(broken));
        let ran = project.deploy();
        let error = failure(&ran);
        assert!(error.contains("release 0001 serves again"), "{error}");
        assert_eq!(serving(&ran).as_deref(), Some("0001"));
        assert_eq!(current(&project), "releases/0001");
        assert!(answers(&project));
    }
    let ran = project.deploy();
    assert!(failure(&ran).contains("exit status: 0"), "{}", failure(&ran));
}

#[test]
fn an_app_that_could_not_be_kept_track_of_does_not_replace_the_one_that_serves() {
    let project = Project::staging();
    project.deploy();
    let old = project.app().running().unwrap().unwrap();
    // As on a full disk: the file that says which process is the app cannot be written.
    fs::create_dir(project.environment().join("app.json.partial")).unwrap();
    let ran = project.deploy();
    let error = failure(&ran);
    assert!(error.contains("cannot keep track of the app"), "{error}");
    assert_eq!(project.app().running().unwrap(), Some(old));
    assert_eq!(current(&project), "releases/0001");
    assert!(answers(&project));
}

#[test]
fn the_first_app_that_does_not_come_up_leaves_nothing() {
    let project = Project::staging();
    project.program("omnitool", &project.omnitool("echo out of cheese >&2; exit 7"));
    let ran = project.deploy();
    let error = failure(&ran);
    assert!(error.contains("so nothing serves now"), "{error}");
    assert!(error.contains("exit status: 7") && error.contains("out of cheese"), "{error}");
    assert_eq!(serving(&ran), None);
    assert!(!project.environment().join("current").exists());
    assert!(project.app().running().unwrap().is_none());
}

#[test]
fn a_failing_migration_stops_the_run_and_says_where_everything_stands() {
    let project = Project::staging();
    project.deploy();
    let script = r#"echo '{"status":"failed","kind":"failed","error":"cannot migrate","causes":["disk full"],"hint":"free some space"}'; exit 1"#;
    project.migrate(script);
    let ran = project.deploy();
    assert_eq!(failure(&ran), "migrate-db failed: cannot migrate: disk full");
    assert_eq!(serving(&ran).as_deref(), Some("0001"));
    let last = ran.report.steps.last().unwrap();
    assert_eq!((last.id, &last.outcome), (StepId::Summary, &StepOutcome::Done));
    let mut text = String::new();
    for one in standing(&ran.plan, &ran.aftermath, ran.serving) {
        text.push_str(&format!("{}: {}\n", one.part, one.state));
    }
    let programs = project.root().join("programs");
    for next in next_steps(&ran.plan, &ran.aftermath, &ran.report, "run", &programs) {
        text.push_str(&format!("{}: {}\n", next.purpose, next.command));
    }
    let text = text.replace(&project.scene.base_url.to_string(), "URL");
    insta::assert_snapshot!(text, @r"
    database: migrate-db failed: cannot migrate; what it had not committed is undone
    app: release 0001 serves at URL, as before
    backup: b001, from before anything changed
    fix the cause, then go on: cargo xtask deploy-staging --resume run
    fix the cause, then deploy again: cargo xtask deploy-staging
    roll back: programs/rollback-migration --env staging --backup b001
    stop the app: cargo xtask stop staging
    ");
}

#[test]
fn a_failing_prune_is_a_warning() {
    let project = Project::staging();
    project.program(
        "backup-database",
        r#"case "$*" in *prune*) echo '{"error":"stuck"}'; exit 1;; esac; echo '{"summary":"b","id":"b001"}'"#,
    );
    let ran = project.deploy();
    assert!(ran.report.failure.is_none());
    let prune = ran.report.steps.iter().find(|step| step.id == StepId::PruneBackups).unwrap();
    let reason = "backup-database failed: stuck".to_owned();
    assert_eq!(prune.outcome, StepOutcome::Warned { reason });
}

#[test]
fn an_interrupted_run_waits_for_its_program_and_the_app_goes_on() {
    let project = Project::staging();
    project.deploy();
    let marker = project.root().join("migrating");
    // It ends by itself when it is told to, as after Ctrl-C on a terminal.
    let script = format!(
        "trap 'rm {0}; exit 1' TERM; touch {0}; while :; do sleep 0.01; done",
        marker.display()
    );
    project.migrate(&script);
    let interrupted = Cell::new(false);
    let ran = project.deploy_until(&|| {
        interrupted.set(interrupted.get() || marker.exists());
        interrupted.get()
    });
    assert!(!marker.exists());
    let failure = ran.report.failure.unwrap();
    assert_eq!(failure.step, StepId::Release);
    assert!(matches!(failure.error, RunError::Interrupted(_)), "{:?}", failure.error);
    assert_eq!(ran.serving.to_string(), "release 0001 serves");
    assert!(answers(&project));
}

#[test]
fn an_interruption_while_the_new_app_starts_brings_the_old_one_back() {
    let project = Project::staging();
    project.deploy();
    let marker = project.root().join("starting");
    let never = format!("touch {}; exec sleep 60", marker.display());
    project.program("omnitool", &project.omnitool(&never));
    let ran = project.deploy_until(&|| marker.exists());
    let failure = ran.report.failure.as_ref().unwrap();
    assert!(matches!(failure.error, RunError::Interrupted(_)), "{:?}", failure.error);
    assert_eq!(serving(&ran).as_deref(), Some("0001"));
    assert_eq!(current(&project), "releases/0001");
    assert!(answers(&project));
}

#[test]
fn an_interruption_between_two_actions_stops_the_run() {
    let project = Project::staging();
    let asked = Cell::new(0);
    let ran = project.deploy_until(&|| {
        asked.set(asked.get() + 1);
        asked.get() > 1
    });
    assert_eq!(failure(&ran), "interrupted");
    assert!(!project.environment().join("releases").exists());
    let ended = ran.events.last().unwrap();
    assert!(matches!(ended, Event::RunEnded { .. }), "{ended:?}");
}

#[test]
fn a_port_that_another_program_uses_is_refused_before_anything_changes() {
    let project = Project::staging();
    let port = project.scene.base_url.port().unwrap();
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = LocalPlatform::new(&project.scene.site()).unwrap().look().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("port {port} on 127.0.0.1 is used by a program that is not ours")
    );
    assert!(!project.root().join(".omnitool").exists());
    drop(other);
}

#[test]
fn an_app_that_crashed_is_replaced() {
    let project = Project::staging();
    project.deploy();
    let app = project.app().running().unwrap().unwrap();
    let kill = std::process::Command::new("kill").args(["-9", &app.pid.to_string()]).status();
    assert!(kill.unwrap().success());
    eventually(|| project.app().running().unwrap().is_none());
    let ran = project.deploy();
    assert_eq!(serving(&ran).as_deref(), Some("0002"));
}

#[test]
fn five_releases_stay() {
    let project = Project::staging();
    for _ in 0..7 {
        let ran = project.deploy();
        assert!(ran.report.failure.is_none(), "{}", failure(&ran));
    }
    let mut names: Vec<String> = fs::read_dir(project.environment().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["0003", "0004", "0005", "0006", "0007"]);
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_run_before_the_database_changes() {
    let project = Project::staging();
    fs::create_dir_all(project.environment()).unwrap();
    let artifacts = project.root().join(".omnitool/artifacts");
    fs::write(artifacts, "a file where the folder should be").unwrap();
    let ran = project.deploy();
    assert!(failure(&ran).starts_with("cannot write the artifact to"), "{}", failure(&ran));
    assert!(ran.aftermath.database.is_empty());
    assert_eq!(project.calls(), "");
}

#[test]
fn a_missing_program_is_named() {
    let project = Project::staging();
    fs::remove_file(project.root().join("programs/migrate-db")).unwrap();
    let ran = project.deploy();
    let error = failure(&ran).replace(&*project.root().to_string_lossy(), "/project");
    insta::assert_snapshot!(error, @"the program migrate-db is not in /project/.omnitool/staging/releases/0001/bin");
}
