//! `cargo xtask deployments`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use omnitool_cli::{Failure, Format, Outcome, print, print_json, write_atomically};
use omnitool_environment::EnvironmentName;
use omnitool_pipeline::{
    DeployLock, History, LocalPlatform, RunOutcome, RunRecord, RunState, StepOutcome, StepRecord,
    read_journal, render_html,
};
use serde::Serialize;

use crate::{project::Project, terminal::seconds};

/// The flags of `cargo xtask deployments`.
#[derive(Args, Debug)]
pub(crate) struct DeploymentsArgs {
    /// Only those of this environment
    #[arg(long, global = true, value_name = "ENV")]
    env: Option<EnvironmentName>,

    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All runs, newest first (the default)
    List,
    /// One run with its steps; also one that is running
    Show {
        /// The run, how its id begins, `newest`, or `newest~N` for the Nth before it
        run: String,

        /// Write its page, as it is beside its journal, to this file
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// How two runs differ
    Diff {
        /// The run to compare with, named as for `show`
        one: String,
        /// The other run
        other: String,
    },
}

impl DeploymentsArgs {
    pub(crate) const fn format(&self) -> Format {
        self.format
    }
}

/// A run, and where it is.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    record: RunRecord,
    state: RunState,
}

#[derive(Serialize)]
struct Unreadable {
    file: PathBuf,
    error: String,
}

#[derive(Serialize)]
struct Listing {
    summary: String,
    runs: Vec<Shown>,
    unreadable: Vec<Unreadable>,
}

/// No such run, or several.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error("there is no run {run}")]
    NotFound { run: String },
    #[error("{count} runs begin with {run}")]
    Ambiguous { run: String, count: usize },
}

/// One difference between two runs.
#[derive(Serialize)]
struct Difference {
    what: String,
    one: String,
    other: String,
}

/// Shows runs.
pub(crate) fn run(project: &Project, args: &DeploymentsArgs) -> Result<Outcome, Failure> {
    let listing = load(project, args.env)?;
    match &args.action {
        None | Some(Action::List) => match args.format {
            Format::Text => print(&list_text(&listing))?,
            Format::Json => print_json(&listing)?,
        },
        Some(Action::Show { run, html: Some(file) }) => {
            let RunRecord { environment, run, .. } = &find(&listing, run)?.record;
            write_page(project, *environment, run, file)?;
        }
        Some(Action::Show { run, html: None }) => {
            let run = find(&listing, run)?;
            match args.format {
                Format::Text => print(&show_text(run))?,
                Format::Json => print_json(run)?,
            }
        }
        Some(Action::Diff { one, other }) => {
            let differences = differences(find(&listing, one)?, find(&listing, other)?);
            match args.format {
                Format::Text => print(&diff_text(&differences))?,
                Format::Json => print_json(&differences)?,
            }
        }
    }
    Ok(Outcome::Done)
}

/// Makes the page of a run from its journal, also of one that is running or died.
fn write_page(
    project: &Project,
    environment: EnvironmentName,
    run: &str,
    file: &Path,
) -> Result<(), Failure> {
    let site = project.site(environment)?;
    let folder = LocalPlatform::folder(project.root(), &site);
    let records = read_journal(&folder.join("runs").join(format!("{run}.jsonl")))?;
    let page = render_html(&records);
    write_atomically(file, |out| out.write_all(page.as_bytes()))?;
    print(&format!("[SUCCESS] The page of run {run} is {}\n", file.display()))
}

