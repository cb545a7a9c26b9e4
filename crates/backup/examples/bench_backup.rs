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
    path::Path,
    time::{Duration, Instant},
};

use omnitool_backup::{Catalog, RollbackPlan, Step, Store};
use omnitool_testing::bench::{Bench, Sample, measure, median};

fn main() {
    let bench = Bench::from_arguments();
    println!("{}", bench.heading());
    println!("| | ours | raw | ratio | at most |\n| --- | --- | --- | --- | --- |");
    sqlite::run(&bench);
    postgres::run(&bench);
}

/// Runs somebody else's program.
fn raw(bench: &Bench, program: &str, arguments: &[&Path]) -> Sample {
    let mut command = bench.command(program);
    command.args(arguments);
    measure(command)
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
