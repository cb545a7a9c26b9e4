//! Deployments: what `deploy-staging`, `deploy-production`, `rollback` and `rehearse` have in common.

pub(crate) mod gate;
pub(crate) mod production;
pub(crate) mod session;
pub(crate) mod staging;
mod telling;

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use chrono::Utc;
use clap::Args;
use omnitool_cli::{Failure, Outcome, print};
use omnitool_environment::{EnvironmentName, Platform as PlatformName};
use omnitool_pipeline::{
    CommandLine, Continuation, ContinueRunError, Event, Hook, Plan, Record, RunError, RunFailure,
    Settings, Site, Situation, SkippedStep, StepId, Task, check_skippable, find_hooks,
    read_journal,
};

use self::session::{Ran, Session};
use crate::{
    project::Project,
    terminal::{heading, next_text, seconds, standing_text},
};

/// The flags that all deployments have.
#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// Show all steps and stop
    #[arg(long)]
    plan: bool,

    /// Run all tests first
    #[arg(long)]
    tests: bool,

    /// Where the environment runs: local or heroku
    #[arg(long, env = "OMNITOOL_PLATFORM", default_value = "local", value_name = "PLATFORM")]
    platform: PlatformName,

    /// Go on with a run that stopped, after its last good step [default: the newest one]
    #[arg(long, value_name = "RUN", conflicts_with_all = ["plan", "tests"])]
    resume: Option<Option<String>>,

    /// With --resume: begin with this step, also where it was done
    #[arg(long, value_name = "STEP", requires = "resume")]
    from: Option<StepId>,

    /// Leave out this step (repeat for several)
    #[arg(long, value_name = "STEP", requires = "reason")]
    skip: Vec<StepId>,

    /// Why a step is left out, for the journal
    #[arg(long, value_name = "TEXT", requires = "skip")]
    reason: Option<String>,

    /// Take no backup, and say why
    #[arg(long, value_name = "REASON", value_parser = reason)]
    skip_backup: Option<String>,

    /// Deploy although the environment is frozen, and say why
    #[arg(long, value_name = "REASON", value_parser = reason)]
    freeze_override: Option<String>,

    /// After a failure put back the release and the database as they were
    #[arg(long)]
    auto_rollback: bool,

    /// Wait while another run holds the environment, at most this many seconds [default: as long as it takes]
    #[arg(long, value_name = "SECONDS", require_equals = true)]
    wait: Option<Option<u64>>,
}

/// A reason that says something.
fn reason(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("a reason says why"),
        reason => Ok(reason.to_owned()),
    }
}

/// A deployment that stopped.
#[derive(Debug)]
struct StoppedError {
    what: &'static str,
    step: StepId,
    source: RunError,
}

impl fmt::Display for StoppedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, step, source: _ } = self;
        write!(f, "the {what} stopped in the step {step}")
    }
}

impl Error for StoppedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The environment is frozen.
#[derive(Debug, thiserror::Error)]
#[error("{environment} is {window}")]
struct FrozenError {
    environment: EnvironmentName,
    window: String,
}

/// There is nothing to go on with.
#[derive(Debug, thiserror::Error)]
enum FindRunError {
    #[error("there is no run of {environment} to go on with")]
    None { environment: EnvironmentName },
    #[error("run {run} of {environment} is not there")]
    NotFound { environment: EnvironmentName, run: String },
    #[error("run {run} came after run {wanted}, so that one cannot be continued")]
    NotNewest { wanted: String, run: String },
}

/// A run that is continued: what it was like.
pub(crate) struct Stopped {
    records: Vec<Record>,
    situation: Situation,
    settings: Settings,
}

impl DeployArgs {
    fn check_skipped(&self) -> Result<(), Failure> {
        for step in &self.skip {
            check_skippable(*step).map_err(Failure::usage)?;
        }
        Ok(())
    }

    /// What waiting for the environment means: `None` not to wait.
    pub(crate) fn waiting(&self) -> Option<Option<Duration>> {
        self.wait.map(|limit| limit.map(Duration::from_secs))
    }

    fn tests_command(&self, project: &Project, settings: &Settings) -> Option<CommandLine> {
        settings
            .tests
            .then(|| CommandLine::new("cargo", project.root()).arguments(["xtask", "test"]))
    }

    /// What the caller decided; a run that is continued had decided some of it.
    fn settings(&self, before: Option<Settings>) -> Settings {
        let mut settings = before.unwrap_or_default();
        settings.tests |= self.tests;
        settings.auto_rollback |= self.auto_rollback;
        settings.skip_backup = self.skip_backup.clone().or(settings.skip_backup);
        for step in &self.skip {
            let reason = self.reason.clone().unwrap_or_default();
            settings.skipped.retain(|skipped| skipped.step != *step);
            settings.skipped.push(SkippedStep { step: *step, reason });
        }
        settings
    }

    /// Whether the environment is frozen, and why it may be deployed to all the same.
    fn check_freeze(
        &self,
        project: &Project,
        environment: EnvironmentName,
    ) -> Result<Option<String>, Failure> {
        match (project.freeze(environment)?, &self.freeze_override) {
            (None, _) => Ok(None),
            (Some(_), Some(reason)) => Ok(Some(reason.clone())),
            (Some(window), None) => {
                let window = window.to_string();
                Err(Failure::refused(FrozenError { environment, window }).hint(
                    "nothing was changed; wait, or say why not with --freeze-override REASON",
                ))
            }
        }
    }

