//! `omnitool explain`.

use omnitool_cli::{Failure, Format, Outcome, Target, TargetArgs, print, print_json};
use omnitool_database::{Mode, connect};
use omnitool_tool_access::{ExplainError, Explanation, explain};
use serde::Serialize;

const EXAMPLES: &str = "\
Shows what decides, each fact with its origin, and what changed. Nothing is written.

Examples:
  omnitool explain user_a \"Invoice Generator\"
  omnitool explain alice \"Email Templates\" --env staging --format json";

/// Explain why a user may use a tool, or why not
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The user's name
    user: String,

    /// The tool's name
    tool: String,
}

#[derive(Serialize)]
struct Report {
    summary: String,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(crate) fn run(args: &Args, target: &TargetArgs, format: Format) -> Result<Outcome, Failure> {
    let Target { environment, database_url } = target.resolve()?;
    let connected = connect(&database_url, environment, Mode::Read);
    let (mut conn, _) = connected.map_err(crate::connect_failure)?;
    let explanation = explain(&mut conn, &args.user, &args.tool).map_err(failure)?;
    match format {
        Format::Text => print(&explanation.to_string())?,
        Format::Json => {
            let may = if explanation.may_use { "may use" } else { "may not use" };
            let Explanation { user, tool, reason, .. } = &explanation;
            let summary = format!("{user} {may} {tool}: {reason}");
            print_json(&Report { summary, explanation })?;
        }
    }
    Ok(Outcome::Done)
}

fn failure(error: ExplainError) -> Failure {
    match error {
        ExplainError::UnknownUser { .. } => {
            Failure::failed(error).hint("names are exact; the user may exist in another --env")
        }
        ExplainError::UnknownTool { .. } => Failure::failed(error).hint(
            "names are exact, as data/tools.toml has them; migrate-db and sync-tools make tools",
        ),
        error => Failure::failed(error),
    }
}
