//! The benchmark of the app, which uses its library and so is no part of this program.

use std::{path::Path, process::Command};

use omnitool_cli::{Failure, Outcome};

use crate::project::{Profile, Project};

/// Users, tools, and how many seconds each measurement takes.
const SIZE: [&str; 3] = ["10000", "50", "3"];

/// Drives the app with `wrk`, beside a plain axum handler.
///
/// # Errors
///
/// Fails where `wrk` is missing, or the benchmark cannot be built.
pub(super) fn web(project: &Project, programs: &Path) -> Result<Outcome, Failure> {
    if Command::new("wrk").arg("--version").output().is_err() {
        return Err(Failure::failed("there is no `wrk`, which sends the requests")
            .hint("install it, on Debian with: apt-get install wrk"));
    }
    let mut build = project.cargo();
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["--package", "omnitool-web", "--example", "bench_web"]);
    if !build.status()?.success() {
        return Err(Failure::failed("the benchmark does not build"));
    }
    let examples = project.programs_folder(Profile::Release)?.join("examples");
    let status = Command::new(programs.join("with-postgres"))
        .arg("--durable")
        .arg(examples.join("bench_web"))
        .arg(programs)
        .args(SIZE)
        .status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}
