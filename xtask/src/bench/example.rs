//! Benchmarks that use a crate's library, and so are examples of that crate and no part of this program.

use std::{path::Path, process::Command};

use omnitool_cli::{Failure, Outcome};

use crate::project::{Profile, Project};

/// Builds the example `name` of `package` and runs it on `programs` with `arguments`, beside a server that syncs to the disk.
///
/// # Errors
///
/// Fails where the example cannot be built or started.
pub(super) fn run(
    project: &Project,
    programs: &Path,
    package: &str,
    name: &str,
    arguments: &[&str],
) -> Result<Outcome, Failure> {
    let mut build = project.cargo();
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["--package", package, "--example", name]);
    if !build.status()?.success() {
        return Err(Failure::failed("the benchmark does not build"));
    }
    let examples = project.programs_folder(Profile::Release)?.join("examples");
    let status = Command::new(programs.join("with-postgres"))
        .arg("--durable")
        .arg(examples.join(name))
        .arg(programs)
        .args(arguments)
        .status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}
