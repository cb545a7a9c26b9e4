//! What the program prints.

use omnitool_backup::{BackupId, OldDatabase, Target};
use omnitool_cli::{Failure, Format, Outcome, print, print_json};
use omnitool_environment::EnvironmentName;
use omnitool_verification::Report as CheckReport;
use serde::Serialize;

use crate::{
    Args,
    exclusion::{self, Exclusion},
};

/// What a rollback came to.
#[derive(Serialize)]
pub(crate) struct Done {
    pub(crate) safety_backup: Option<BackupId>,
    /// The command that puts back what was there before.
    pub(crate) undo: Option<String>,
    /// What the staged copy was found to be; none where nobody looked.
    pub(crate) checks: Option<CheckReport>,
    /// Whom the database excluded from a tool and does no longer; none where nobody knows.
    pub(crate) lost_exclusions: Option<Vec<Exclusion>>,
    /// Why nobody looked.
    pub(crate) skipped_checks: Option<String>,
    /// The command that ends the maintenance mode that the app was in before, and is in still.
    pub(crate) leave_maintenance: Option<String>,
    /// What the environment's programs are called by.
    #[serde(skip)]
    pub(crate) runs: String,
}

#[derive(Serialize)]
struct Report<'a, P> {
    status: &'static str,
    summary: String,
    plan: &'a P,
    #[serde(flatten)]
    done: Option<Done>,
}

pub(crate) fn dry_run(
    format: Format,
    environment: EnvironmentName,
    target: &Target,
    plan: &impl Serialize,
) -> Result<Outcome, Failure> {
    let summary = format!(
        "Dry run: {environment} would be rolled back to {}; nothing was changed",
        target.label
    );
    match format {
        Format::Text => print(&printable(&format!("{summary}\n")))?,
        Format::Json => print_json(&Report { status: "pending", summary, plan, done: None })?,
    }
    Ok(Outcome::Done)
}

pub(crate) fn done(
    format: Format,
    environment: EnvironmentName,
    target: &Target,
    plan: &impl Serialize,
    done: Done,
) -> Result<Outcome, Failure> {
    let summary = format!("Rolled back {environment} to {}, verified", target.label);
    if format == Format::Json {
        print_json(&Report { status: "done", summary, plan, done: Some(done) })?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("[SUCCESS] {summary}\n");
    if let Some(reason) = done.skipped_checks {
        text += &format!("Without the checks of verify-migration: {reason}\n");
    }
    text += &exclusion::text(done.lost_exclusions.as_deref(), environment);
    if let (Some(id), Some(undo)) = (done.safety_backup, done.undo) {
        text += &format!("Safety backup: {id}. To undo: {undo}\n");
    }
    if let Some(command) = done.leave_maintenance {
        text +=
            &format!("The app is in maintenance mode, as it was before. To end it: {command}\n");
    }
    let runs = done.runs;
    if target.pending_migrations > 0 {
        text += &format!(
            "Next: serve the release that fits, or bring the schema up again: {runs}migrate-db --env {environment}\n"
        );
    }
    text += &format!("Check it: {runs}verify-migration --env {environment}\n");
    print(&printable(&text))?;
    Ok(Outcome::Done)
}

pub(crate) fn dropped(
    args: &Args,
    environment: EnvironmentName,
    old: Vec<OldDatabase>,
) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report {
        status: &'static str,
        summary: String,
        old_databases: Vec<OldDatabase>,
    }
    let count = match old.len() {
        1 => "1 old database".to_owned(),
        count => format!("{count} old databases"),
    };
    let (status, summary) = if args.dry_run {
        ("pending", format!("Dry run: {count} of {environment} would be dropped; none was"))
    } else {
        ("done", format!("Dropped {count} of {environment}"))
    };
    if args.format == Format::Json {
        print_json(&Report { status, summary, old_databases: old })?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for OldDatabase { name, safety_backup, .. } in old {
        text += &match safety_backup {
            Some(id) => format!("drop    {name} (its safety backup is {id})\n"),
            None => format!("drop    {name}\n"),
        };
    }
    print(&printable(&format!("{text}{summary}\n")))?;
    Ok(Outcome::Done)
}

/// Lines of text without what a terminal would obey: names may come from files and databases of others.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
