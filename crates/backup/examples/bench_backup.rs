//! Measures capture and restore beside the raw limit: the database's own shell doing the same work in the same run.
//!
//! ```text
//! cargo build --release --bins
//! target/release/with-postgres --durable \
//!     cargo run --release --example bench_backup -- target/release 100000x50 3
//! ```
//!
//! Needs `sqlite3`, `psql`, `pg_dump` and `pg_restore`. What only we do is shown apart: checks, and the safety backup of a restore.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

#[path = "bench_backup/postgres.rs"]
mod postgres;
#[path = "bench_backup/sqlite.rs"]
mod sqlite;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use omnitool_backup::{Catalog, RollbackPlan, Step, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [programs, size, runs] = arguments.as_slice() else {
        println!("usage: with-postgres --durable bench_backup PROGRAMS USERSxTOOLS RUNS");
        return;
    };
    let server =
        std::env::var("OMNITOOL_TEST_POSTGRES_URL").expect("run it inside of with-postgres");
    let server = server.rsplit_once('/').unwrap().0;
    let (users, tools) = size.split_once('x').expect("such as 1000x20");
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        programs: fs::canonicalize(programs).unwrap(),
        folder: folder.path().to_owned(),
        runs: runs.parse().unwrap(),
    };
    println!("{users} users × {tools} tools, {runs} runs, medians\n");
    println!("| | ours | raw | ratio | at most |\n| --- | --- | --- | --- | --- |");
    sqlite::run(&bench, users, tools);
    postgres::run(&bench, server, users, tools);
}

struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    runs: usize,
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a program of ours, for its time and its memory.
    fn ours(&self, program: &str, url: &str, arguments: &[&str]) -> Sample {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).env("DATABASE_URL", url).args(arguments);
        measure(command)
    }

    /// Runs somebody else's program.
    fn raw(&self, program: &str, arguments: &[&Path]) -> Sample {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(arguments);
        measure(command)
    }
}

/// How long the parts of a restore took.
struct Restored {
    /// What the database's own tools do, too: staging the copy and putting it in place.
    ours: Duration,
    checks: Duration,
    safety: Duration,
}

/// Restores by `plan`, taking the time of each part.
fn restore(plan: &RollbackPlan, catalog: &Catalog, store: &dyn Store) -> Restored {
    let started = Instant::now();
    let mut steps: Vec<(Step, Duration)> = Vec::new();
    plan.apply(catalog, store, &mut |_| Ok(()), &mut |progress| {
        if steps.last().is_none_or(|(step, _)| *step != progress.step) {
            steps.push((progress.step, started.elapsed()));
        }
    })
    .unwrap();
    let ended = started.elapsed();
    let began = |wanted| steps.iter().find(|(step, _)| *step == wanted).unwrap().1;
    let (check, copy, replace) = (began(Step::Check), began(Step::Copy), began(Step::Replace));
    Restored { ours: check + (ended - replace), checks: copy - check, safety: replace - copy }
}

/// How long a command took, and the most memory that it had.
#[derive(Clone, Copy)]
struct Sample {
    time: Duration,
    /// KiB.
    memory: u64,
}

/// Runs `command` to its end, looking at its memory meanwhile.
fn measure(mut command: Command) -> Sample {
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
            return Sample { time: started.elapsed(), memory };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// A row with the raw limit.
fn compare(what: &str, ours: Vec<Duration>, raw: Vec<Duration>, at_most: &str) {
    let (ours, raw) = (median(ours), median(raw));
    println!("| {what} | {ours:.2} s | {raw:.2} s | {:.2} | {at_most} |", ours / raw);
}

/// A row of what only we do.
fn alone(what: &str, times: Vec<Duration>) {
    println!("| {what} | {:.2} s | – | – | – |", median(times));
}

/// A row of something else than a time.
fn fact(what: &str, value: &str, at_most: &str) {
    println!("| {what} | {value} | – | – | {at_most} |");
}
