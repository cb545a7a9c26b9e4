//! The result, for people and for programs.

use std::fmt;

use omnitool_backup::{
    heroku::Anew,
    refresh::{RefreshOutcome, RefreshPlan, RefreshRecord, RefreshState, RefreshStep, Refreshed},
};
use omnitool_cli::{Failure, Format, Outcome, print, print_json};
use serde::Serialize;

use crate::args::Args;

/// What a refresh did, or would do.
#[derive(Serialize)]
pub(crate) struct Report {
    status: Status,
    summary: String,
    plan: RefreshPlan,
    refreshed: Option<Refreshed>,
    /// The command that puts back what was there before.
    undo: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// It was not done.
    Pending,
    /// It was done.
    Done,
    /// It was done, and the checks found something.
    Failed,
}

impl Report {
    pub(crate) fn pending(plan: RefreshPlan) -> Self {
        let summary = format!(
            "Dry run: {} rows would be copied to {}{}; nothing was changed",
            plan.rows(),
            plan.environment,
            if plan.unmasked { " UNMASKED" } else { "" }
        );
        Self { status: Status::Pending, summary, plan, refreshed: None, undo: None }
    }

    pub(crate) fn refreshed(plan: RefreshPlan, refreshed: Refreshed, args: &Args) -> Self {
        let environment = plan.environment;
        let masked: usize = refreshed.masked.changed.values().sum();
        let how = if plan.unmasked {
            "personal data UNMASKED".to_owned()
        } else {
            format!("{masked} of them masked")
        };
        let (status, end) = match &refreshed.problem {
            None => (Status::Done, "verified".to_owned()),
            Some(problem) => (Status::Failed, format!("and fails its checks: {problem}")),
        };
        let summary = format!("Refreshed {environment}: {} rows copied, {how}, {end}", plan.rows());
        let folder = match args.folder.as_os_str() == omnitool_backup::DEFAULT_FOLDER {
            true => String::new(),
            false => format!(" --folder '{}'", args.folder.display()),
        };
        let undo = refreshed
            .safety_backup
            .map(|id| format!("rollback-migration --env {environment} --backup {id}{folder}"));
        Self { status, summary, plan, refreshed: Some(refreshed), undo }
    }

    pub(crate) fn finish(self, format: Format) -> Result<Outcome, Failure> {
        match format {
            Format::Json => print_json(&self)?,
            Format::Text => print(&self.text())?,
        }
        Ok(match self.status {
            Status::Pending | Status::Done => Outcome::Done,
            Status::Failed => Outcome::Failed,
        })
    }

    /// What follows on the plan, which was printed before anything changed.
    fn text(&self) -> String {
        let Self { status, summary, plan, undo, refreshed: _ } = self;
        let environment = plan.environment;
        let mut text = match status {
            Status::Pending => return format!("{summary}\n"),
            Status::Done => format!("[SUCCESS] {summary}\n"),
            Status::Failed => format!("[FAILED] {summary}\n"),
        };
        if plan.unmasked {
            text += "[WARNING] Personal data in it is real: treat it, and every backup of it, like production's.\n";
        }
        if let Some(undo) = undo {
            text += &format!("What was there before: {undo}\n");
        }
        text += &format!(
            "Nobody has a password now: omnitool create-user NAME --env {environment}\n\
             Check it: verify-migration --env {environment}\n"
        );
        text
    }
}

/// What is going on.
#[derive(Serialize)]
pub(crate) struct StatusReport {
    summary: String,
    #[serde(flatten)]
    state: RefreshState,
}

impl StatusReport {
    /// `anew` is why a repeat would not go on with the copy that a run on Heroku left.
    pub(crate) fn new(state: RefreshState, anew: Option<Anew>) -> Self {
        let again = |record: &RefreshRecord| match anew {
            Some(why) => format!("{why}: run again, it does everything anew"),
            None if record.done.contains(&RefreshStep::Mask) => {
                "Run it again: it goes on there, where it masks by the same rules".to_owned()
            }
            None => "Run it again: it goes on there".to_owned(),
        };
        let summary = match &state {
            RefreshState::Never => "There was no refresh yet".to_owned(),
            RefreshState::Running { record: None } => "A refresh is running".to_owned(),
            RefreshState::Running { record: Some(record) } => {
                format!("A refresh is running since {}: {}", started(record), done(record))
            }
            RefreshState::Killed { record } if record.heroku.is_some() => format!(
                "The refresh of {} was killed: {}. {}",
                started(record),
                done(record),
                again(record)
            ),
            RefreshState::Killed { record } => format!(
                "The refresh of {} was killed: {}. Run it again: it removes what was left and begins anew",
                started(record),
                done(record)
            ),
            RefreshState::Ended { record } => {
                let how = match record.outcome {
                    Some(RefreshOutcome::Done) => "came to its end and was verified".to_owned(),
                    Some(RefreshOutcome::Unverified) => {
                        "is in place and fails its checks".to_owned()
                    }
                    Some(RefreshOutcome::Failed) if record.is_switching => {
                        format!("failed when the app was asked to use the copy. {}", again(record))
                    }
                    Some(RefreshOutcome::Failed) if record.heroku.is_some() => {
                        format!("failed, and left its copy. {}", again(record))
                    }
                    Some(RefreshOutcome::Failed) | None => "failed and changed nothing".to_owned(),
                };
                format!("The refresh of {} {how}", started(record))
            }
        };
        Self { summary, state }
    }

    pub(crate) const fn record(&self) -> Option<&RefreshRecord> {
        self.state.record()
    }
}

fn started(record: &RefreshRecord) -> impl fmt::Display {
    record.started_at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn done(record: &RefreshRecord) -> String {
    let done = record.done.len();
    match RefreshStep::ALL.get(done) {
        Some(next) => {
            format!("{done} of {} steps done, next `{}`", RefreshStep::ALL.len(), next.as_str())
        }
        None => "all steps done".to_owned(),
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        let Some(record) = self.record() else { return Ok(()) };
        writeln!(f, "  from: {}", record.source)?;
        let masked =
            if record.unmasked { "UNMASKED: personal data was copied as it is" } else { "masked" };
        writeln!(f, "  data: {masked}")?;
        if let Some(run_id) = &record.run_id {
            writeln!(f, "  run:  {run_id}")?;
        }
        if let Some(backup) = record.safety_backup {
            writeln!(f, "  what was there before: {backup}")?;
        }
        Ok(())
    }
}
