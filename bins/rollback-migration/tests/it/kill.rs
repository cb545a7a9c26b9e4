//! Killing the program at any moment.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use diesel::prelude::*;
use omnitool_backup::{PrunePlan, Retention, for_url};
use omnitool_database::{AnyConnection, Mode, open, schema::users, write_transaction};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::fixture;

use crate::Site;

/// Each is a moment of its own; the database is small, so that most of them are in the few milliseconds that count.
const RUNS: u32 = 100;

/// Starts a rollback and kills it after `delay`. Returns whether it was killed before its end.
fn run_and_kill(site: &Site, delay: Duration) -> bool {
    let mut command = site.command();
    command.args(["--env", "staging"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The moment is what is tested, so this waits for nothing else.
    std::thread::sleep(delay);
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

fn usernames(conn: &mut AnyConnection) -> BTreeSet<String> {
    users::table.select(users::username).load(conn).unwrap().into_iter().collect()
}

/// How long a rollback of `site` takes; the database is afterwards as it was.
fn measure(site: &Site) -> Duration {
    let started = Instant::now();
    site.run(&[]).success();
    let took = started.elapsed();
    site.run(&["--undo"]).success();
    took
}

#[test]
fn leaves_the_old_database_or_the_new_one_and_the_next_run_says_which() {
    let site = Site::filled(EnvironmentName::Staging, 300);
    let took = measure(&site);
    let (mut old, mut new) = (0, 0);
    let mut now = site.now.clone();
    for run in 0..RUNS {
        let killed = run_and_kill(&site, took * run / (RUNS - RUNS / 8));
        let found = site.dump();
        let is_old = found == now;
        if !is_old {
            // Line by line, so that a failure shows what differs.
            let extra: Vec<_> = found.iter().filter(|line| !site.then.contains(line)).collect();
            let missing: Vec<_> = site.then.iter().filter(|line| !found.contains(line)).collect();
            assert!(extra.is_empty() && missing.is_empty(), "run {run}: +{extra:?} -{missing:?}");
        }
        let said = site.run(&["--dry-run"]).success();
        if said.contains("An earlier rollback") {
            assert!(killed, "{said}");
            let expected =
                if is_old { "before it changed anything" } else { "after it had replaced" };
            assert!(said.contains(expected), "run {run}: {said}");
        }
        if is_old {
            old += 1;
        } else {
            new += 1;
            // Made at another time than the first one.
            fixture::user(&mut site.db.connection(), "bob");
            now = site.dump();
        }
    }
    assert!(old > 0, "no run was killed in time ({new} were not)");

    // A run that may end cleans up after all of them.
    site.run(&[]).success();
    assert_eq!(site.dump(), site.then);
    let folder = site.db.url().sqlite_path().unwrap().parent().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".ro")), "{left:?}");
    let store = for_url(site.db.url()).unwrap();
    let retention = Retention { last: NonZeroUsize::MIN, daily: 0, weekly: 0, monthly: 0 };
    let plan = PrunePlan::load(&site.catalog, &*store, &retention).unwrap();
    assert!(plan.apply(&site.catalog, &*store).failed.is_empty());
    assert!(site.catalog.list().unwrap().broken.is_empty());
    let names = std::fs::read_dir(site.catalog.folder()).unwrap();
    let partial = names
        .filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(partial.count(), 0);
}

#[test]
fn loses_nothing_that_writers_had_committed() {
    let site = Site::filled(EnvironmentName::Staging, 500);
    let took = measure(&site);
    let done = AtomicBool::new(false);
    let committed: Vec<String> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut conn = site.db.connection();
            let mut committed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let name = format!("written_{}", committed.len());
                write_transaction(&mut conn, |conn| {
                    fixture::user(conn, &name);
                    QueryResult::Ok(())
                })
                .unwrap();
                committed.push(name);
            }
            committed
        });
        for run in 0..RUNS {
            run_and_kill(&site, took * (run % (RUNS / 2)) / (RUNS / 2 - RUNS / 16));
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let mut found = usernames(&mut site.db.connection());
    for backup in site.catalog.list().unwrap().backups {
        let url = DatabaseUrl::sqlite(&site.catalog.file(&backup));
        found.extend(usernames(&mut open(&url, Mode::Immutable).unwrap()));
    }
    let lost: Vec<&String> = committed.iter().filter(|name| !found.contains(*name)).collect();
    assert_eq!(lost, Vec::<&String>::new());
}
