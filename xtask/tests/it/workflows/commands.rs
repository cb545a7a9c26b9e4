//! Every command of a workflow is executed here: with the real `xtask`, with programs that are scripts, and with a `gh`
//! that only writes down how it was called. A flag that is renamed fails these tests.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use omnitool_testing::write_program;
use serde_json::Value;

use super::{root, workflows};
use crate::{
    heroku::{PRODUCTION, STAGING, World},
    project::{Project, stderr, stdout},
};

/// A folder of commands that come before those of the system.
struct Commands {
    folder: tempfile::TempDir,
}

impl Commands {
    /// `gh` answers with what is in `answers/COMMAND`, and `cargo xtask` is the real one.
    fn new() -> Self {
        let commands = Self { folder: tempfile::tempdir().unwrap() };
        let folder = commands.folder.path().display();
        commands.add("gh", &format!("echo \"gh $*\" >>{folder}/calls\ncase \"$*\" in *--body-file*) cat {folder}/*/comment {folder}/*/body 2>/dev/null;; esac\nif [ -x \"{folder}/$1-$2\" ]; then \"{folder}/$1-$2\" \"$@\"; fi"));
        commands.add("cargo", &format!("echo \"cargo $*\" >>{folder}/calls"));
        commands
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&self, name: &str, script: &str) {
        write_program(&self.path().join(name), script);
    }

    /// Runs a command of a workflow in `folder`, which has the project's scripts.
    fn run(&self, folder: &Path, command: &str, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.path().display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(folder)
            .env("PATH", path)
            .env("TMPDIR", self.path())
            .env_remove("DATABASE_URL")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn calls(&self) -> String {
        let text = fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path().join("calls"));
        text.replace(self.path().to_str().unwrap(), "TEMP")
    }
}

/// A project of scripts with the real `.ci`.
fn project() -> Project {
    let project = Project::with_scripts();
    for entry in fs::read_dir(root().join(".ci")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        project.write(&format!(".ci/{name}"), &fs::read_to_string(&file).unwrap());
    }
    project
}

/// The variables that a step of this workflow sets, with other values.
fn variables<'a>(workflow: &str, given: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let workflows = workflows();
    let steps = workflows[workflow].1.jobs.values().flat_map(|job| &job.steps);
    let set: BTreeSet<&str> = steps.flat_map(|step| step.env.keys()).map(String::as_str).collect();
    for (name, _) in given {
        assert!(set.contains(name), "no step of {workflow} sets {name}");
    }
    given.to_vec()
}

#[test]
fn these_are_all_the_commands() {
    let mut all = BTreeSet::new();
    for (name, (_, workflow)) in workflows() {
        for run in workflow.jobs.into_values().flat_map(|job| job.steps).filter_map(|step| step.run)
        {
            assert!(!run.contains("${{") && run.trim().lines().count() == 1, "{name}: {run}");
            all.insert(run.trim().to_owned());
        }
    }
    // Each has a test below; a new one needs one, too.
    let all: Vec<String> = all.into_iter().collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    bash .ci/drift production
    bash .ci/drift staging
    bash .ci/fetch-staging
    bash .ci/plan-access
    bash .ci/rehearse
    bash .ci/run
    cargo build --release --locked --workspace --bins --features omnitool-database/tls
    cargo xtask deploy-production --confirm "DEPLOY PRODUCTION"
    cargo xtask deploy-staging --tests
    "#);
}

#[test]
fn ci_runs_everything_that_must_hold() {
    let (project, commands) = (project(), Commands::new());
    let output = commands.run(project.root(), "bash .ci/run", &[]);
    assert_eq!((output.status.code(), commands.calls().as_str()), (Some(0), "cargo xtask ci\n"));
    assert_eq!(project.xtask(&["ci", "--help"]).status.code(), Some(0));
}

#[test]
fn the_build_for_other_machines_knows_its_feature() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let database = packages.iter().find(|package| package["name"] == "omnitool-database").unwrap();
    assert!(database["features"].get("tls").is_some(), "{}", database["features"]);
}

