//! Rollbacks of an app on an emulated Heroku, with real dumps and restores.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use chrono::Utc;
use diesel::{connection::SimpleConnection as _, prelude::*};
use omnitool_backup::{
    BackupId, Kind, StoreOptions, Wanted,
    heroku::{HerokuBackups, HerokuRollbackHooks, HerokuRollbackPlan, HerokuRolledBack, Look},
};
use omnitool_database::schema::users;
use omnitool_environment::EnvironmentName;
use omnitool_heroku::{DatabaseAddOn, Heroku, NewRelease, Pace, Settings};
use omnitool_heroku_emulator::FaultKind;
use omnitool_testing::fixture;

use self::world::{PRODUCTION, STAGING, World};

mod killed;
#[path = "../../../backup-database/tests/it/heroku/world.rs"]
mod world;

const PLAN: &str = "heroku-postgresql:standard-0";

/// A database that was backed up as `b001` and then got another user.
struct Site {
    world: World,
    addon: &'static str,
    env: EnvironmentName,
    app: &'static str,
}

impl Site {
    fn staging() -> Self {
        Self::new("staging-db", EnvironmentName::Staging, STAGING)
    }

    fn new(addon: &'static str, env: EnvironmentName, app: &'static str) -> Self {
        let mut world = World::new(crate::PROGRAM, PLAN);
        let program = world.project.path().join("release/rollback-migration");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::hard_link(crate::PROGRAM, &program)
            .or_else(|_| std::fs::copy(crate::PROGRAM, &program).map(drop))
            .unwrap();
        crate::set_app(&world.project, crate::WORKS);
        world.program = program;
        let site = Self { world, addon, env, app };
        let mut conn = site.world.connect(addon);
        crate::add_tools(&mut conn);
        fixture::user(&mut conn, "alice");
        let taken =
            site.backups().capture(Kind::BeforeDeploy, Some("0002"), Look::Download, &mut |_| ());
        assert_eq!(taken.unwrap().id.to_string(), "b001");
        fixture::user(&mut conn, "bob");
        site
    }

    fn settings(&self) -> Settings {
        let settings = Settings::at(&self.world.emulator.url(), "the-token-of-the-tests".into());
        let roots = self.world.emulator.authority().as_bytes().to_vec();
        Settings { roots, pace: Pace::quick(), ..settings }
    }

    fn backups(&self) -> HerokuBackups {
        let folder = self.world.project.path().join("data/backups");
        let options = StoreOptions::default();
        HerokuBackups::open(self.settings(), self.app, self.env, &folder, &options).unwrap()
    }

