//! What a run will do, before it does any of it.

mod deploy;
mod rehearsal;
mod rollback;

use std::fmt;

use omnitool_environment::Platform as PlatformName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::{
    deploy::{DeployOptions, ProductionOptions, RELEASES_KEPT, Rehearsed},
    rehearsal::RehearsalOptions,
    rollback::RollbackChoice,
};
use crate::{
    Action, Home, Hook, Moment, OnFailure, ProgramCall, ReleaseId, Settings, Site, Situation, Step,
    StepId, Task, Todo, Variable, When, artifact::hex,
};

/// All steps of a run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Plan {
    task: Task,
    heading: String,
    site: Site,
    platform: PlatformName,
    situation: Situation,
    release: ReleaseId,
    variables: Vec<Variable>,
    steps: Vec<Step>,
    settings: Settings,
}

impl Plan {
    /// What the run is for.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// What the run does, in one line.
    #[must_use]
    pub fn heading(&self) -> &str {
        &self.heading
    }

    /// The environment that it is for.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What that environment runs on; a rehearsal itself works on this machine.
    #[must_use]
    pub fn platform(&self) -> PlatformName {
        self.platform
    }

    /// What was found before it.
    #[must_use]
    pub fn situation(&self) -> Situation {
        self.situation
    }

    /// What its caller decided.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The release that it makes; of a rollback, the one that it is about.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// The release that serves until then.
    #[must_use]
    pub fn replaces(&self) -> Option<ReleaseId> {
        self.situation.serving
    }

    /// The variables that all programs get.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The steps, in the order that they run.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A hash of everything that decides what `step` does, except for the artifact and the database's content.
    #[must_use]
    pub fn fingerprint(&self, step: &Step) -> String {
        let mut hasher = Sha256::new();
        // Secrets are replaced in these texts, so a hash of them tells nothing about them.
        hasher.update(step_text(step).as_bytes());
        for variable in &self.variables {
            hasher.update(format!("\n{variable}").as_bytes());
        }
        match &self.site.home {
            Home::Local { database_url } => hasher.update(format!("\n{database_url}").as_bytes()),
            Home::Heroku { app, .. } => hasher.update(format!("\n{app}").as_bytes()),
        }
        hex(&hasher.finalize())
    }

    /// Leaves out what the caller wants left out, and puts the hooks around the rest.
    fn arranged(mut self, hooks: &[Hook]) -> Self {
        for step in &mut self.steps {
            if let Some(skipped) = self.settings.skipped.iter().find(|one| one.step == step.id) {
                step.todo = Todo::Skip(format!("left out with --skip: {}", skipped.reason));
            }
            if let Todo::Run(actions) = &mut step.todo {
                let of = |moment| {
                    let found =
                        hooks.iter().filter(|hook| hook.step == step.id && hook.moment == moment);
                    found.cloned().map(Action::Hook).collect::<Vec<_>>()
                };
                actions.splice(0..0, of(Moment::Before));
                actions.extend(of(Moment::After));
            }
        }
        self
    }
}

/// Whether the environment has a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseState {
    /// There is none; the first migration makes it.
    Missing,
    /// There is one, or only opening it would tell.
    Present,
}

fn step(id: StepId, summary: &str, todo: Todo) -> Step {
    Step { id, summary: summary.to_owned(), todo, on_failure: OnFailure::Stop, when: When::AllWell }
}

fn call(id: StepId, summary: &str, call: ProgramCall) -> Step {
    step(id, summary, Todo::Run(vec![Action::Program(call)]))
}

fn summary() -> Step {
    Step {
        when: When::Always,
        ..step(StepId::Summary, "sum up", Todo::Run(vec![Action::Summarize]))
    }
}

/// The plan as `--plan` prints it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, heading, site, release, variables, steps, .. } = self;
        writeln!(f, "{heading}")?;
        if *task != Task::Rehearsal {
            writeln!(f, "  address    {}", site.base_url)?;
        }
        writeln!(f, "  project    {}", site.root.display())?;
        write!(f, "  variables ")?;
        for variable in variables {
            write!(f, " {variable}")?;
        }
        writeln!(f, " OMNITOOL_RELEASE={release}\n")?;
        for step in steps {
            f.write_str(&step_text(step))?;
        }
        Ok(())
    }
}

fn step_text(step: &Step) -> String {
    let Step { id, summary, todo, on_failure, when } = step;
    let mut text = format!("{id:<14} {summary}");
    match on_failure {
        OnFailure::Stop => {}
        OnFailure::Warn => text.push_str(" (a failure is a warning)"),
    }
    match when {
        When::AllWell => {}
        When::Always => text.push_str(" (always)"),
        When::Failed => text.push_str(" (after a failure)"),
    }
    text.push('\n');
    match todo {
        Todo::Run(actions) => {
            for action in actions {
                text.push_str(&format!("               {action}\n"));
            }
        }
        Todo::Skip(reason) => text.push_str(&format!("               skipped: {reason}\n")),
    }
    text
}
