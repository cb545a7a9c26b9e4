//! Pending schema migrations, then tool sync.

mod adopt;
mod failure;
mod report;
mod revert;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use omnitool_cli::{Failure, Format, Outcome, Program, Target, TargetArgs, print, print_json};
use omnitool_database::{
    AnyConnection, Mode,
    migration::{self, Applied, Migrations, Options},
    open, stamp,
};
use omnitool_environment::EnvironmentName;
use omnitool_tool_registry::{self as tool_registry, Definitions, SharedRoutes, sync};

use self::report::{Migrated, Script, StatusReport};

const EXAMPLES: &str = "\
A fresh database is made, migrated and stamped as the environment that --env names. Running it again changes nothing.
Only one migrate-db works on a database at a time; others wait and then find nothing to do. What is killed half way is
completed by the next run.

Examples:
  migrate-db --env local
  migrate-db --env staging --status
  migrate-db --env staging --sql             what would run; runs nothing
  migrate-db --env staging --down 1          undo the newest migration, with its data
  migrate-db --env production --down 1 --confirm \"REVERT 1 PRODUCTION\"
  migrate-db --env staging --adopt           take over a database of the Python system
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

    /// Show which migrations are applied, pending, changed or unknown, and where the schema differs; change nothing
    #[arg(long, group = "action")]
    status: bool,

    /// Exit with 3 where --status finds pending migrations
    #[arg(long, requires = "status")]
    detailed_exitcode: bool,

    /// Undo the newest N migrations; says what data is lost, and asks
    #[arg(long, value_name = "N", group = "action", group = "asks", value_parser = clap::value_parser!(u16).range(1..))]
    down: Option<u16>,

    /// Undo the newest migration and apply it again; says what data is lost, and asks
    #[arg(long, group = "action", group = "asks")]
    redo: bool,

    /// Take over a database of the Python system (Flask-SQLAlchemy, Alembic) with all its rows, then go on as usual
    #[arg(long, group = "action", group = "asks")]
    adopt: bool,

    /// With --adopt on PostgreSQL: there is a backup of it already, so take none
    #[arg(long, requires = "adopt")]
    backup_taken: bool,

    /// With --adopt: leave out grants whose user or tool is gone
    #[arg(long, requires = "adopt")]
    prune_orphans: bool,

    /// The confirmation that --down and --redo ask for, and --adopt on production, such as "REVERT 1"
    #[arg(long, value_name = "TEXT", requires = "asks")]
    confirm: Option<String>,

    /// Print the SQL that would run, also with --down and --redo, and run nothing
    #[arg(long, conflicts_with_all = ["status", "adopt"])]
    sql: bool,

    /// Say how long each statement of a migration took, what it locked, and for how long
    #[arg(long, conflicts_with_all = ["status", "sql", "down"])]
    locks: bool,

    /// Take a migration's changed text for the one that was applied (repeat for several)
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["status", "sql"])]
    accept_changed: Vec<String>,

    /// Leave a database that belongs to a newer build as it is, and end well: for Heroku's release phase, which a rollback
    /// runs again, with the older build
    #[arg(long, conflicts_with = "action")]
    keep_newer: bool,

    /// How long to wait for another program that changes the schema
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lock_wait: u32,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

impl Args {
    fn options(&self) -> Options {
        let version = concat!("migrate-db ", env!("CARGO_PKG_VERSION"));
        let commit = option_env!("OMNITOOL_COMMIT");
        Options {
            lock_wait: Duration::from_secs(self.lock_wait.into()),
            applied_by: commit
                .map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})")),
            accept_changed: self.accept_changed.clone(),
            ..Options::default()
        }
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
        .map_err(failure::of_load)?;
    let target = args.target.resolve()?;
    if args.status {
        return status(&target, &args);
    }
    if args.sql {
        return sql(&target, &args);
    }
    if args.down.is_some() {
        return revert::down(&target, &args);
    }
    let mode = if args.redo || args.adopt { Mode::Write } else { Mode::Create };
    let mut conn = open(&target.database_url, mode).map_err(failure::of_open)?;
    let environment = environment(&mut conn, target.environment)?;
    let adopted = if args.adopt {
        Some(adopt::adopt(&mut conn, &target, environment, &args)?)
    } else {
        adopt::refuse(&mut conn)?;
        None
    };
    if args.keep_newer
        && let Some(kept) = report::Kept::read(&mut conn, environment)?
    {
        match args.format {
            Format::Text => print(&kept.to_string())?,
            Format::Json => print_json(&kept)?,
        }
        return Ok(Outcome::Done);
    }
    let reverted = if args.redo { revert::newest(&mut conn, environment, &args)? } else { vec![] };
    let report = migrate(&mut conn, &target, &definitions, &args)?.after(adopted, reverted);
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    Ok(Outcome::Done)
}

fn migrate(
    conn: &mut AnyConnection,
    target: &Target,
    definitions: &Definitions,
    args: &Args,
) -> Result<Migrated, Failure> {
    let migrations = Migrations::embedded(conn.dialect())?;
    let options = args.options();
    let applied = if args.locks {
        migration::migrate_watched(conn, &migrations, &options)
    } else {
        let plain = |name| Applied { name, statements: Vec::new() };
        migration::migrate_with(conn, &migrations, &options)
            .map(|names| names.into_iter().map(plain).collect())
    };
    let applied = applied.map_err(failure::of_migrate)?;
    // Again, since another one may have stamped it while this one waited.
    let environment = environment(conn, target.environment)?;
    let stamped = stamp::read(conn)?.is_none();
    if stamped {
        stamp::write(conn, environment)?;
    }
    // A tool that has another name since is of a newer build, too.
    let shared_routes = if args.keep_newer { SharedRoutes::LeaveOut } else { SharedRoutes::Refuse };
    let options = tool_registry::Options { shared_routes, ..tool_registry::Options::default() };
    let tools = sync(conn, definitions, options).map_err(failure::of_sync)?;
    let schema_version = migration::check_current(conn)?;
    Ok(Migrated::new(environment, applied, schema_version, stamped, tools))
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
    let mut conn = open(&target.database_url, Mode::Read).map_err(failure::of_open)?;
    let report = StatusReport::read(&mut conn)?;
    match args.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print_json(&report)?,
    }
    let pending = !report.status.pending.is_empty();
    Ok(if pending && args.detailed_exitcode { Outcome::ChangesPending } else { Outcome::Done })
}

fn sql(target: &Target, args: &Args) -> Result<Outcome, Failure> {
    let mut conn = open(&target.database_url, Mode::Read).map_err(failure::of_open)?;
    let down = if args.redo { Some(1) } else { args.down };
    let mut sql = String::new();
    if let Some(count) = down {
        sql.push_str(&migration::revert_sql(&mut conn, count.into())?);
    }
    if args.redo {
        sql.push_str(&migration::newest_sql(&mut conn)?);
    }
    if args.down.is_none() {
        sql.push_str(&migration::pending_sql(&mut conn)?);
    }
    match args.format {
        Format::Text => print(&sql)?,
        Format::Json => print_json(&Script { sql })?,
    }
    Ok(Outcome::Done)
}
