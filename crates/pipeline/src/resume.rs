//! What a run may take over from one that stopped.
//!
//! A step is taken over where it ended well and what decides it is unchanged. The first step that is not ends the taking
//! over, with two exceptions: the safety gate and the variables are always done again (they cost nothing, and the first is
//! an approval), and a backup from before the database was changed is kept whatever else has to be done again, since no
//! later one could take its place.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Action, Event, Fact, Plan, Record, Revision, RunOutcome, Step, StepId, StepOutcome, Task, Todo,
    When,
};

/// How old a backup may be that nothing was changed after. An older one would lose more than the deployment did.
const BACKUP_VALID: TimeDelta = TimeDelta::minutes(60);

/// What a run takes over from one that stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuation {
    /// The run that stopped.
    pub run: String,
    /// When the first run of the chain began.
    pub since: DateTime<Utc>,
    /// The steps that are not done again.
    pub kept: Vec<KeptStep>,
    /// What a step that is done again has already done to the database.
    pub changed: Vec<Fact>,
    /// The run that may have changed the database, where one may.
    pub touched: Option<String>,
}

/// A step that a run takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptStep {
    /// The step.
    pub step: StepId,
    /// The hash of what decided it.
    pub inputs: String,
    /// The run that did it.
    pub run: String,
    /// What its actions said they did.
    pub evidence: Vec<String>,
    /// What it found and did.
    pub facts: Vec<Fact>,
}

/// Why a run cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContinueRunError {
    /// It has nothing left to do.
    #[error("run {run} went through; there is nothing to continue")]
    Finished {
        /// The run.
        run: String,
    },
    /// It is no deployment.
    #[error("run {run} is a {}, and only a deployment can be continued", .task.as_str())]
    Task {
        /// The run.
        run: String,
        /// What it is.
        task: Task,
    },
    /// An older build wrote its journal, without what is needed.
    #[error("the journal of run {run} is from an older version, which did not write down enough")]
    Old {
        /// The run.
        run: String,
    },
    /// It has gone back.
    #[error("run {run} was rolled back")]
    RolledBack {
        /// The run.
        run: String,
    },
    /// It belongs to another environment.
    #[error("run {run} is one of another environment")]
    Environment {
        /// The run.
        run: String,
    },
    /// Somebody wants to begin after a step that is not done.
    #[error("cannot begin with the step {from}: {missing} before it is not done in run {run}{}", why_text(.changed))]
    NotDone {
        /// The run.
        run: String,
        /// Where to begin.
        from: StepId,
        /// The step before it.
        missing: StepId,
        /// Whether it was done, with other inputs.
        changed: bool,
    },
    /// The plan has no such step, or the step does nothing.
    #[error("the plan has no step {from} to begin with")]
    NoStep {
        /// Where to begin.
        from: StepId,
    },
}

fn why_text(changed: &bool) -> &'static str {
    if *changed { ", or its inputs have changed since" } else { "" }
}

/// What a journal says about how far a run came.
#[derive(Debug, Default)]
struct Progress {
    started: Vec<(StepId, String)>,
    facts: Vec<(StepId, Fact)>,
    done: Vec<KeptStep>,
    ended: Option<RunOutcome>,
}

impl Progress {
    fn read(run: &str, records: &[Record]) -> Self {
        let mut progress = Self::default();
        for record in records {
            match &record.event {
                Event::RunStarted { continues: Some(before), .. } => {
                    progress.done.clone_from(&before.kept);
                }
                Event::StepStarted { step, inputs } => {
                    // It is being done again, so how it ended before no longer counts.
                    progress.done.retain(|kept| kept.step != *step);
                    progress.started.push((*step, inputs.clone()));
                }
                Event::Learned { step, fact } => progress.facts.push((*step, fact.clone())),
                Event::StepEnded {
                    step,
                    outcome: StepOutcome::Done | StepOutcome::Warned { .. },
                    evidence,
                    ..
                } => progress.end(run, *step, evidence),
                Event::RunEnded { outcome, .. } => progress.ended = Some(outcome.clone()),
                _ => {}
            }
        }
        progress
    }

    fn end(&mut self, run: &str, step: StepId, evidence: &[String]) {
        let inputs = self.started.iter().rfind(|(id, _)| *id == step);
        let of_step = self.facts.iter().filter(|(id, _)| *id == step);
        self.done.push(KeptStep {
            step,
            inputs: inputs.map(|(_, inputs)| inputs.clone()).unwrap_or_default(),
            run: run.to_owned(),
            evidence: evidence.to_vec(),
            facts: of_step.map(|(_, fact)| fact.clone()).collect(),
        });
    }

    fn has_started(&self, step: StepId) -> bool {
        self.started.iter().any(|(id, _)| *id == step)
    }

    fn find(&self, step: StepId) -> Option<&KeptStep> {
        self.done.iter().find(|kept| kept.step == step)
    }
}

