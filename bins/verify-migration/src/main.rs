//! Checks after a deployment.

mod app;
mod backup;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use omnitool_cli::{Failure, Format, Outcome, Program, Target, TargetArgs, print, print_json};
use omnitool_tool_registry::Definitions;
use omnitool_verification::{
    CHECKS, Check, Depth, Detail, Expectations, Report, Selection, Severity, Status, Subject,
    default_access_tests, find_check, verify_against,
};

const EXAMPLES: &str = "\
Examples:
  verify-migration --env local
  verify-migration --env staging --verbose
  verify-migration --only orphaned-tools,orphaned-users --deep
  verify-migration --env staging --expect-access data/tool_access_exports/local_tool_access.json
  verify-migration --format junit --output verification.xml

Exit codes: 0 all checks passed (warnings allowed), 1 a critical check failed or could not be run, 2 wrong usage";

/// Check after a deployment that the database is what this release expects and that the app works with it
#[derive(Parser)]
#[command(version, after_help = after_help())]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    /// Show what each check proves and what it saw
    #[arg(long, short)]
    verbose: bool,

    /// The tool definitions to compare with [default: those that this program was built with]
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,

    /// Run only these checks, by id or number
    #[arg(long, value_name = "CHECK", value_delimiter = ',', value_parser = find_check)]
    only: Vec<&'static Check>,

    /// Do not run these checks, by id or number
    #[arg(long, value_name = "CHECK", value_delimiter = ',', value_parser = find_check)]
    skip: Vec<&'static Check>,

    /// Read every row, also where a foreign key already proves that there are no orphans
    #[arg(long)]
    deep: bool,

    /// The export that access has to match (check 10) [default: none]
    #[arg(long, value_name = "FILE")]
    expect_access: Option<PathBuf>,

    // As an attribute: documentation would need backticks, which the help would show.
    #[arg(
        long,
        value_name = "FILE",
        help = "Assertions about access (check 11) [default: data/access_tests.toml, where there is one]"
    )]
    access_tests: Option<PathBuf>,

    /// The manifest of the backup whose rows have to be there still (check 12) [default: the environment's newest
    /// verified one in data/backups]
    #[arg(long, value_name = "MANIFEST")]
    last_backup: Option<PathBuf>,

    /// How many of a hundred rows of a table may be lost since that backup (check 12)
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    max_loss: u8,

    /// How the report is written
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,

    /// Write the report to this file, and the text for people to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How the report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// JUnit XML, for CI systems
    Junit,
    /// Annotations of a GitHub Actions run
    Github,
}

/// The report file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report to {}", .file.display())]
struct WriteReportError {
    file: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Program for Args {
    fn format(&self) -> Format {
        match self.format {
            ReportFormat::Json => Format::Json,
            ReportFormat::Text | ReportFormat::Junit | ReportFormat::Github => Format::Text,
        }
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let selection = Selection::new(&args.only, &args.skip).map_err(Failure::usage)?;
    let Target { environment, database_url } = args.target.resolve()?;
    let definitions = match &args.tools {
        Some(file) => Definitions::load(file)?,
        None => Definitions::shipped()?,
    };
    let ask_app = || app::ask(&database_url, environment);
    let subject = Subject {
        database_url: &database_url,
        environment,
        definitions: &definitions,
        definitions_file: args.tools.as_deref(),
        app: &ask_app,
        depth: if args.deep { Depth::ReadEverything } else { Depth::TrustConstraints },
    };
    let find_backup = |environment| backup::find(args.last_backup.as_deref(), environment);
    let default_tests = default_access_tests();
    let expected = Expectations {
        access_export: args.expect_access.as_deref(),
        access_tests: args.access_tests.as_deref().or(default_tests),
        last_backup: &find_backup,
        max_loss_percent: args.max_loss,
    };
    let report = verify_against(&subject, &expected, &selection);
    show(&args, &report)?;
    Ok(match report.status {
        Status::Passed => Outcome::Done,
        Status::Failed => Outcome::Failed,
    })
}

fn show(args: &Args, report: &Report) -> Result<(), Failure> {
    let detail = if args.verbose { Detail::Verbose } else { Detail::Brief };
    let rendered = match args.format {
        ReportFormat::Text => report.text(detail),
        ReportFormat::Json if args.output.is_none() => return print_json(report),
        ReportFormat::Json => serde_json::to_string_pretty(report)? + "\n",
        ReportFormat::Junit => report.junit(),
        ReportFormat::Github => report.github(),
    };
    let Some(file) = &args.output else { return print(&rendered) };
    // People see the result even where the file cannot be written.
    print(&report.text(detail))?;
    omnitool_cli::write_atomically(file, |writer| writer.write_all(rendered.as_bytes()))
        .map_err(|source| WriteReportError { file: file.clone(), source })?;
    Ok(())
}

fn after_help() -> String {
    let checks: Vec<String> = CHECKS
        .iter()
        .map(|check| {
            let Check { number, id, name, severity, .. } = check;
            let warns = match severity {
                Severity::Warning => " (only warns)",
                Severity::Critical => "",
            };
            format!("  {number:>2} {id:<22} {name}{warns}")
        })
        .collect();
    format!("Checks:\n{}\n\n{EXAMPLES}", checks.join("\n"))
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
