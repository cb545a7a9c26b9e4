//! Deployments to an emulated Heroku, as the terminal sees them.

mod faults;
mod ways;
mod whole;

use std::{fs, path::Path, time::Duration};

use omnitool_database::{Mode, open};
use omnitool_heroku::{Heroku, NewRelease, Pace, Settings};
use omnitool_heroku_emulator::{Emulator, Fault, FaultKind, Options};
use omnitool_testing::{Dialect, TestDatabase};

use crate::project::{Project, answer, stderr, stdout};

pub(crate) const STAGING: &str = "staging-app";
pub(crate) const PRODUCTION: &str = "production-app";
const TOKEN: &str = "the-token-of-the-tests";
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

pub(crate) const REHEARSAL: &str = "OMNITOOL_REHEARSAL_DATABASE_URL";

/// A database to rehearse in, on the server of `database` and named after it.
pub(crate) fn rehearsal_url(database: &TestDatabase) -> String {
    database.url().expose().replace("/omnitool_test_", "/omnitool_rehearsal_")
}

/// A project with an app for staging and one for production.
pub(crate) struct World {
    pub(crate) project: Project,
    pub(crate) emulator: Emulator,
    /// From which the emulator makes its databases; it goes last.
    server: TestDatabase,
}

impl World {
    /// With programs that are scripts.
    pub(crate) fn new() -> Self {
        let server = TestDatabase::empty(Dialect::Postgres);
        let options = Options {
            token: TOKEN.to_owned(),
            postgres: Some(server.url().expose().parse().unwrap()),
            greeting_pause: Duration::ZERO,
            ..Options::default()
        };
        let emulator = Emulator::start(options).unwrap();
        let mut project = Project::with_scripts();
        let mut environments = project.read("data/environments.toml");
        for (app, environment) in [(STAGING, "staging"), (PRODUCTION, "production")] {
            emulator.add_app(app).unwrap();
            let database = format!("{environment}-db");
            emulator.add_database(app, &database, "heroku-postgresql:standard-0").unwrap();
            let url = emulator.web_url(app).unwrap();
            environments.push_str(&format!(
                "[{environment}.heroku]\napp = \"{app}\"\nbase_url = \"{url}\"\n\n"
            ));
        }
        project.write("data/environments.toml", &environments);
        project.write(".omnitool/ca.pem", emulator.authority());
        let procfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Procfile");
        project.write("Procfile", &fs::read_to_string(procfile).unwrap());
        project.variables = vec![
            ("HEROKU_API_KEY", TOKEN.to_owned()),
            ("HEROKU_HOST", emulator.url().to_string()),
            ("HEROKU_CA_FILE", project.root().join(".omnitool/ca.pem").display().to_string()),
        ];
        let migrate = "case \"$DATABASE_URL $*\" in\n*omnitool_rehearsal*) \
             echo '{\"summary\":\"1 migration applied\"}';;\nsqlite:*) touch \"${DATABASE_URL#sqlite:}\"; \
             echo '{\"summary\":\"1 migration applied\"}';;\n\
             *) psql -X -q \"$DATABASE_URL\" -c 'CREATE TABLE IF NOT EXISTS made (id int)' >/dev/null 2>&1\n\
             echo 'Applied migration: one';;\nesac";
        project.migrate(migrate);
        Self { project, emulator, server }
    }

    /// With the real programs, behind scripts that are uploaded faster than programs with debugging symbols.
    pub(crate) fn with_real_programs() -> Self {
        let world = Self::new();
        for program in omnitool_pipeline::PROGRAMS {
            let real = Path::new(XTASK).with_file_name(program);
            assert!(real.is_file(), "run `cargo build --workspace --bins` first");
            world.project.program(program, &format!("exec {} \"$@\"", real.display()));
        }
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        for file in ["tools.toml", "tool_access_exports/local_tool_access.json"] {
            let text = fs::read_to_string(data.join(file)).unwrap();
            world.project.write(&format!("data/{file}"), &text);
        }
        world
    }

    /// The variable that names the database to rehearse in, which is not there.
    pub(crate) fn rehearsal(&self) -> (&'static str, String) {
        (REHEARSAL, rehearsal_url(&self.server))
    }

    /// Whether that database is there.
    pub(crate) fn has_copy(&self) -> bool {
        open(&rehearsal_url(&self.server).parse().unwrap(), Mode::Write).is_ok()
    }

    /// The part of `data/environments.toml` that names the apps.
    pub(crate) fn sections(&self) -> String {
        let text = self.project.read("data/environments.toml");
        text[text.find("[staging.heroku]").unwrap()..].to_owned()
    }

