//! Refreshes of an app on an emulated Heroku, with real databases.

use std::process::Stdio;

use omnitool_database::stamp;
use omnitool_environment::EnvironmentName;
use omnitool_heroku::{Heroku, Pace, Settings};
use omnitool_heroku_emulator::FaultKind;
use omnitool_testing::{CommandOutput, fixture};
use serde_json::Value;

use self::world::{PRODUCTION, STAGING, World};
use crate::{ACCESS, ACCESS_OF_PEOPLE, PEOPLE, TESTER, TOOLS, add_people, lines};

#[path = "../../../rollback-migration/tests/it/heroku/killed.rs"]
mod killed;
#[path = "../../../backup-database/tests/it/heroku/world.rs"]
mod world;

const STANDARD: &str = "heroku-postgresql:standard-0";
const ESSENTIAL: &str = "heroku-postgresql:essential-0";
const FLAGS: [&str; 2] = ["--tools", "data/tools.toml"];

struct Site(World);

impl Site {
    fn new(plan: &str) -> Self {
        let world = World::new(crate::PROGRAM, plan);
        world.project.write("data/tools.toml", TOOLS);
        std::fs::remove_file(world.project.path().join("data/access_tests.toml")).unwrap();
        world.project.write("data/tool_access_exports/local_tool_access.json", ACCESS);
        add_people(&mut world.connect("production-db"));
        fixture::user(&mut world.connect("staging-db"), "tester");
        Self(world)
    }

    fn run(&self, flags: &[&str]) -> CommandOutput {
        let output = self.0.run(&[&FLAGS, flags].concat());
        let said = format!("{}{}", output.stdout, output.stderr);
        for secret in ["password-of-the-test-server", "corp.example", "argon2id", "170 555"] {
            assert!(!said.contains(secret), "{said}");
        }
        output
    }

    fn json(&self, flags: &[&str]) -> Value {
        self.0.json(&[&FLAGS, flags].concat())
    }

    fn heroku(&self) -> Heroku {
        let settings = Settings::at(&self.0.emulator.url(), "the-token-of-the-tests".into());
        Heroku::new(Settings { pace: Pace::quick(), ..settings }).unwrap()
    }

    /// The add-on that staging uses.
    fn serving(&self) -> String {
        self.heroku().database_of(STAGING, "DATABASE_URL").unwrap().name
    }

    fn addons(&self) -> Vec<String> {
        self.heroku().addons(STAGING).unwrap().into_iter().map(|addon| addon.name).collect()
    }

    fn people(&self) -> Vec<String> {
        lines(&mut self.0.connect(&self.serving()), PEOPLE)
    }

    /// Asserts that staging has production's people, masked, and nothing else of them.
    fn is_refreshed(&self) {
        let people = self.people();
        assert_eq!(people.len(), 2, "{people:?}");
        assert!(people[0].starts_with("alice user-1-"), "{people:?}");
        assert!(people.iter().all(|line| line.contains("@example.invalid ! +999 ")), "{people:?}");
        let mut conn = self.0.connect(&self.serving());
        assert_eq!(lines(&mut conn, ACCESS_OF_PEOPLE), ["alice: Invoice Generator"]);
        assert_eq!(stamp::read(&mut conn).unwrap(), Some(EnvironmentName::Staging));
        let (config, copy) = (self.heroku().config_vars(STAGING).unwrap(), self.serving());
        assert_eq!(config["DATABASE_URL"].expose(), self.0.emulator.database_url(&copy).unwrap());
    }

    /// Asserts that staging is as it was.
    fn is_untouched(&self) {
        assert_eq!(
            (self.serving().as_str(), self.people()),
            ("staging-db", vec![TESTER.to_owned()])
        );
    }

    /// How often an add-on was asked for.
    fn made(&self) -> usize {
        self.0.count("POST", &format!("/apps/{STAGING}/addons"))
    }
}

