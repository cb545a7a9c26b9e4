//! `cargo xtask stop`.

use clap::Args;
use omnitool_cli::{Failure, Outcome, print};
use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{App, LocalPlatform};

use crate::project::{Project, app_failure};

/// The flags of `cargo xtask stop`.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// The environment: local, staging or production
    environment: EnvironmentName,
}

/// Stops the environment's app.
pub(crate) fn run(project: &Project, args: &StopArgs) -> Result<Outcome, Failure> {
    let site = project.site(args.environment)?;
    let folder = LocalPlatform::folder(project.root(), &site);
    let app = App::new(&folder);
    // Without an app there is nothing to hold, and no folder to make for a lock.
    let nothing = || print(&format!("nothing of {} runs on this machine\n", args.environment));
    if app.running().map_err(app_failure)?.is_none() {
        return nothing().map(|()| Outcome::Done);
    }
    let _lock = project.lock(&folder, "stop", None, None)?;
    match app.running().map_err(app_failure)? {
        None => nothing()?,
        Some(running) => {
            app.stop(&running)?;
            print(&format!(
                "stopped release {} of {} (process {})\n",
                running.release, args.environment, running.pid
            ))?;
        }
    }
    Ok(Outcome::Done)
}
