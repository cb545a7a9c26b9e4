//! `cargo xtask bench`: how long the programs take, beside the raw limit measured in the same run.
//!
//! Machines are noisy, so only ratios of one run count and no test asserts a time. The raw limit of a start is an empty
//! process; that of a database job is the same work by the database's own shell.

mod measure;
mod target;

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
}

/// Names the server for the second process, which runs inside of `with-postgres`.
const SERVER: &str = "OMNITOOL_TEST_POSTGRES_URL";

const PROGRAMS: [&str; 9] = [
    "migrate-db",
    "sync-tools",
    "export-tool-access",
    "import-tool-access",
    "verify-migration",
    "backup-database",
    "rollback-migration",
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

/// Runs this suite in a second process that has a PostgreSQL server.
fn again_with_a_server(programs: &Path, args: &BenchArgs) -> Result<Outcome, Failure> {
    let status = Command::new(programs.join("with-postgres"))
        .arg("--durable")
        .arg(std::env::current_exe()?)
        .args(["bench", "programs", "--programs"])
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