    fn arguments<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        ["--env", self.env.as_str()].iter().chain(more).copied().collect()
    }

    fn failure(&self, more: &[&str]) -> String {
        self.world.run(&self.arguments(more)).failure(1)
    }

    fn success(&self, more: &[&str]) -> String {
        self.world.run(&self.arguments(more)).success()
    }

    fn users(&self) -> Vec<String> {
        let mut conn = self.world.connect(self.addon);
        users::table.select(users::username).order(users::username).load(&mut conn).unwrap()
    }

    fn set_maintenance(&self, on: bool) {
        Heroku::new(self.settings()).unwrap().set_maintenance(self.app, on).unwrap();
    }

    /// Rolls back to `b002`, which the app's own check finds fault with; then the app is repaired.
    fn stop_at_the_checks() -> Self {
        let site = Self::staging();
        // The app's own check counts for a backup that is none of an earlier release.
        site.backups().capture(Kind::Manual, None, Look::Download, &mut |_| ()).unwrap();
        fixture::user(&mut site.world.connect(site.addon), "carol");
        crate::set_app(&site.world.project, "exit 1");
        let failed = site.failure(&["--backup", "b002"]);
        assert!(failed.contains("the restored database fails its checks"), "{failed}");
        assert!(
            failed.contains("--undo") && failed.contains("--backup b002 --skip-checks REASON"),
            "{failed}"
        );
        assert!(site.is_in_maintenance());
        assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004"]);
        crate::set_app(&site.world.project, crate::WORKS);
        site
    }

    fn is_in_maintenance(&self) -> bool {
        Heroku::new(self.settings()).unwrap().app(self.app).unwrap().maintenance
    }

    /// Releases a slug whose `verify-migration` is this script.
    fn release(&self, script: &str) {
        let heroku = Heroku::new(self.settings()).unwrap();
        let folder = self.world.project.path();
        let program =
            self.world.project.write("app/bin/verify-migration", format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.join("slug.tgz");
        let packed =
            Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(folder).arg("./app").status();
        assert!(packed.unwrap().success());
        let slug = heroku.create_slug(self.app, &[("web", "sleep 60")], script, "00").unwrap();
        heroku.upload(&slug.blob.as_ref().unwrap().url, &|| std::fs::File::open(&file)).unwrap();
        let new = NewRelease::Slug { slug: &slug.id, description: script };
        let release = heroku.create_release(self.app, new).unwrap();
        heroku.wait_for_release(self.app, &release.id, Duration::from_secs(20)).unwrap();
    }

    /// What a rollback to this backup would be.
    fn plan(&self, backups: &HerokuBackups, id: u32) -> HerokuRollbackPlan {
        let wanted = Wanted::Backup(BackupId::new(id));
        HerokuRollbackPlan::new(backups, &wanted, Look::Download, Utc::now(), &mut |_| ()).unwrap()
    }

    /// Applies a plan whose database nobody checks.
    fn apply(plan: &HerokuRollbackPlan, backups: &HerokuBackups) -> HerokuRolledBack {
        let hooks = &mut HerokuRollbackHooks { progress: &mut |_| (), check: &mut |_| Ok(()) };
        plan.apply(backups, Look::Report, hooks).unwrap()
    }

    /// Begins a rollback to `b001` and kills it when Heroku was asked to restore.
    fn kill_when_it_restores(&self) {
        let mut command = self.world.command(&self.arguments(&["--backup", "b001"]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while self.world.count("POST", "/restores") == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it restored");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A second database of the app.
    fn another_database(&self) -> DatabaseAddOn {
        self.world.emulator.add_database(self.app, "another-db", PLAN).unwrap();
        Heroku::new(self.settings()).unwrap().database_of(self.app, "another-db").unwrap()
    }

    /// Lets Heroku restore `b001` into `database`.
    fn restore(&self, database: &DatabaseAddOn) {
        let heroku = Heroku::new(self.settings()).unwrap();
        let backup = heroku.transfer(self.app, "1").unwrap().to_url.unwrap();
        heroku.restore(database, &backup, Duration::from_secs(60), &mut |_| ()).unwrap();
    }

    /// The names of all backups and restores, oldest first.
    fn transfers(&self) -> Vec<String> {
        let transfers = Heroku::new(self.settings()).unwrap().transfers(self.app).unwrap();
        transfers.iter().rev().map(omnitool_heroku::Transfer::name).collect()
    }
}

#[test]
fn a_rollback_says_what_is_lost_restores_under_maintenance_and_can_be_undone() {
    let site = Site::staging();
    let plan = site.success(&["--dry-run"]);
    insta::assert_snapshot!(crate::stable(&plan), @r"
    Rollback of staging (staging-db of omnitool-by-xdv-staging on Heroku) to b001 (before-deploy, taken [TIME])
      chosen:  the newest verified backup that is no safety copy
      checked: [SIZE] bytes, downloaded and read to its end
      schema:  [VERSION], the one of this build
      release that fits: the one that served before 0002 was deployed
    Heroku empties the database before it fills it: the app is in maintenance mode meanwhile, and what is there now is backed up first.
    Lost: all that was written in the 0 minutes since then.
      users: 2 rows now, 1 in the backup
    Everybody will have to log in again.
    Dry run: staging would be rolled back to b001; nothing was changed
    ");
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001"]);

    site.world.fault(FaultKind::LoseAnswer, "POST", "/backups", 1);
    site.world.fault(FaultKind::LoseAnswer, "POST", "/restores", 1);
    let done = site.world.json(&site.arguments(&[]));
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(
        (&done["safety_backup"], &done["plan"]["target"]["label"]),
        (&"b002".into(), &"b001".into())
    );
    assert_eq!(done["undo"], "rollback-migration --env staging --platform heroku --backup b002");
    assert_eq!(done["checks"]["status"], "passed");
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003"]);

    // What was taken for safety is what an undo restores, and never the latest.
    let plan = site.success(&["--dry-run"]);
    assert!(
        plan.contains("Rollback of staging (staging-db of") && plan.contains("to b001"),
        "{plan}"
    );
    let undone = site.success(&["--undo"]);
    let check = "heroku run -x -a omnitool-by-xdv-staging -- bin/verify-migration --env staging";
    assert!(undone.contains(check), "{undone}");
    assert_eq!(site.users(), ["alice", "bob"]);
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "b004", "r005"]);
}

#[test]
fn production_wants_the_phrase() {
    let site = Site::new("production-db", EnvironmentName::Production, PRODUCTION);
    let refused = site.failure(&[]);
    assert!(refused.contains("pass --confirm \"ROLLBACK PRODUCTION\""), "{refused}");
    let refused = site.failure(&["--confirm", "yes"]);
    assert!(refused.contains("must be exactly `ROLLBACK PRODUCTION`"), "{refused}");
    assert_eq!((site.users().len(), site.transfers().len()), (2, 1));
    assert!(!site.is_in_maintenance());
    site.success(&["--confirm", "ROLLBACK PRODUCTION"]);
    assert_eq!(site.users(), ["alice"]);
}

#[test]
fn without_a_safety_backup_nothing_is_restored_and_the_app_serves_on() {
    let site = Site::staging();
    site.world.fault(FaultKind::FailTransfer, "", "", 1);
    let failed = site.failure(&[]);
    assert!(failed.contains("the database and the app are as they were"), "{failed}");
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001", "b002"]);
    site.success(&[]);
    assert_eq!(site.users(), ["alice"]);
}

#[test]
fn a_restore_that_fails_is_named_and_repeated_with_one_safety_backup() {
    let site = Site::staging();
    site.world.fault(FaultKind::FailRestore, "", "", 1);
    insta::assert_snapshot!(site.failure(&[]), @r"
    error: the rollback of omnitool-by-xdv-staging did not come to its end
      caused by: r003 failed: Heroku says:
        asked to fail with the database empty: Some(Ok(()))

    hint: the database may hold a part of the backup, and the app is in maintenance mode; go on: rollback-migration --env staging --platform heroku --backup b001, or put back what was there: rollback-migration --env staging --platform heroku --undo
    ");
    assert!(site.is_in_maintenance());
    let plan = site.success(&["--dry-run"]);
    assert!(plan.contains("A rollback to b001 did not come to its end"), "{plan}");
    site.success(&["--backup", "b001"]);
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "r004"]);
}

#[test]
fn what_was_there_can_be_put_back_after_a_restore_that_failed() {
    let site = Site::staging();
    site.world.fault(FaultKind::FailRestore, "", "", 1);
    site.failure(&[]);
    site.success(&["--undo"]);
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    // The empty database was not worth a backup.
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "r004"]);
}

