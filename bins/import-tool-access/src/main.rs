//! Who may use what: JSON → database.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use omnitool_cli::{
    Failure, Format, Outcome, Program, print, print_json, progress_bar, write_atomically,
};
use omnitool_database::{AnyConnection, Mode as OpenMode, connect};
use omnitool_environment::EnvironmentName;
use omnitool_tool_access::{
    Approval, ImportError, ImportPlan, ImportRequest, OverwriteProduction, Replacement, SavedPlan,
    Shown, UnknownUsers, apply_saved_plan, plan_import, run_import, save_import_plan,
};
use omnitool_tool_registry::{Definitions, Deprecation};
use serde::Serialize;

mod args;
mod failure;

use args::Args;
use failure::{RefusedError, connect_failure, import_failure, tools_failure};

/// The result for programs.
#[derive(Serialize)]
struct Report<'a> {
    summary: String,
    status: Status,
    #[serde(flatten)]
    plan: &'a ImportPlan,
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

fn main() -> ExitCode {
    omnitool_cli::run(run)
}

fn run(args: Args) -> Result<Outcome, Failure> {
    let is_dry = args.is_dry();
    let mode = if is_dry { OpenMode::Read } else { OpenMode::Write };
    let definitions = args
        .tools
        .as_deref()
        .map_or_else(Definitions::shipped, Definitions::load)
        .map_err(tools_failure)?;
    let saved = args.plan.as_deref().map(SavedPlan::load).transpose();
    let saved = saved.map_err(|error| import_failure(ImportError::Saved(error)))?;
    let target = args.target.resolve()?;
    let (mut conn, environment) =
        connect(&target.database_url, target.environment, mode).map_err(connect_failure)?;
    match saved {
        Some(saved) => apply_saved(&args, &mut conn, environment, &saved),
        None => import(&args, &mut conn, environment, &definitions),
    }
}

fn import(
    args: &Args,
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    definitions: &Definitions,
) -> Result<Outcome, Failure> {
    let replacement = |name: &str| {
        definitions.deprecated().get(name).map(|deprecation| match deprecation {
            Deprecation::RenamedTo(new) => Replacement::RenamedTo(new.clone()),
            Deprecation::Deleted => Replacement::Deleted,
        })
    };
    let source = args.source();
    let size = std::fs::metadata(source).map_or(0, |metadata| metadata.len());
    let bar = progress_bar("Reading the export", size);
    let advance = |bytes| bar.inc(bytes);
    let request = ImportRequest {
        mode: args.mode.into(),
        unknown_users: if args.strict { UnknownUsers::Refuse } else { UnknownUsers::Skip },
        removals: args.max_removals.unwrap_or_default(),
        overwrite_production: args.overwrite_production(),
        only_users: &args.user,
        only_tools: &args.tool,
        only_kind: args.fact.map(Into::into),
        replacement: &replacement,
        progress: &advance,
        ..ImportRequest::merge(source)
    };
    let failed = |error| {
        bar.finish_and_clear();
        import_failure(error)
    };
    if let Some(file) = &args.plan_out {
        let plan = save(conn, environment, &request, file).map_err(failed)?;
        bar.finish_and_clear();
        let outcome = finish(args, &plan, Status::Pending)?;
        say(&format!("To apply exactly this: import-tool-access --plan {}\n", file.display()));
        return Ok(outcome);
    }
    if args.dry_run {
        let plan = plan_import(conn, environment, &request).map_err(failed)?;
        bar.finish_and_clear();
        if let Err(refusal) = plan.check_limit(request.removals) {
            say(&format!("warning: without --dry-run this is refused: {refusal}\n"));
        } else if args.lacks_confirmation(&plan) {
            say("hint: what removes facts is done with --confirm\n");
        }
        return finish(args, &plan, Status::Pending);
    }
    let mut refused = None;
    let done = run_import(conn, environment, &request, args.run_id.clone(), |plan| {
        bar.finish_and_clear();
        if args.lacks_confirmation(plan) {
            refused = Some(plan.clone());
            return Approval::Stop;
        }
        show(args, plan);
        Approval::Apply
    });
    match (done, refused) {
        (Err(ImportError::NotApproved), Some(plan)) => Err(unconfirmed(args, &plan)),
        (done, _) => finish(args, &done.map_err(failed)?, Status::Changed),
    }
}

