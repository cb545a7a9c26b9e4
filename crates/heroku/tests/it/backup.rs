//! Databases and their backups, on a real server.

use std::time::Duration;

use diesel::{RunQueryDsl as _, connection::SimpleConnection as _, sql_types::BigInt};
use omnitool_database::{AnyConnection, Mode, open};
use omnitool_heroku::{DatabaseAddOn, Heroku, HerokuError, TransferKind};
use omnitool_heroku_emulator::FaultKind;
use serde_json::json;

use crate::world::{LIMIT, World, patient_client};

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn connect(world: &World, addon: &str) -> AnyConnection {
    let url = world.emulator.database_url(addon).unwrap().parse().unwrap();
    open(&url, Mode::Create).unwrap()
}

fn count(world: &World, addon: &str) -> i64 {
    let query = diesel::sql_query("SELECT count(*) AS count FROM notes");
    query.get_result::<Count>(&mut connect(world, addon)).unwrap().count
}

fn ready() -> (World, DatabaseAddOn) {
    let world = World::with_postgres();
    connect(&world, "main-db")
        .batch_execute(
            "CREATE TABLE notes (id BIGINT PRIMARY KEY); INSERT INTO notes VALUES (1), (2)",
        )
        .unwrap();
    let database = world.heroku.database_of("demo", "DATABASE_URL").unwrap();
    (world, database)
}