    pub(crate) fn client(&self) -> Heroku {
        let roots = self.emulator.authority().as_bytes().to_vec();
        let settings = Settings::at(&self.emulator.url(), TOKEN.into());
        Heroku::new(Settings { roots, pace: Pace::quick(), ..settings }).unwrap()
    }

    pub(crate) fn fault(&self, kind: FaultKind, method: &str, path: &str, times: u32) {
        let method = (!method.is_empty()).then(|| method.to_owned());
        self.emulator.fault(Fault { kind, method, path: path.to_owned(), times });
    }

    /// `text` without what differs from run to run.
    pub(crate) fn normal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (app, name) in [(STAGING, "STAGING"), (PRODUCTION, "PRODUCTION")] {
            text = text.replace(&self.emulator.web_url(app).unwrap(), &format!("http://{name}"));
        }
        self.project.normal(&text)
    }

    /// The descriptions of an app's releases, oldest first, without the artifact's digits.
    pub(crate) fn releases(&self, app: &str) -> Vec<String> {
        let mut releases = self.client().releases(app, 1000).unwrap();
        releases.reverse();
        let text = |text: &str| text.split('-').next().unwrap_or_default().to_owned();
        releases
            .into_iter()
            .map(|release| format!("{} {}", text(&release.description), release.status))
            .collect()
    }
}

const ON_HEROKU: [&str; 2] = ["--platform", "heroku"];

