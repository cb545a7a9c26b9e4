//! The benchmark of masking and refreshes, which uses the library and so is no part of this program.

use std::{path::Path, process::Command};

use omnitool_cli::{Failure, Outcome};

use crate::project::{Profile, Project};

/// Users × tools, and how often each phase runs.
const SIZE: [&str; 2] = ["100000x50", "3"];

/// Measures masking beside one plain `UPDATE`, and a whole refresh.
pub(super) fn run(project: &Project, programs: &Path) -> Result<Outcome, Failure> {
    let mut build = project.cargo();
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["--package", "omnitool-backup", "--example", "bench_refresh"]);
    if !build.status()?.success() {
        return Err(Failure::failed("the benchmark does not build"));
    }
    let benchmark =
        project.programs_folder(Profile::Release)?.join("examples").join("bench_refresh");
    let status = Command::new(programs.join("with-postgres"))
        .arg("--durable")
        .arg(&benchmark)
        .arg(programs)
        .args(SIZE)
        .status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}