    /// The run to go on with, where the caller wants that.
    fn stopped(&self, session: &Session<'_>) -> Result<Option<Stopped>, Failure> {
        let Some(wanted) = &self.resume else { return Ok(None) };
        let environment = session.site().environment;
        let deploy_again = deploy_again(session.site());
        let refuse = |error: FindRunError| Failure::refused(error).hint(deploy_again.clone());
        let history = session.history()?;
        let platform = session.site().platform();
        let newest = history
            .runs
            .iter()
            .rfind(|run| run.task != Task::Rehearsal && run.platform == platform);
        let newest = newest.ok_or_else(|| refuse(FindRunError::None { environment }))?;
        if let Some(wanted) = wanted
            && *wanted != newest.run
        {
            let wanted = wanted.clone();
            return Err(refuse(match history.find(&wanted) {
                Some(_) => FindRunError::NotNewest { wanted, run: newest.run.clone() },
                None => FindRunError::NotFound { environment, run: wanted },
            }));
        }
        let records = read_journal(&session.journal_file(&newest.run))?;
        let Some(Event::RunStarted { situation: Some(situation), settings, .. }) =
            records.first().map(|record| record.event.clone())
        else {
            let run = newest.run.clone();
            return Err(Failure::refused(ContinueRunError::Old { run }).hint(deploy_again));
        };
        Ok(Some(Stopped { records, situation, settings }))
    }

    /// What a run of `plan` takes over.
    fn continuation(
        &self,
        session: &Session<'_>,
        plan: &Plan,
        stopped: Option<&Stopped>,
    ) -> Result<Option<Continuation>, Failure> {
        let Some(Stopped { records, .. }) = stopped else { return Ok(None) };
        let deploy_again = deploy_again(session.site());
        Continuation::new(plan, records, session.revision(), self.from, Utc::now())
            .map(Some)
            .map_err(|error| {
                let hint = match &error {
                    ContinueRunError::NotDone { .. } => {
                        "leave out --from to begin with the first step that is not done".to_owned()
                    }
                    _ => deploy_again,
                };
                Failure::refused(error).hint(hint)
            })
    }
}

/// What to do where a run cannot be continued.
pub(crate) fn deploy_again(site: &Site) -> String {
    format!("deploy again: cargo xtask deploy-{}{}", site.environment, site.platform_flag())
}

/// The project's hooks.
pub(crate) fn hooks(project: &Project) -> Result<Vec<Hook>, Failure> {
    find_hooks(project.root()).map_err(|error| {
        Failure::refused(error)
            .hint("rename it, make it executable or move it away; nothing was changed")
    })
}

/// Runs `plan`, and says how it went.
pub(crate) fn deploy(
    session: Session<'_>,
    plan: &Plan,
    continues: Option<Continuation>,
    programs: PathBuf,
) -> Result<Outcome, Failure> {
    print(&first_line(plan, continues.as_ref()))?;
    let ran = session.run(plan, continues, &programs)?;
    finish(plan, ran, &programs)
}

/// Prints how a run went, and fails where it did.
pub(crate) fn finish(
    plan: &Plan,
    ran: Ran,
    programs: &std::path::Path,
) -> Result<Outcome, Failure> {
    print(&ending(plan, &ran, programs))?;
    ran.report.failure.map_or(Ok(Outcome::Done), |failure| Err(stopped(plan.task(), failure)))
}

fn first_line(plan: &Plan, continues: Option<&Continuation>) -> String {
    let text = match plan.heading().split_once(' ') {
        Some(("Deploy", rest)) => format!("Deploying {rest}\n"),
        Some(("Roll", rest)) => format!("Rolling {rest}\n"),
        _ => format!("{}\n", plan.heading()),
    };
    match continues {
        Some(continues) => format!("{text}This continues run {}\n\n", continues.run),
        None => format!("{text}\n"),
    }
}

/// What is printed after the steps.
fn ending(plan: &Plan, ran: &Ran, programs: &std::path::Path) -> String {
    let Ran { id, report, aftermath, serving, places } = ran;
    let took = seconds(report.duration);
    let mut text = match (&report.failure, plan.task()) {
        (Some(_), _) => heading(&format!("Stopped after {took}; this is where everything stands")),
        (None, Task::Rollback) => heading(&format!("Rolled back after {took}")),
        (None, _) => heading(&format!(
            "Release {} serves at {} after {took}",
            plan.release(),
            plan.site().base_url
        )),
    };
    text.push_str(&standing_text(&omnitool_pipeline::standing(plan, aftermath, *serving)));
    text.push_str(places);
    text.push_str(&heading("What to do next"));
    text.push_str(&next_text(&omnitool_pipeline::next_steps(
        plan, aftermath, report, id, programs,
    )));
    text
}

pub(crate) fn stopped(task: Task, failure: RunFailure) -> Failure {
    let RunFailure { step, error } = failure;
    let hint = match &error {
        RunError::Action(error) => error.hint().map(ToOwned::to_owned),
        _ => None,
    };
    let what = match task {
        Task::Rollback => "rollback",
        Task::Rehearsal => "rehearsal",
        _ => "deployment",
    };
    let failure = Failure::failed(StoppedError { what, step, source: error });
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
