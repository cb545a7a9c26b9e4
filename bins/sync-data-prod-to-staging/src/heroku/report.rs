//! The result, for people and for programs.

use std::fmt;

use omnitool_backup::{
    heroku::{Anew, HerokuBackups, HerokuRefreshPlan, HerokuRefreshed, Leftover},
    refresh::RefreshState,
};
use omnitool_cli::{Failure, Format, Outcome, print, print_json};
use serde::Serialize;

/// What a refresh did, or would do.
#[derive(Serialize)]
pub(crate) struct Report {
    status: &'static str,
    summary: String,
    plan: HerokuRefreshPlan,
    refreshed: Option<HerokuRefreshed>,
    /// The command that puts back what was there before.
    undo: Option<String>,
}

impl Report {
    pub(crate) fn pending(plan: HerokuRefreshPlan) -> Self {
        let unmasked = if plan.databases.unmasked { " UNMASKED" } else { "" };
        let summary = format!(
            "Dry run: {} rows would be copied to {}{unmasked}; nothing was changed",
            plan.databases.rows(),
            plan.databases.environment,
        );
        Self { status: "pending", summary, plan, refreshed: None, undo: None }
    }

    pub(crate) fn refreshed(plan: HerokuRefreshPlan, refreshed: HerokuRefreshed) -> Self {
        let how = match (&refreshed.masked, plan.databases.unmasked) {
            (_, true) => "personal data UNMASKED".to_owned(),
            (None, false) => "masked by the run before".to_owned(),
            (Some(masked), false) => {
                format!("{} of them masked", masked.changed.values().sum::<usize>())
            }
        };
        let (status, end) = match &refreshed.problem {
            None => ("done", "verified".to_owned()),
            Some(problem) => ("failed", format!("and fails its checks: {problem}")),
        };
        let summary = format!(
            "Refreshed {}: {} rows copied, {how}, {end}",
            plan.databases.environment,
            plan.databases.rows()
        );
        let undo = refreshed
            .record
            .heroku
            .as_ref()
            .map(|copy| format!("heroku pg:promote {} --app {}", copy.kept_as, copy.app));
        Self { status, summary, plan, refreshed: Some(refreshed), undo }
    }

    pub(crate) fn finish(self, format: Format) -> Result<Outcome, Failure> {
        match format {
            Format::Json => print_json(&self)?,
            Format::Text => print(&self.text())?,
        }
        Ok(if self.status == "failed" { Outcome::Failed } else { Outcome::Done })
    }

    fn text(&self) -> String {
        let Self { status, summary, plan, refreshed, undo } = self;
        let Some(refreshed) = refreshed else { return format!("{summary}\n") };
        let mark = if *status == "done" { "[SUCCESS]" } else { "[FAILED]" };
        let mut text = format!("{mark} {summary}\n");
        if plan.databases.unmasked {
            text += "[WARNING] Personal data in it is real: treat it, and every backup of it, like production's.\n";
        }
        let HerokuRefreshed { database, replaced, leftovers, .. } = refreshed;
        text += &format!("{} uses {database} now, and {replaced} before.\n", plan.target_app);
        if let Some(undo) = undo {
            text += &format!("What was there before: {undo}\n");
        }
        for leftover in leftovers {
            text += &format!("Nobody uses, and somebody pays for: {leftover}\n");
        }
        text += &format!(
            "Nobody has a password now: heroku run -x -a {} -- bin/omnitool create-user NAME\n",
            plan.target_app
        );
        text
    }
}

/// What is going on.
#[derive(Serialize)]
pub(crate) struct StatusReport {
    #[serde(flatten)]
    record: crate::report::StatusReport,
    /// The copy of a refresh that runs or did not come to its end.
    copy: Option<String>,
    /// Databases of refreshes that nobody uses any more.
    leftovers: Vec<Leftover>,
}

impl StatusReport {
    pub(crate) fn new(
        backups: &HerokuBackups,
        state: RefreshState,
        leftovers: Vec<Leftover>,
    ) -> Self {
        let serving = &backups.database().name;
        let anew = state.record().and_then(|record| Anew::of(record, serving));
        let record = crate::report::StatusReport::new(state, anew);
        let unfinished = record.record().filter(|record| {
            record.outcome != Some(omnitool_backup::refresh::RefreshOutcome::Done)
        });
        let copy = unfinished.and_then(|record| record.heroku.as_ref()).map(|copy| {
            let heroku = backups.heroku();
            let found = heroku
                .database_of(&copy.app, &copy.attachment)
                .and_then(|database| heroku.database(&database));
            let state = match found {
                Err(error) => format!("cannot be asked ({error})"),
                Ok(database) if database.following.is_none() => "follows nobody".to_owned(),
                Ok(database) => match database.behind_by() {
                    Some(commits) => format!("follows production, {commits} commits behind"),
                    None => "follows production".to_owned(),
                },
            };
            format!("{} {state}", copy.addon)
        });
        Self { record, copy, leftovers }
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, copy, leftovers } = self;
        write!(f, "{record}")?;
        if let Some(copy) = copy {
            writeln!(f, "  copy: {copy}")?;
        }
        for leftover in leftovers {
            writeln!(f, "  nobody uses, and somebody pays for: {leftover}")?;
        }
        Ok(())
    }
}
