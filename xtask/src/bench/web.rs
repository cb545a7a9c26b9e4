//! The benchmark of the app.

use std::{path::Path, process::Command};

use omnitool_cli::{Failure, Outcome};

use super::example;
use crate::project::Project;

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
    example::run(project, programs, "omnitool-web", "bench_web", &SIZE)
}
