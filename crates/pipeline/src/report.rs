//! What to tell a person after a run: where each part stands, and what to do next.

use std::path::Path;

use crate::{
    Aftermath, DatabaseChange, Home, Plan, RunReport, Serving, StepId, StepOutcome, Task,
    command::quoted,
};

/// Where one part of an environment stands after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The part.
    pub part: &'static str,
    /// Where it stands.
    pub state: String,
}

/// Something to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// What for.
    pub purpose: &'static str,
    /// The command, as one would type it in the project's root.
    pub command: String,
}

/// Where the database, the app and the backup stand.
#[must_use]
pub fn standing(plan: &Plan, aftermath: &Aftermath, serving: Serving) -> Vec<Standing> {
    let Aftermath { artifact: _, backup, database, credentials: _, documents: _ } = aftermath;
    let mut all = Vec::new();
    let mut add = |part, state| all.push(Standing { part, state });
    if database.is_empty() {
        add("database", "not touched".to_owned());
    }
    for DatabaseChange { program, result } in database {
        add(
            "database",
            match result {
                Ok(summary) => format!("{program}: {summary}"),
                Err(error) => format!("{error}; what it had not committed is undone"),
            },
        );
    }
    add(
        "app",
        match serving {
            Serving::Release(release) if release == plan.release() => {
                format!("{serving} at {}", plan.site().base_url)
            }
            Serving::Release(_) => format!("{serving} at {}, as before", plan.site().base_url),
            Serving::Nothing | Serving::Unknown => serving.to_string(),
        },
    );
    add(
        "backup",
        match backup {
            Some(backup) => format!("{backup}, from before anything changed"),
            None => "none was taken in this run".to_owned(),
        },
    );
    all
}

/// The commands that make sense after a run. `programs` is where the built programs are.
#[must_use]
pub fn next_steps(
    plan: &Plan,
    aftermath: &Aftermath,
    report: &RunReport,
    run: &str,
    programs: &Path,
) -> Vec<NextStep> {
    let site = plan.site();
    let environment = site.environment;
    let platform = site.platform_flag();
    let folder = || {
        let path = programs.strip_prefix(&site.root).unwrap_or(programs);
        quoted(&path.to_string_lossy())
    };
    let RunReport { steps, failure, duration: _ } = report;
    let ended = |id, good: &dyn Fn(&StepOutcome) -> bool| {
        steps.iter().any(|step| step.id == id && good(&step.outcome))
    };
    let went_back = plan.task() == Task::Rollback || ended(StepId::Rollback, &is_done);
    let mut all = Vec::new();
    let mut add = |purpose, command| all.push(NextStep { purpose, command });
    if failure.is_some() && plan.task() == Task::Deploy {
        let deploy = format!("cargo xtask deploy-{environment}{platform}");
        if !went_back {
            add("fix the cause, then go on", format!("{deploy} --resume {run}"));
        }
        add("fix the cause, then deploy again", deploy);
    }
    if failure.as_ref().is_none_or(|failure| failure.step > StepId::Release) {
        let verify = format!("verify-migration --env {environment} --verbose");
        add(
            "look closer",
            match &site.home {
                Home::Local { .. } => format!("{}/{verify}", folder()),
                Home::Heroku { app, .. } => format!("heroku run -x -a {app} -- bin/{verify}"),
            },
        );
    }
    if plan.replaces().is_some() && !went_back && ended(StepId::Release, &is_done) {
        add("roll back the code", format!("cargo xtask rollback {environment}{platform} --code"));
    }
    let changed = !aftermath.database.is_empty();
    if let (Some(backup), true, false) = (&aftermath.backup, changed, went_back) {
        let rollback = format!("{}/rollback-migration", folder());
        add("roll back", format!("{rollback} --env {environment}{platform} --backup {backup}"));
    }
    match &site.home {
        Home::Local { .. } => add("stop the app", format!("cargo xtask stop {environment}")),
        Home::Heroku { app, .. } => add("see its log", format!("heroku logs --tail -a {app}")),
    }
    all
}

fn is_done(outcome: &StepOutcome) -> bool {
    matches!(outcome, StepOutcome::Done | StepOutcome::Warned { .. } | StepOutcome::Kept { .. })
}
