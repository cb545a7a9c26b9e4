//! Backups of an app on an emulated Heroku, with real dumps.

use diesel::prelude::*;
use omnitool_database::{Mode, open, schema::users, stamp};
use omnitool_environment::EnvironmentName;
use omnitool_heroku::{Heroku, Pace, Settings};
use omnitool_heroku_emulator::FaultKind;
use omnitool_testing::fixture;
use serde_json::Value;

use self::world::{STAGING, World};

pub(crate) mod world;

const PLAN: &str = "heroku-postgresql:standard-0";

fn world() -> World {
    let world = World::new(crate::PROGRAM, PLAN);
    fixture::user(&mut world.connect("staging-db"), "alice");
    world
}

fn staging<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    ["--env", "staging"].iter().chain(arguments).copied().collect()
}

fn ids(backups: &Value) -> Vec<&str> {
    backups.as_array().unwrap().iter().map(|backup| backup["id"].as_str().unwrap()).collect()
}

#[test]
fn a_backup_is_taken_once_looked_into_and_described_as_a_local_one() {
    let world = world();
    world.fault(FaultKind::LoseAnswer, "POST", "/backups", 1);
    let captured =
        world.json(&staging(&["capture", "--kind", "before-deploy", "--release", "0002"]));
    assert_eq!(captured["id"], "b001");
    let backup = &captured["backup"];
    assert_eq!((&backup["kind"], &backup["release"]), (&"before-deploy".into(), &"0002".into()));
    assert_eq!(backup["verified"]["how"], "read-dump");
    assert_eq!(backup["rows"]["users"], 1);
    assert_eq!(backup["sha256"].as_str().unwrap().len(), 64);
    let listed = world.json(&staging(&["list"]));
    assert_eq!(ids(&listed["backups"]), ["b001"]);
    assert_eq!(&listed["backups"][0], backup);
    // Nothing of the dump stays on this machine.
    let records = world.project.path().join("data/backups/staging/heroku");
    let names: Vec<_> = std::fs::read_dir(records)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["b001.json"]);
    let text = world.run(&staging(&["list"])).success();
    assert!(
        text.starts_with(&format!(
            "1 backup of staging in staging-db of the app {STAGING} on Heroku\n"
        )),
        "{text}"
    );
    let shown = world.run(&staging(&["show", "b001"])).success();
    assert!(shown.contains("rows      users: 1\n"), "{shown}");
}

#[test]
fn faults_of_heroku_are_waited_out() {
    let world = world();
    world.fault(FaultKind::Status(503), "", "/transfers", 2);
    world.fault(FaultKind::Status(429), "GET", "", 2);
    world.fault(FaultKind::ExpiredUrl, "", "", 1);
    world.run(&staging(&["capture"])).success();
    assert_eq!(world.count("POST", "/backups"), 1);
    world.fault(FaultKind::Html, "GET", "/config-vars", 1);
    let failed = world.run(&staging(&["capture"])).failure(1);
    assert!(
        failed.contains("no JSON") && failed.contains("nothing was changed; run this again"),
        "{failed}"
    );
    world.fault(FaultKind::Html, "POST", "/backups", 1);
    let failed = world.run(&staging(&["capture"])).failure(1);
    assert!(failed.contains("no backup was taken; run this again"), "{failed}");
    assert_eq!(ids(&world.json(&staging(&["list"]))["backups"]), ["b001"]);
}

