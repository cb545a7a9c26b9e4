//! The benchmark of `backup`, which uses the library and so is no part of this program.

use std::{path::Path, process::Command};

use omnitool_cli::{Failure, Outcome};

use crate::project::{Profile, Project};

/// Users × tools, and how often each phase runs.
const SIZE: [&str; 2] = ["100000x50", "3"];

/// Measures captures and restores beside the databases' own shells.
pub(super) fn run(project: &Project, programs: &Path) -> Result<Outcome, Failure> {
    let mut build = project.cargo();
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["--package", "omnitool-backup", "--example", "bench_backup"]);
    if !build.status()?.success() {
        return Err(Failure::failed("the benchmark does not build"));
    }
    let benchmark =
        project.programs_folder(Profile::Release)?.join("examples").join("bench_backup");
    // PostgreSQL's rows need a server: this is where `with-postgres --durable` comes before the benchmark.
    let status = Command::new(&benchmark).arg(programs).args(SIZE).status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}
