//! Measures masking beside the raw limit, one plain `UPDATE` by the database's own shell, and a whole refresh.
//!
//! ```text
//! cargo build --release --bins
//! target/release/with-postgres --durable \
//!     cargo run --release --example bench_refresh -- target/release 100000x50 3
//! ```
//!
//! Needs `sqlite3` and `psql`. Both sides write the same columns of the same rows; ours computes a keyed hash for each.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{
    fs,
    time::{Duration, Instant},
};

use omnitool_backup::{
    for_url,
    masking::{Masking, MaskingKey, MaskingRules, mask},
    refresh::UnattachedCopy,
};
use omnitool_environment::DatabaseUrl;
use omnitool_testing::bench::{Bench, Sample, measure, median};

const PEOPLE: &str = "UPDATE users SET email = username || '@corp.example', phone_number = '+49 170 ' || id, \
     password_hash = '$argon2id$v=19$m=19456,t=2,p=1$c29tZXRoaW5nIHJhbmRvbQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';";
const PLAIN: &str = "UPDATE users SET email = 'user-' || id || '-00000000@example.invalid', \
     phone_number = '+999 ' || id || ' 0000', password_hash = '!';";

fn main() {
    let bench = Refresh(Bench::from_arguments());
    println!("{}", bench.0.heading());
    println!("| | ours | raw | ratio | peak memory |\n| --- | --- | --- | --- | --- |");
    bench.measure("SQLite", &Bench::sqlite_url, &Refresh::plain_sqlite);
    bench.measure("PostgreSQL", &Bench::postgres_url, &Refresh::plain_postgres);
}

struct Refresh(Bench);

impl Refresh {
    /// The limit: one statement on a fresh copy.
    fn plain_sqlite(&self) -> Duration {
        let file = |name: &str| self.0.file(name);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(file(&format!("raw.db{suffix}")));
        }
        fs::copy(file("production.db"), file("raw.db")).unwrap();
        let script = format!("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {PLAIN}");
        self.0.sqlite3("raw", &script).time
    }

    fn plain_postgres(&self) -> Duration {
        self.0.psql("postgres", "DROP DATABASE IF EXISTS raw WITH (FORCE)");
        self.0.psql("postgres", "CREATE DATABASE raw TEMPLATE production");
        self.0.psql("postgres", "CHECKPOINT");
        self.0.psql("raw", PLAIN).time
    }

    fn fill(&self, url: &dyn Fn(&Bench, &str) -> String) {
        let Self(bench) = self;
        let production = url(bench, "production");
        if production.starts_with("postgres") {
            self.0.psql("postgres", "CREATE DATABASE production");
            self.0.psql("postgres", "CREATE DATABASE staging");
        }
        bench.ours("migrate-db", &production, &["--env", "production"]);
        bench.ours("fill-database", &production, &[&bench.users, &bench.tools]);
        if production.starts_with("postgres") {
            self.0.psql("production", PEOPLE);
            self.0.psql("production", "VACUUM FULL ANALYZE");
        } else {
            self.0.sqlite3(
                "production",
                &format!("{PEOPLE} VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"),
            );
        }
        bench.ours("migrate-db", &url(bench, "staging"), &["--env", "staging"]);
        let access = "{\"format\": \"omnitool.tool-access\", \"version\": 1, \"environment\": \"local\", \
                      \"users\": [], \"tools\": {}}";
        fs::write(bench.file("access.json"), access).unwrap();
    }

    fn measure(
        &self,
        system: &str,
        url: &dyn Fn(&Bench, &str) -> String,
        plain: &dyn Fn(&Self) -> Duration,
    ) {
        self.fill(url);
        let Self(bench) = self;
        let production: DatabaseUrl = url(bench, "production").parse().unwrap();
        let staging: DatabaseUrl = url(bench, "staging").parse().unwrap();
        let masking = Masking::Rules(MaskingRules::shipped().unwrap());
        let (mut ours, mut raw, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let (mut whole, mut memory) = (Vec::new(), 0);
        for _ in 0..bench.runs {
            raw.push(plain(self));
            let source = for_url(&production).unwrap();
            let state = bench.file("state");
            let copy = UnattachedCopy::make(&*source, &staging, &state, &mut |_| ()).unwrap();
            let started = Instant::now();
            let masked = mask(&copy, &masking, &MaskingKey::new([7; 32])).unwrap();
            all.push(started.elapsed());
            ours.push(masked.elapsed);
            drop(copy);

            let flags = ["--access", "access.json", "--state", "state"];
            let mut refresh = bench.program("sync-data-prod-to-staging", staging.expose(), &flags);
            refresh.env("SOURCE_DATABASE_URL", production.expose());
            let Sample { time, memory: peak } = measure(refresh);
            whole.push(time);
            memory = memory.max(peak);
        }
        let (ours, raw) = (median(ours), median(raw));
        println!("| {system}: masking | {ours:.2} s | {raw:.2} s | {:.2} | – |", ours / raw);
        println!(
            "| {system}: masking, with the search for real values | {:.2} s | – | – | – |",
            median(all)
        );
        println!(
            "| {system}: whole refresh | {:.2} s | – | – | {} MiB |",
            median(whole),
            memory / 1024
        );
    }
}