fn save(
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    request: &ImportRequest<'_>,
    file: &std::path::Path,
) -> Result<ImportPlan, ImportError> {
    let mut result = None;
    let written = write_atomically(file, |out| {
        match save_import_plan(conn, environment, request, out) {
            Ok(plan) => result = Some(Ok(plan)),
            Err(error) => {
                result = Some(Err(error));
                return Err(io::Error::other("stopped"));
            }
        }
        Ok(())
    });
    match (written, result) {
        (_, Some(Err(error))) => Err(error),
        (Ok(()), Some(Ok(plan))) => Ok(plan),
        (Err(source), _) => Err(ImportError::WritePlan { file: file.to_owned(), source }),
        (Ok(()), None) => Err(ImportError::NotApproved),
    }
}

fn apply_saved(
    args: &Args,
    conn: &mut AnyConnection,
    environment: EnvironmentName,
    saved: &SavedPlan,
) -> Result<Outcome, Failure> {
    if args.lacks_confirmation(saved.plan()) {
        return Err(unconfirmed(args, saved.plan()));
    }
    show(args, saved.plan());
    let (overwrite, run_id) = (args.overwrite_production(), args.run_id.clone());
    let plan =
        apply_saved_plan(conn, environment, saved, overwrite, run_id).map_err(import_failure)?;
    finish(args, &plan, Status::Changed)
}

/// Shows the plan before anything is written.
fn show(args: &Args, plan: &ImportPlan) {
    if args.format == Format::Text {
        // A closed stdout is no reason not to import; it is reported at the end.
        let _ = print(&plan.text(args.shown()));
    }
}

fn unconfirmed(args: &Args, plan: &ImportPlan) -> Failure {
    say(&plan.text(args.shown()));
    let removed = plan.removed.total();
    Failure::refused(RefusedError::Unconfirmed { mode: plan.mode, removed })
        .hint("nothing was changed; look at the plan above, then run it again with --confirm")
}

fn finish(args: &Args, plan: &ImportPlan, status: Status) -> Result<Outcome, Failure> {
    let status = if plan.is_empty() { Status::Unchanged } else { status };
    let summary = if status == Status::Pending { plan.dry_summary() } else { plan.summary() };
    match args.format {
        Format::Text if args.is_dry() => {
            print(&plan.text(args.shown()))?;
            print(&format!("Dry run: {summary}; nothing was changed.\n"))?;
        }
        Format::Text => print(&format!("[SUCCESS] Import completed: {summary}\n"))?,
        Format::Json => print_json(&Report { summary, status, plan })?,
    }
    Ok(match status {
        Status::Pending if args.detailed_exitcode => Outcome::ChangesPending,
        _ => Outcome::Done,
    })
}

impl Args {
    /// Whether nothing is to be written.
    fn is_dry(&self) -> bool {
        self.dry_run || self.plan_out.is_some()
    }

    /// Whether something is to be removed that nobody said should be.
    const fn lacks_confirmation(&self, plan: &ImportPlan) -> bool {
        plan.removed.total() > 0 && !self.confirm
    }

    const fn overwrite_production(&self) -> OverwriteProduction {
        if self.allow_production { OverwriteProduction::Allow } else { OverwriteProduction::Refuse }
    }

    const fn shown(&self) -> Shown {
        if self.verbose { Shown::Everything } else { Shown::Some }
    }

    fn source(&self) -> &std::path::Path {
        // clap requires it unless there is a plan.
        self.source.as_deref().unwrap_or_else(|| std::path::Path::new(""))
    }
}

/// Prints to stderr; nobody is left to tell where that is closed.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