#[test]
fn a_half_restored_database_is_never_put_on_line_nor_backed_up_as_what_was_there() {
    let site = Site::staging();
    site.world.fault(FaultKind::FailRestore, "", "", 1);
    site.failure(&[]);
    // Another backup is chosen, and Heroku refuses before it is asked to restore.
    site.world.fault(FaultKind::Status(403), "PATCH", "/apps/", 1);
    let failed = site.failure(&["--undo"]);
    assert!(failed.contains("the database may hold a part of the backup"), "{failed}");
    assert!(site.is_in_maintenance());
    site.success(&["--undo"]);
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "r004"]);
}

#[test]
fn another_backup_is_restored_when_the_restore_before_it_has_ended() {
    let site = Site::staging();
    let backups = site.backups();
    backups.capture(Kind::Manual, None, Look::Download, &mut |_| ()).unwrap();
    fixture::user(&mut site.world.connect(site.addon), "carol");
    // From before the other rollback has begun: what that one has done is read again under the lock.
    let plan = site.plan(&backups, 2);
    let mut conn = site.world.connect(site.addon);
    conn.batch_execute("BEGIN; SELECT id FROM users").unwrap();
    site.kill_when_it_restores();
    let before = site.world.emulator.requests().len();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The first restore goes on as long as somebody reads the table.
            let looks = || {
                let requests = site.world.emulator.requests();
                let new = requests.iter().skip(before);
                new.filter(|request| request.contains("/transfers/")).count()
            };
            while looks() < 3 && site.world.count("POST", "/restores") == 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(site.world.count("POST", "/restores"), 1);
            conn.batch_execute("ROLLBACK").unwrap();
        });
        let done = Site::apply(&plan, &backups);
        assert_eq!(done.safety_backup, Some(BackupId::new(3)));
    });
    assert_eq!(
        (site.users(), site.is_in_maintenance()),
        (vec!["alice".into(), "bob".into()], false)
    );
    assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004", "r005"]);
}

