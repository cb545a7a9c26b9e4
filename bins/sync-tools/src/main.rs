//! `data/tools.toml` into the database.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use omnitool_cli::{Failure, Format, Outcome, Program, TargetArgs, print, print_json};
use omnitool_database::{AnyConnection, ConnectError, Mode, connect};
use omnitool_environment::EnvironmentName;
use omnitool_tool_registry::{
    DefaultTools, Definitions, LoadToolsError, Options, Orphans, PlanSyncError, SharedRoute,
    SyncPlan, SyncToolsError, plan, sync,
};
use serde::Serialize;

const EXAMPLES: &str = "\
Deprecated tools go first: a renamed tool keeps its grants and exclusions, a deleted one loses them. Then the defined \
tools are made and updated. A tool that is neither defined nor deprecated is left alone. All of it happens, or nothing.

Examples:
  sync-tools
  sync-tools --env staging --dry-run
  sync-tools --tools data/tools.toml --dry-run --detailed-exitcode
  sync-tools --assign-defaults

Exit codes: 0 done, 1 failed or refused and nothing changed, 2 wrong usage, 3 changes are pending (--detailed-exitcode)";

/// Make the database's tools as defined in data/tools.toml
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    /// The definitions [default: data/tools.toml as it was when this program was built]
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Exit with 3 where --dry-run finds something to change
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,

    /// Also grant default tools to active users who cannot use them and are not excluded
    #[arg(long)]
    assign_defaults: bool,

    /// Also remove grants, wildcards and exclusions whose user or tool does not exist
    #[arg(long)]
    prune_orphans: bool,

    /// The deployment's run, for the history
    #[arg(long, env = "OMNITOOL_RUN_ID", value_name = "ID")]
    run_id: Option<String>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result for programs.
#[derive(Serialize)]
struct Report {
    summary: String,
    environment: EnvironmentName,
    status: Status,
    plan: SyncPlan,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// The changes were made.
    Changed,
    /// There was nothing to change.
    Unchanged,
    /// There are changes, and they were not made.
    Pending,
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

impl Args {
    fn options(&self) -> Options<'_> {
        Options {
            default_tools: if self.assign_defaults {
                DefaultTools::Assign
            } else {
                DefaultTools::Leave
            },
            orphans: if self.prune_orphans { Orphans::Prune } else { Orphans::Report },
            run_id: self.run_id.as_deref(),
            ..Options::default()
        }
    }

    fn definitions(&self) -> Result<Definitions, LoadToolsError> {
        self.tools.as_deref().map_or_else(Definitions::shipped, Definitions::load)
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let definitions = args.definitions().map_err(load_failure)?;
    let mode = if args.dry_run { Mode::Read } else { Mode::Write };
    let target = args.target.resolve()?;
    let (mut conn, environment) =
        connect(&target.database_url, target.environment, mode).map_err(connect_failure)?;
    let (status, plan) = if args.dry_run {
        let plan = plan(&mut conn, &definitions, args.options()).map_err(|error| match error {
            PlanSyncError::SharedRoutes(_) => shared_routes(error),
            error => error.into(),
        })?;
        (if plan.is_empty() { Status::Unchanged } else { Status::Pending }, plan)
    } else {
        let plan = write(&mut conn, &definitions, args.options())?;
        (if plan.is_empty() { Status::Unchanged } else { Status::Changed }, plan)
    };
    let outcome = match status {
        Status::Pending if args.detailed_exitcode => Outcome::ChangesPending,
        _ => Outcome::Done,
    };
    let report = Report { summary: plan.summary(), environment, status, plan };
    match args.format {
        Format::Text => print(&report.text())?,
        Format::Json => print_json(&report)?,
    }
    Ok(outcome)
}

fn shared_routes(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::refused(error).hint(format!("nothing was changed; {}", SharedRoute::NEXT_STEP))
}

fn write(
    conn: &mut AnyConnection,
    definitions: &Definitions,
    options: Options<'_>,
) -> Result<SyncPlan, Failure> {
    sync(conn, definitions, options).map_err(|error| match error {
        SyncToolsError::Plan(PlanSyncError::SharedRoutes(_)) => shared_routes(error),
        SyncToolsError::InheritedFacts { .. } => Failure::refused(error)
            .hint("nothing was changed; remove the orphaned rows with --prune-orphans"),
        error => {
            Failure::failed(error).hint("nothing was changed; settle the cause and run it again")
        }
    })
}

fn load_failure(error: LoadToolsError) -> Failure {
    match error {
        LoadToolsError::Lint { .. } => Failure::refused(error)
            .hint("nothing was changed; correct these lines and run it again"),
        error => Failure::failed(error)
            .hint("nothing was changed; correct the file, or pass another one with --tools"),
    }
}

fn connect_failure(error: ConnectError) -> Failure {
    let hint = error.next_step();
    if error.is_refusal() { Failure::refused(error) } else { Failure::failed(error) }.hint(hint)
}

impl Report {
    fn text(&self) -> String {
        let end = match self.status {
            Status::Changed | Status::Unchanged => "Tool Synchronization Completed.\n",
            Status::Pending => "Dry run: nothing was changed.\n",
        };
        format!("{}{end}", self.plan)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }
}