impl Continuation {
    /// What a run of `plan` may take over from the run with the journal `records`. `revision` is the commit that is checked
    /// out now, and `from` the step to begin with, where somebody wants a certain one.
    ///
    /// # Errors
    ///
    /// Fails where that run cannot be continued, or not from that step.
    pub fn new(
        plan: &Plan,
        records: &[Record],
        revision: Option<&Revision>,
        from: Option<StepId>,
        now: DateTime<Utc>,
    ) -> Result<Self, ContinueRunError> {
        let Some(Record {
            at,
            event:
                Event::RunStarted {
                    run, environment, task, situation, revision: then, continues, ..
                },
        }) = records.first()
        else {
            return Err(ContinueRunError::Old { run: String::new() });
        };
        let run = run.clone();
        let progress = Progress::read(&run, records);
        if *task != Task::Deploy {
            return Err(ContinueRunError::Task { run, task: *task });
        }
        if *environment != plan.site().environment {
            return Err(ContinueRunError::Environment { run });
        }
        if matches!(progress.ended, Some(RunOutcome::Done | RunOutcome::Warned)) {
            return Err(ContinueRunError::Finished { run });
        }
        if progress.has_started(StepId::Rollback) {
            return Err(ContinueRunError::RolledBack { run });
        }
        let (Ok(at), Some(_)) = (at.parse::<DateTime<Utc>>(), situation) else {
            return Err(ContinueRunError::Old { run });
        };
        let touching = [StepId::Refresh, StepId::Release, StepId::ImportAccess];
        let touched_now = touching.iter().any(|step| progress.has_started(*step));
        let before = continues.as_ref();
        let touched = before
            .and_then(|before| before.touched.clone())
            .or_else(|| touched_now.then(|| run.clone()));
        let taking = Taking {
            plan,
            progress: &progress,
            source_unchanged: unchanged(then.as_ref(), revision),
            touched: touched.is_some(),
            backup_valid: now - at < BACKUP_VALID,
        };
        let kept = taking.kept(&run, from)?;
        let mut changed: Vec<Fact> =
            before.map(|before| before.changed.clone()).unwrap_or_default();
        let again = progress.facts.into_iter().filter(|(step, fact)| {
            matches!(fact, Fact::DatabaseChanged { .. })
                && !kept.iter().any(|one| one.step == *step)
        });
        changed.extend(again.map(|(_, fact)| fact));
        let since = before.map_or(at, |before| before.since);
        Ok(Self { run, since, kept, changed, touched })
    }

    /// The step as it was done, where it is not done again.
    #[must_use]
    pub fn find(&self, step: StepId) -> Option<&KeptStep> {
        self.kept.iter().find(|kept| kept.step == step)
    }
}

/// Files that nobody committed may have changed in any way.
fn unchanged(then: Option<&Revision>, now: Option<&Revision>) -> bool {
    then.is_some_and(|then| !then.modified && Some(then) == now)
}

struct Taking<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    source_unchanged: bool,
    touched: bool,
    backup_valid: bool,
}

impl Taking<'_> {
    fn kept(&self, run: &str, from: Option<StepId>) -> Result<Vec<KeptStep>, ContinueRunError> {
        let mut kept = Vec::new();
        let mut taking = true;
        let mut reached = from.is_none();
        for step in self.plan.steps() {
            let runs = matches!(step.todo, Todo::Run(_)) && step.when == When::AllWell;
            if !runs {
                continue;
            }
            if Some(step.id) == from {
                (taking, reached) = (false, true);
            }
            let found = self.progress.find(step.id);
            if is_done_again(step.id) {
                continue;
            }
            match found {
                Some(found) if taking && self.may_keep(step, found) => kept.push(found.clone()),
                Some(found) if step.id == StepId::Backup && self.touched => {
                    kept.push(found.clone());
                }
                _ if reached => taking = false,
                _ => {
                    return Err(ContinueRunError::NotDone {
                        run: run.to_owned(),
                        from: from.unwrap_or(step.id),
                        missing: step.id,
                        changed: found.is_some(),
                    });
                }
            }
        }
        match from {
            Some(from) if !reached => Err(ContinueRunError::NoStep { from }),
            _ => Ok(kept),
        }
    }

    fn may_keep(&self, step: &Step, found: &KeptStep) -> bool {
        let source = match &step.todo {
            Todo::Run(actions) => {
                step.id == StepId::Tests
                    || actions.iter().any(|action| matches!(action, Action::Pack))
            }
            Todo::Skip(_) => false,
        };
        found.inputs == self.plan.fingerprint(step)
            && (!source || self.source_unchanged)
            && (step.id != StepId::Backup || self.touched || self.backup_valid)
    }
}

/// Whether a step is done again in every run: an approval is for one run, and setting variables that are set does nothing.
fn is_done_again(step: StepId) -> bool {
    matches!(step, StepId::SafetyGate | StepId::Config)
}
