//! The report of a run as one HTML page that needs nothing else: no script, no font, no network.

mod access;
mod timeline;

use std::{
    io,
    path::{Path, PathBuf},
};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    CheckOutcome, CheckResult, Overview, ReadJournalError, Record, RunOutcome, StepOverview,
    StepState, Task, file,
    overview::{duration, point_in_time},
    read_journal,
};

const STYLE: &str = include_str!("html/style.css");

/// What a page may load: nothing, and its own styles.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteReportError {
    /// The journal cannot be used.
    #[error(transparent)]
    Read(#[from] ReadJournalError),
    /// The page cannot be written; the source names it.
    #[error("cannot write the report of a run")]
    Write(#[source] io::Error),
}

/// Writes the report of `journal` beside it, as `RUN.html` with mode 0600, and returns where.
///
/// # Errors
///
/// Fails where the journal cannot be read or the page cannot be written; a page that was there is then unchanged.
pub fn write_report(journal: &Path) -> Result<PathBuf, WriteReportError> {
    let page = render_html(&read_journal(journal)?);
    let report = journal.with_extension("html");
    file::write(&report, page.as_bytes()).map_err(WriteReportError::Write)?;
    Ok(report)
}

/// The report of the run with this journal, as one HTML page.
///
/// It shows texts of programs and names of users, and has no secret, since a journal has none. Everything in it is escaped,
/// and its own policy forbids to load or run anything.
#[must_use]
pub fn render_html(records: &[Record]) -> String {
    match Overview::new(records) {
        Some(run) => page(&run).into_string(),
        None => shell("A run", &html! { main { h1 { "The journal says nothing" } } }).into_string(),
    }
}

fn shell(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

fn page(run: &Overview<'_>) -> Markup {
    let title = title(run);
    let body = html! {
        main {
            (header(run, &title))
            (trouble(run))
            (figures(run))
            section {
                h2 { "Timeline" }
                figure { (timeline::chart(run)) }
                (steps(&run.steps))
            }
            (ways_back(run))
            @for step in run.steps.iter().filter(|step| !step.checks.is_empty()) {
                (checks(step))
            }
            @for changes in run.steps.iter().flat_map(|step| &step.access) {
                (access::section(changes))
            }
            (database(run))
            footer {
                p { "Made from the journal of run " code { (run.run) } ". Times are in UTC." }
            }
        }
    };
    shell(&format!("{} · {title}", verdict(run).1), &body)
}

/// What the run is about.
pub(crate) fn title(run: &Overview<'_>) -> String {
    let Overview { release, environment, .. } = run;
    match run.task {
        Task::Deploy => format!("Release {release} to {environment}"),
        Task::Rollback => format!("Rollback of {environment} to release {release}"),
        Task::Rehearsal => format!("Rehearsal of release {release} for {environment}"),
    }
}

/// The class and the word for how a run went.
fn verdict(run: &Overview<'_>) -> (&'static str, &'static str) {
    match run.outcome {
        Some(RunOutcome::Done) => ("done", "Done"),
        Some(RunOutcome::Warned) => ("warned", "Done, with warnings"),
        Some(RunOutcome::Failed { .. }) => ("failed", "Failed"),
        None => ("unfinished", "Not finished"),
    }
}

fn header(run: &Overview<'_>, title: &str) -> Markup {
    let (class, word) = verdict(run);
    html! {
        header {
            p class={ "verdict " (class) } { (word) }
            h1 { (title) }
            p.lead {
                @match run.replaces {
                    Some(old) => { "over release " (old) },
                    None => { "where nothing served" },
                }
                ", on the " (run.platform.to_string()) " platform, by " bdi { (run.user) }
                @if let Some(continues) = run.continues { ", continuing run " (continues) }
            }
        }
    }
}

/// What went wrong, first of all.
fn trouble(run: &Overview<'_>) -> Markup {
    html! {
        @if let Some((step, error)) = run.failure() {
            div.callout.failed role="note" {
                p { strong { "It stopped in the step " (step.to_string()) } }
                pre { (error) }
            }
        } @else if run.outcome.is_none() {
            div.callout.unfinished role="note" {
                p { strong { "The journal ends before the run does" } }
                p { "It is still running, or was killed. What is below is what was written until then." }
            }
        }
        @for step in run.steps.iter().filter(|step| step.state == StepState::Warned) {
            div.callout.warned role="note" {
                p { strong { "The step " (step.id.to_string()) " warns" } }
                pre { (step.note.unwrap_or_default()) }
            }
        }
    }
}

/// The facts that one looks for first.
fn figures(run: &Overview<'_>) -> Markup {
    let checks = run.checks();
    let mut figures: Vec<(&str, Markup)> = vec![
        ("Began", html! { (point_in_time(run.started)) }),
        ("Took", html! { (duration(run.duration_ms)) }),
    ];
    if let Some(backup) = run.backup {
        figures.push(("Backup from before", html! { code { (backup) } }));
    } else {
        figures.push(("Backup from before", html! { "none was taken" }));
    }
    if !checks.is_empty() {
        figures.push(("Checks", html! { (checks) }));
    }
    if let Some(sha256) = run.artifact {
        let short = sha256.get(..12).unwrap_or(sha256);
        figures.push(("Artifact", html! { code title=(sha256) { (short) } }));
    }
    if let Some((commit, modified)) = run.commit {
        let short = commit.get(..10).unwrap_or(commit);
        let changes = if modified { " with changes" } else { "" };
        figures.push(("Commit", html! { code title=(commit) { (short) } (changes) }));
    }
    html! {
        dl.figures {
            @for (name, value) in figures {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A step's mark, which says more than its colour.
const fn mark(state: StepState) -> (&'static str, &'static str) {
    match state {
        StepState::Done => ("done", "✓"),
        StepState::Warned => ("warned", "!"),
        StepState::Skipped => ("skipped", "–"),
        StepState::Failed => ("failed", "✕"),
        StepState::Kept => ("skipped", "↑"),
        StepState::Unfinished => ("unfinished", "…"),
        StepState::NotReached => ("skipped", "·"),
    }
}

fn steps(steps: &[StepOverview<'_>]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { th { "Step" } th { "Result" } th.number { "Time" } th { "What it did" } } }
                tbody {
                    @for step in steps {
                        @let (class, sign) = mark(step.state);
                        tr {
                            th scope="row" { (step.id.to_string()) }
                            td { span class={ "mark " (class) } { (sign) } " " (step.state.as_str()) }
                            td.number {
                                @if step.began_ms.is_some() { (duration(step.duration_ms)) } @else { "–" }
                            }
                            td {
                                @for line in step.evidence { div { (line) } }
                                @if let Some(note) = step.note {
                                    @if step.state == StepState::Skipped { div.quiet { (note) } }
                                    @else if step.state == StepState::Kept { div.quiet { "done in run " (note) } }
                                    @else { div.quiet { "see above" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ways_back(run: &Overview<'_>) -> Markup {
    let ways = run.ways_back();
    html! {
        section {
            h2 { "The way back" }
            @if ways.is_empty() {
                p.quiet {
                    @if run.backup.is_some() { "This run changed nothing that would have to be restored." }
                    @else { "No backup was taken in this run, so there is none of it to go back to." }
                }
            } @else {
                p.quiet { "In the project's root:" }
                dl.commands {
                    @for (purpose, command) in ways {
                        dt { (purpose) }
                        dd { pre { code { (command) } } }
                    }
                }
            }
        }
    }
}

const fn check_mark(outcome: CheckOutcome) -> (&'static str, &'static str) {
    match outcome {
        CheckOutcome::Passed => ("done", "✓"),
        CheckOutcome::Warned => ("warned", "!"),
        CheckOutcome::Failed => ("failed", "✕"),
        CheckOutcome::Skipped => ("skipped", "–"),
        CheckOutcome::CouldNotRun => ("failed", "?"),
    }
}

fn checks(step: &StepOverview<'_>) -> Markup {
    html! {
        section {
            h2 { "Checks of the step " (step.id.to_string()) }
            div.wide {
                table {
                    thead { tr { th { "Check" } th { "Result" } th { "What was found" } } }
                    tbody {
                        @for check in &step.checks { (check_row(check)) }
                    }
                }
            }
        }
    }
}

fn check_row(check: &CheckResult) -> Markup {
    let CheckResult { id, name, outcome, message, repair } = check;
    let (class, sign) = check_mark(*outcome);
    html! {
        tr {
            th scope="row" title=(id) { (name) }
            td { span class={ "mark " (class) } { (sign) } " " (outcome.as_str()) }
            td {
                (message)
                @if let Some(repair) = repair { div.quiet { "to repair: " code { (repair) } } }
            }
        }
    }
}

fn database(run: &Overview<'_>) -> Markup {
    html! {
        @if !run.database.is_empty() {
            section {
                h2 { "What happened to the database" }
                ol {
                    @for (program, summary) in &run.database {
                        li { code { (program) } ": " (summary) }
                    }
                }
            }
        }
    }
}
