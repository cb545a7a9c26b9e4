//! Who may use what: database → JSON.

use std::{
    cmp::Reverse,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use omnitool_cli::{
    Failure, Format, Outcome, Program, TargetArgs, print, print_json, spinner, write_atomically,
};
use omnitool_database::{ConnectError, Mode, connect};
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{
    Comparison, Difference, Export, Exported, Fact, ReadAccessFileError, default_file,
};
use serde::Serialize;

const EXAMPLES: &str = "\
The same facts give the same bytes, from either kind of database: commit the file, and git shows who gained or lost what.
Grants are counted as lines of the file that let somebody in: one user, or everyone.

Examples:
  export-tool-access --env local
  export-tool-access --env local --output custom_path.json
  export-tool-access --env staging --output - > staging.json
  export-tool-access --env local --check

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the committed file is not what an export gives (--check)";

/// Write who may use which tool to a file that is committed to git
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    target: TargetArgs,

    /// Where to write, or - for stdout [default: data/tool_access_exports/ENV_tool_access.json]
    #[expect(clippy::doc_markdown, reason = "shown as help")]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Write nothing; exit with 3 where the file is not what an export gives, and show the difference
    #[arg(long)]
    check: bool,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result for programs.
#[derive(Serialize)]
struct Report {
    summary: String,
    environment: EnvironmentName,
    file: PathBuf,
    #[serde(flatten)]
    exported: Exported,
    /// Facts that the file had and the database has not.
    dropped: u64,
}

/// The result of `--check` for programs.
#[derive(Serialize)]
struct CheckReport {
    summary: String,
    environment: EnvironmentName,
    #[serde(flatten)]
    comparison: Comparison,
}

#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("--check compares with a file, and stdout is none")]
    CheckStdout,
    #[error("--output - already writes the export to stdout, and --format json would, too")]
    TwiceStdout,
}

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", .file.display())]
struct WriteError {
    file: PathBuf,
    #[source]
    source: io::Error,
}

/// The file that would be replaced says something that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} would be replaced, and it cannot be read", .file.display())]
struct ReplaceError {
    file: PathBuf,
    #[source]
    source: ReadAccessFileError,
}

/// There is nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[error("there is no file {}", .file.display())]
struct MissingError {
    file: PathBuf,
}

impl Program for Args {
    fn format(&self) -> Format {
        self.format
    }
}

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let is_stdout = args.output.as_deref() == Some(Path::new("-"));
    if is_stdout && args.check {
        return Err(Failure::usage(UsageError::CheckStdout).hint("name a file with --output"));
    }
    if is_stdout && args.format == Format::Json {
        return Err(Failure::usage(UsageError::TwiceStdout).hint("name a file with --output"));
    }
    let target = args.target.resolve()?;
    let (mut conn, environment) =
        connect(&target.database_url, target.environment, Mode::Read).map_err(connect_failure)?;
    let progress = spinner("Reading who may use what");
    let export = Export::load(&mut conn, environment);
    progress.finish_and_clear();
    let export = export?;
    let file = args.output.unwrap_or_else(|| default_file(environment));
    if args.check {
        check(&export, file, args.format)
    } else if is_stdout {
        write_stdout(&export)
    } else {
        write_file(&export, file, args.format)
    }
}

fn write_stdout(export: &Export) -> Result<Outcome, Failure> {
    let mut stdout = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = export.write(&mut stdout).and_then(|exported| {
        stdout.flush()?;
        Ok(exported)
    });
    let exported = written.map_err(|source| WriteError { file: "stdout".into(), source })?;
    say(&success(&exported, Path::new("-")));
    warn_without_effect(&exported);
    Ok(Outcome::Done)
}

