//! `omnitool check`.

use omnitool_cli::{Failure, Format, Outcome, Target, TargetArgs, print, print_json};
use omnitool_web::check::{Status, check};

const EXAMPLES: &str = "\
Checks: configuration, templates (every page renders), database (it answers and is this
environment's), schema (it is the one of this build). Nothing is written.

Examples:
  omnitool check
  omnitool check --env staging --format json";

/// Check that the app could serve
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: &Args, target: &TargetArgs, format: Format) -> Result<Outcome, Failure> {
    let resolved = target.resolve();
    let report =
        check(resolved.map(|Target { environment, database_url }| (environment, database_url)));
    match format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(match report.status {
        Status::Ok => Outcome::Done,
        Status::Failed => Outcome::Failed,
    })
}
