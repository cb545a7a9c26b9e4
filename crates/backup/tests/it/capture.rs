use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
};

use omnitool_backup::{
    BackupId, CaptureError, Catalog, Kind, Pin, PrunePlan, Retention, VerifyError, capture,
    for_url, set_pin,
};
use omnitool_environment::EnvironmentName;
use omnitool_testing::{Dialect, TestDatabase, fixture};

use crate::{Site, dump_file};

#[test]
fn a_backup_holds_what_the_database_held_and_its_manifest_says_so() {
    let site = Site::new();
    let backup = site.capture();
    assert_eq!(dump_file(&site.catalog.file(&backup)), site.dump());
    assert_eq!(backup.id, BackupId::new(1));
    assert_eq!(backup.environment, EnvironmentName::Staging);
    assert_eq!(backup.rows["users"], 1);
    assert_eq!(backup.rows["tool_access"], 1);
    assert!(backup.verified.is_some() && !backup.pinned);
    assert_eq!(site.catalog.list().unwrap().backups, std::slice::from_ref(&backup));
    assert_eq!(site.verify(backup.id).unwrap().sha256, backup.sha256);
}

#[test]
fn a_backup_taken_while_somebody_writes_is_one_moment_of_it() {
    let site = Site::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = site.db.connection();
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                let user = fixture::user(&mut conn, &format!("user_{number}"));
                fixture::grant(&mut conn, user, 1);
            }
        });
        for _ in 0..5 {
            let backup = site.capture();
            // Each user is granted the tool a moment after being made.
            let (users, grants) = (backup.rows["users"], backup.rows["tool_access"]);
            assert!(users == grants || users == grants + 1, "{users} users, {grants} grants");
            assert!(site.verify(backup.id).is_ok());
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn captures_at_once_all_get_their_own_number() {
    let site = Site::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // As other programs would, each with what it opened itself.
            scope.spawn(|| {
                let store = for_url(site.db.url()).unwrap();
                capture(&site.catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
            });
        }
    });
    let ids: Vec<u32> =
        site.catalog.list().unwrap().backups.iter().map(|backup| backup.id.number()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn a_database_of_another_environment_is_refused_and_nothing_is_left() {
    let site = Site::new();
    let catalog = Catalog::new(site.folder.path(), EnvironmentName::Production);
    let error = capture(&catalog, &*site.store, Kind::Manual, None, &mut |_| ()).unwrap_err();
    assert!(matches!(error, CaptureError::Stamp { .. }), "{error:?}");
    assert!(!catalog.folder().exists());
}

#[test]
fn a_database_without_tables_can_be_backed_up() {
    let site = Site::new();
    let empty = TestDatabase::empty(Dialect::Sqlite);
    let store = for_url(empty.url()).unwrap();
    let backup =
        capture(&site.catalog, &*store, Kind::BeforeDeploy, Some("v1"), &mut |_| ()).unwrap();
    assert_eq!((backup.schema_version, backup.rows.len()), (None, 0));
}

#[test]
fn a_url_without_a_database_is_refused_without_its_password() {
    let url = "postgres://localhost/?password=hunter2".parse().unwrap();
    let Err(error) = for_url(&url) else { panic!("must be refused") };
    let text = error.to_string();
    assert!(text.contains("names no database") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_backup_that_is_damaged_no_longer_counts_as_verified() {
    let site = Site::new();
    let id = site.capture().id;
    let backup = site.catalog.find(id).unwrap();
    let file = site.catalog.file(&backup);
    let good = std::fs::read(&file).unwrap();

    let mut bad = good.clone();
    bad[5000] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let error = site.verify(id).unwrap_err();
    assert!(matches!(error, VerifyError::Changed { what: "SHA-256", .. }), "{error:?}");
    assert_eq!(site.catalog.find(id).unwrap().verified, None);

    std::fs::write(&file, &good[..4096]).unwrap();
    let error = site.verify(id).unwrap_err();
    assert!(matches!(error, VerifyError::Changed { what: "length", .. }), "{error:?}");

    std::fs::write(&file, &good).unwrap();
    assert!(site.verify(id).unwrap().verified.is_some());
}

#[test]
fn a_manifest_that_describes_another_file_is_found_out() {
    let site = Site::new();
    let id = site.capture().id;
    let manifest = site.catalog.folder().join("b001.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"users\": 1", "\"users\": 2")).unwrap();
    let error = site.verify(id).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest of backup b001 does not describe its file: table `users` has 1 rows instead of 2"
    );
}

fn keep(last: usize) -> Retention {
    Retention { last: NonZeroUsize::new(last).unwrap(), daily: 0, weekly: 0, monthly: 0 }
}

#[test]
fn pruning_keeps_the_newest_and_the_pinned_ones() {
    let site = Site::new();
    let ids: Vec<BackupId> = (0..5).map(|_| site.capture().id).collect();
    set_pin(&site.catalog, ids[0], Pin::Pinned).unwrap();
    std::fs::write(site.catalog.folder().join("b009.partial"), "half").unwrap();
    let plan = PrunePlan::load(&site.catalog, &*site.store, &keep(2)).unwrap();
    assert_eq!(plan.remove, [ids[1], ids[2]]);

    // Pinned after the plan was made: it stays.
    set_pin(&site.catalog, ids[1], Pin::Pinned).unwrap();
    let pruned = plan.apply(&site.catalog, &*site.store);
    assert_eq!(pruned.removed, [ids[2]]);
    assert_eq!(pruned.leftovers, ["b009.partial"]);
    assert_eq!(pruned.failed.len(), 1);
    assert_eq!(pruned.failed[0].error.to_string(), "backup b002 is pinned");
    let left: Vec<BackupId> =
        site.catalog.list().unwrap().backups.iter().map(|backup| backup.id).collect();
    assert_eq!(left, [ids[0], ids[1], ids[3], ids[4]]);

    set_pin(&site.catalog, ids[0], Pin::Unpinned).unwrap();
    assert!(!site.catalog.find(ids[0]).unwrap().pinned);
}