fn write_file(export: &Export, file: PathBuf, format: Format) -> Result<Outcome, Failure> {
    let dropped = if file.exists() { warn_dropped(export, &file)? } else { 0 };
    let mut exported = None;
    write_atomically(&file, |out| {
        exported = Some(export.write(out)?);
        Ok(())
    })
    .map_err(|source| {
        Failure::failed(WriteError { file: file.clone(), source })
            .hint("nothing was changed; free some space, or choose another place with --output")
    })?;
    let exported = exported.unwrap_or(Exported { counts: Default::default(), without_effect: 0 });
    warn_without_effect(&exported);
    match format {
        Format::Text => print(&success(&exported, &file))?,
        Format::Json => print_json(&Report {
            summary: exported.counts.to_string(),
            environment: export.environment(),
            file,
            exported,
            dropped,
        })?,
    }
    Ok(Outcome::Done)
}

fn check(export: &Export, file: PathBuf, format: Format) -> Result<Outcome, Failure> {
    const HINT: &str = "run export-tool-access and commit the file";
    if !file.exists() {
        return Err(Failure::failed(MissingError { file }).hint(HINT));
    }
    let comparison = export.compare(&file).map_err(|error| {
        Failure::failed(error).hint("correct the file, or remove it and export again")
    })?;
    let text = comparison.to_string();
    let differs = comparison.differs;
    match format {
        Format::Text => print(&format!("{}\n", text.trim_end()))?,
        Format::Json => print_json(&CheckReport {
            summary: text.lines().next().unwrap_or_default().to_owned(),
            environment: export.environment(),
            comparison,
        })?,
    }
    if differs {
        say(&format!("hint: {HINT}\n"));
        return Ok(Outcome::ChangesPending);
    }
    Ok(Outcome::Done)
}

/// Warns where the file has facts that the database has not: two people who export in turn would drop each other's.
///
/// # Errors
///
/// Fails where the file cannot be read, as in the midst of a merge: what it says would be lost, and nobody could say what.
fn warn_dropped(export: &Export, file: &Path) -> Result<u64, Failure> {
    let file_name = file.display();
    let comparison = export.compare(file).map_err(|source| {
        Failure::failed(ReplaceError { file: file.to_owned(), source }).hint(
            "nothing was changed; settle the conflict, restore the file from git, or remove it, and export again",
        )
    })?;
    let dropped = comparison.dropped;
    if dropped == 0 {
        return Ok(0);
    }
    say(&format!(
        "warning: this export drops {dropped} of the facts in {file_name}, which the database does not have:\n"
    ));
    let mut only_in_file: Vec<&Fact> = comparison
        .differences
        .iter()
        .filter_map(|difference| match difference {
            Difference::OnlyInFile(fact) => Some(fact),
            _ => None,
        })
        .collect();
    // Whoever is kept out no longer comes before whoever is let in no longer.
    only_in_file.sort_by_key(|fact| Reverse(fact.fact));
    for fact in only_in_file.into_iter().take(20) {
        say(&format!("  {}\n", Difference::OnlyInFile(fact.clone())));
    }
    if dropped > 20 {
        say(&format!("  … and {} more\n", dropped - 20));
    }
    say(&format!(
        "hint: to keep them, restore the file from git, run import-tool-access --source {file_name}, and export again\n"
    ));
    Ok(dropped)
}

fn warn_without_effect(exported: &Exported) {
    if exported.without_effect > 0 {
        say(&format!(
            "warning: grants of excluded users have no effect and were left out: {}\n",
            exported.without_effect
        ));
    }
}

fn success(exported: &Exported, file: &Path) -> String {
    format!(
        "[SUCCESS] Successfully exported {} grants to {}\n",
        exported.grants_and_wildcards(),
        file.display()
    ) + &format!("  {}\n", exported.counts)
}

/// Prints to stderr; nobody is left to tell where that is closed.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn connect_failure(error: ConnectError) -> Failure {
    let hint = error.next_step();
    if error.is_refusal() { Failure::refused(error) } else { Failure::failed(error) }.hint(hint)
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