#[test]
fn trouble_of_heroku_s_is_waited_out_and_what_it_refuses_is_named() {
    let site = Site::staging();
    for (kind, method, path) in [
        (FaultKind::Status(503), "POST", "/restores"),
        (FaultKind::Status(429), "PATCH", "/apps/"),
        (FaultKind::LoseAnswer, "PATCH", "/apps/"),
        (FaultKind::Status(503), "GET", "/transfers"),
        (FaultKind::LoseAnswer, "DELETE", "/dynos"),
        (FaultKind::ExpiredUrl, "", ""),
    ] {
        site.world.fault(kind, method, path, 1);
    }
    site.success(&[]);
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003"]);
    // In the middle, with the state named and the next command right.
    site.world.fault(FaultKind::Status(503), "POST", "/restores", 100);
    let failed = site.failure(&["--backup", "b002"]);
    assert!(
        failed.contains("status 503")
            && failed.contains(
                "go on: rollback-migration --env staging --platform heroku --backup b002"
            ),
        "{failed}"
    );
    site.world.emulator.heal();
    site.success(&["--backup", "b002"]);
    assert_eq!(site.users(), ["alice", "bob"]);
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "b004", "r005"]);
}

#[test]
fn a_restore_whose_end_was_not_seen_is_not_begun_again() {
    let site = Site::staging();
    // The look at the backup, the safety backup and its end are read; then nothing any more.
    site.world.fault(FaultKind::LoseAnswer, "POST", "/restores", 1);
    site.kill_when_it_restores();
    assert!(site.is_in_maintenance());
    site.success(&[]);
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003"]);
}

#[test]
fn a_restore_of_another_database_of_the_app_is_not_taken_for_the_own_one() {
    let site = Site::staging();
    let other = site.another_database();
    // Heroku refuses the restore that this one asks for, and then does another one.
    site.world.fault(FaultKind::Status(403), "POST", "/restores", 1);
    site.failure(&["--backup", "b001"]);
    site.restore(&other);
    site.success(&["--backup", "b001"]);
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003", "r004"]);
}

#[test]
fn a_restore_of_another_database_of_the_app_is_not_waited_for() {
    let site = Site::staging();
    let other = site.another_database();
    // It goes on as long as somebody reads a table there.
    let mut conn = site.world.connect(&other.name);
    conn.batch_execute("CREATE TABLE notes (id INT); BEGIN; SELECT id FROM notes").unwrap();
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| site.restore(&other));
        while site.transfers().len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut command = site.world.command(&site.arguments(&["--backup", "b001"]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = child.try_wait().unwrap();
        assert!(!restore.is_finished());
        conn.batch_execute("ROLLBACK").unwrap();
        child.wait().unwrap();
        assert!(ended.is_some_and(|status| status.success()));
    });
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "r002", "b003", "r004"]);
}

