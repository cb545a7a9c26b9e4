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
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use omnitool_backup::{
    for_url,
    masking::{Masking, MaskingKey, MaskingRules, mask},
    refresh::UnattachedCopy,
};
use omnitool_environment::DatabaseUrl;

const PEOPLE: &str = "UPDATE users SET email = username || '@corp.example', phone_number = '+49 170 ' || id, \
     password_hash = '$argon2id$v=19$m=19456,t=2,p=1$c29tZXRoaW5nIHJhbmRvbQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';";
const PLAIN: &str = "UPDATE users SET email = 'user-' || id || '-00000000@example.invalid', \
     phone_number = '+999 ' || id || ' 0000', password_hash = '!';";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [programs, size, runs] = arguments.as_slice() else {
        println!("usage: with-postgres --durable bench_refresh PROGRAMS USERSxTOOLS RUNS");
        return;
    };
    let server =
        std::env::var("OMNITOOL_TEST_POSTGRES_URL").expect("run it inside of with-postgres");
    let (users, tools) = size.split_once('x').expect("such as 1000x20");
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        programs: fs::canonicalize(programs).unwrap(),
        folder: folder.path().to_owned(),
        server: server.rsplit_once('/').unwrap().0.to_owned(),
        runs: runs.parse().unwrap(),
    };
    println!("{users} users × {tools} tools, {runs} runs, medians\n");
    println!("| | ours | raw | ratio | peak memory |\n| --- | --- | --- | --- | --- |");
    bench.measure("SQLite", users, tools, &Bench::sqlite_url, &Bench::plain_sqlite);
    bench.measure("PostgreSQL", users, tools, &Bench::postgres_url, &Bench::plain_postgres);
}

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    server: String,
    runs: usize,
}

impl Bench {
    fn sqlite_url(&self, name: &str) -> String {
        format!("sqlite:{}/{name}.db", self.folder.display())
    }

    fn postgres_url(&self, name: &str) -> String {
        format!("{}/{name}", self.server)
    }

    fn program(&self, name: &str, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder).env("DATABASE_URL", url).args(arguments);
        command
    }

    fn sqlite3(&self, name: &str, sql: &str) -> Duration {
        let mut command = Command::new("sqlite3");
        command.arg(self.folder.join(format!("{name}.db"))).arg(sql);
        measure(command).0
    }

    fn psql(&self, name: &str, sql: &str) -> Duration {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(self.postgres_url(name));
        measure(command).0
    }

    /// The limit: one statement on a fresh copy.
    fn plain_sqlite(&self) -> Duration {
        let file = |name: &str| self.folder.join(name);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(file(&format!("raw.db{suffix}")));
        }
        fs::copy(file("production.db"), file("raw.db")).unwrap();
        self.sqlite3(
            "raw",
            &format!("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {PLAIN}"),
        )
    }

    fn plain_postgres(&self) -> Duration {
        self.psql("postgres", "DROP DATABASE IF EXISTS raw WITH (FORCE)");
        self.psql("postgres", "CREATE DATABASE raw TEMPLATE production");
        self.psql("postgres", "CHECKPOINT");
        self.psql("raw", PLAIN)
    }

    fn fill(&self, url: &dyn Fn(&Self, &str) -> String, users: &str, tools: &str) {
        let production = url(self, "production");
        if production.starts_with("postgres") {
            self.psql("postgres", "CREATE DATABASE production");
            self.psql("postgres", "CREATE DATABASE staging");
        }
        measure(self.program("migrate-db", &production, &["--env", "production"]));
        measure(self.program("fill-database", &production, &[users, tools]));
        if production.starts_with("postgres") {
            self.psql("production", PEOPLE);
            self.psql("production", "VACUUM FULL ANALYZE");
        } else {
            self.sqlite3(
                "production",
                &format!("{PEOPLE} VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"),
            );
        }
        measure(self.program("migrate-db", &url(self, "staging"), &["--env", "staging"]));
        let access = "{\"format\": \"omnitool.tool-access\", \"version\": 1, \"environment\": \"local\", \
                      \"users\": [], \"tools\": {}}";
        fs::write(self.folder.join("access.json"), access).unwrap();
    }

    fn measure(
        &self,
        system: &str,
        users: &str,
        tools: &str,
        url: &dyn Fn(&Self, &str) -> String,
        plain: &dyn Fn(&Self) -> Duration,
    ) {
        self.fill(url, users, tools);
        let production: DatabaseUrl = url(self, "production").parse().unwrap();
        let staging: DatabaseUrl = url(self, "staging").parse().unwrap();
        let masking = Masking::Rules(MaskingRules::shipped().unwrap());
        let (mut ours, mut raw, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let (mut whole, mut memory) = (Vec::new(), 0);
        for _ in 0..self.runs {
            raw.push(plain(self));
            let source = for_url(&production).unwrap();
            let state = self.folder.join("state");
            let copy = UnattachedCopy::make(&*source, &staging, &state, &mut |_| ()).unwrap();
            let started = Instant::now();
            let masked = mask(&copy, &masking, &MaskingKey::new([7; 32])).unwrap();
            all.push(started.elapsed());
            ours.push(masked.elapsed);
            drop(copy);

            let flags = ["--access", "access.json", "--state", "state"];
            let mut refresh = self.program("sync-data-prod-to-staging", staging.expose(), &flags);
            refresh.env("SOURCE_DATABASE_URL", production.expose());
            let (took, peak) = measure(refresh);
            whole.push(took);
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

/// Runs `command` to its end: how long it took, and the most memory that it had, in KiB.
fn measure(mut command: Command) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    loop {
        // The kernel keeps the peak, so that looking now and then is enough.
        if let Ok(text) = fs::read_to_string(&status_file) {
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
            memory = memory.max(peak.unwrap_or(0));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?} failed");
            return (started.elapsed(), memory);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