/// `text` with what is another in each run written the same.
fn stable(text: &str) -> String {
    let word = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        match word.rfind(|c: char| !c.is_ascii_digit()) {
            Some(at) if word.len() - at > 14 => format!("{}[MOMENT]", &word[..=at]),
            None if digits == 14 => "[MOMENT]".to_owned(),
            _ => word.to_owned(),
        }
    };
    let lines = text.lines().filter(|line| !line.contains(" bytes") && !line.contains("127.0.0.1"));
    let lines = lines.map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_follower_is_cut_off_masked_fitted_checked_and_promoted() {
    let site = Site::new(STANDARD);
    let plan = site.run(&["--dry-run"]).success();
    insta::assert_snapshot!(stable(&plan));
    site.is_untouched();
    assert_eq!((site.addons().len(), site.0.count("POST", "/backups")), (1, 0));

    let answer = site.json(&[]);
    assert_eq!(answer["status"], "done", "{answer}");
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.ends_with(" rows copied, 2 of them masked, verified"), "{summary}");
    site.is_refreshed();
    let refreshed = &answer["refreshed"];
    assert_eq!(
        (&refreshed["replaced"], &refreshed["safety_backup"]),
        (&"staging-db".into(), &"b001".into())
    );
    assert_eq!(refreshed["database"].as_str(), Some(site.serving().as_str()));
    assert_eq!(refreshed["leftovers"][0]["addon"], "staging-db");
    let undo = answer["undo"].as_str().unwrap();
    assert!(undo.starts_with("heroku pg:promote BEFORE_REFRESH_"), "{undo}");
    // Production goes on, and nothing follows it any more.
    fixture::user(&mut site.0.connect("production-db"), "later");
    let database = site.heroku().database_of(STAGING, "DATABASE_URL").unwrap();
    assert!(site.heroku().database(&database).unwrap().following.is_none());
    assert_eq!(site.people().len(), 2);

    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("came to its end and was verified"), "{status}");
    assert!(status.contains("heroku addons:destroy staging-db"), "{status}");
    // Again, with the first one's copy left over, too.
    site.run(&[]).success();
    assert_eq!((site.people().len(), site.addons().len()), (3, 3));
}

#[test]
fn a_plan_without_followers_is_refused_and_refreshed_by_a_transfer() {
    let site = Site::new(ESSENTIAL);
    let refused = site.run(&[]).failure(1);
    assert!(
        refused
            .contains("the plan heroku-postgresql:essential-0 of production-db has no followers"),
        "{refused}"
    );
    assert!(refused.contains("--via transfer"), "{refused}");
    site.is_untouched();
    site.0.fault(FaultKind::LoseAnswer, "POST", "/transfers", 1);
    site.run(&["--via", "transfer"]).success();
    site.is_refreshed();
    let transfers = site.heroku().transfers(STAGING).unwrap();
    let names: Vec<String> = transfers.iter().rev().map(omnitool_heroku::Transfer::name).collect();
    assert_eq!(names, ["b001", "c002"]);
}

#[test]
fn a_transfer_that_fails_leaves_staging_as_it_was_and_a_repeat_completes() {
    let site = Site::new(ESSENTIAL);
    let fail = |kind: FaultKind, method: &str, path: &str, times| {
        site.0.fault(kind, method, path, times);
        let failed = site.run(&["--via", "transfer"]).failure(1);
        site.0.emulator.heal();
        assert!(failed.contains("staging is as it was"), "{failed}");
        site.is_untouched();
    };
    // The backup of what is replaced, and the look into it.
    fail(FaultKind::FailTransfer, "", "", 1);
    fail(FaultKind::WarnTransfer, "", "", 1);
    fail(FaultKind::ExpiredUrl, "", "", 1000);
    // The copy.
    fail(FaultKind::Status(503), "POST", "/transfers", 1000);
    fail(FaultKind::FailTransfer, "", "", 1);
    fail(FaultKind::WarnTransfer, "", "", 1);
    site.run(&["--via", "transfer"]).success();
    site.is_refreshed();
    assert_eq!(site.addons().len(), 2);
}

#[test]
fn trouble_of_heroku_s_is_waited_out_and_nothing_happens_twice() {
    let site = Site::new(STANDARD);
    let addons = format!("/apps/{STAGING}/addons");
    for (kind, method, path, times) in [
        (FaultKind::LoseAnswer, "POST", "/backups", 1),
        (FaultKind::LoseAnswer, "POST", addons.as_str(), 1),
        (FaultKind::LoseAnswer, "PUT", "/unfollow", 1),
        (FaultKind::LoseAnswer, "POST", "=/addon-attachments", 2),
        (FaultKind::Status(503), "GET", "/wait_status", 2),
        (FaultKind::Status(429), "GET", "/config-vars", 1),
        (FaultKind::FollowerBehind, "", "", 3),
    ] {
        site.0.fault(kind, method, path, times);
    }
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!((site.made(), site.addons().len()), (1, 2));
    assert_eq!(site.0.count("POST", "/backups"), 1);
}

