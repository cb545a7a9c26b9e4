//! Killing the program at any moment.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection as _;
use omnitool_environment::EnvironmentName;
use omnitool_testing::Dialect;

use crate::{Site, TESTER};

/// Starts a refresh and kills it after `delay`.
fn run_and_kill(site: &Site, delay: Duration) {
    let mut command = site.command(&[]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The moment is what is tested, so this waits for nothing else.
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn staging_is_old_or_new_and_the_next_run_ends_as_if_nothing_had_been(dialect: Dialect, runs: u32) {
    let site = Site::new(dialect);
    let insert = "INSERT INTO users (username, email, password_hash) \
                  SELECT 'p' || i, 'p' || i || '.real@corp.example', '!' FROM n";
    site.production
        .connection()
        .batch_execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) {insert}"
        ))
        .unwrap();
    let started = Instant::now();
    site.run(&[]).success();
    let took = started.elapsed();
    let refreshed = site.people();
    let access = site.access();
    let restore = |site: &Site| {
        let statements =
            "DELETE FROM users; INSERT INTO users (username, password_hash) VALUES ('tester', '!')";
        site.staging.connection().batch_execute(statements).unwrap();
    };
    let mut old = 0;
    for run in 0..runs {
        restore(&site);
        run_and_kill(&site, took * run / runs);
        assert_eq!(site.stamp(), Some(EnvironmentName::Staging));
        let found = site.people();
        if found == [TESTER] {
            old += 1;
        } else {
            assert!(found == refreshed, "run {run}: neither old nor new");
        }
        let status = site.run(&["--check-status"]).success();
        let says_so = ["was killed: ", "came to its end"].iter().any(|text| status.contains(text));
        assert!(says_so, "run {run}: {status}");
    }
    assert!(old > 0, "no run was killed in time");

    // One that may end cleans up after all of them.
    restore(&site);
    site.run(&[]).success();
    assert!(site.people() == refreshed);
    assert_eq!(site.access(), access);
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

#[test]
fn on_sqlite() {
    staging_is_old_or_new_and_the_next_run_ends_as_if_nothing_had_been(Dialect::Sqlite, 8);
}

#[test]
fn on_postgres() {
    staging_is_old_or_new_and_the_next_run_ends_as_if_nothing_had_been(Dialect::Postgres, 4);
}

#[test]
fn who_ends_it_gently_finds_nothing_left() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let site = Site::new(dialect);
        let started = Instant::now();
        site.run(&[]).success();
        let took = started.elapsed();
        for run in 0..2 {
            let mut command = site.command(&[]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(took * (run + 1) / 3);
            let pid = child.id().to_string();
            // It may have ended by now.
            let _ = std::process::Command::new("kill").args(["-TERM", &pid]).output().unwrap();
            let ended = child.wait().unwrap();
            // Before it listens, a signal ends it at once: there is nothing to clean up then.
            assert!(matches!(ended.code(), None | Some(0 | 1)), "{ended:?}");
            assert_eq!(site.leftovers(), Vec::<String>::new(), "run {run}");
        }
    }
}
