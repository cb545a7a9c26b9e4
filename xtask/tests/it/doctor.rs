//! `cargo xtask doctor`, on this machine and on an emulated Heroku.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use omnitool_heroku::{Heroku, NewRelease, Pace, Settings};
use omnitool_heroku_emulator::{Emulator, Fault, FaultKind, Options};
use omnitool_pipeline::PROGRAMS;
use omnitool_testing::{Dialect, TestDatabase, TestProject};
use serde_json::Value;

const TOKEN: &str = "the-token-of-the-tests";
const STAGING: &str = "omnitool-by-xdv-staging";
const PRODUCTION: &str = "omnitool-by-xdv";
/// What may be missing on the machine that runs the tests.
const OF_THE_MACHINE: [&str; 5] = ["toolchain", "C compiler", "git", "PostgreSQL", "Node.js"];

struct World {
    emulator: Emulator,
    project: TestProject,
    /// From which the emulator makes its databases; it goes last.
    _server: TestDatabase,
}

impl World {
    fn new(scope: &str) -> Self {
        let server = TestDatabase::empty(Dialect::Postgres);
        let emulator = Emulator::start(Options {
            token: TOKEN.to_owned(),
            postgres: Some(server.url().expose().parse().unwrap()),
            scope: vec![scope.to_owned()],
            ..Options::default()
        });
        Self { emulator: emulator.unwrap(), project: project(), _server: server }
    }

    /// With both apps as they are before the first deployment.
    fn with_apps(plan: &str) -> Self {
        let world = Self::new("global");
        for (app, addon) in [(STAGING, "staging-db"), (PRODUCTION, "production-db")] {
            world.emulator.add_app(app).unwrap();
            world.emulator.add_database(app, addon, plan).unwrap();
        }
        world
    }

    fn heroku(&self) -> Heroku {
        let settings = Settings::at(&self.emulator.url(), TOKEN.into());
        Heroku::new(Settings { pace: Pace::quick(), ..settings }).unwrap()
    }

    fn doctor(&self, arguments: &[&str]) -> Findings {
        let arguments: Vec<&str> =
            ["--platform", "heroku"].iter().chain(arguments).copied().collect();
        doctor(&self.project, &arguments, |command| {
            command.env("HEROKU_API_KEY", TOKEN).env("HEROKU_HOST", self.emulator.url().as_str());
        })
    }

    fn fault(&self, kind: FaultKind, path: &str, times: u32) {
        self.emulator.fault(Fault { kind, method: None, path: path.to_owned(), times });
    }

    /// Releases a slug that has these programs.
    fn release(&self, app: &str, programs: &[&str], types: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            let file = folder.path().join("app/bin").join(program);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let file = folder.path().join("slug.tgz");
        let packed = Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(folder.path())
            .arg("./app")
            .status();
        assert!(packed.unwrap().success());
        let heroku = self.heroku();
        let slug = heroku.create_slug(app, types, "c0ffee", "00").unwrap();
        heroku.upload(&slug.blob.as_ref().unwrap().url, &|| fs::File::open(&file)).unwrap();
        let new = NewRelease::Slug { slug: &slug.id, description: "Deploy c0ffee" };
        let release = heroku.create_release(app, new).unwrap();
        heroku.wait_for_release(app, &release.id, std::time::Duration::from_secs(20)).unwrap();
    }
}

/// A working copy with the shipped files, all committed.
fn project() -> TestProject {
    let project = TestProject::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in ["Procfile", "app.json", "rust-toolchain.toml"] {
        project.write(file, fs::read(root.join(file)).unwrap());
    }
    for entry in fs::read_dir(root.join(".github/workflows")).unwrap() {
        let entry = entry.unwrap();
        let name = format!(".github/workflows/{}", entry.file_name().to_string_lossy());
        project.write(&name, fs::read(entry.path()).unwrap());
    }
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.invalid",
            "commit",
            "--quiet",
            "-m",
            "all",
        ],
    ] {
        let mut git = project.command("git");
        git.args(arguments);
        project.output(git).success();
    }
    project
}

