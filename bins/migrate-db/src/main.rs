//! Pending schema migrations, then tool sync.

mod report;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use omnitool_cli::{Failure, Format, Outcome, Program, Target, TargetArgs, print, print_json};
use omnitool_database::{AnyConnection, Mode, OpenError, migration, open, stamp};
use omnitool_environment::EnvironmentName;
use omnitool_tool_registry::{Definitions, LoadToolsError, Options, SyncToolsError, sync};

use self::report::{Migrated, StatusReport};

const EXAMPLES: &str = "\
A fresh database is made, migrated and stamped as the environment that --env names. Running it again changes nothing.
Only one migrate-db works on a database at a time; others wait and then find nothing to do.

Examples:
  migrate-db --env local
  migrate-db --env staging --status
  DATABASE_URL=postgres://… migrate-db --env production --tools data/tools.toml

Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 migrations are pending (--status --detailed-exitcode)";

/// Apply pending schema migrations, then make the tools as defined
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    /// The tools' definitions [default: data/tools.toml as it was when this program was built]
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,

    /// Show which migrations are applied and pending, and change nothing
    #[arg(long)]
    status: bool,

    /// Exit with 3 where --status finds pending migrations
    #[arg(long, requires = "status")]
    detailed_exitcode: bool,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

/// Why nothing was migrated.
#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error(
        "this database is stamped `{stamped}`, but `{wanted}` was asked for; nothing was changed"
    )]
    Stamp { stamped: EnvironmentName, wanted: EnvironmentName },
    #[error("this database has no environment stamp and --env names none; nothing was changed")]
    Unnamed,
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    // Whatever can be wrong with the input is found before the database is touched.
    let definitions = args
        .tools
        .as_deref()
        .map_or_else(Definitions::shipped, Definitions::load)
        .map_err(load_failure)?;
    let target = args.target.resolve()?;
    if args.status {
        return status(&target, &args);
    }
    let mut conn = open(&target.database_url, Mode::Create).map_err(open_failure)?;
    let environment = environment(&mut conn, target.environment)?;
    let applied = migration::migrate(&mut conn).map_err(migrate_failure)?;
    let stamped = stamp::read(&mut conn)?.is_none();
    if stamped {
        stamp::write(&mut conn, environment)?;
    }
    let tools = sync(&mut conn, &definitions, Options::default()).map_err(sync_failure)?;
    let schema_version = migration::check_current(&mut conn)?;
    let report = Migrated::new(environment, applied, schema_version, stamped, tools);
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

/// What the database is, or will be stamped as: checked before anything changes.
fn environment(
    conn: &mut AnyConnection,
    wanted: Option<EnvironmentName>,
) -> Result<EnvironmentName, Failure> {
    match (stamp::read(conn)?, wanted) {
        (Some(stamped), Some(wanted)) if stamped != wanted => {
            let hint = format!("to migrate this database, pass --env {stamped}");
            Err(Failure::refused(RefuseError::Stamp { stamped, wanted }).hint(hint))
        }
        (Some(environment), _) | (None, Some(environment)) => Ok(environment),
        (None, None) => Err(Failure::refused(RefuseError::Unnamed)
            .hint("say which environment this database is: --env local, staging or production")),
    }
}

fn status(target: &Target, args: &Args) -> Result<Outcome, Failure> {
    let mut conn = open(&target.database_url, Mode::Read).map_err(open_failure)?;
    let report =
        StatusReport { stamp: stamp::read(&mut conn)?, status: migration::status(&mut conn)? };
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    let pending = !report.status.pending.is_empty();
    Ok(if pending && args.detailed_exitcode { Outcome::ChangesPending } else { Outcome::Done })
}

fn load_failure(error: LoadToolsError) -> Failure {
    Failure::refused(error).hint("correct the definitions; nothing was changed")
}

fn open_failure(error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Missing { .. } => "run migrate-db without --status to make it",
        OpenError::ClearText { .. } => {
            "use a build with the feature `tls`: cargo build --release --features tls"
        }
        _ => "check DATABASE_URL, and that the database can be reached",
    };
    Failure::failed(error).hint(hint)
}

fn migrate_failure(error: migration::MigrateError) -> Failure {
    use migration::MigrateError::{Apply, Locked, Newer};
    match error {
        Newer { .. } => Failure::refused(error)
            .hint("deploy the newer build, or restore a backup of its schema"),
        Locked { .. } => {
            Failure::failed(error).hint("wait until the other one ends, then run again")
        }
        Apply { .. } => Failure::failed(error)
            .hint("the failed migration left nothing behind; correct it and run again"),
        other => Failure::failed(other),
    }
}

fn sync_failure(error: SyncToolsError) -> Failure {
    Failure::failed(error)
        .hint("the schema is migrated, the tools are as they were; run `sync-tools` to try again")
}