#[test]
fn a_run_that_is_killed_at_any_moment_is_completed_by_repeats_with_one_restore() {
    let site = Site::staging();
    for more in (3..).step_by(4) {
        if site.world.run_and_kill(&site.arguments(&["--backup", "b001"]), more) {
            break;
        }
        // Of a run whose app serves again nothing was left to do.
        let is_restored = site.transfers().iter().any(|name| name.starts_with('r'));
        if is_restored && !site.is_in_maintenance() {
            break;
        }
    }
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    let restores = site.transfers().iter().filter(|name| name.starts_with('r')).count();
    assert_eq!(restores, 1, "{:?}", site.transfers());
    site.success(&["--undo"]);
    assert_eq!(site.users(), ["alice", "bob"]);
}

#[test]
fn a_database_that_fails_its_checks_stays_behind_maintenance_until_somebody_decides() {
    let site = Site::stop_at_the_checks();
    crate::set_app(&site.world.project, "exit 1");
    site.success(&["--backup", "b002", "--skip-checks", "the app is repaired later"]);
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004"]);
}

#[test]
fn a_database_that_somebody_wrote_to_meanwhile_is_restored_once_more() {
    let site = Site::stop_at_the_checks();
    fixture::user(&mut site.world.connect(site.addon), "worker");
    let failed = site.failure(&["--backup", "b002"]);
    assert!(
        failed.contains("what was restored is not what was backed up: ")
            && failed.contains("stop what writes to its database")
            && failed.contains(
                "once more: rollback-migration --env staging --platform heroku --backup b002"
            ),
        "{failed}"
    );
    assert!(site.is_in_maintenance());
    site.success(&["--backup", "b002"]);
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004", "r005"]);
}

#[test]
fn what_was_written_since_somebody_ended_the_maintenance_mode_is_backed_up() {
    let site = Site::stop_at_the_checks();
    site.set_maintenance(false);
    fixture::user(&mut site.world.connect(site.addon), "dave");
    let done = site.success(&["--backup", "b002", "--no-download"]);
    assert!(!done.contains("did not come to its end"), "{done}");
    assert_eq!((site.users().len(), site.is_in_maintenance()), (2, false));
    assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004", "b005", "r006"]);
    site.success(&["--undo"]);
    assert_eq!(site.users(), ["alice", "bob", "dave"]);
}

#[test]
fn a_rollback_of_another_database_of_the_app_is_none_to_go_on_with() {
    let site = Site::stop_at_the_checks();
    let file = site.backups().folder().join("rollback.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(site.addon, "the-one-before")).unwrap();
    let done = site.success(&["--backup", "b002"]);
    assert_eq!(site.transfers(), ["b001", "b002", "b003", "r004", "b005", "r006"]);
    // Whose maintenance mode it was is not known any more.
    assert!(site.is_in_maintenance());
    assert!(done.contains("maintenance mode, as it was before. To end it: heroku maintenance:off -a omnitool-by-xdv-staging"), "{done}");
}

#[test]
fn a_database_that_cannot_be_reached_from_here_is_checked_where_the_app_is() {
    let site = Site::staging();
    site.release("echo three rows are missing; exit 1");
    site.world.fault(FaultKind::Unreachable, "", "", 1000);
    let plan = site.success(&["--dry-run"]);
    assert!(plan.contains("nobody knows: the database cannot be reached"), "{plan}");
    let failed = site.failure(&[]);
    assert!(
        failed.contains("verify-migration ended with 1 in a dyno: three rows are missing"),
        "{failed}"
    );
    assert!(failed.contains("b001 is restored, and the app is in maintenance mode"), "{failed}");
    site.release("exit 0");
    site.success(&[]);
    assert_eq!((site.users(), site.is_in_maintenance()), (vec!["alice".to_owned()], false));
    assert_eq!(site.transfers(), ["b001", "b002", "r003"]);
}

#[test]
fn what_heroku_cannot_do_is_refused() {
    let site = Site::staging();
    let refused = site.world.run(&site.arguments(&["--file", "x"])).failure(2);
    assert!(refused.contains("on Heroku there is no --file"), "{refused}");
    let refused = site.failure(&["--backup", "b009"]);
    assert!(refused.contains("there is no backup b009"), "{refused}");
    assert!(
        !Path::new(&site.world.project.path().join("data/backups/staging/heroku/rollback.json"))
            .exists()
    );
}
