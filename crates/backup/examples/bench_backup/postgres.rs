//! PostgreSQL, beside `pg_dump --format=custom` and `pg_restore`.

use std::{fs, num::NonZeroUsize, path::Path, time::Instant};

use chrono::Utc;
use omnitool_backup::{Catalog, Kind, StoreOptions, Wanted, capture, for_url_with};
use omnitool_environment::{DatabaseUrl, EnvironmentName};
use omnitool_testing::bench::Bench;

use crate::{alone, compare, fact, raw, restore};

pub(crate) fn run(bench: &Bench) {
    let url = bench.postgres_url("live");
    bench.psql("postgres", "CREATE DATABASE live");
    bench.ours("migrate-db", &url, &["--env", "local"]);
    bench.ours("fill-database", &url, &[&bench.users, &bench.tools]);
    bench.psql("live", "VACUUM ANALYZE");
    let catalog = Catalog::new(&bench.file("backups-of-postgres"), EnvironmentName::Local);
    captures(bench, &url, &catalog);
    for jobs in [1, 2] {
        restores(bench, &url, &catalog, jobs);
    }
    let folder = ["--folder", "backups-of-postgres"];
    let taken = bench.ours("backup-database", &url, &["capture", folder[0], folder[1]]);
    let arguments = ["--skip-checks", "no app here", folder[0], folder[1]];
    let restored = bench.ours("rollback-migration", &url, &arguments);
    let peak = taken.memory.max(restored.memory) / 1024;
    fact("PostgreSQL: peak memory of capture and restore", &format!("{peak} MiB"), "64 MiB");
    alone("PostgreSQL: `backup-database capture`, all of it", vec![taken.time]);
    alone("PostgreSQL: `rollback-migration`, all of it", vec![restored.time]);
}

fn captures(bench: &Bench, url: &str, catalog: &Catalog) {
    let parsed: DatabaseUrl = url.parse().unwrap();
    let store = for_url_with(&parsed, &StoreOptions::default()).unwrap();
    let (mut ours, mut theirs, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        let file = bench.file("raw.pgdump");
        let arguments = ["--format=custom", "--file"].map(Path::new);
        let dumped = raw(bench, "pg_dump", &[arguments[0], arguments[1], &file, Path::new(url)]);
        theirs.push(dumped.time);
        let copy = bench.file("copy.pgdump");
        fs::write(&copy, "").unwrap();
        let started = Instant::now();
        store.copy_to(&copy, &mut |_| ()).unwrap();
        let copied = started.elapsed();
        ours.push(copied);
        let started = Instant::now();
        capture(catalog, &*store, Kind::Manual, None, &mut |_| ()).unwrap();
        checks.push(started.elapsed().saturating_sub(copied));
    }
    let megabytes = fs::metadata(bench.file("raw.pgdump")).unwrap().len() / 1_000_000;
    let what = format!("PostgreSQL, {megabytes} MB: capture, beside `pg_dump --format=custom`");
    compare(&what, ours, theirs, "1.1");
    alone("PostgreSQL: checks of a capture", checks);
}

fn restores(bench: &Bench, url: &str, catalog: &Catalog, jobs: usize) {
    let parsed: DatabaseUrl = url.parse().unwrap();
    let options = StoreOptions { programs: None, jobs: NonZeroUsize::new(jobs) };
    let store = for_url_with(&parsed, &options).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut checks, mut safety) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        bench.psql("postgres", "DROP DATABASE IF EXISTS raw WITH (FORCE)");
        // As after a night: neither side pays for what the other one has written.
        bench.psql("postgres", "CHECKPOINT");
        let started = Instant::now();
        bench.psql("postgres", "CREATE DATABASE raw TEMPLATE template0");
        let into = format!("--dbname={}", bench.postgres_url("raw"));
        let jobs = format!("--jobs={jobs}");
        let file = bench.file("raw.pgdump");
        raw(
            bench,
            "pg_restore",
            &[Path::new("--exit-on-error"), Path::new(&jobs), Path::new(&into), &file],
        );
        theirs.push(started.elapsed());

        bench.psql("postgres", "CHECKPOINT");
        let wanted = Wanted::Latest;
        let plan =
            omnitool_backup::RollbackPlan::new(catalog, &*store, &wanted, Utc::now()).unwrap();
        let took = restore(&plan, catalog, &*store);
        ours.push(took.ours);
        checks.push(took.checks);
        safety.push(took.safety);
        for old in store.old_databases().unwrap() {
            store.drop_old(&old).unwrap();
        }
    }
    let what = format!("PostgreSQL: restore with {jobs} jobs, beside `pg_restore --jobs={jobs}`");
    compare(&what, ours, theirs, "1.1");
    alone(&format!("PostgreSQL: checks of the restored copy ({jobs} jobs)"), checks);
    alone(&format!("PostgreSQL: safety backup, with its checks ({jobs} jobs)"), safety);
}
