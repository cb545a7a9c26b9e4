//! `cargo xtask bench`: how long the programs take, beside the raw limit measured in the same run.
//!
//! Machines are noisy, so only ratios of one run count and no test asserts a time. The raw limit of a start is an empty
//! process; that of a database job is the same work by the database's own shell.

mod example;
mod measure;
mod smoke;
mod target;
mod verify;
mod web;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, ValueEnum};
use omnitool_cli::{Failure, Outcome, print};

use crate::project::{Profile, Project};

use self::{
    measure::{Row, Samples, render},
    target::Target,
};

/// The flags of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_values_t = [Suite::Startup, Suite::Programs])]
    suites: Vec<Suite>,

    /// How often each command runs
    #[arg(long, default_value_t = 11)]
    runs: usize,

    /// Users in the filled database
    #[arg(long, default_value_t = 1_000)]
    users: u32,

    /// Tools in the filled database
    #[arg(long, default_value_t = 20)]
    tools: u32,

    /// Use these built programs instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The start of each program (`--help`)
    Startup,
    /// Sync, export, import and verify on SQLite and PostgreSQL
    Programs,
    /// A smoke run against a healthy app, beside a plain client
    Smoke,
    /// Captures and restores at 2.5 million grants; takes a minute, and needs `sqlite3`
    Backup,
    /// Masking and refreshes at 100,000 users; takes a minute, and needs `sqlite3` and `psql`
    Refresh,
    /// Export and import at up to 2.5 million grants; takes minutes, and needs `sqlite3` and `psql`
    Access,
    /// Verification at 2.5 million grants; takes minutes, and needs `sqlite3` and `psql`
    Verify,
    /// Requests to the app, beside a plain handler with one query; takes minutes, and needs `wrk`
    Web,
}

/// Users × tools, and how often each command runs. The last two have the same users, so that they show what grants cost in memory.
const ACCESS_SIZES: [[&str; 2]; 4] =
    [["1000x20", "5"], ["10000x50", "3"], ["100000x5", "3"], ["100000x50", "1"]];

/// Users × tools, and how often each phase runs.
const BACKUP_SIZE: [&str; 2] = ["100000x50", "3"];

/// Names the server for the second process, which runs inside of `with-postgres`.
const SERVER: &str = "OMNITOOL_TEST_POSTGRES_URL";

const PROGRAMS: [&str; 10] = [
    "migrate-db",
    "sync-tools",
    "export-tool-access",
    "import-tool-access",
    "verify-migration",
    "backup-database",
    "rollback-migration",
    "sync-data-prod-to-staging",
    "smoke-tests",
    "omnitool",
];

/// Builds the programs, measures, and prints a table per suite.
///
/// # Errors
///
/// Fails where something cannot be built or a measured command fails.
pub(crate) fn run(project: &Project, args: &BenchArgs) -> Result<Outcome, Failure> {
    let programs = match &args.programs {
        Some(folder) => std::path::absolute(folder)?,
        None => build(project)?,
    };
    if args.suites.contains(&Suite::Startup) {
        print(&render("start (`--help`)", &startup(&programs, args.runs)?))?;
    }
    if args.suites.contains(&Suite::Smoke) {
        print(&smoke::measure(&programs, tempfile::tempdir()?.path(), args.runs)?)?;
    }
    if args.suites.contains(&Suite::Access) && access(project, &programs)? == Outcome::Failed {
        return Ok(Outcome::Failed);
    }
    if args.suites.contains(&Suite::Backup)
        && backups(project, &programs, "bench_backup")? == Outcome::Failed
    {
        return Ok(Outcome::Failed);
    }
    if args.suites.contains(&Suite::Refresh)
        && backups(project, &programs, "bench_refresh")? == Outcome::Failed
    {
        return Ok(Outcome::Failed);
    }
    if args.suites.contains(&Suite::Web) && web::web(project, &programs)? == Outcome::Failed {
        return Ok(Outcome::Failed);
    }
    if args.suites.contains(&Suite::Programs) {
        if std::env::var_os(SERVER).is_none() {
            return again_with_a_server(&programs, args);
        }
        let folder = tempfile::tempdir()?;
        for target in Target::both(project.root(), &programs, folder.path())? {
            let rows = target.measure(args.runs, args.users, args.tools)?;
            let title = format!("{}, {} users × {} tools", target.name(), args.users, args.tools);
            print(&render(&title, &rows))?;
        }
    }
    if args.suites.contains(&Suite::Verify) {
        if std::env::var_os(SERVER).is_none() {
            return again_with_a_server(&programs, args);
        }
        print(&verify::measure(project.root(), &programs)?)?;
    }
    Ok(Outcome::Done)
}

fn build(project: &Project) -> Result<PathBuf, Failure> {
    let mut build = project.cargo();
    build.args(["build", "--quiet", "--release", "--locked", "--workspace", "--bins"]);
    if !build.status()?.success() {
        return Err(Failure::failed("the programs do not build"));
    }
    project.programs_folder(Profile::Release)
}

/// Imports and exports beside `\copy` and the shell's `.import`.
fn access(project: &Project, programs: &Path) -> Result<Outcome, Failure> {
    for size in ACCESS_SIZES {
        let outcome =
            example::run(project, programs, "omnitool-tool-access", "bench_access", &size)?;
        if outcome == Outcome::Failed {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Done)
}

/// Captures, restores and masking beside the databases' own programs.
fn backups(project: &Project, programs: &Path, name: &str) -> Result<Outcome, Failure> {
    example::run(project, programs, "omnitool-backup", name, &BACKUP_SIZE)
}

/// Runs the suites that need one in a second process that has a PostgreSQL server.
fn again_with_a_server(programs: &Path, args: &BenchArgs) -> Result<Outcome, Failure> {
    let suites = [(Suite::Programs, "programs"), (Suite::Verify, "verify")];
    let suites = suites.iter().filter(|(suite, _)| args.suites.contains(suite));
    let status = Command::new(programs.join("with-postgres"))
        .arg("--durable")
        .arg(std::env::current_exe()?)
        .arg("bench")
        .args(suites.map(|(_, name)| name))
        .arg("--programs")
        .arg(programs)
        .args(["--runs", &args.runs.to_string()])
        .args(["--users", &args.users.to_string(), "--tools", &args.tools.to_string()])
        .status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}

fn startup(programs: &Path, runs: usize) -> Result<Vec<Row>, Failure> {
    let raw = Samples::of(runs, || Ok(Command::new("true")))?;
    PROGRAMS
        .into_iter()
        .map(|name| {
            let ours = Samples::of(runs, || {
                let mut command = Command::new(programs.join(name));
                command.arg("--help");
                Ok(command)
            })?;
            Ok(Row::new(name, ours, Some(raw.clone())))
        })
        .collect()
}