#[test]
fn a_refresh_that_heroku_stops_anywhere_goes_on_there() {
    let site = Site::new(STANDARD);
    let addons = format!("/apps/{STAGING}/addons");
    let stops = [
        ("POST", "/backups", "there is no copy"),
        ("POST", addons.as_str(), "go on with it"),
        ("GET", "/wait_status", "go on with it"),
        ("PUT", "/unfollow", "go on with it"),
        ("POST", "=/addon-attachments", "go on with it"),
    ];
    for (method, path, next) in stops {
        site.0.fault(FaultKind::Status(503), method, path, 1000);
        let failed = site.run(&[]).failure(1);
        assert!(
            failed.contains("status 503") && failed.contains(next),
            "{method} {path}: {failed}"
        );
        assert!(failed.contains("staging is as it was"), "{method} {path}: {failed}");
        site.0.emulator.heal();
        site.is_untouched();
        let status = site.run(&["--check-status"]).success();
        assert!(status.contains("failed"), "{status}");
    }
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!((site.addons().len(), site.heroku().transfers(STAGING).unwrap().len()), (2, 1));
}

#[test]
fn a_follower_that_never_catches_up_ends_the_run_and_a_repeat_goes_on_waiting() {
    let site = Site::new(STANDARD);
    site.0.fault(FaultKind::FollowerBehind, "", "", 100_000);
    let failed = site.run(&["--patience", "1"]).failure(1);
    assert!(
        failed.contains("17 commits behind") && failed.contains("WITH PRODUCTION'S DATA"),
        "{failed}"
    );
    assert!(failed.contains("heroku addons:destroy omnitool-by-xdv-staging-refresh-"), "{failed}");
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("follows production, 17 commits behind"), "{status}");
    site.is_untouched();
    site.0.emulator.heal();
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!((site.made(), site.addons().len()), (1, 2));
}

#[test]
fn a_run_that_is_killed_at_any_moment_is_completed_by_repeats() {
    let site = Site::new(STANDARD);
    for more in (3..).step_by(8) {
        if site.0.run_and_kill(&FLAGS, more) {
            break;
        }
        // What staging uses is what it was, or masked.
        let people = site.people();
        let is_masked = people.iter().all(|line| line.contains("@example.invalid ! "));
        assert!(people == [TESTER] || is_masked, "{people:?}");
        site.run(&["--check-status"]).success();
    }
    site.is_refreshed();
    // A copy that was half masked was removed, and no other one is left.
    assert_eq!(site.addons().len(), 2);
}

#[test]
fn a_promotion_whose_release_fails_is_named_and_a_repeat_completes() {
    let site = Site::new(STANDARD);
    // The first attachment names what is replaced, the second one is the promotion.
    site.0.fault(FaultKind::Html, "GET", "/releases", 1);
    let failed = site.run(&[]).failure(1);
    assert!(
        failed.contains("was asked to use") && failed.contains("heroku pg:promote BEFORE_REFRESH_"),
        "{failed}"
    );
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!(site.addons().len(), 2);
}

#[test]
fn a_run_that_is_killed_while_it_copies_goes_on_with_its_copy() {
    let site = Site::new(STANDARD);
    site.0.fault(FaultKind::FollowerBehind, "", "", 100_000);
    let mut command = site.0.command(&FLAGS);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while site.addons().len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it made its copy");
    }
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("A refresh is running") && status.contains("copy: "), "{status}");
    child.kill().unwrap();
    child.wait().unwrap();
    site.0.emulator.heal();
    site.is_untouched();
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("was killed") && status.contains("it goes on there"), "{status}");
    let other = site.run(&["--unmasked", "--confirm"]).failure(1);
    assert!(other.contains("with other flags (--unmasked)"), "{other}");
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!((site.made(), site.addons().len()), (1, 2));
}