#[test]
fn a_deployment_to_heroku_says_what_it_did_and_what_to_do_next() {
    let world = World::new();
    let first = world.project.deploy(&ON_HEROKU);
    assert_eq!(first.status.code(), Some(0), "{}{}", stdout(&first), stderr(&first));
    insta::assert_snapshot!(world.normal(&stdout(&first)), @r"
    Deploying release 0001 to staging on the heroku platform, where nothing serves

    skip  tests                -  not asked for with --tests
    done  build            N.N s  artifact HASH packed, N.N MB
    skip  backup               -  there is no database yet
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  set OMNITOOL_ENV; 0 unchanged
    done  release          N.N s  the slug of release 0001 is uploaded
                                  N migration applied
                                  release 0001 serves as v3 on web.1
                                  no old release to remove
    done  import-access    N.N s  N facts added
    done  verify           N.N s  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0001 serves

    Release 0001 serves at http://STAGING/ after N.N s
      database   migrate-db: N migration applied
      database   import-tool-access: N facts added
      app        release 0001 serves at http://STAGING/
      backup     none was taken in this run

    Where to look
      log        heroku logs -a staging-app
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      look closer:                       heroku run -x -a staging-app -- bin/verify-migration --env staging --verbose
      see its log:                       heroku logs --tail -a staging-app
    ");
    let second = world.project.deploy(&ON_HEROKU);
    assert_eq!(second.status.code(), Some(0), "{}{}", stdout(&second), stderr(&second));
    insta::assert_snapshot!(world.normal(&stdout(&second)), @r"
    Deploying release 0002 to staging on the heroku platform, over release 0001

    skip  tests                -  not asked for with --tests
    done  build            N.N s  artifact HASH unchanged, N.N MB
    done  backup           N.N s  backup b001 of N kB
    skip  refresh              -  not asked for with --refresh-data
    done  config           N.N s  nothing to set, N unchanged
    done  release          N.N s  the slug of release 0002 is uploaded
                                  N migration applied
                                  release 0002 serves as v4 on web.1
                                  no old release to remove
    done  import-access    N.N s  N facts added
    done  verify           N.N s  N of N checks passed
    done  smoke            N.N s  N of N passed
    done  prune-backups    N.N s  backup b001 of N kB
    done  summary          N.N s  release 0002 serves; backup b001 is from before this run

    Release 0002 serves at http://STAGING/ after N.N s
      database   migrate-db: N migration applied
      database   import-tool-access: N facts added
      app        release 0002 serves at http://STAGING/
      backup     b001, from before anything changed

    Where to look
      log        heroku logs -a staging-app
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      look closer:                       heroku run -x -a staging-app -- bin/verify-migration --env staging --verbose
      roll back the code:                cargo xtask rollback staging --platform heroku --code
      roll back:                         programs/rollback-migration --env staging --platform heroku --backup b001
      see its log:                       heroku logs --tail -a staging-app
    ");
    assert!(!world.project.journal().contains(TOKEN));
}

/// The command that goes on with the run that printed `text`, without `cargo xtask deploy-staging`.
fn go_on(text: &str) -> Vec<&str> {
    let command = text.lines().find_map(|line| line.split_once("then go on:")).unwrap().1;
    command.split_whitespace().skip(3).collect()
}

#[test]
fn a_run_that_stopped_is_completed_by_the_command_that_it_names() {
    let world = World::new();
    world.project.deploy(&ON_HEROKU);
    world.fault(FaultKind::FailReleasePhase, "", "", 1);
    let failed = world.project.deploy(&ON_HEROKU);
    assert_eq!(failed.status.code(), Some(1));
    let text = stdout(&failed);
    let from = text.find("Stopped after").unwrap();
    insta::assert_snapshot!(world.normal(&text[from..]), @r"
    Stopped after N.N s; this is where everything stands
      database   the release phase of release 0002 (v4) failed; v3 serves, as before; what it had not committed is undone
      app        release 0001 serves at http://STAGING/, as before
      backup     b001, from before anything changed

    Where to look
      log        heroku logs -a staging-app
      journal    .omnitool/staging/runs/RUN.jsonl
      report     .omnitool/staging/runs/RUN.html

    What to do next
      fix the cause, then go on:         cargo xtask deploy-staging --platform heroku --resume RUN
      fix the cause, then deploy again:  cargo xtask deploy-staging --platform heroku
      roll back:                         programs/rollback-migration --env staging --platform heroku --backup b001
      see its log:                       heroku logs --tail -a staging-app
    ");
    insta::assert_snapshot!(world.normal(&stderr(&failed)), @r"
    error: the deployment stopped in the step release
      caused by: the release phase of release 0002 (v4) failed; v3 serves, as before:
        Applied migration: one
    ");
    let output = world.project.deploy(&go_on(&text));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        world.releases(STAGING)[3..],
        ["Deploy 0002 failed".to_owned(), "Deploy 0002 succeeded".to_owned()]
    );
}

#[test]
fn a_way_back_on_heroku_is_said_and_gone() {
    let world = World::new();
    for _ in 0..2 {
        let output = world.project.deploy(&ON_HEROKU);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let programs = world.project.root().join("programs");
    let back = |more: &[&str]| {
        let all = ["rollback", "staging", "--platform", "heroku", "--programs"];
        let all: Vec<&str> =
            all.iter().copied().chain([programs.to_str().unwrap()]).chain(more.to_vec()).collect();
        world.project.xtask(&all)
    };
    let shown = back(&[]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    insta::assert_snapshot!(world.normal(&stdout(&shown)), @r"
    Release 0002 of staging serves. What each way back would lose:

    --code: release 0001 serves again
      its programs do not say whether they know the schema: on Heroku only the release that serves runs programs

    --schema: not possible: on Heroku only the release that serves runs programs, so say how many: --migrations N

    --data: the database is put back to b001
      what was written in the last N minutes
      users: N rows now, N then
      its schema is older by N migrations; it was taken before release 0002

    Nothing was changed. Choose one with --code, --schema or --data.
    ");
    let output = back(&["--code", "--confirm", "ROLLBACK STAGING"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(world.releases(STAGING).last().unwrap(), "Rollback to v3 succeeded");
    let output = back(&["--data", "--confirm", "ROLLBACK STAGING"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));

    // What nobody counted in a backup is no reason not to go back to it.
    let unknown = r#"echo '{"summary":"restored b001","plan":{"target":{"label":"b001"},"losses":null,"losses_unknown":"b001 was not looked into"}}'"#;
    world.project.program("rollback-migration", unknown);
    let output = back(&["--data", "--confirm", "ROLLBACK STAGING"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("  how many rows that is, nobody knows: b001 was not looked into\n"),
        "{text}"
    );
}

#[test]
fn nothing_goes_back_before_a_release_that_goes_on_has_ended() {
    let world = World::new();
    let block = world.project.root().join("block");
    let marker = world.project.root().join("restored");
    // A release phase that takes its time.
    world.project.migrate(&format!(
        "while test -e {}; do sleep 0.01; done; echo 'Applied migration: one'",
        block.display()
    ));
    world.project.program("rollback-migration", &format!(
        "case \"$*\" in *--dry-run*) ;; *) touch {};; esac; echo '{{\"summary\":\"restored b001\",\"plan\":{{\"target\":{{\"label\":\"b001\"}}}}}}'",
        marker.display()
    ));
    assert_eq!(world.project.deploy(&ON_HEROKU).status.code(), Some(0));
    let heroku = world.client();
    let slug = heroku.newest_release(STAGING).unwrap().unwrap().slug.unwrap().id;
    let programs = world.project.root().join("programs");
    let confirmed = ["--programs", programs.to_str().unwrap(), "--confirm", "ROLLBACK STAGING"];
    fs::write(&block, "").unwrap();
    let new = NewRelease::Slug { slug: &slug, description: "Deploy 0002-0123456789ab" };
    let pending = heroku.create_release(STAGING, new).unwrap();
    let looked = format!("GET /apps/{STAGING}/releases/{}", pending.id);
    let output = std::thread::scope(|scope| {
        let arguments = ["rollback", "staging", "--platform", "heroku", "--data"];
        let arguments = [&arguments[..], &confirmed[..]].concat();
        let project = &world.project;
        let rollback = scope.spawn(move || project.xtask(&arguments));
        while world.emulator.requests().iter().filter(|request| **request == looked).count() < 3 {
            assert!(!rollback.is_finished());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!marker.exists());
        fs::remove_file(&block).unwrap();
        rollback.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("no release phase or build goes on"), "{}", stdout(&output));
    assert!(marker.exists(), "{}", stdout(&output));
}

#[test]
fn who_stops_while_dynos_come_up_is_told_that_they_do_and_goes_on_later() {
    let world = World::new();
    assert_eq!(world.project.deploy(&ON_HEROKU).status.code(), Some(0));
    // The second release's dynos do not answer yet.
    let dynos = format!("GET /apps/{STAGING}/dynos");
    let before = world.emulator.requests().iter().filter(|request| **request == dynos).count();
    world.project.program("omnitool", "sleep 60");
    let output = world.project.interrupt(&["deploy-staging", "--platform", "heroku"], || {
        let requests = world.emulator.requests();
        requests.iter().filter(|request| **request == dynos).count() > before
    });
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains("interrupted; the start of staging-app's dynos with v4 goes on by itself"),
        "{text}"
    );
    let resumed = world.project.deploy(&go_on(&stdout(&output)));
    assert_eq!(resumed.status.code(), Some(0), "{}{}", stdout(&resumed), stderr(&resumed));
    let made = world.releases(STAGING);
    assert_eq!(made.iter().filter(|text| text.starts_with("Deploy 0002")).count(), 1, "{made:?}");
}

#[test]
fn a_rollback_that_gives_the_app_an_older_database_says_so_and_fails() {
    let world = World::new();
    for _ in 0..2 {
        assert_eq!(world.project.deploy(&ON_HEROKU).status.code(), Some(0));
    }
    let heroku = world.client();
    let plan = "heroku-postgresql:standard-0";
    world.emulator.add_database(STAGING, "another-db", plan).unwrap();
    heroku.attach(STAGING, "another-db", "DATABASE").unwrap();
    world.fault(FaultKind::OldDatabase, "", "", 1);
    let programs = world.project.root().join("programs");
    let output = world.project.xtask(&[
        "rollback",
        "staging",
        "--platform",
        "heroku",
        "--code",
        "--programs",
        programs.to_str().unwrap(),
        "--confirm",
        "ROLLBACK STAGING",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    insta::assert_snapshot!(world.normal(&stderr(&output)), @r"
    error: the rollback stopped in the step rollback
      caused by: after the rollback DATABASE_URL of staging-app is not the address of the database that is attached as DATABASE

    hint: attach the right database: heroku pg:promote ADDON -a APP
    ");
}

#[test]
fn without_a_token_nothing_happens() {
    let mut world = World::new();
    world.project.variables.retain(|(name, _)| *name != "HEROKU_API_KEY");
    let output = world.project.deploy(&ON_HEROKU);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @r"
    error: the platform heroku needs a token in HEROKU_API_KEY, and there is none

    hint: make one with `heroku authorizations:create`, and set HEROKU_API_KEY to it; nothing was changed
    ");
    assert_eq!(world.emulator.requests(), Vec::<String>::new());
}

#[test]
fn what_passed_staging_on_heroku_goes_to_production_as_it_is() {
    let world = World::new();
    world.project.init_git();
    let confirmed = ["--platform", "heroku"];
    // What passed on this machine has not passed on Heroku.
    assert_eq!(world.project.deploy(&[]).status.code(), Some(0));
    let refused = world.project.deploy_production(&confirmed);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("-> cargo xtask deploy-staging --platform heroku"), "{text}");
    assert_eq!(world.project.deploy(&ON_HEROKU).status.code(), Some(0));
    // What is built since is another artifact, and none that was tried.
    world.project.program("sync-tools", &answer("another"));
    for number in ["0001", "0002"] {
        let output =
            world.project.deploy_production(&["--platform", "heroku", "--no-require-rehearsal"]);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains(&format!("Release {number} serves at http://127.0.0.1")));
    }
    assert_eq!(
        world.releases(PRODUCTION)[1..],
        [
            "Set OMNITOOL_ENV config vars succeeded",
            "Deploy 0001 succeeded",
            "Deploy 0002 succeeded"
        ]
    );
    assert!(!world.project.journal_of("production").contains("create-user"));
}