fn load(project: &Project, only: Option<EnvironmentName>) -> Result<Listing, Failure> {
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for environment in [EnvironmentName::Staging, EnvironmentName::Production] {
        if only.is_some_and(|only| only != environment) {
            continue;
        }
        let folder = LocalPlatform::folder(project.root(), &project.site(environment)?);
        // Before the journals: a run that ends in between has written its end.
        let holder = DeployLock::look(&folder)?.map(|holder| holder.run);
        let history = History::read(&folder.join("runs"))?;
        runs.extend(history.runs.into_iter().map(|record| {
            let state = record.state(holder.as_deref());
            Shown { record, state }
        }));
        unreadable.extend(
            history
                .unreadable
                .into_iter()
                .map(|(file, error)| Unreadable { file, error: error.to_string() }),
        );
    }
    runs.sort_by(|one, other| other.record.started_at.cmp(&one.record.started_at));
    let summary = match runs.len() {
        1 => "1 run".to_owned(),
        count => format!("{count} runs"),
    };
    Ok(Listing { summary, runs, unreadable })
}

fn find<'a>(listing: &'a Listing, wanted: &str) -> Result<&'a Shown, Failure> {
    let begins = || listing.runs.iter().filter(|run| run.record.run.starts_with(wanted));
    let exact = match counted_back(wanted) {
        Some(number) => listing.runs.get(number),
        None => listing.runs.iter().find(|run| run.record.run == wanted),
    };
    let hint = "see them: cargo xtask deployments";
    match (exact, begins().count()) {
        (Some(run), _) => Ok(run),
        (None, 0) => {
            Err(Failure::refused(FindError::NotFound { run: wanted.to_owned() }).hint(hint))
        }
        (None, 1) => begins().next().ok_or_else(|| Failure::refused("no run")),
        (None, count) => {
            let run = wanted.to_owned();
            Err(Failure::refused(FindError::Ambiguous { run, count }).hint(hint))
        }
    }
}

/// How many runs before the newest one `newest` or `newest~N` names.
fn counted_back(wanted: &str) -> Option<usize> {
    match wanted.strip_prefix("newest")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

fn took(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |ms| seconds(Duration::from_millis(ms)))
}

fn short(hash: Option<&str>) -> String {
    hash.map_or("-", |hash| hash.get(..10).unwrap_or(hash)).to_owned()
}

fn list_text(listing: &Listing) -> String {
    let mut text = format!("{}\n", listing.summary);
    let head =
        ["run", "environment", "task", "release", "state", "began (UTC)", "took", "by", "commit"];
    let mut rows = vec![head.map(ToOwned::to_owned)];
    rows.extend(listing.runs.iter().map(|Shown { record, state }| {
        [
            record.run.clone(),
            record.environment.to_string(),
            record.task.as_str().to_owned(),
            record.release.to_string(),
            state_text(record, *state),
            record.started_at.get(..19).unwrap_or(&record.started_at).replace('T', " "),
            took(record.duration_ms),
            record.user.clone(),
            short(commit(record)),
        ]
    }));
    let widths: [usize; 9] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in rows.iter().filter(|_| !listing.runs.is_empty()) {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("{}\n", cells.join("  ").trim_end()));
    }
    for Unreadable { file, error } in &listing.unreadable {
        text.push_str(&format!("{} cannot be read: {error}\n", file.display()));
    }
    text
}

fn commit(record: &RunRecord) -> Option<&str> {
    let revision = record.artifact_revision.as_ref().or(record.revision.as_ref())?;
    Some(&revision.commit)
}

fn state_text(record: &RunRecord, state: RunState) -> String {
    match (state, &record.outcome, record.current_step()) {
        (_, Some(RunOutcome::Failed { step, .. }), _) => format!("failed in {step}"),
        (RunState::Running | RunState::Died, _, Some(step)) => {
            format!("{} in {step}", state.as_str())
        }
        _ => state.as_str().to_owned(),
    }
}