#[test]
fn a_backup_that_fails_or_warns_is_none_and_another_can_be_taken() {
    let world = world();
    world.fault(FaultKind::FailTransfer, "", "", 1);
    let failed = world.json(&staging(&["capture"]));
    insta::assert_snapshot!(serde_json::to_string_pretty(&failed).unwrap(), @r#"
    {
      "causes": [
        "b001 failed: Heroku says:\nasked to fail"
      ],
      "error": "the backup b001 was begun, and it is not known to be good",
      "hint": "no good backup was taken; run this again",
      "kind": "failed",
      "status": "failed"
    }
    "#);
    world.fault(FaultKind::WarnTransfer, "", "", 1);
    let warned = world.run(&staging(&["capture"])).failure(1);
    assert!(warned.contains("b002 failed: it ended with 1 warnings"), "{warned}");
    world.run(&staging(&["capture"])).success();
    let listed = world.json(&staging(&["list"]));
    assert_eq!(
        (ids(&listed["backups"]), ids(&listed["broken"])),
        (vec!["b003"], vec!["b001", "b002"])
    );
    let bad = world.run(&staging(&["verify"]));
    assert_eq!(bad.code, Some(1));
    assert_eq!(
        bad.stdout,
        "b001  BAD: it failed\nb002  BAD: it ended with 1 warnings\nb003  verified\n1 backup of staging verified, 2 bad\n"
    );
}

#[test]
fn a_status_that_cannot_be_read_leaves_a_backup_that_does_not_count_until_it_is_looked_at() {
    let world = world();
    world.fault(FaultKind::Status(500), "GET", "/transfers/", 200);
    let failed = world.run(&staging(&["capture", "--kind", "before-deploy"])).failure(1);
    assert!(
        failed.contains("the backup b001 was begun, and it is not known to be good"),
        "{failed}"
    );
    let next = "backup-database --env staging --platform heroku verify b001";
    assert!(failed.contains(next), "{failed}");
    world.emulator.heal();
    // Heroku may still be at it.
    let listed = loop {
        let listed = world.json(&staging(&["list"]));
        match listed["broken"].as_array().unwrap().as_slice() {
            [] => break listed,
            [taken] => assert_eq!(taken["problem"], "it is still being taken"),
            several => panic!("{several:?}"),
        }
    };
    assert_eq!(
        (&listed["backups"][0]["verified"], &listed["backups"][0]["kind"]),
        (&Value::Null, &"before-deploy".into())
    );
    world.run(&staging(&["verify", "b001"])).success();
    let listed = world.json(&staging(&["list"]));
    assert_eq!(listed["backups"][0]["verified"]["how"], "read-dump");
    assert_eq!(world.count("POST", "/backups"), 1);
}

#[test]
fn a_dump_that_cannot_be_downloaded_does_not_count_unless_heroku_s_word_is_enough() {
    let world = world();
    world.fault(FaultKind::ExpiredUrl, "", "", 100);
    let failed = world.run(&staging(&["capture"])).failure(1);
    assert!(
        failed.contains("cannot download the backup b001") && failed.contains("--no-download"),
        "{failed}"
    );
    let text = world.run(&staging(&["capture", "--no-download"])).success();
    assert!(text.contains("verified as far as Heroku says"), "{text}");
    // A later look cannot get it, either, and changes nothing.
    let looked = world.run(&staging(&["verify", "b002"]));
    assert_eq!(looked.code, Some(1));
    assert!(looked.stdout.contains("cannot download the backup b002"), "{looked:?}");
    let listed = world.json(&staging(&["list"]));
    assert_eq!(ids(&listed["backups"]), ["b001", "b002"]);
    assert_eq!(listed["backups"][0]["verified"], Value::Null);
    assert_eq!(listed["backups"][1]["verified"]["how"], "reported");
    world.emulator.heal();
    world.fault(FaultKind::ExpiredUrl, "", "", 1);
    world.run(&staging(&["verify", "b002"])).success();
    let deep = staging(&["verify", "b002", "--deep", "--format", "json"]);
    let verified = world.run(&deep).success();
    assert!(verified.contains("restored-dump"), "{verified}");
}

#[test]
fn a_backup_is_restored_into_a_database_whose_name_says_that_it_may_be_lost_and_into_no_other() {
    let world = world();
    world.run(&staging(&["capture"])).success();
    fixture::user(&mut world.connect("staging-db"), "bob");
    let of_app = world.emulator.database_url("staging-db").unwrap();
    let copy = world.server.url().expose().replace("/omnitool_test_", "/omnitool_rehearsal_");
    let run = |arguments: &[&str], url: &str| {
        let mut command = world.command(&staging(arguments));
        command.env("OMNITOOL_REHEARSAL_DATABASE_URL", url);
        world.project.output(command)
    };
    let file = format!("sqlite:{}", world.project.path().join("omnitool_rehearsal.db").display());
    for arguments in [["restore-copy"], ["drop-copy"]] {
        for url in [&of_app, &file] {
            let refused = run(&arguments, url).failure(1);
            assert!(refused.contains("is no database of a rehearsal"), "{refused}");
        }
    }
    // What an earlier one has left is replaced.
    for arguments in [&["restore-copy"][..], &["restore-copy", "b001"]] {
        let text = run(arguments, &copy).success();
        assert!(text.starts_with("[SUCCESS] Restored b001 of staging, taken "), "{text}");
        let conn = &mut open(&copy.parse().unwrap(), Mode::Write).unwrap();
        let names = users::table.select(users::username).load::<String>(conn).unwrap();
        assert_eq!(names, ["alice"]);
        assert_eq!(stamp::read(conn).unwrap(), Some(EnvironmentName::Staging));
    }
    let missing = run(&["restore-copy", "b007"], &copy).failure(1);
    assert!(missing.contains("there is no backup b007"), "{missing}");
    let folder = world.project.path().join("data/backups/staging/heroku");
    let dumps = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(dumps.collect::<Vec<_>>(), ["b001.json"]);
    for _ in 0..2 {
        let text = run(&["drop-copy"], &copy).success();
        assert_eq!(text, "No database of a rehearsal is left\n");
        assert!(open(&copy.parse().unwrap(), Mode::Write).is_err());
    }
}

#[test]
fn pruning_keeps_what_is_pinned_what_others_took_and_the_newest() {
    let world = world();
    for _ in 0..5 {
        world.run(&staging(&["capture", "--no-download"])).success();
    }
    world.run(&staging(&["pin", "b001"])).success();
    // As on another machine.
    std::fs::remove_file(world.project.path().join("data/backups/staging/heroku/b002.json"))
        .unwrap();
    let text = world.run(&staging(&["prune", "--keep", "1", "--dry-run"])).success();
    insta::assert_snapshot!(text, @r"
    remove  b003
    remove  b004
    keep    b001 (pinned)
    keep    b002 (taken elsewhere)
    keep    b005 (the newest verified one)
    Dry run: 2 backups of staging would be removed; nothing was
    ");
    world.fault(FaultKind::LoseAnswer, "DELETE", "/transfers/3", 1);
    world.fault(FaultKind::Status(503), "DELETE", "/transfers/4", 1);
    world.run(&staging(&["prune", "--keep", "1"])).success();
    assert_eq!(ids(&world.json(&staging(&["list"]))["backups"]), ["b001", "b002", "b005"]);
    let again = world.run(&staging(&["prune", "--keep", "1"])).success();
    assert!(again.ends_with("Removed 0 backups of staging; 3 backups left\n"), "{again}");
}

#[test]
fn a_look_at_a_backup_that_was_taken_elsewhere_does_not_let_it_be_pruned() {
    let world = world();
    for _ in 0..2 {
        world.run(&staging(&["capture", "--no-download"])).success();
    }
    // As on another machine, on which the backup is pinned.
    std::fs::remove_file(world.project.path().join("data/backups/staging/heroku/b001.json"))
        .unwrap();
    world.run(&staging(&["verify"])).success();
    world.run(&staging(&["pin", "b001"])).success();
    world.run(&staging(&["unpin", "b001"])).success();
    let kept = world.run(&staging(&["prune", "--keep", "1"])).success();
    assert!(kept.contains("b001 (taken elsewhere)"), "{kept}");
    assert_eq!(ids(&world.json(&staging(&["list"]))["backups"]), ["b001", "b002"]);
}

#[test]
fn a_backup_of_another_database_of_the_app_does_not_count() {
    let world = world();
    world.emulator.add_database(STAGING, "other-db", PLAN).unwrap();
    let settings = Settings::at(&world.emulator.url(), "the-token-of-the-tests".into());
    let heroku = Heroku::new(Settings { pace: Pace::quick(), ..settings }).unwrap();
    // By Heroku's own commands, of this database and of the other one.
    let attachments = heroku.attachments(STAGING).unwrap();
    for addon in ["staging-db", "other-db"] {
        let found = attachments.iter().find(|attachment| attachment.addon.name == addon).unwrap();
        let database = heroku.database_of(STAGING, &format!("{}_URL", found.name)).unwrap();
        heroku.capture(&database, std::time::Duration::from_secs(60), &mut |_| {}).unwrap();
    }
    let verified = || {
        let listed = world.json(&staging(&["list"]));
        let backups = listed["backups"].as_array().unwrap();
        backups.iter().map(|backup| !backup["verified"].is_null()).collect::<Vec<_>>()
    };
    assert_eq!(verified(), [true, false]);
    // That it is whole does not make it one of this database.
    world.run(&staging(&["verify", "--no-download"])).success();
    assert_eq!(verified(), [true, false]);
    let plan = world.run(&staging(&["prune", "--keep", "1", "--dry-run"])).success();
    assert!(plan.contains("b001 (the newest verified one)"), "{plan}");
}

#[test]
fn a_dump_that_a_killed_download_left_is_removed_and_one_that_is_being_written_is_not() {
    let world = world();
    world.run(&staging(&["capture", "--no-download"])).success();
    let folder = world.project.path().join("data/backups/staging/heroku");
    let (left, running) = (folder.join(".download-left"), folder.join(".download-running"));
    std::fs::write(&left, "production's data").unwrap();
    let lock = std::fs::File::create(&running).unwrap();
    lock.lock().unwrap();
    let plan = world.run(&staging(&["prune", "--dry-run"])).success();
    assert!(plan.contains(".download-left") && !plan.contains(".download-running"), "{plan}");
    assert!(left.exists());
    world.run(&staging(&["prune"])).success();
    assert!(!left.exists() && running.exists());
    // The next download does not wait for somebody who prunes.
    std::fs::write(&left, "production's data").unwrap();
    world.run(&staging(&["verify", "b001"])).success();
    assert!(!left.exists() && running.exists());
}

#[test]
fn no_more_are_kept_than_the_plan_keeps_so_that_heroku_does_not_choose() {
    let world = World::new(crate::PROGRAM, "heroku-postgresql:essential-0");
    for _ in 0..3 {
        world.run(&staging(&["capture", "--no-download"])).success();
    }
    world.run(&staging(&["prune", "--keep", "10"])).success();
    assert_eq!(ids(&world.json(&staging(&["list"]))["backups"]), ["b002", "b003"]);
}

#[test]
fn a_database_without_tables_can_be_backed_up() {
    let world = world();
    diesel::connection::SimpleConnection::batch_execute(
        &mut world.connect("staging-db"),
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
    )
    .unwrap();
    let captured = world.json(&staging(&["capture"]));
    assert_eq!(
        (&captured["id"], &captured["backup"]["schema_version"]),
        (&"b001".into(), &Value::Null)
    );
}

#[test]
fn another_environment_s_database_is_not_taken_for_this_one() {
    let world = world();
    omnitool_database::stamp::write(
        &mut world.connect("staging-db"),
        omnitool_environment::EnvironmentName::Production,
    )
    .unwrap();
    let failed = world.run(&staging(&["capture"])).failure(1);
    assert!(failed.contains("the backup b001 is stamped `production`"), "{failed}");
    assert_eq!(world.json(&staging(&["list"]))["backups"][0]["verified"], Value::Null);
}

#[test]
fn what_is_known_to_be_bad_is_not_good_because_heroku_says_so() {
    let world = world();
    let mut conn = world.connect("staging-db");
    omnitool_database::stamp::write(&mut conn, omnitool_environment::EnvironmentName::Production)
        .unwrap();
    let problem = "b001 is stamped `production`";
    world.run(&staging(&["capture"])).failure(1);
    for _ in 0..2 {
        let looked = world.run(&staging(&["verify", "b001", "--no-download"]));
        assert_eq!(looked.code, Some(1), "{looked:?}");
        assert!(looked.stdout.contains(problem), "{looked:?}");
        let listed = world.json(&staging(&["list"]));
        assert_eq!(listed["backups"][0]["verified"], Value::Null);
        // Found by another look.
        world.run(&staging(&["verify", "b001"])).failure(1);
    }
}

#[test]
fn heroku_s_word_does_not_replace_what_a_closer_look_found() {
    let world = world();
    world.run(&staging(&["capture"])).success();
    world.run(&staging(&["verify", "b001", "--no-download"])).success();
    let listed = world.json(&staging(&["list"]));
    assert_eq!(listed["backups"][0]["verified"]["how"], "read-dump");
}

#[test]
fn what_is_missing_is_said_before_anything_is_asked() {
    let world = world();
    let no_env = world.run(&["list"]).failure(2);
    insta::assert_snapshot!(no_env, @r"
    error: the platform heroku needs to know which environment is meant

    hint: add --env staging or --env production
    ");
    let mut command = world.command(&staging(&["list"]));
    command.env_remove("HEROKU_API_KEY");
    insta::assert_snapshot!(world.project.output(command).failure(1), @r"
    error: the platform heroku needs a token in HEROKU_API_KEY, and there is none

    hint: make one with `heroku authorizations:create`, and set HEROKU_API_KEY to it
    ");
    let sealed = world.run(&staging(&["capture", "--encrypt-to", "age1xyz"])).failure(1);
    assert!(sealed.contains("cannot encrypt them"), "{sealed}");
    assert_eq!(world.count("POST", "/backups"), 0);
}