#[test]
fn a_push_to_development_deploys_to_staging() {
    let project = project();
    // All tests would run inside of this test; what they are is tested by the plan.
    let output = project.deploy(&["--tests", "--plan"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("$ cargo xtask test"), "{}", stdout(&output));
}

#[test]
fn a_merge_to_main_deploys_to_production() {
    // The guide's test deploys to production with exactly this command.
    let guide = fs::read_to_string(root().join("docs/workflow.md")).unwrap();
    let command = "cargo xtask deploy-production --confirm \"DEPLOY PRODUCTION\"";
    assert!(guide.lines().any(|line| line == command), "{command}");
}

/// As GitHub runs them, with the variables of the workflows, against an emulated Heroku.
#[test]
fn the_deployments_of_the_workflows_work_on_heroku() {
    let world = World::new();
    world.project.init_git();
    let commands = Commands::new();
    let xtask = env!("CARGO_BIN_EXE_xtask");
    let (root, programs) = (world.project.root().display(), world.project.root().join("programs"));
    commands.add(
        "cargo",
        &format!(
            "case \"$1 $2\" in\n\"xtask test\") echo all tests; exit 0;;\n\
             \"xtask deploy-staging\") shift; exec {xtask} \"$@\" --root {root} --programs {};;\n\
             \"xtask \"*) shift; exec {xtask} \"$@\" --root {root};;\nesac\nexit 1",
            programs.display()
        ),
    );
    let mut given = world.project.variables.clone();
    given.push(("OMNITOOL_PLATFORM", "heroku".to_owned()));
    // The runner's own server.
    given.push(world.rehearsal());
    commands.add("sudo", &format!("echo \"sudo $*\" >>{}/calls", commands.path().display()));
    let script = fs::read_to_string(super::root().join(".ci/rehearse")).unwrap();
    world.project.write(".ci/rehearse", &script);
    world.project.commit("Add a script");
    let production = "cargo xtask deploy-production --confirm \"DEPLOY PRODUCTION\"";
    for (workflow, command) in [
        ("deploy.yml", "cargo xtask deploy-staging --tests"),
        ("deploy_production.yml", "bash .ci/rehearse"),
        ("deploy_production.yml", production),
        ("deploy_production.yml", "bash .ci/rehearse"),
        ("deploy_production.yml", production),
    ] {
        variables(workflow, &[("OMNITOOL_PLATFORM", "heroku"), ("HEROKU_API_KEY", "")]);
        let given: Vec<(&str, &str)> =
            given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = commands.run(world.project.root(), command, &given);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        let text = stdout(&output);
        match command {
            "bash .ci/rehearse" => assert!(text.contains("ehears"), "{text}"),
            _ => assert!(text.contains("on the heroku platform"), "{text}"),
        }
    }
    for (app, last) in [(STAGING, "0001"), (PRODUCTION, "0002")] {
        assert_eq!(*world.releases(app).last().unwrap(), format!("Deploy {last} succeeded"));
    }
    let user = stdout(&Command::new("id").arg("-un").output().unwrap());
    let once =
        format!("sudo systemctl start postgresql\nsudo -u postgres createuser --createdb {user}");
    assert_eq!(commands.calls(), once.repeat(2));
}

#[test]
fn production_gets_what_passed_staging() {
    let (project, commands) = (project(), Commands::new());
    commands.add("run-list", "echo 42");
    commands.add(
        "run-download",
        "mkdir -p .omnitool/staging/runs && touch .omnitool/staging/runs/1.jsonl",
    );
    let given = variables("deploy_production.yml", &[("COMMIT", "0123abc")]);
    let output = commands.run(project.root(), "bash .ci/fetch-staging", &given);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(commands.calls(), @r"
    gh run list --workflow deploy.yml --branch development --status success --limit 1 --commit 0123abc --json databaseId --jq .[0].databaseId // empty
    gh run download 42 --name staging --dir .omnitool
    ");
    assert!(project.root().join(".omnitool/staging/runs/1.jsonl").exists());
}

#[test]
fn production_gets_nothing_that_did_not_pass_staging() {
    let (project, commands) = (project(), Commands::new());
    let output = commands.run(project.root(), "bash .ci/fetch-staging", &[("COMMIT", "0123abc")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("no deployment to staging has passed with 0123abc"));
}

/// Programs that answer as those do that find nothing.
fn programs(project: &Project) -> String {
    for program in ["migrate-db", "sync-tools", "import-tool-access", "verify-migration"] {
        project.program(program, &format!("echo \"{program} $*\""));
    }
    project.program("omnitool", "true");
    project.root().join("programs").to_str().unwrap().to_owned()
}

#[test]
fn drift_opens_one_issue_and_closes_it() {
    for environment in ["staging", "production"] {
        let (project, commands) = (project(), Commands::new());
        let programs = programs(&project);
        let mut given = variables("drift.yml", &[("RUN_URL", "https://ci.example.com/7")]);
        given.push(("OMNITOOL_PROGRAMS", &programs));
        let command = format!("bash .ci/drift {environment}");
        // Nothing differs, and no issue is open.
        let output = commands.run(project.root(), &command, &given);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        let text = stdout(&output);
        assert!(
            text.contains("import-tool-access --env") && text.contains("--detailed-exitcode"),
            "{text}"
        );
        assert!(!commands.calls().contains("gh issue create"));
        // Something differs, and no issue is open.
        project.program("import-tool-access", "echo 'user_a granted'; exit 3");
        let output = commands.run(project.root(), &command, &given);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let calls = commands.calls();
        assert!(
            calls.contains(&format!("gh issue create --title {environment} differs")),
            "{calls}"
        );
        assert!(
            stdout(&output).contains("user_a granted")
                && stdout(&output).contains("Troubleshooting")
        );
        // It still does, and the issue is open.
        commands.add("issue-list", "echo 9");
        let output = commands.run(project.root(), &command, &given);
        assert_eq!(output.status.code(), Some(1));
        assert!(!commands.calls().contains("gh issue create"));
        // It no longer does.
        project.program("import-tool-access", "true");
        let output = commands.run(project.root(), &command, &given);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(commands.calls().contains("gh issue close 9 --comment"));
    }
}

#[test]
fn a_pull_request_is_told_what_it_changes() {
    // The whole way with the real programs, since it is their flags that must not be renamed.
    let real = Project::with_real_programs();
    assert!(real.has_programs(), "run `cargo build --workspace --bins` first");
    let programs = Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap().to_str().unwrap();
    let (project, commands) = (project(), Commands::new());
    for file in ["data/tools.toml", "data/tool_access_exports/local_tool_access.json"] {
        project.write(file, &real.read(file));
        let theirs = real.read(file).replace(
            "\"Payroll Export\": {\n      \"everyone\": false,\n      \"excluded\": [],\n      \"granted\": [\n        \"admin\"",
            "\"Payroll Export\": {\n      \"everyone\": false,\n      \"excluded\": [],\n      \"granted\": [\n        \"admin\",\n        \"user_a\"",
        );
        let theirs_file = commands.path().join("theirs").join(file.strip_prefix("data/").unwrap());
        fs::create_dir_all(theirs_file.parent().unwrap()).unwrap();
        fs::write(theirs_file, theirs).unwrap();
    }
    commands.add(
        "run-download",
        &format!("mkdir -p \"$7\" && cp -r {}/theirs/. \"$7\"", commands.path().display()),
    );
    let mut given = variables("plan.yml", &[("RUN_ID", "42"), ("PULL_REQUEST", "7")]);
    given.push(("OMNITOOL_PROGRAMS", programs));
    let output = commands.run(project.root(), "bash .ci/plan-access", &given);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let comment = stdout(&output);
    for line in [
        "### What this changes of who may use what",
        "    Nothing to change: every tool is as defined.",
        "        + Payroll Export: user_a granted",
        "    Dry run: would add 1 grant; nothing was changed.",
    ] {
        assert!(comment.lines().any(|found| found == line), "{line}\n{comment}");
    }
    let calls = commands.calls();
    assert!(
        calls.contains("gh pr comment 7 --body-file") && calls.contains("--edit-last"),
        "{calls}"
    );
}

#[test]
fn a_pull_request_of_another_repository_is_left_alone() {
    let (project, commands) = (project(), Commands::new());
    let given = variables("plan.yml", &[("RUN_ID", "42"), ("PULL_REQUEST", "")]);
    let output = commands.run(project.root(), "bash .ci/plan-access", &given);
    assert_eq!((output.status.code(), commands.calls().as_str()), (Some(0), ""));
}