fn doctor(project: &TestProject, arguments: &[&str], more: impl FnOnce(&mut Command)) -> Findings {
    let mut command = project.command(env!("CARGO_BIN_EXE_xtask"));
    command.args(["doctor", "--format", "json", "--root"]).arg(project.path()).args(arguments);
    // The real toolchain, wherever it is.
    for name in ["HOME", "RUSTUP_HOME", "CARGO_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    more(&mut command);
    let output = project.output(command);
    Findings {
        code: output.code,
        document: serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")),
    }
}

struct Findings {
    code: Option<i32>,
    document: Value,
}

impl Findings {
    /// All that is not about the machine and not good, as `outcome check: message | repair`.
    fn bad(&self) -> Vec<String> {
        let findings = self.document["findings"].as_array().unwrap();
        let text =
            |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        findings
            .iter()
            .filter(|finding| finding["outcome"] != "good")
            .filter(|finding| !OF_THE_MACHINE.contains(&finding["check"].as_str().unwrap()))
            .map(|finding| {
                let [outcome, check, message, repair] =
                    ["outcome", "check", "message", "repair"].map(|key| text(finding, key));
                assert!(!repair.is_empty(), "{finding}");
                format!("{outcome} {check}: {message} | {repair}")
            })
            .collect()
    }

    #[track_caller]
    fn has(&self, start: &str, repair: &str) {
        let bad = self.bad();
        let found = bad.iter().any(|line| line.starts_with(start) && line.contains(repair));
        assert!(found, "no `{start}` with `{repair}` in {bad:#?}");
    }
}

#[test]
fn a_good_working_copy_has_nothing_to_repair_and_bad_files_are_named() {
    let project = project();
    let fine = doctor(&project, &[], |_| ());
    assert_eq!(fine.bad(), Vec::<String>::new());
    project.write("Procfile", "web: bin/omnitool serve\n");
    project.write(
        ".github/workflows/old.yml",
        "jobs:\n  x:\n    steps:\n      - run: heroku run verify-migration -a app\n",
    );
    project.write("data/environments.toml", "[local\n");
    let found = doctor(&project, &[], |_| ());
    assert_eq!(found.code, Some(1));
    found.has(
        "problem Procfile: it has no line `release: bin/migrate-db … --keep-newer`",
        "add the line",
    );
    found.has("problem workflows: old.yml:4 loses the exit status", "heroku run -x -a APP");
    found.has("problem environments: cannot understand", "correct data/environments.toml");
}

#[test]
fn without_a_token_nothing_is_asked() {
    let world = World::new("global");
    let missing = doctor(&world.project, &["--platform", "heroku"], |_| ());
    assert_eq!(missing.code, Some(1));
    missing.has("problem token: the platform heroku needs a token", "heroku authorizations:create");
    let wrong = doctor(&world.project, &["--platform", "heroku"], |command| {
        command.env("HEROKU_API_KEY", "another").env("HEROKU_HOST", world.emulator.url().as_str());
    });
    wrong.has("problem token: Heroku refused GET /account", "make a new one");
    assert_eq!(world.emulator.requests(), ["GET /account"]);
}

#[test]
fn apps_that_are_not_there_and_a_token_that_may_only_read_are_named() {
    let world = World::new("read");
    let found = world.doctor(&[]);
    found.has("problem scopes: the token may not change apps: read", "--scope global");
    // Besides the two apps, which is all.
    assert_eq!(found.bad().len(), 3, "{:?}", found.bad());
    found.has(
        "problem staging: app: the account sees no app",
        "heroku apps:create omnitool-by-xdv-staging",
    );
    found.has("problem production: app: the account sees no app", "[production.heroku]");
}

#[test]
fn an_app_before_its_first_deployment_has_warnings_only() {
    let world = World::with_apps("heroku-postgresql:essential-0");
    let found = world.doctor(&["--env", "staging"]);
    assert_eq!(found.code, Some(0), "{:?}", found.bad());
    found.has("warning staging: base URL: data/environments.toml says", "correct base_url");
    found.has(
        "warning staging: database: staging-db on heroku-postgresql:essential-0 has no followers",
        "--via transfer",
    );
    found.has(
        "warning staging: backups: there is none yet",
        "backup-database --env staging --platform heroku capture",
    );
    found.has(
        "warning staging: config: omnitool-by-xdv-staging has no OMNITOOL_ENV",
        "first deployment",
    );
    found.has(
        "warning staging: release: omnitool-by-xdv-staging serves no code yet",
        "deploy-staging --platform heroku",
    );
    let both = world.doctor(&[]);
    both.has("warning pipeline: omnitool-by-xdv-staging is in none", "heroku pipelines:add");
}

#[test]
fn what_serves_is_looked_into() {
    let world = World::with_apps("heroku-postgresql:standard-0");
    let types = [("release", "bin/migrate-db --keep-newer"), ("web", "bin/omnitool serve")];
    world.release(STAGING, &PROGRAMS, &types);
    let heroku = world.heroku();
    let database = heroku.database_of(STAGING, "DATABASE_URL").unwrap();
    heroku.capture(&database, std::time::Duration::from_secs(20), &mut |_| {}).unwrap();
    let wanted = [("OMNITOOL_ENV".to_owned(), Some("staging".to_owned()))];
    heroku.set_config_vars(STAGING, &wanted.clone().into()).unwrap();
    let found = world.doctor(&["--env", "staging"]);
    let bad = found.bad();
    assert!(bad.len() == 1 && bad[0].starts_with("warning staging: base URL"), "{bad:#?}");

    world.release(PRODUCTION, &PROGRAMS[1..], &[("web", "bin/omnitool serve")]);
    heroku.set_config_vars(PRODUCTION, &wanted.into()).unwrap();
    heroku.set_maintenance(PRODUCTION, true).unwrap();
    let found = world.doctor(&["--env", "production"]);
    assert_eq!(found.code, Some(1));
    found.has(
        "problem production: release: what serves has no process `release: bin/migrate-db … --keep-newer`",
        "deploy-production",
    );
    found.has("problem production: programs: the slug has no backup-database", "deploy-production");
    found.has(
        "problem production: config: OMNITOOL_ENV of omnitool-by-xdv is not production",
        "heroku config:set OMNITOOL_ENV=production",
    );
    found.has(
        "warning production: app: omnitool-by-xdv is in maintenance mode",
        "heroku maintenance:off",
    );
}

#[test]
fn trouble_of_heroku_s_is_a_finding_and_the_rest_is_still_looked_at() {
    let world = World::with_apps("heroku-postgresql:standard-0");
    world.fault(FaultKind::Status(503), "/account", 2);
    world.fault(FaultKind::Status(503), "/transfers", 100);
    world.fault(FaultKind::Html, "/config-vars", 1);
    let found = world.doctor(&["--env", "staging"]);
    assert_eq!(found.code, Some(1));
    found.has("problem staging: backups: Heroku answered GET", "https://status.heroku.com");
    found.has("problem staging: config: Heroku answered GET", "run this again");
    found.has("warning staging: release: ", "deploy-staging");
}