#[test]
fn a_copy_between_other_databases_of_the_app_is_not_taken_for_the_own_one() {
    let site = Site::new(ESSENTIAL);
    let flags = ["--via", "transfer", "--no-download"];
    // Heroku refuses the copy that this one asks for, and then makes another one.
    site.0.fault(FaultKind::Status(403), "POST", "/transfers", 1);
    site.run(&flags).failure(1);
    site.0.emulator.add_database(STAGING, "another-db", ESSENTIAL).unwrap();
    let database = |app, name| site.heroku().database_of(app, name).unwrap();
    let (from, to) = (database(PRODUCTION, "DATABASE_URL"), database(STAGING, "another-db"));
    let limit = std::time::Duration::from_secs(60);
    site.heroku().copy(&from, &to, limit, &mut |_| ()).unwrap();
    site.run(&flags).success();
    site.is_refreshed();
    assert_eq!(site.0.count("POST", "/transfers"), 3);
}

#[test]
fn a_copy_that_was_half_masked_or_is_gone_is_made_anew() {
    let site = Site::new(STANDARD);
    site.0.fault(FaultKind::Status(503), "PUT", "/unfollow", 1000);
    site.run(&[]).failure(1);
    site.0.emulator.heal();
    // As a run that is killed while it masks leaves it.
    let file = site.0.project.path().join("data/backups/staging/heroku/refresh.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let first = record["heroku"]["addon"].as_str().unwrap().to_owned();
    record["heroku"]["copying"] = "masking".into();
    record["done"] = serde_json::json!(["backup", "copy"]);
    std::fs::write(&file, record.to_string()).unwrap();
    site.0.fault(FaultKind::Status(503), "POST", &format!("/apps/{STAGING}/addons"), 1000);
    site.run(&[]).failure(1);
    site.0.emulator.heal();
    assert!(!site.addons().contains(&first));
    site.run(&[]).success();
    site.is_refreshed();
    assert_eq!(site.addons().len(), 2);
}

#[test]
fn a_masked_copy_of_other_rules_or_of_another_day_is_never_promoted() {
    let site = Site::new(STANDARD);
    let file = site.0.project.path().join("data/backups/staging/heroku/refresh.json");
    let record = || -> Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
    let fail = || {
        site.0.fault(FaultKind::Status(503), "POST", "=/addon-attachments", 1000);
        site.run(&[]).failure(1);
        site.0.emulator.heal();
        record()["heroku"]["addon"].as_str().unwrap().to_owned()
    };
    let rewrite = |change: &dyn Fn(&mut Value)| {
        let mut record = record();
        change(&mut record);
        std::fs::write(&file, record.to_string()).unwrap();
    };
    let first = fail();
    assert!(record()["done"].as_array().unwrap().contains(&"mask".into()));
    rewrite(&|record| record["heroku"]["masked_by"] = "other rules".into());
    let plan = site.run(&["--dry-run"]).success();
    assert!(plan.contains("It masked by other rules: everything is done anew."), "{plan}");
    // Names of copies differ by the second.
    let second = fail();
    assert_eq!(site.addons(), ["staging-db", second.as_str()]);
    assert_ne!(first, second);
    let status = site.run(&["--check-status"]).success();
    assert!(status.contains("it goes on there, where it masks by the same rules\n"), "{status}");
    rewrite(&|record| record["started_at"] = "2026-01-02T03:04:05Z".into());
    let status = site.run(&["--check-status"]).success();
    assert!(
        status.contains("It began more than a day ago: run again, it does everything anew\n"),
        "{status}"
    );
    site.run(&[]).success();
    site.is_refreshed();
    assert!(!site.addons().contains(&second));
    assert_eq!((site.addons().len(), site.0.count("POST", "/backups")), (2, 3));
}

#[test]
fn a_leak_removes_the_copy_at_once() {
    let site = Site::new(STANDARD);
    let production = &mut site.0.connect("production-db");
    diesel::connection::SimpleConnection::batch_execute(
        production,
        "UPDATE users SET username = 'alice.real@corp.example' WHERE username = 'alice'",
    )
    .unwrap();
    let failed = site.run(&[]).failure(1);
    assert!(
        failed.contains("the copy is removed") && failed.contains("--masking FILE"),
        "{failed}"
    );
    site.is_untouched();
    assert_eq!(site.addons(), ["staging-db"]);
}