#[test]
fn a_backup_whose_answer_is_lost_is_taken_once_and_restores() {
    let (world, database) = ready();
    assert_eq!((database.name.as_str(), database.billing_app.as_str()), ("main-db", "demo"));
    assert!(database.has_followers);
    world.fault(FaultKind::LoseAnswer, "POST", "/backups", 1);
    let mut seen = 0;
    let backup = world.heroku.capture(&database, LIMIT, &mut |_| seen += 1).unwrap();
    assert_eq!((backup.name().as_str(), backup.kind()), ("b001", TransferKind::Backup));
    assert!(backup.processed_bytes > 0 && seen > 0);
    assert_eq!(world.heroku.transfers("demo").unwrap().len(), 1);

    connect(&world, "main-db").batch_execute("DELETE FROM notes").unwrap();
    world.fault(FaultKind::LoseAnswer, "POST", "/restores", 1);
    let address = backup.to_url.unwrap();
    let restore = world.heroku.restore(&database, &address, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(restore.name(), "r002");
    assert_eq!(count(&world, "main-db"), 2);
    assert_eq!(world.heroku.transfers("demo").unwrap().len(), 2);

    // Numbers are shared by all kinds; a restore is not deleted for a backup.
    let error = world.heroku.delete_backup("demo", 2).unwrap_err();
    assert_eq!(error.to_string(), "r002 is no usable backup");
    world.heroku.delete_backup("demo", 1).unwrap();
    world.heroku.delete_backup("demo", 1).unwrap();
    assert_eq!(world.heroku.transfers("demo").unwrap().len(), 1);
}

#[test]
fn a_backup_is_found_also_where_the_last_of_all_attempts_was_answered_too_late() {
    let (world, database) = ready();
    world.fault(FaultKind::Status(503), "POST", "/backups", 5);
    world.fault(FaultKind::LateStatus(504), "POST", "/backups", 1);
    let backup = world.heroku.capture(&database, LIMIT, &mut |_| {}).unwrap();
    assert_eq!(backup.name(), "b001");
    assert_eq!(world.heroku.transfers("demo").unwrap().len(), 1);
}

#[test]
fn what_happens_to_another_database_meanwhile_is_not_taken_for_the_own_backup_restore_or_copy() {
    let (world, database) = ready();
    let backup = world.heroku.capture(&database, LIMIT, &mut |_| {}).unwrap();
    let address = backup.to_url.unwrap();
    let [other, third] = ["other-db", "third-db"].map(|name| {
        world.emulator.add_database("demo", name, "heroku-postgresql:standard-0").unwrap();
        world.heroku.database_of("demo", name).unwrap()
    });
    // It tries for as long as the stranger may need.
    let patient = patient_client(&world.emulator, 12);
    let transfer = |heroku: &Heroku, what, from: &DatabaseAddOn, to: &DatabaseAddOn| {
        match what {
            "backups" => heroku.begin_capture(from),
            "restores" => heroku.restore(to, &address, LIMIT, &mut |_| {}),
            _ => heroku.copy(from, to, LIMIT, &mut |_| {}),
        }
        .unwrap()
        .num
    };
    for what in ["backups", "restores", "transfers"] {
        // The call goes wrong, time and again, and nothing comes of it ...
        let path = format!("/client/v11/databases/{}/{what}", database.id);
        world.fault(FaultKind::Status(503), "POST", &format!("={path}"), 100);
        let request = format!("POST {path}");
        let before = world.count(&request);
        let (own, strange) = std::thread::scope(|scope| {
            let stranger = scope.spawn(|| {
                while world.count(&request) == before {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // ... while somebody else does the same with another database.
                let strange = transfer(&world.heroku, what, &other, &third);
                world.emulator.heal();
                strange
            });
            let from = if what == "backups" { &database } else { &other };
            (transfer(&patient, what, from, &database), stranger.join().unwrap())
        });
        assert!(own > strange, "{what}: {own} and {strange}");
    }
}

#[test]
fn a_backup_that_fails_or_warns_is_no_backup() {
    let (world, database) = ready();
    world.fault(FaultKind::FailTransfer, "", "", 1);
    let error = world.heroku.capture(&database, LIMIT, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "b001 failed: Heroku says:\nasked to fail");
    world.fault(FaultKind::WarnTransfer, "", "", 1);
    let error = world.heroku.capture(&database, LIMIT, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("1 warnings"), "{error}");
}

#[test]
fn a_backup_that_somebody_stops_is_no_backup() {
    let (world, database) = ready();
    let backup = world.heroku.begin_capture(&database).unwrap();
    world.heroku.cancel_transfer("demo", &backup).unwrap();
    let error = world.heroku.finish_capture(&database, &backup, LIMIT, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "b001 failed: it was canceled");
}

#[test]
fn a_status_that_cannot_be_read_is_never_a_success() {
    let (world, database) = ready();
    let backup = world.heroku.begin_capture(&database).unwrap();
    world.fault(FaultKind::Status(500), "GET", &format!("/transfers/{}", backup.uuid), 100);
    let error = world.heroku.wait_for_transfer("demo", &backup, LIMIT, &mut |_| {}).unwrap_err();
    assert!(matches!(error, HerokuError::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_download_is_a_dump_or_an_error() {
    let (world, database) = ready();
    let backup = world.heroku.capture(&database, LIMIT, &mut |_| {}).unwrap();
    world.fault(FaultKind::ExpiredUrl, "", "", 2);
    let mut bytes = Vec::new();
    let length = world.heroku.download("demo", backup.num, &mut bytes, LIMIT).unwrap();
    assert_eq!((length, bytes.len() as u64), (backup.processed_bytes, backup.processed_bytes));
    assert!(bytes.starts_with(b"PGDMP"));
    world.fault(FaultKind::ExpiredUrl, "", "", 100);
    let error = world.heroku.download("demo", backup.num, &mut Vec::new(), LIMIT).unwrap_err();
    assert!(error.to_string().contains("status 403"), "{error}");
}

#[test]
fn a_follower_is_made_once_catches_up_and_takes_over() {
    let (world, _) = ready();
    let plan = "heroku-postgresql:standard-0";
    world.fault(FaultKind::LoseAnswer, "POST", "/apps/demo/addons", 1);
    let follow = json!({ "follow": "DATABASE_URL" });
    let create = || world.heroku.create_addon("demo", plan, "copy-db", "COPY", &follow);
    let made = create().unwrap();
    // A repeat finds it.
    assert_eq!(create().unwrap().id, made.id);
    world.heroku.wait_for_addon("demo", "copy-db", LIMIT).unwrap();
    let copy = world.heroku.database_of("demo", "COPY").unwrap();
    world.heroku.wait_for_database(&copy, LIMIT).unwrap();
    connect(&world, "main-db").batch_execute("INSERT INTO notes VALUES (3)").unwrap();
    world.fault(FaultKind::FollowerBehind, "", "", 2);
    world.heroku.wait_for_follower(&copy, LIMIT).unwrap();
    world.heroku.unfollow(&copy, LIMIT).unwrap();
    world.heroku.unfollow(&copy, LIMIT).unwrap();
    connect(&world, "main-db").batch_execute("INSERT INTO notes VALUES (4)").unwrap();
    assert_eq!(count(&world, "copy-db"), 3);

    world.fault(FaultKind::LoseAnswer, "POST", "/addon-attachments", 1);
    world.heroku.attach("demo", "copy-db", "DATABASE").unwrap();
    assert_eq!(world.heroku.database_of("demo", "DATABASE_URL").unwrap().name, "copy-db");
    let address = world.emulator.database_url("copy-db").unwrap();
    assert_eq!(world.heroku.config_vars("demo").unwrap()["DATABASE_URL"].expose(), address);
    world.heroku.detach("demo", "COPY").unwrap();
    world.heroku.detach("demo", "COPY").unwrap();
    world.heroku.destroy_addon("demo", "main-db", LIMIT).unwrap();
    world.heroku.destroy_addon("demo", "main-db", LIMIT).unwrap();
    assert_eq!(world.heroku.addons("demo").unwrap().len(), 1);
}

#[test]
fn a_follower_that_never_catches_up_ends_with_the_deadline() {
    let (world, _) = ready();
    let follow = json!({ "follow": "DATABASE_URL" });
    let plan = "heroku-postgresql:standard-0";
    world.heroku.create_addon("demo", plan, "copy-db", "COPY", &follow).unwrap();
    let copy = world.heroku.database_of("demo", "COPY").unwrap();
    world.fault(FaultKind::FollowerBehind, "", "", 10_000);
    let limit = Duration::from_secs(1);
    let error = world.heroku.wait_for_follower(&copy, limit).unwrap_err();
    assert!(error.to_string().contains("17 commits behind"), "{error}");
}

#[test]
fn databases_are_copied_and_scheduled_and_name_their_users_without_passwords() {
    let (world, database) = ready();
    world.emulator.add_database("demo", "other-db", "heroku-postgresql:essential-0").unwrap();
    let other = world.heroku.database_of("demo", "other-db").unwrap();
    assert!(!other.has_followers);
    let copy = world.heroku.copy(&database, &other, LIMIT, &mut |_| {}).unwrap();
    assert_eq!((copy.name().as_str(), count(&world, "other-db")), ("c001", 2));
    let schedule = world.heroku.schedule(&database, 2, "UTC").unwrap();
    assert_eq!(schedule.name, "DATABASE_URL");
    assert_eq!(world.heroku.schedules(&database).unwrap().len(), 1);
    for _ in 0..2 {
        world.heroku.unschedule(&database, &schedule).unwrap();
        assert_eq!(world.heroku.schedules(&database).unwrap().len(), 0);
    }
    let credentials = world.heroku.credentials(&database).unwrap();
    assert_eq!(credentials[0].name, "default");
    let shown = format!(
        "{:?}{:?}{copy:?}{credentials:?}",
        world.heroku,
        world.heroku.database(&other).unwrap()
    );
    assert!(!shown.contains("password-of-the-test-server"), "{shown}");
}
