//! Killing the program at any moment.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use diesel::prelude::*;
use omnitool_backup::{Left, PrunePlan, Retention, System, for_url};
use omnitool_database::{AnyConnection, Dialect, Mode, open, schema::users, write_transaction};
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

fn is_the_old_database_or_the_new_one(dialect: Dialect) {
    let site = Site::with(dialect, EnvironmentName::Staging, 300);
    let took = measure(&site);
    let store = for_url(site.db.url()).unwrap();
    let (mut old, mut new, mut cut_off) = (0, 0, 0);
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
        let left = if is_old { Left::Old } else { Left::New };
        let interrupted = store.interrupted().unwrap();
        if let Some(interrupted) = &interrupted {
            assert!(killed, "run {run}: {interrupted}");
            assert_eq!(interrupted.left, left, "run {run}: {interrupted}");
            cut_off += 1;
            // What is said comes from there; asking the program each time would take most of the test's time.
            if cut_off % 8 == 1 {
                let said = site.run(&["--dry-run"]).success();
                assert!(said.starts_with(&interrupted.to_string()), "run {run}: {said}");
            }
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
    assert!(old > 0 && cut_off > 0, "no run was killed in time ({new} were not)");

    // A run that may end cleans up after all of them.
    site.run(&[]).success();
    assert_eq!(site.dump(), site.then);
    site.has_no_leftovers();
}

fn loses_nothing_that_writers_had_committed(dialect: Dialect) {
    let site = Site::with(dialect, EnvironmentName::Staging, 500);
    let took = measure(&site);
    let done = AtomicBool::new(false);
    let committed: Vec<String> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&site, &done));
        for run in 0..RUNS {
            run_and_kill(&site, took * (run % (RUNS / 2)) / (RUNS / 2 - RUNS / 16));
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let mut found = usernames(&mut site.db.connection());
    for backup in site.catalog.list().unwrap().backups {
        found.extend(written_in(&site.catalog.file(&backup), backup.system));
    }
    let lost: Vec<&String> = committed.iter().filter(|name| !found.contains(*name)).collect();
    assert_eq!(lost, Vec::<&String>::new());
    site.has_no_leftovers();
}

/// The users that [`write_until`] had added when the backup `file` was taken.
fn written_in(file: &Path, system: System) -> BTreeSet<String> {
    if system == System::Sqlite {
        return usernames(&mut open(&DatabaseUrl::sqlite(file), Mode::Immutable).unwrap());
    }
    let mut command = Command::new("pg_restore");
    command.args(["--data-only", "--table=users", "--file=-"]).arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split(['\t', '\n']).filter(|word| word.starts_with("written_"));
    words.map(ToOwned::to_owned).collect()
}

#[test]
fn sqlite_is_the_old_database_or_the_new_one_and_the_next_run_says_which() {
    is_the_old_database_or_the_new_one(Dialect::Sqlite);
}

#[test]
fn postgres_is_the_old_database_or_the_new_one_and_the_next_run_says_which() {
    is_the_old_database_or_the_new_one(Dialect::Postgres);
}

#[test]
fn nothing_that_writers_had_committed_to_sqlite_is_lost() {
    loses_nothing_that_writers_had_committed(Dialect::Sqlite);
}

#[test]
fn nothing_that_writers_had_committed_to_postgres_is_lost() {
    loses_nothing_that_writers_had_committed(Dialect::Postgres);
}

/// Adds users, one after the other. Returns the names of those that are committed.
fn write_until(site: &Site, done: &AtomicBool) -> Vec<String> {
    let mut committed = Vec::new();
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        // As an app does: connect again when the connection was ended.
        let Ok(mut conn) = open(site.db.url(), Mode::Write) else { continue };
        while !done.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("written_{number}");
            let written = write_transaction(&mut conn, |conn| {
                diesel::insert_into(users::table)
                    .values((users::username.eq(&name), users::password_hash.eq("!")))
                    .execute(conn)
            });
            if written.is_err() {
                break;
            }
            committed.push(name);
        }
    }
    committed
}

impl Site {
    /// Asserts that after a run that ended, and a prune, no run has left anything.
    fn has_no_leftovers(&self) {
        let store = for_url(self.db.url()).unwrap();
        let retention = Retention { last: NonZeroUsize::MIN, daily: 0, weekly: 0, monthly: 0 };
        self.run(&[]).success();
        let plan = PrunePlan::load(&self.catalog, &*store, &retention).unwrap();
        assert!(plan.apply(&self.catalog, &*store).failed.is_empty());
        assert!(self.catalog.list().unwrap().broken.is_empty());
        let names = std::fs::read_dir(self.catalog.folder()).unwrap();
        let names = names.map(|name| name.unwrap().file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(|name| name.contains("partial")).count(), 0);
        let left = match self.db.url().sqlite_path() {
            Some(file) => std::fs::read_dir(file.parent().unwrap())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|name| name.contains(".ro"))
                .collect(),
            None => self.databases(),
        };
        assert_eq!(left, Vec::<String>::new());
    }

    /// The databases beside this one that were made for it.
    pub(crate) fn databases(&self) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Name {
            #[diesel(sql_type = diesel::sql_types::Text)]
            name: String,
        }
        let query = "SELECT datname::text AS name FROM pg_database WHERE datname <> current_database() AND \
                     strpos(shobj_description(oid, 'pg_database'), current_database()) > 0";
        let names: Vec<Name> = diesel::sql_query(query).load(&mut self.db.connection()).unwrap();
        names.into_iter().map(|name| name.name).collect()
    }
}