fn show_text(Shown { record, state }: &Shown) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12} {value}\n"));
    line("run", record.run.clone());
    line("environment", format!("{} on the {} platform", record.environment, record.platform));
    line("task", record.task.as_str().to_owned());
    line("state", state_text(record, *state));
    let over = record.replaces.map(|old| format!(", over release {old}")).unwrap_or_default();
    line("release", format!("{}{over}", record.release));
    let host = record.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    line("by", format!("{}{host}", record.user));
    line("began", record.started_at.clone());
    line("took", took(record.duration_ms));
    for (name, value) in [
        ("commit", commit(record)),
        ("artifact", record.artifact.as_deref()),
        ("backup", record.backup.as_deref()),
        ("continues", record.continues.as_deref()),
    ] {
        if let Some(value) = value {
            line(name, value.to_owned());
        }
    }
    text.push('\n');
    for step in &record.steps {
        text.push_str(&step_text(step, *state));
    }
    if let Some(RunOutcome::Failed { error, .. }) = &record.outcome {
        text.push_str(&format!("\n{error}\n"));
    }
    text
}

fn outcome_text(step: &StepRecord, state: RunState) -> &'static str {
    match &step.outcome {
        Some(StepOutcome::Done) => "done",
        Some(StepOutcome::Warned { .. }) => "warned",
        Some(StepOutcome::Skipped { .. }) => "skipped",
        Some(StepOutcome::Failed { .. }) => "failed",
        Some(StepOutcome::Kept { .. }) => "kept",
        None if step.started_at.is_none() => "-",
        None if state == RunState::Running => "running",
        _ => "died",
    }
}

fn step_text(step: &StepRecord, state: RunState) -> String {
    let mut lines = step.evidence.clone();
    match &step.outcome {
        Some(StepOutcome::Warned { reason } | StepOutcome::Skipped { reason }) => {
            lines.push(reason.clone());
        }
        Some(StepOutcome::Failed { error }) => lines.push(error.clone()),
        Some(StepOutcome::Kept { run }) => lines.push(format!("done by run {run}")),
        _ => {}
    }
    let all: Vec<&str> = lines.iter().flat_map(|line| line.lines()).collect();
    let head = format!(
        "{:<8} {:<14} {:>8}  {}",
        outcome_text(step, state),
        step.step,
        took(step.duration_ms),
        all.first().copied().unwrap_or_default()
    );
    let mut text = format!("{}\n", head.trim_end());
    for line in all.iter().skip(1) {
        text.push_str(&format!("{:33}{line}\n", ""));
    }
    text
}

/// What differs, in the order in which a run goes.
fn differences(one: &Shown, other: &Shown) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut compare = |what: &str, one: String, other: String| {
        if one != other {
            all.push(Difference { what: what.to_owned(), one, other });
        }
    };
    let facts = |Shown { record, state }: &Shown| {
        let optional = |text: Option<&str>| text.unwrap_or("-").to_owned();
        [
            ("environment", record.environment.to_string()),
            ("platform", record.platform.to_string()),
            ("task", record.task.as_str().to_owned()),
            ("state", state_text(record, *state)),
            ("release", record.release.to_string()),
            ("by", record.user.clone()),
            ("commit", optional(commit(record))),
            ("artifact", optional(record.artifact.as_deref())),
            ("backup", optional(record.backup.as_deref())),
            ("took", took(record.duration_ms)),
        ]
    };
    for ((what, one), (_, other)) in facts(one).into_iter().zip(facts(other)) {
        compare(what, one, other);
    }
    let step = |shown: &Shown, id| {
        let found = shown.record.steps.iter().find(|step| step.step == id);
        found.map_or_else(
            || "not in the plan".to_owned(),
            |step| {
                let evidence = step.evidence.join("; ");
                let outcome = outcome_text(step, shown.state);
                format!("{outcome} {} {evidence}", took(step.duration_ms)).trim_end().to_owned()
            },
        )
    };
    let mut ids: Vec<_> = [one, other]
        .into_iter()
        .flat_map(|shown| shown.record.steps.iter().map(|step| step.step))
        .collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        compare(id.as_str(), step(one, id), step(other, id));
    }
    all
}

fn diff_text(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "no difference\n".to_owned();
    }
    let lines = differences
        .iter()
        .map(|Difference { what, one, other }| format!("{what}\n  - {one}\n  + {other}\n"));
    lines.collect()
}
